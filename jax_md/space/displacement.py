"""Elementary displacements, distances and shifts of points."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array


def pairwise_displacement(Ra: Any, Rb: Any) -> Array:
    """Return ``Ra - Rb`` of two points.

    Args:
        Ra: A point, ``[d]``.
        Rb: A point, ``[d]``.

    Raises:
        ValueError: If the points are not vectors of one shape.
    """
    if jnp.ndim(Ra) != 1 or jnp.shape(Ra) != jnp.shape(Rb):
        raise ValueError(
            "a displacement acts on two points of one shape [d]; got shapes "
            f"{jnp.shape(Ra)} and {jnp.shape(Rb)}. Use `space.map_product`, `map_bond` "
            "or `map_neighbor` for arrays of points."
        )
    return Ra - Rb


def periodic_displacement(side: Any, dR: Any) -> Array:
    """Map a displacement to its minimum image, in ``[-side / 2, side / 2)``.

    Args:
        side: Edge lengths, scalar or ``[d]``.
        dR: Displacements, ``[..., d]``.
    """
    # floor(x + 1/2) rather than mod, and no division: the same values, faster.
    return dR - side * jnp.floor(dR * (1 / side) + 0.5)


def periodic_shift(side: Any, R: Any, dR: Any) -> Array:
    """Move positions and wrap them into ``[0, side)``.

    Args:
        side: Edge lengths, scalar or ``[d]``.
        R: Positions, ``[..., d]``.
        dR: Displacements, ``[..., d]``.
    """
    moved = R + dR
    return moved - side * jnp.floor(moved / side)


def square_distance(dR: Any) -> Array:
    """Squared length of displacements ``[..., d]``, as ``[...]``."""
    return jnp.sum(jnp.square(dR), axis=-1)


def distance(dR: Any) -> Array:
    """Length of displacements ``[..., d]``, as ``[...]``.

    Value and every derivative are zero at a zero displacement.
    """
    return root_of_square(square_distance(dR))


@jax.jit
def root_of_square(square: Any) -> Array:
    """Root of a squared distance; value and every derivative are zero at zero.

    Compiled, so that it keeps its name in what it is traced into: neighbor sums look
    for it, to take even powers of a distance from the square.
    """
    apart = square != 0  # unlike `> 0`, lets NaN through
    return jnp.where(apart, jnp.sqrt(jnp.where(apart, square, 1)), 0)
