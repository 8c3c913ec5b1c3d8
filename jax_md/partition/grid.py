"""Cells of a neighbor search: columns with finely binned, sorted members.

Space is cut into columns along the last axis; inside a column particles are sorted
along it, so that all that can be near a particle in one column is one contiguous run.
Cells are addressed modulo their number on each axis, which serves periodic boxes,
particles outside the box and free space alike: a cell of the hash may stand for several
cells of space, and the distance test sorts that out. An axis too short for the search
(a period of fewer than ``2 reach + 1`` cells) is one cell that everything is in.
"""

import math
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array

from .sweep import take

# Cells are this much wider than needed, for the rounding of their index.
_MARGIN = 1.002


class Grid(NamedTuple):
    """Static facts of a search; the last axis runs along the columns."""

    cells: tuple[int, ...]  # cells of the hash on each axis
    spread: tuple[float, ...]  # cells per unit of the hash coordinate
    reach: tuple[int, ...]  # cells to either side that may hold a neighbor
    orthogonal: bool  # whether distances in cells combine by Pythagoras

    @property
    def columns(self) -> int:
        """Number of columns."""
        return math.prod(self.cells[:-1])

    @property
    def offsets(self) -> list[tuple[tuple[int, ...], int]]:
        """Column offsets to search, each with its reach along the column."""
        axes = [range(-r, r + 1) for r in self.reach[:-1]]
        found = []
        for offset in (
            np.array(np.meshgrid(*axes, indexing="ij")).reshape(len(axes), -1).T
        ):
            pairs = zip(offset, self.reach, strict=False)
            gaps = [max(abs(int(o)) - 1, 0) / r if r else 0.0 for o, r in pairs]
            if self.orthogonal:
                left = 1 - sum(g * g for g in gaps)
                if left <= 0:
                    continue
                along = math.ceil(math.sqrt(left) * self.reach[-1])
            else:
                along = self.reach[-1]
            found.append((tuple(int(o) for o in offset), along))
        return found or [((), self.reach[-1])]


