"""Verlet neighbor lists: all pairs within a cutoff plus a skin, rebuilt when needed.

A list is stored once, slot-major and symmetric, whatever its format: `idx` is a view
made on demand. A rebuild is due when the two largest displacements since the last one
could together use up the skin, less what a change of the box since then has consumed of
it. What a rebuild would have needed is reported as a size (`occupancy`), beside sticky
error flags.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array

from jax_md import space

from .arguments import (
    check_box,
    check_finite,
    check_positions,
    length,
    split_arrays,
)
from .build import Built, Room, build
from .capacity import edited_entries, guess_room, holds, make_room, resize
from .errors import PEC, no_error
from .formats import Dense, NeighborListFormat, OrderedSparse, is_format_valid
from .geometry import (
    as_matrix,
    box_errors,
    cast,
    flag_malformed,
    is_orthogonal,
    plain_cells,
    stretch_of,
    two_largest,
    widths_of,
)
from .grid import Grid, make_grid
from .list_types import NeighborList, NeighborListFns
from .sweep import DEPTH, Rows
from .views import dense_view, pack_rows

MaskFn = Callable[[Array], Array]

# How much a fractional cell may shrink before its list has to be allocated again.
_SHRINK = 1.05


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
    r_cutoff = length("r_cutoff", r_cutoff, strictly=True)
    skin = length("dr_threshold", dr_threshold)
    if box is not None:
        check_box(box)
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
        return space.raw_transform(cast(space.inverse(box), position), position)

    def current_box(position: Array, kwargs: dict) -> Array | None:
        given = kwargs.get("new_box", kwargs.get("box"))
        given = box if given is None else given
        return None if given is None else as_matrix(given, position)

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
            edited = edited_entries(edited, neighbors.max_occupancy, format)
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
        stretch = stretch_of(neighbors.reference_box, box_now, kwargs)
        # `not <=`, so that a NaN rebuilds instead of passing for a particle at rest.
        limit = radius * (1 - 1e-6)
        return ~(stretch * (r_cutoff + two_largest(shifts)) <= limit)

    def update_core(position: Array, neighbors: NeighborList, kwargs: dict):
        box_now = current_box(position, kwargs)
        if box_now is not None and neighbors.reference_box is None:
            raise ValueError(
                "`box=` reached a neighbor list that was made without a box; pass the "
                "box to `neighbor_list`."
            )
        neighbors = neighbors.set(
            error=box_errors(neighbors, box_now, radius, fractional_coordinates)
        )
        if skin == 0:
            return refresh(position, box_now, neighbors, kwargs)
        due = is_stale(position, box_now, neighbors, kwargs)

        # A loop of at most one turn: it leaves the list where it is, while a `cond`
        # would copy it through the branch that does nothing, at every step.
        def once(carry: tuple) -> tuple:
            return jnp.zeros_like(due), refresh(position, box_now, carry[1], kwargs)

        return lax.while_loop(lambda carry: carry[0], once, (due, neighbors))[1]

    # One system after the other under `vmap`: a batched `cond` would rebuild always.
    sequential = jax.custom_batching.sequential_vmap(update_core)
    compiled = jax.jit(sequential)

    def update(position: Any, neighbors: NeighborList, **kwargs: Any) -> NeighborList:
        position = check_positions(position)
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
        arrays, others = split_arrays(kwargs)
        args = lax.stop_gradient((position, neighbors, arrays))
        if not others:
            return compiled(*args)
        return update_core(args[0], args[1], {**args[2], **others})

    def allocate(position: Any, extra_capacity: int = 0, **kwargs: Any) -> NeighborList:
        position = check_positions(position)
        n, d = position.shape
        check_finite(position)
        for given in (box, kwargs.get("box")):
            if given is not None:
                check_box(given, d)
        box_now = current_box(position, kwargs)
        basis = kwargs.get("box", box) if fractional_coordinates else box
        search = radius * (_SHRINK if fractional_coordinates else 1)
        if disable_cell_list:
            grid = Grid((1,) * d, (1.0,) * d, (0,) * d, False)
        else:
            grid = make_grid(widths_of(basis, d), search, n, is_orthogonal(basis))
        arrays, others = split_arrays(kwargs)
        room, built = guess_room(n, grid), None
        while built is None or not holds(room, built):
            if built is not None:
                room = make_room(n, built, grid)._replace(
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
        if slots > DEPTH:  # whole groups, of which sums are made
            slots = -(-slots // DEPTH) * DEPTH
        room = make_room(n, built, grid)._replace(slots=max(slots, 0))
        cells = None if disable_cell_list else plain_cells(basis, radius, d)
        rows = resize(built.rows, room.slots)
        edited = None
        if custom_mask_function is not None:
            edited = edited_entries(masked(rows)[0], capacity, format)
        return NeighborList(
            rows_=rows,
            reference_position=position,
            reference_box=box_now,
            error=flag_malformed(no_error(), box_now),
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
