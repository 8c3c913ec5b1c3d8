"""Boxes and displacements as a neighbor list sees them: widths, strain, staleness."""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from jax_md import space

from .cell_list import CellListFns, cell_list
from .errors import PEC, PartitionError
from .formats import is_box_valid
from .list_types import NeighborList


def cast(box: Any, position: Array) -> Array:
    """Return a box in the dtype of the positions."""
    return jnp.asarray(box).astype(position.dtype)


def as_matrix(box: Any, position: Array) -> Array:
    """Any box as a matrix, so that lists keep their shape when boxes change kind."""
    box = cast(box, position)
    d = position.shape[1]
    return box if box.ndim == 2 else jnp.diag(jnp.broadcast_to(box, (d,)))


def widths_of(box: Any, d: int) -> tuple[float | None, ...]:
    """Distances between opposite faces of a box, None for each axis without one."""
    if box is None:
        return (None,) * d
    box = np.asarray(box, float)
    if box.ndim < 2:
        return tuple(float(w) for w in np.broadcast_to(box, (d,)))
    # Opposite faces are 1 / |row of the inverse| apart.
    return tuple(float(w) for w in 1 / np.linalg.norm(np.linalg.inv(box), axis=1))


def is_orthogonal(box: Any) -> bool:
    """Whether the axes of a box stay perpendicular whatever its size."""
    return box is None or np.ndim(box) < 2


def two_largest(shifts: Array) -> Array:
    """Sum of the two largest of some lengths."""
    if shifts.size == 0:
        return jnp.zeros((), shifts.dtype)
    largest = jnp.max(shifts)
    at = shifts == largest
    second = jnp.max(jnp.where(at, -jnp.inf, shifts))
    both = jnp.sum(at) > 1
    second = jnp.where(both | ~jnp.isfinite(second), largest, second)
    alone = shifts.size == 1
    return largest if alone else largest + second


def stretch_of(reference: Array | None, box: Array | None, kwargs: dict) -> Any:
    """How much longer than now a distance may have been at the last build."""
    if reference is None or not {"box", "new_box"} & set(kwargs):
        return 1.0
    ratio = jnp.abs(reference @ space.inverse(box))
    # A bound on the spectral norm, tight for small strains.
    return jnp.sqrt(jnp.max(jnp.sum(ratio, 0)) * jnp.max(jnp.sum(ratio, 1)))


def flag_malformed(error: PartitionError, box: Array | None) -> PartitionError:
    """Flag a box that is not upper triangular."""
    if box is None:
        return error
    return error.update(PEC.MALFORMED_BOX, ~is_box_valid(box))


def box_errors(neighbors: NeighborList, box: Array | None, radius, fractional):
    """Flags of a list for the box that it meets."""
    error = flag_malformed(neighbors.error, box)
    grid = neighbors.grid
    if not fractional or max(grid.cells) == 1:
        return error
    d = len(grid.cells)
    widths = 1 / jnp.linalg.norm(space.inverse(box), axis=1)
    for axis in range(d):
        if grid.cells[axis] > 1:
            covered = widths[axis] * (grid.reach[axis] / grid.spread[axis])
            error = error.update(PEC.CELL_SIZE_TOO_SMALL, covered < radius)
    return error


def plain_cells(box: Any, radius: float, d: int) -> tuple[Any, CellListFns] | None:
    """Size and functions of an ordinary cell list, where the box has room for one."""
    if box is None or d not in (2, 3):
        return None
    widths = np.array(widths_of(box, d))
    if np.any(radius >= widths / 3):
        return None
    return radius, cell_list(float(widths[0]) if np.ndim(box) == 0 else widths, radius)
