"""Sizes of the buffers of a neighbor list: guessed, measured, changed."""

import math

import jax.numpy as jnp
from jaxtyping import Array

from .build import Built, Room
from .formats import NeighborListFormat, OrderedSparse, is_sparse
from .grid import Grid
from .sweep import Rows
from .views import pair_view

# Head-room of the buffers that a user does not size.
_ROOM = 1.25


def guess_room(n: int, grid: Grid) -> Room:
    """Sizes to try first: enough for a homogeneous system, so that most build once."""
    slots = min(max(n - 1, 0), 96)
    turn = 2 * grid.reach[-1]
    share = n / (grid.columns * grid.cells[-1])
    run = int(min(n, 2 * share * (turn + 1) + 12))
    places = int(1.5 * n * (grid.cells[-1] + turn) / grid.cells[-1]) + 8
    return _sized(slots, places, n if max(grid.cells) == 1 else run)


def _sized(slots: int, places: int, run: int) -> Room:
    window = min(32, 8 * math.ceil(max(run, 1) / 8))
    return Room(slots, max(places, 1), window, max(1, -(-run // window)))


def holds(room: Room, built: Built) -> bool:
    """Whether nothing was dropped for want of room."""
    fits = int(built.run) <= room.window * room.windows
    return fits and int(built.places) <= room.places and int(built.slots) <= room.slots


def make_room(n: int, built: Built, grid: Grid) -> Room:
    """Sizes for updates, with head-room for what moves."""
    if max(grid.cells) == 1:
        return _sized(int(built.slots), n, n)
    places, run = math.ceil(int(built.places) * _ROOM) + 8, int(built.run)
    return _sized(int(built.slots), places, math.ceil(run * _ROOM))


def resize(rows: Rows, slots: int) -> Rows:
    """Return rows with another number of slots."""
    n = rows.slots.shape[1]
    kept = rows.slots[:slots]
    spare = jnp.full((slots - kept.shape[0], n), n, kept.dtype)
    return rows._replace(slots=jnp.concatenate([kept, spare]))


def edited_entries(rows: Array, capacity: int, format: NeighborListFormat) -> Array:  # noqa: A002
    """Masked rows in the format and the capacity of `idx`."""
    n = rows.shape[0]
    if is_sparse(format):
        return pair_view(rows, capacity, format is OrderedSparse)
    spare = jnp.full((n, max(0, capacity - rows.shape[1])), n, jnp.int32)
    return jnp.concatenate([rows[:, :capacity], spare], axis=1)
