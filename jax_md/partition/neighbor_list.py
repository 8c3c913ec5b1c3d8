"""Verlet neighbor lists: all pairs within a cutoff plus a skin, rebuilt when needed.

A list is stored once, slot-major and symmetric, whatever its format: `idx` is a view
made on demand. A rebuild is due when the two largest displacements since the last one
could together use up the skin, less what a change of the box since then has consumed of
it. What a rebuild would have needed is reported as a size (`occupancy`), beside sticky
error flags.
"""

import logging
import math
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.core import Tracer
from jaxtyping import Array, Bool, Float, Int

from jax_md import dataclasses, space

from .build import Built, Room, build
from .cell_list import CellListFns, cell_list
from .errors import PEC, PartitionError, no_error
from .formats import (
    Dense,
    NeighborListFormat,
    OrderedSparse,
    is_box_valid,
    is_format_valid,
    is_sparse,
)
from .grid import Grid, make_grid
from .sweep import Rows
from .views import dense_view, pack_rows, pair_view

MaskFn = Callable[[Array], Array]

# Head-room of the buffers that a user does not size.
_ROOM = 1.25
# How much a fractional cell may shrink before its list has to be allocated again.
_SHRINK = 1.05

_OVERFLOWS = PEC.NEIGHBOR_LIST_OVERFLOW | PEC.CELL_LIST_OVERFLOW


@dataclasses.dataclass
class NeighborList:
    """A neighbor list; see `neighbor_list`.

    Attributes:
        rows: The pairs, slot-major and symmetric, without self pairs.
        reference_position: Positions at the last build, ``[n, d]``.
        reference_box: Box at the last build, ``[d, d]``, or None without a box.
        error: Sticky flags.
        occupancy: Entries that the last build needed, to compare with `max_occupancy`.
        slot_occupancy: The longest row that the last build needed.
        rebuilds: Number of builds since the list was allocated.
        edited_idx: The entries in their format where they differ from `rows`, because a
            mask was applied or ``set(idx=...)`` was called.
        cell_list_capacity: Members of the continued columns, None without cells.
        max_occupancy: Capacity of `idx`: slots of a row, or pairs.
        format: How `idx` is laid out.
        mask_self: Whether particles are left out of their own rows.
        cell_size: Width of the cells that a plain cell list would have.
        cell_list_fn: Such a cell list, None where the box is too small for one.
        update_fn: What `update` calls.
        grid: Cells of the search.
        room: Sizes of the buffers.
    """

    rows_: Rows
    reference_position: Float[Array, "n d"]
    reference_box: Float[Array, "d d"] | None
    error: PartitionError
    occupancy: Int[Array, ""]
    slot_occupancy: Int[Array, ""]
    rebuilds: Int[Array, ""]
    edited_idx: Int[Array, "..."] | None
    cell_list_capacity: int | None = dataclasses.static_field()
    max_occupancy: int = dataclasses.static_field()
    format: NeighborListFormat = dataclasses.static_field()
    mask_self: bool = dataclasses.static_field()
    cell_size: Any = dataclasses.static_field()
    cell_list_fn: CellListFns | None = dataclasses.static_field()
    update_fn: Callable = dataclasses.static_field()
    grid: Grid = dataclasses.static_field()
    room: Room = dataclasses.static_field()

    @property
    def n(self) -> int:
        """Number of particles."""
        return self.reference_position.shape[0]

    @property
    def rows(self) -> Rows | None:
        """The symmetric rows, None where entries were edited or masked."""
        return self.rows_ if self.edited_idx is None else None

    @property
    def is_ordered(self) -> bool:
        """Whether `idx` holds each pair once."""
        return self.format is OrderedSparse

    @property
    def dense_idx(self) -> Int[Array, "n k"]:
        """Rows of neighbors ``[n, k]`` without self pairs, whatever the format."""
        return dense_view(self.rows_)

    @property
    def idx(self) -> Int[Array, "..."]:
        """The entries in the format of the list; ``n`` marks empty ones.

        A view made on demand: energies of this package never read it.
        """
        if self.edited_idx is not None:
            return self.edited_idx
        rows = dense_view(self.rows_, itself=not self.mask_self)
        if self.format is Dense:
            return rows
        return pair_view(rows, self.max_occupancy, self.is_ordered)

    @property
    def pairs(self) -> tuple[Array, Array, Bool[Array, "..."]]:
        """Receivers, senders and validity of the entries of `idx`, less self pairs."""
        idx = self.idx
        if self.format is Dense:
            i = jnp.broadcast_to(
                jnp.arange(self.n, dtype=idx.dtype)[:, None], idx.shape
            )
            j = idx
        else:
            i, j = idx[0], idx[1]
        return i, j, (j < self.n) & (i < self.n) & (i != j)

    def set(self, **changes: Any) -> "NeighborList":
        """Return a copy with fields replaced; ``idx=`` edits the entries."""
        if "idx" in changes:
            changes["edited_idx"] = changes.pop("idx")
        return dataclasses.replace(self, **changes)

    def update(self, position: Any, **kwargs: Any) -> "NeighborList":
        """Return the list at new positions, rebuilt if need be.

        Args:
            position: Positions, ``[n, d]``.
            **kwargs: Passed to the displacement, ``box=`` among them.
        """
        return self.update_fn(position, self, **kwargs)

    @property
    def did_buffer_overflow(self) -> Array:
        """Nonzero if pairs were dropped since allocation: allocate again."""
        return self.error.has(_OVERFLOWS)

    @property
    def cell_size_too_small(self) -> Array:
        """Nonzero if the box shrank too far for the cells: allocate again."""
        return self.error.has(PEC.CELL_SIZE_TOO_SMALL)

    @property
    def malformed_box(self) -> Array:
        """Nonzero if a box was a matrix that is not upper triangular."""
        return self.error.has(PEC.MALFORMED_BOX)

    def raise_if_overflowed(self) -> None:
        """Raise `RuntimeError` if the list is not to be trusted; waits for it."""
        code = int(np.max(np.asarray(self.error.code)))
        if not code & (_OVERFLOWS | PEC.CELL_SIZE_TOO_SMALL):
            return
        needed = int(np.max(np.asarray(self.occupancy)))
        raise RuntimeError(
            f"{PartitionError(jnp.uint8(code))} The list holds {self.max_occupancy} "
            f"entries and needed {needed}. Allocate it again at the current "
            "positions (`neighbor_fn.allocate(R)`, with `extra_capacity=` for more "
            "room) and redo the steps since it was last sound; `simulate.run` does "
            "both."
        )


