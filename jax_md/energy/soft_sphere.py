"""Soft spheres: finite repulsion between particles that overlap."""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from ._promote import promote


def soft_sphere(
    dr: Float[Array, "*pairs"],
    sigma: float | Array = 1,
    epsilon: float | Array = 1,
    alpha: float | Array = 2,
    **unused_kwargs: Any,
) -> Float[Array, "*pairs"]:
    r"""Overlap energy, :math:`U(r) = \frac\epsilon\alpha (1 - r/\sigma)^\alpha`.

    Args:
        dr: Pair distances, ``[*pairs]`` (length).
        sigma: Diameter, beyond which the energy is zero (length).
        epsilon: Strength (energy).
        alpha: Stiffness exponent; 2 is harmonic, 5/2 Hertzian.
        **unused_kwargs: Ignored.

    Returns:
        Energies, ``[*pairs]``; ``epsilon / alpha`` at zero distance.

    Source:
        C. S. O'Hern, L. E. Silbert, A. J. Liu, S. R. Nagel, Phys. Rev. E 68, 011306
        (2003).
    """
    inside = jnp.logical_not(dr >= sigma)  # a distance that is NaN stays visible
    overlap = 1 - jnp.where(inside, dr, 0) / jnp.where(inside, sigma, 1)
    if isinstance(alpha, int | float) and alpha > 0 and alpha == int(alpha):
        alpha = int(alpha)  # a product of factors rather than a logarithm
    return jnp.where(inside, epsilon / alpha * overlap**alpha, 0)


soft_sphere_pair, soft_sphere_neighbor_list = promote(
    soft_sphere, reach="sigma", dr_threshold=0.2
)