def make_grid(
    widths: tuple[float | None, ...], radius: float, n: int, orthogonal: bool
) -> Grid:
    """Choose the cells for a search.

    Args:
        widths: Per axis the distance between opposite faces of the box (the period), or
            None for an axis without period. Hash coordinates count periods, or, without
            one, lengths.
        radius: Distance to search.
        n: Number of particles, which bounds the number of cells worth having.
        orthogonal: Whether the axes are perpendicular.
    """
    d = len(widths)
    if d > 3:  # 5 ** (d - 1) columns are more than all pairs
        return Grid((1,) * d, (1.0,) * d, (0,) * d, False)
    per_column_axis = max(5, math.ceil(n ** (1 / 2 if d == 3 else 1)))
    cells, spread, reach = [], [], []
    for axis, width in enumerate(widths):
        last = axis == d - 1
        bins = max(17, 4 * n // max(1, math.prod(cells)))
        cap = bins if last else per_column_axis
        for r in (8, 4, 2, 1) if last else (2, 1):
            size = radius * _MARGIN / r
            total = 10**9 if width is None else int(width / size)
            if total >= 2 * r + 1:
                few = min(total, max(cap, 2 * r + 1))
                cells.append(few)
                reach.append(r)
                # The period must hold a whole number of turns of the hash.
                spread.append(1 / size if width is None else float(total // few * few))
                break
        else:
            cells.append(1)
            reach.append(0)
            spread.append(1.0 if width is not None else 1 / radius)
    return Grid(tuple(cells), tuple(spread), tuple(reach), orthogonal)


def cell_indices(coordinate: Array, grid: Grid) -> list[Array]:
    """Cell of each particle on each axis, from hash coordinates ``[n, d]``."""
    indices = []
    for axis, (cells, spread) in enumerate(zip(grid.cells, grid.spread, strict=True)):
        if cells == 1:
            indices.append(jnp.zeros(coordinate.shape[0], jnp.int32))
            continue
        # Fold by floor in floating point: an integer would overflow far out.
        turns = coordinate[:, axis] * (spread / cells)
        index = ((turns - jnp.floor(turns)) * cells).astype(jnp.int32)
        indices.append(jnp.clip(index, 0, cells - 1))
    return indices


class Sorted(NamedTuple):
    """Particles in the order of their cells, with columns continued at both ends."""

    order: Array  # particle of each lane [n]
    cell: list[Array]  # cell of each lane, per axis
    home: Array  # place of each lane in the continued columns [n]
    bins: Array  # start of each bin of the continued columns [columns, bins + 1]
    member: Array  # lane at each place of the continued columns [room]
    needed: Array  # places that the continued columns have


def sort_particles(coordinate: Array, grid: Grid, room: int) -> Sorted:
    """Sort particles into columns and continue each by `reach` bins at both ends.

    A column is laid out as its last bins, the whole of it, and its first bins again, so
    that a run across the period is contiguous.
    """
    n = coordinate.shape[0]
    nz, rz = grid.cells[-1], grid.reach[-1]
    index = cell_indices(coordinate, grid)
    column = jnp.zeros(n, jnp.int32)
    for cells, i in zip(grid.cells[:-1], index[:-1], strict=True):
        column = column * cells + i
    key = column * nz + index[-1]
    key, order = lax.sort_key_val(key, jnp.arange(n, dtype=jnp.int32))
    column = key // nz
    count = jnp.zeros(grid.columns * nz, jnp.int32).at[key].add(1, mode="drop")
    count = count.reshape(grid.columns, nz)
    continued = jnp.concatenate([count[:, nz - rz :], count, count[:, :rz]], axis=1)
    ends = jnp.cumsum(continued.reshape(-1), dtype=jnp.int32)
    starts = ends.reshape(continued.shape) - continued
    # A last entry per column, so that a run may end at the end of it.
    bins = jnp.concatenate([starts, starts[:, -1:] + continued[:, -1:]], axis=1)
    size = jnp.sum(count, 1, dtype=jnp.int32)
    first = jnp.cumsum(size, dtype=jnp.int32) - size
    tail = jnp.sum(count[:, nz - rz :], 1, dtype=jnp.int32)
    place = jnp.arange(room, dtype=jnp.int32)
    opened = jnp.zeros(room + 1, jnp.int32).at[bins[:, 0]].add(1, mode="drop")
    of = jnp.maximum(jnp.cumsum(opened[:room], dtype=jnp.int32) - 1, 0)
    take = lambda x: x.at[of].get(mode="promise_in_bounds")  # noqa: E731
    turn = jnp.maximum(take(size), 1)
    shifted = place - take(bins[:, 0]) - take(tail)
    shifted = jnp.where(shifted < 0, shifted + turn, shifted)
    shifted = jnp.where(shifted >= turn, shifted - turn, shifted)
    member = jnp.clip(take(first) + shifted, 0, n - 1).astype(jnp.int32)
    cell = [i.at[order].get(mode="promise_in_bounds") for i in index]
    ahead = (bins[:, 0] + tail - first).at[column].get(mode="promise_in_bounds")
    home = jnp.arange(n, dtype=jnp.int32) + ahead
    return Sorted(order, cell, home, bins, member, ends[-1])


class Runs(NamedTuple):
    """Where the candidates of some lanes are, column by column."""

    table: Array  # starts of bins, with the columns around repeated at the edges
    at: Array  # bin of each lane in the table
    first: Array  # from there to where the run in a column begins
    last: Array  # and to where it ends

    def begin(self, column: Any) -> Array:
        """First place of the runs in a column, or in one column for each lane."""
        return self._place(self.first, column)

    def end(self, column: Any) -> Array:
        """The place after the last one."""
        return self._place(self.last, column)

    def _place(self, offset: Array, column: Any) -> Array:
        return take(self.table, self.at + take(offset, column))


def runs(sorted_: Sorted, grid: Grid, lanes: list[Array]) -> Runs:
    """Find the runs to test in each column.

    Args:
        sorted_: The sorted particles.
        grid: The cells.
        lanes: Cell of the lanes to search for, per axis.
    """
    bins = sorted_.bins.reshape(*grid.cells[:-1], -1)
    at = jnp.zeros_like(lanes[-1])
    for axis, (cells, reach) in enumerate(
        zip(grid.cells[:-1], grid.reach, strict=False)
    ):
        around = np.arange(-reach, cells + reach) % cells
        bins = jnp.take(bins, around, axis=axis)
        at = at * bins.shape[axis] + lanes[axis] + reach
    strides = np.cumprod([1, *bins.shape[:0:-1]])[:0:-1]
    at = at * bins.shape[-1] + lanes[-1] + grid.reach[-1]
    offset = np.array([np.dot(o, strides) for o, _ in grid.offsets], np.int32)
    along = np.array([along for _, along in grid.offsets], np.int32)
    first, last = jnp.asarray(offset - along), jnp.asarray(offset + along + 1)
    return Runs(bins.reshape(-1), at, first, last)