@dataclasses.dataclass
class NeighborListFns:
    """The two functions of a neighbor list; unpacks as ``allocate, update``."""

    allocate: Callable[..., NeighborList] = dataclasses.static_field()
    update: Callable[..., NeighborList] = dataclasses.static_field()

    def __iter__(self) -> Iterator[Callable]:
        return iter((self.allocate, self.update))

    def __call__(
        self,
        position: Any,
        neighbors: NeighborList | None = None,
        extra_capacity: int = 0,
        **kwargs: Any,
    ) -> NeighborList:
        """Allocate without `neighbors`, update with them; kept for older scripts."""
        logging.getLogger(__name__).warning(
            "calling a neighbor function directly is deprecated; use `.allocate` and "
            "`.update`."
        )
        if neighbors is None:
            return self.allocate(position, extra_capacity, **kwargs)
        return self.update(position, neighbors, **kwargs)


def neighbor_list(
    displacement_or_metric: Callable,
    box: Any,
    r_cutoff: float,
    dr_threshold: float = 0.0,
    capacity_multiplier: float = 1.25,
    disable_cell_list: bool = False,
    mask_self: bool = True,
    custom_mask_function: MaskFn | None = None,
    fractional_coordinates: bool = False,
    format: NeighborListFormat = NeighborListFormat.Dense,  # noqa: A002
    **static_kwargs: Any,
) -> NeighborListFns:
    """Make the functions that build and update a neighbor list.

    Args:
        displacement_or_metric: The geometry, as in `jax_md.space`.
        box: Period of each axis: scalar, ``[d]``, or ``[d, d]`` (length). On a free
            axis any value will do; None is a space without any box.
        r_cutoff: Pairs closer than this are never missed (length).
        dr_threshold: Thickness of the skin (length). Zero rebuilds at every update.
        capacity_multiplier: Head-room of the buffers.
        disable_cell_list: Search all pairs.
        mask_self: Whether to leave particles out of their own rows of `idx`. Sums
            over neighbors never include them.
        custom_mask_function: Maps rows ``[n, k]`` to rows with ``n`` in the place of
            the entries to remove.
        fractional_coordinates: Whether positions are fractions of the box.
        format: How `NeighborList.idx` is laid out.
        **static_kwargs: Ignored, for the scripts that pass more.

    Returns:
        ``(allocate, update)``. ``allocate(R, extra_capacity=0, **kwargs)`` sizes the
        buffers and cannot be compiled; ``update(R, neighbors, **kwargs)`` can.
        Keywords go to the displacement; with fractional coordinates ``box=`` is the
        current cell.

    Raises:
        ValueError: If a cutoff or the box is not one, or, from `allocate`, if positions
            are not ``[n, d]`` or not finite.
    """
    del static_kwargs
    is_format_valid(format)
    r_cutoff = _length("r_cutoff", r_cutoff, strictly=True)
    skin = _length("dr_threshold", dr_threshold)
    if box is not None:
        _check_box(box)
    elif fractional_coordinates:
        raise ValueError(
            "`box` is needed with `fractional_coordinates=True`; got None."
        )
    radius = r_cutoff + skin
    metric = displacement_or_metric

    def square_distance(a: Any, b: Any, kwargs: dict) -> Any:
        dR = metric(a, b, **kwargs)
        return dR * dR if dR.ndim == 0 else space.square_distance(dR)

    def hash_coordinate(position: Array, kwargs: dict) -> Array:
        if fractional_coordinates or box is None:
            return position
        # Real positions are hashed in the box of the construction whatever `kwargs`
        # say: deformations reach the distance test through the displacement.
        return space.raw_transform(_cast(space.inverse(box), position), position)

    def current_box(position: Array, kwargs: dict) -> Array | None:
        given = kwargs.get("new_box", kwargs.get("box"))
        given = box if given is None else given
        return None if given is None else _as_matrix(given, position)

    def rebuild(position: Array, kwargs: dict, grid: Grid, room: Room) -> Built:
        def near(a: Any, b: Any) -> Any:
            return square_distance(a, b, kwargs)

        coordinate = hash_coordinate(position, kwargs)
        square = np.asarray(radius, position.dtype) ** 2
        return build(position, coordinate, near, square, grid, room)

    compiled_build = jax.jit(rebuild, static_argnums=(2, 3))

    def first_build(position, arrays, others, grid, room) -> Built:
        if others:
            return rebuild(position, {**arrays, **others}, grid, room)
        return compiled_build(position, arrays, grid, room)

    def masked(rows: Rows) -> tuple[Array, Array, Array]:
        """Rows after the user's mask, packed; their longest, and the pairs in all."""
        assert custom_mask_function is not None
        entries = dense_view(rows, itself=not mask_self)
        edited = custom_mask_function(entries)
        if edited.shape != entries.shape:
            raise ValueError(
                "`custom_mask_function` must return rows of the shape it gets, "
                f"{entries.shape}; got {edited.shape}."
            )
        return pack_rows(edited.astype(jnp.int32))

    def directed(count_or_rows: Array) -> Array:
        return count_or_rows // 2 if format is OrderedSparse else count_or_rows

    def needed_entries(built: Built) -> tuple[Array, Array | None]:
        """Entries that `idx` needs, and the edited rows if there is a mask."""
        dense = format is Dense
        needed = built.slots + (not mask_self) if dense else directed(built.pairs)
        if custom_mask_function is None:
            return needed, None
        edited, longest, pairs = masked(built.rows)
        # The mask sees only what the rows hold; without all of it, assume it keeps all.
        full = built.slots > built.rows.slots.shape[0]
        return jnp.where(full, needed, longest if dense else directed(pairs)), edited

    def refresh(
        position: Array, box_now: Array | None, neighbors: NeighborList, kwargs
    ):
        room = neighbors.room
        built = rebuild(position, kwargs, neighbors.grid, room)
        entries, edited = needed_entries(built)
        if edited is not None:
            edited = _edited_entries(edited, neighbors.max_occupancy, format)
        full = built.slots > room.slots
        error = neighbors.error.update(
            PEC.NEIGHBOR_LIST_OVERFLOW, full | (entries > neighbors.max_occupancy)
        )
        cells_full = (built.places > room.places) | (
            built.run > room.window * room.windows
        )
        error = error.update(PEC.CELL_LIST_OVERFLOW, cells_full)
        return neighbors.set(
            rows_=built.rows,
            reference_position=position,
            reference_box=box_now,
            error=error,
            occupancy=entries.astype(jnp.int32),
            slot_occupancy=built.slots.astype(jnp.int32),
            rebuilds=neighbors.rebuilds + 1,
            edited_idx=edited,
        )

    def is_stale(position: Array, box_now: Array | None, neighbors, kwargs) -> Array:
        def moved(a: Array, b: Array) -> Array:
            return jnp.sqrt(square_distance(a, b, kwargs))

        shifts = jax.vmap(moved)(position, neighbors.reference_position)
        stretch = _stretch(neighbors.reference_box, box_now, kwargs)
        # `not <=`, so that a NaN rebuilds instead of passing for a particle at rest.
        limit = radius * (1 - 1e-6)
        return ~(stretch * (r_cutoff + _two_largest(shifts)) <= limit)

    def update_core(position: Array, neighbors: NeighborList, kwargs: dict):
        box_now = current_box(position, kwargs)
        if box_now is not None and neighbors.reference_box is None:
            raise ValueError(
                "`box=` reached a neighbor list that was made without a box; pass the "
                "box to `neighbor_list`."
            )
        neighbors = neighbors.set(
            error=_box_errors(neighbors, box_now, radius, fractional_coordinates)
        )
        if skin == 0:
            return refresh(position, box_now, neighbors, kwargs)
        return lax.cond(
            is_stale(position, box_now, neighbors, kwargs),
            lambda: refresh(position, box_now, neighbors, kwargs),
            lambda: neighbors,
        )

    # One system after the other under `vmap`: a batched `cond` would rebuild always.
    sequential = jax.custom_batching.sequential_vmap(update_core)
    compiled = jax.jit(sequential)

    def update(position: Any, neighbors: NeighborList, **kwargs: Any) -> NeighborList:
        position = _check_positions(position)
        if position.shape != neighbors.reference_position.shape:
            raise ValueError(
                "the list was allocated for positions "
                f"{neighbors.reference_position.shape}; got {position.shape}. "
                "Allocate a new one."
            )
        if "box" in kwargs and not fractional_coordinates and not disable_cell_list:
            raise ValueError(
                "`box=` at update time needs `fractional_coordinates=True` (or "
                "`disable_cell_list=True`): cells of real positions belong to the box "
                "of the construction."
            )
        arrays, others = _split_arrays(kwargs)
        args = lax.stop_gradient((position, neighbors, arrays))
        if not others:
            return compiled(*args)
        return update_core(args[0], args[1], {**args[2], **others})

    def allocate(position: Any, extra_capacity: int = 0, **kwargs: Any) -> NeighborList:
        position = _check_positions(position)
        n, d = position.shape
        _check_finite(position)
        for given in (box, kwargs.get("box")):
            if given is not None:
                _check_box(given, d)
        box_now = current_box(position, kwargs)
        basis = kwargs.get("box", box) if fractional_coordinates else box
        search = radius * (_SHRINK if fractional_coordinates else 1)
        if disable_cell_list:
            grid = Grid((1,) * d, (1.0,) * d, (0,) * d, False)
        else:
            grid = make_grid(_widths(basis, d), search, n, _is_orthogonal(basis))
        arrays, others = _split_arrays(kwargs)
        room, built = _guess_room(n, grid), None
        while built is None or not _holds(room, built):
            if built is not None:
                room = _make_room(n, built, grid)._replace(
                    slots=max(room.slots, int(built.slots))
                )
            built = first_build(position, arrays, others, grid, room)
        entries, _ = needed_entries(built)
        most = n - 1 if mask_self else n
        slots = int(int(built.slots) * capacity_multiplier + extra_capacity)
        slots = max(0, min(slots, n - 1))
        if format is Dense:
            capacity = int(int(entries) * capacity_multiplier + extra_capacity)
            capacity = max(0, min(capacity, most))
            if custom_mask_function is None:
                slots = capacity - (not mask_self)
        else:
            capacity = int(int(entries) * capacity_multiplier + n * extra_capacity)
            capacity = max(
                0, min(capacity, n * most // (1 + (format is OrderedSparse)))
            )
        room = _make_room(n, built, grid)._replace(slots=max(slots, 0))
        cells = None if disable_cell_list else _plain_cells(basis, radius, d)
        rows = _resize(built.rows, room.slots)
        edited = None
        if custom_mask_function is not None:
            edited = _edited_entries(masked(rows)[0], capacity, format)
        return NeighborList(
            rows_=rows,
            reference_position=position,
            reference_box=box_now,
            error=_flag_malformed(no_error(), box_now),
            occupancy=jnp.asarray(entries, jnp.int32),
            slot_occupancy=built.slots.astype(jnp.int32),
            rebuilds=jnp.int32(0),
            edited_idx=edited,
            cell_list_capacity=room.places if max(grid.cells) > 1 else None,
            max_occupancy=capacity,
            format=format,
            mask_self=mask_self,
            cell_size=radius if cells is None else cells[0],
            cell_list_fn=None if cells is None else cells[1],
            update_fn=update,
            grid=grid,
            room=room,
        )

    return NeighborListFns(allocate, update)


# Arguments -----------------------------------------------------------------------


def _length(name: str, value: Any, strictly: bool = False) -> float:
    try:
        value = float(value)
    except (TypeError, jax.errors.JAXTypeError) as error:
        raise ValueError(
            f"`{name}` must be a number that is known when the list is made; got "
            f"{type(value).__name__}. A differentiated parameter can set the potential "
            "but not the cutoff of its list."
        ) from error
    if not math.isfinite(value) or value < 0 or (strictly and value == 0):
        kind = "positive" if strictly else "zero or positive"
        raise ValueError(f"`{name}` must be a {kind}, finite length; got {value}.")
    return value


def _check_box(box: Any, d: int | None = None) -> None:
    shape = jnp.shape(box)
    good = len(shape) <= 2 and (len(shape) < 2 or shape[0] == shape[1])
    if d is not None and shape not in ((), (1,), (d,), (d, d)):
        good = False
    if good and not isinstance(box, Tracer):
        values = np.asarray(box, float)
        size = values if values.ndim < 2 else np.abs(np.linalg.det(values))
        if not (np.all(np.isfinite(values)) and np.all(size > 0)):
            raise ValueError(
                f"`box` must have finite, positive extent; got {np.asarray(box)}."
            )
    if not good:
        raise ValueError(
            f"`box` must be a scalar, a vector [{d or 'd'}] or a matrix "
            f"[{d or 'd'}, {d or 'd'}] whose columns are lattice vectors; got "
            f"shape {shape}."
        )


def _check_positions(position: Any) -> Array:
    position = jnp.asarray(position)
    if position.ndim != 2 or not jnp.issubdtype(position.dtype, jnp.floating):
        raise ValueError(
            "positions must be a floating-point array [n, d]; got "
            f"{position.dtype}{list(position.shape)}."
        )
    return position


def _check_finite(position: Array) -> None:
    if isinstance(position, Tracer):
        raise ValueError(
            "`allocate` sizes buffers and cannot run inside `jit`, `vmap` or `grad`; "
            "call it outside and `update` inside."
        )
    bad = ~np.all(np.isfinite(np.asarray(position)), axis=1)
    if bad.any():
        raise ValueError(
            f"positions must be finite; particle {int(np.argmax(bad))} is at "
            f"{np.asarray(position)[np.argmax(bad)]} ({int(bad.sum())} such particles)."
        )


def _split_arrays(kwargs: dict) -> tuple[dict, dict]:
    """Keywords that can be traced, and the others."""

    def traceable(value: Any) -> bool:
        kinds = (jax.Array, np.ndarray, np.generic, bool, int, float, complex)
        leaves = jax.tree_util.tree_leaves(value)
        return bool(leaves) and all(isinstance(leaf, kinds) for leaf in leaves)

    arrays = {k: v for k, v in kwargs.items() if traceable(v)}
    # A keyword that is None is a keyword that was not given.
    others = {k: v for k, v in kwargs.items() if k not in arrays and v is not None}
    return arrays, others


# Geometry ------------------------------------------------------------------------


def _cast(box: Any, position: Array) -> Array:
    return jnp.asarray(box).astype(position.dtype)


def _as_matrix(box: Any, position: Array) -> Array:
    """Any box as a matrix, so that lists keep their shape when boxes change kind."""
    box = _cast(box, position)
    d = position.shape[1]
    return box if box.ndim == 2 else jnp.diag(jnp.broadcast_to(box, (d,)))


def _widths(box: Any, d: int) -> tuple[float | None, ...]:
    if box is None:
        return (None,) * d
    box = np.asarray(box, float)
    if box.ndim < 2:
        return tuple(float(w) for w in np.broadcast_to(box, (d,)))
    # Opposite faces are 1 / |row of the inverse| apart.
    return tuple(float(w) for w in 1 / np.linalg.norm(np.linalg.inv(box), axis=1))


def _is_orthogonal(box: Any) -> bool:
    return box is None or np.ndim(box) < 2


def _two_largest(shifts: Array) -> Array:
    if shifts.size == 0:
        return jnp.zeros((), shifts.dtype)
    largest = jnp.max(shifts)
    at = shifts == largest
    second = jnp.max(jnp.where(at, -jnp.inf, shifts))
    both = jnp.sum(at) > 1
    second = jnp.where(both | ~jnp.isfinite(second), largest, second)
    alone = shifts.size == 1
    return largest if alone else largest + second


def _stretch(reference: Array | None, box: Array | None, kwargs: dict) -> Any:
    """How much longer than now a distance may have been at the last build."""
    if reference is None or not {"box", "new_box"} & set(kwargs):
        return 1.0
    ratio = jnp.abs(reference @ space.inverse(box))
    # A bound on the spectral norm, tight for small strains.
    return jnp.sqrt(jnp.max(jnp.sum(ratio, 0)) * jnp.max(jnp.sum(ratio, 1)))


def _flag_malformed(error: PartitionError, box: Array | None) -> PartitionError:
    if box is None:
        return error
    return error.update(PEC.MALFORMED_BOX, ~is_box_valid(box))


def _box_errors(neighbors: NeighborList, box: Array | None, radius, fractional):
    error = _flag_malformed(neighbors.error, box)
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


def _plain_cells(box: Any, radius: float, d: int) -> tuple[Any, CellListFns] | None:
    """Size and functions of an ordinary cell list, where the box has room for one."""
    if box is None or d not in (2, 3):
        return None
    widths = np.array(_widths(box, d))
    if np.any(radius >= widths / 3):
        return None
    return radius, cell_list(float(widths[0]) if np.ndim(box) == 0 else widths, radius)


# Buffers -------------------------------------------------------------------------


def _guess_room(n: int, grid: Grid) -> Room:
    """Sizes to try first: enough for a homogeneous system, so that most build once."""
    slots = min(max(n - 1, 0), 128)
    turn = 2 * grid.reach[-1]
    share = n / (grid.columns * grid.cells[-1])
    run = int(min(n, 2 * share * (turn + 1) + 12))
    places = int(1.5 * n * (grid.cells[-1] + turn) / grid.cells[-1]) + 8
    return _sized(slots, places, n if max(grid.cells) == 1 else run)


def _sized(slots: int, places: int, run: int) -> Room:
    window = min(32, 8 * math.ceil(max(run, 1) / 8))
    return Room(slots, max(places, 1), window, max(1, -(-run // window)))


def _holds(room: Room, built: Built) -> bool:
    fits = int(built.run) <= room.window * room.windows
    return fits and int(built.places) <= room.places and int(built.slots) <= room.slots


def _make_room(n: int, built: Built, grid: Grid) -> Room:
    """Sizes for updates, with head-room for what moves."""
    if max(grid.cells) == 1:
        return _sized(int(built.slots), n, n)
    places, run = math.ceil(int(built.places) * _ROOM) + 8, int(built.run)
    return _sized(int(built.slots), places, math.ceil(run * _ROOM))


def _resize(rows: Rows, slots: int) -> Rows:
    n = rows.slots.shape[1]
    kept = rows.slots[:slots]
    spare = jnp.full((slots - kept.shape[0], n), n, jnp.int32)
    return rows._replace(slots=jnp.concatenate([kept, spare]))


def _edited_entries(rows: Array, capacity: int, format: NeighborListFormat) -> Array:  # noqa: A002
    n = rows.shape[0]
    if is_sparse(format):
        return pair_view(rows, capacity, format is OrderedSparse)
    spare = jnp.full((n, max(0, capacity - rows.shape[1])), n, jnp.int32)
    return jnp.concatenate([rows[:, :capacity], spare], axis=1)
