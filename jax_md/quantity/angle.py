"""Angles between displacements."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jax_md import space


def cosine_angle_between_two_vectors(dR_12: Array, dR_13: Array) -> Array:
    """Cosine of the angle between two vectors ``[d]``, zero if one of them is zero."""

    def unit(dR: Array) -> Array:
        r = space.distance(dR)
        return dR / jnp.where(r > 0, r, 1)

    return jnp.clip(jnp.sum(unit(dR_12) * unit(dR_13)), -1, 1)


def cosine_angles(dR: Float[Array, "n k d"]) -> Float[Array, "n k k"]:
    """Cosines of the angles between all pairs of displacements of each particle.

    Args:
        dR: Displacements to the neighbors of each particle, ``[n, k, d]``.
    """
    pairs = space.map_product(cosine_angle_between_two_vectors)
    return jax.vmap(pairs)(dR, dR)
