"""Boxes and particles: volumes, packing fractions, and boxes of a wanted density."""

import math
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jax_md.types import Box

from .stress import volume


def nball_unit_volume(spatial_dimension: int) -> float:
    r"""Volume of the unit ball, :math:`\pi^{d/2} / \Gamma(d/2 + 1)`."""
    half = spatial_dimension / 2
    return math.pi**half / math.gamma(half + 1)


def particle_volume(
    radii: Any, spatial_dimension: int, particle_count: Any = 1, species: Any = None
) -> Any:
    """Volume that balls fill, overlaps counted twice.

    Args:
        radii: Radius, scalar or one per kind of particle (length).
        spatial_dimension: Dimension of the balls.
        particle_count: How many particles have each radius, scalar or as `radii`.
        species: Kind of each particle, integers ``[n]``; replaces `particle_count`.
    """
    radii, particle_count = (
        x if np.ndim(x) == 0 else jnp.asarray(x) for x in (radii, particle_count)
    )
    if species is not None:
        particle_count = jnp.bincount(jnp.asarray(species), length=jnp.size(radii))
    balls = particle_count * nball_unit_volume(spatial_dimension)
    filled = balls * radii**spatial_dimension
    return jnp.sum(filled) if jnp.ndim(filled) else filled  # numbers stay numbers


def volume_fraction(
    box: Box,
    radii: Any,
    spatial_dimension: int,
    particle_count: Any = 1,
    species: Any = None,
) -> Any:
    """Fraction of a box that balls fill.

    Args:
        box: Scalar, ``[d]`` or ``[d, d]`` (length).
        radii: Radius, scalar or one per kind of particle (length).
        spatial_dimension: Dimension of the balls.
        particle_count: How many particles have each radius.
        species: Kind of each particle, integers ``[n]``; replaces `particle_count`.
    """
    filled = particle_volume(radii, spatial_dimension, particle_count, species)
    return filled / volume(spatial_dimension, box)


def box_size_at_volume_fraction(
    volume_fraction: Any,
    radii: Any,
    spatial_dimension: int,
    particle_count: Any = 1,
    species: Any = None,
) -> Any:
    """Edge of the cube in which balls fill a given fraction.

    Args:
        volume_fraction: Wanted fraction.
        radii: Radius, scalar or one per kind of particle (length).
        spatial_dimension: Dimension of the balls.
        particle_count: How many particles have each radius.
        species: Kind of each particle, integers ``[n]``; replaces `particle_count`.
    """
    filled = particle_volume(radii, spatial_dimension, particle_count, species)
    return (filled / volume_fraction) ** (1 / spatial_dimension)


def box_size_at_number_density(
    particle_count: Any, number_density: Any, spatial_dimension: int
) -> Any:
    """Edge of the cube that holds particles at a density, ``(n / rho)^(1/d)``.

    Args:
        particle_count: Number of particles.
        number_density: Particles per volume.
        spatial_dimension: Dimension of the cube.
    """
    return (particle_count / number_density) ** (1 / spatial_dimension)


def box_from_parameters(
    a: Any, b: Any, c: Any, alpha: Any, beta: Any, gamma: Any
) -> Float[Array, "3 3"]:
    """Upper-triangular box of crystallographic cell parameters.

    Args:
        a: Length of the first lattice vector, which lies along x.
        b: Length of the second, which lies in the xy plane.
        c: Length of the third.
        alpha: Angle between the second and third (degrees).
        beta: Angle between the first and third (degrees).
        gamma: Angle between the first and second (degrees).

    Returns:
        Matrix ``[3, 3]`` whose columns are the lattice vectors.
    """

    def cosine(angle: Any) -> Any:
        return jnp.cos(jnp.deg2rad(angle * 1.0))

    xy = b * cosine(gamma)
    xz = c * cosine(beta)
    yy = b * jnp.sin(jnp.deg2rad(gamma * 1.0))
    yz = (b * c * cosine(alpha) - xy * xz) / yy
    zz = jnp.sqrt(c**2 - xz**2 - yz**2)
    zero = jnp.zeros_like(zz)
    rows = [[a, xy, xz], [zero, yy, yz], [zero, zero, zz]]
    return jnp.stack([jnp.stack([jnp.asarray(x) for x in row]) for row in rows])


def is_integer(x: Any) -> bool:
    """Whether `x` is an integer or an array of integers (booleans are not)."""
    return bool(np.issubdtype(jnp.result_type(x), np.integer))
