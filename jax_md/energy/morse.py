"""The Morse potential."""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from ._promote import promote


def morse(
    dr: Float[Array, "*pairs"],
    sigma: float | Array = 1.0,
    epsilon: float | Array = 5.0,
    alpha: float | Array = 5.0,
    **unused_kwargs: Any,
) -> Float[Array, "*pairs"]:
    r"""Pair energy :math:`U(r) = \epsilon (1 - e^{-\alpha(r - \sigma)})^2 - \epsilon`.

    Args:
        dr: Pair distances, ``[*pairs]`` (length).
        sigma: Distance of the minimum (length).
        epsilon: Depth of the minimum (energy).
        alpha: Inverse width of the well (1 / length).
        **unused_kwargs: Ignored.

    Returns:
        Energies, ``[*pairs]``; ``-epsilon``, with zero slope, at ``sigma``.

    Source:
        P. M. Morse, Phys. Rev. 34, 57 (1929).
    """
    y = jnp.exp(-alpha * (dr - sigma))
    return epsilon * (y * (y - 2))


morse_pair, morse_neighbor_list = promote(morse, r_onset=2.0, r_cutoff=2.5)
