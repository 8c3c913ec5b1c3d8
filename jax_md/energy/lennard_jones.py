"""The Lennard-Jones potential."""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from ._promote import promote


def lennard_jones(
    dr: Float[Array, "*pairs"],
    sigma: float | Array = 1,
    epsilon: float | Array = 1,
    **unused_kwargs: Any,
) -> Float[Array, "*pairs"]:
    r"""Pair energy :math:`U(r) = 4\epsilon[(\sigma/r)^{12} - (\sigma/r)^6]`.

    Its minimum is ``-epsilon`` at ``2^(1/6) sigma``; it crosses zero at ``sigma``.

    Args:
        dr: Pair distances, ``[*pairs]`` (length). Zero marks a pair to be left out.
        sigma: Where the energy is zero (length).
        epsilon: Depth of the minimum (energy).
        **unused_kwargs: Ignored.

    Returns:
        Energies, ``[*pairs]``; exactly zero, with zero gradient, where ``dr`` is zero.

    Source:
        J. E. Lennard-Jones, Proc. Phys. Soc. 43, 461 (1931).
    """
    apart = dr != 0
    r = jnp.where(apart, dr, 1)
    s2 = sigma * sigma / (r * r)
    s6 = s2 * s2 * s2
    # Factored: where s6 overflows, s6 * s6 - s6 would be inf - inf.
    return jnp.where(apart, 4 * epsilon * (s6 * (s6 - 1)), 0)


lennard_jones_pair, lennard_jones_neighbor_list = promote(
    lennard_jones, r_onset=2.0, r_cutoff=2.5, unit="sigma"
)
