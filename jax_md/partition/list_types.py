"""What a neighbor list holds, and the pair of functions that make and update it."""

import logging
from collections.abc import Callable, Iterator
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from jax_md import dataclasses

from .build import Room
from .cell_list import CellListFns
from .errors import PEC, PartitionError
from .formats import Dense, NeighborListFormat, OrderedSparse
from .grid import Grid
from .sweep import Rows
from .views import dense_view, pair_view

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
            return rows[:, : self.max_occupancy]
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
