"""Cutoff functions of descriptors, smooth and zero from a distance on."""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array

# Closer than this, two particles count as one and the same.
COINCIDENT = 1e-7


def cosine_cutoff(dr: Array, cutoff_distance: Any) -> Array:
    r"""Half a cosine, :math:`f_c = (1 + \cos \pi r / r_c) / 2`; once differentiable.

    Args:
        dr: Distances, ``[*pairs]`` (length). Zero marks a masked pair.
        cutoff_distance: From where on it is zero (length).
    """
    out = (dr <= COINCIDENT) | (dr >= cutoff_distance)  # so that NaN stays visible
    r = jnp.where(out, 0.5 * cutoff_distance, dr)
    return jnp.where(out, 0, 0.5 * (jnp.cos(jnp.pi * r / cutoff_distance) + 1))


def quintic_cutoff(dr: Array, cutoff_distance: Any) -> Array:
    r"""A polynomial, :math:`1 - x^3 (10 - 15 x + 6 x^2)`; twice differentiable.

    For Hessians and gradients through trajectories. Here :math:`x = r / r_c`.

    Args:
        dr: Distances, ``[*pairs]`` (length). Zero marks a masked pair.
        cutoff_distance: From where on it is zero (length).
    """
    out = (dr <= COINCIDENT) | (dr >= cutoff_distance)
    x = jnp.where(out, 0.5 * cutoff_distance, dr) / cutoff_distance
    return jnp.where(out, 0, 1 - x * x * x * (10 - x * (15 - 6 * x)))
