"""Cell lists: particles in buckets of a regular grid, as dense arrays.

A box is cut into equal cells that are no narrower than a given size. A particle goes to
the cell ``floor(R / cell_size)``, counted modulo the number of cells, so that positions
outside the box alias as its images do. Cells have room for the same number of particles
each; what is left over is filled with a value that cannot be mistaken for a particle.
Arrays of cells have their axes in reversed order of the coordinates, ``[(z,) y, x]``.
"""

import logging
import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Bool, Float, Int

from jax_md import dataclasses

# Value of named arrays in empty slots.
_EMPTY = 1e5
# A stencil of neighboring cells meets each cell once only if there are this many.
_FEWEST = 3


@dataclasses.dataclass
class CellList:
    """Particles sorted into the cells of a grid; see `cell_list`.

    `S` stands for ``(cells_y, cells_x, cell_capacity)`` in two dimensions and for
    ``(cells_z, cells_y, cells_x, cell_capacity)`` in three.

    Attributes:
        position_buffer: Positions, ``S + [d]``; zero in empty slots.
        id_buffer: Numbers of the particles, ``S + [1]``; ``n`` in empty slots.
        particle_cell_id: Cell of each particle along each dimension, ``[n, d]``.
        named_buffer: Other data of the particles by name, ``S + [...]``; 1e5 in empty
            slots.
        did_buffer_overflow: Sticky flag: particles were lost, so allocate again.
        cell_capacity: Particles that fit into a cell.
        cell_size: Width of the cells, a scalar or ``[d]`` (length).
        update_fn: What `update` calls.
    """

    position_buffer: Float[Array, "..."]
    id_buffer: Int[Array, "..."]
    particle_cell_id: Int[Array, "n d"]
    named_buffer: dict[str, Array]
    did_buffer_overflow: Bool[Array, ""]
    cell_capacity: int = dataclasses.static_field()
    cell_size: Float[Array, "..."]
    update_fn: Callable = dataclasses.static_field()

    def update(self, position: Float[Array, "n d"], **kwargs: Any) -> "CellList":
        """Return the cells of other positions, with the same capacity.

        Args:
            position: Positions, ``[n, d]`` (length).
            **kwargs: Arrays ``[n, ...]`` to store beside the positions.
        """
        return self.update_fn(position, self, **kwargs)

    @property
    def kwarg_buffers(self) -> dict[str, Array]:
        """`named_buffer` under the name that older scripts use."""
        logging.getLogger(__name__).warning(
            "`kwarg_buffers` is deprecated; use `named_buffer`."
        )
        return self.named_buffer


@dataclasses.dataclass
class CellListFns:
    """The two functions of a cell list; unpacks as ``allocate, update``."""

    allocate: Callable[..., CellList] = dataclasses.static_field()
    update: Callable[..., CellList] = dataclasses.static_field()

    def __iter__(self) -> Iterator[Callable]:
        return iter((self.allocate, self.update))


class _Cells(NamedTuple):
    """Cells along each dimension of space, and their width."""

    per_side: tuple[int, ...]
    size: np.ndarray  # a scalar or [d]


def cell_list(
    box_size: Any, minimum_cell_size: Any, buffer_size_multiplier: float = 1.25
) -> CellListFns:
    """Make the functions that sort particles into cells.

    Args:
        box_size: Sides of the box, a scalar or ``[d]`` (length).
        minimum_cell_size: Cells are as small as the box allows, no smaller (length).
        buffer_size_multiplier: Head-room of the cells.

    Returns:
        ``(allocate, update)``. ``allocate(R, extra_capacity=0, **arrays)`` sizes the
        cells for the fullest of them and cannot be compiled; ``update(R, cells,
        **arrays)`` can, where `cells` is a `CellList` or a capacity. Keywords are
        arrays ``[n, ...]`` to sort along with the positions.

    Raises:
        ValueError: From either function, if space has not two or three dimensions, if
            the box is narrower than three cells, or if a keyword is not an array with
            an entry per particle.

    Example:
        Positions of the particles in every cell::

            allocate, update = cell_list(box_size=9.0, minimum_cell_size=1.0)
            cells = allocate(R, velocity=V)
            cells = update(R + V * dt, cells, velocity=V)
            cells.position_buffer[z, y, x], cells.named_buffer["velocity"][z, y, x]
    """

    def allocate(
        position: Float[Array, "n d"], extra_capacity: int = 0, **kwargs: Any
    ) -> CellList:
        if isinstance(position, Tracer):
            raise ValueError(
                "`allocate` sizes buffers and cannot run inside `jit`, `vmap` or "
                "`grad`; call it outside and `update` inside."
            )
        count = count_cell_filling(position, box_size, minimum_cell_size)
        fullest = int(jnp.max(count))
        capacity = int(fullest * buffer_size_multiplier) + int(extra_capacity)
        return update(position, capacity, **kwargs)

    def update(
        position: Float[Array, "n d"], cell_list: CellList | int, **kwargs: Any
    ) -> CellList:
        position = jnp.asarray(position)
        cells = _cells(position, box_size, minimum_cell_size)
        if isinstance(cell_list, CellList):
            capacity, overflowed = (
                cell_list.cell_capacity,
                cell_list.did_buffer_overflow,
            )
        else:
            capacity, overflowed = int(cell_list), jnp.asarray(False)
        named = {name: _per_particle(name, x, position) for name, x in kwargs.items()}

        n, d = position.shape
        index = _cell_index(position, cells)
        flat = _flat_index(index, cells)
        order = jnp.argsort(flat, stable=True)
        # Members of a cell are consecutive in this order, so that their ranks differ
        # modulo the capacity; where a cell starts need not be known.
        slot = jnp.arange(n, dtype=jnp.int32) % max(capacity, 1)
        at = flat[order] * capacity + slot
        slots = math.prod(cells.per_side) * capacity

        def fill(values: Array, empty: Any) -> Array:
            buffer = jnp.full((slots, *values.shape[1:]), empty, values.dtype)
            buffer = buffer.at[at].set(values[order], mode="drop")
            return _shape_cells(buffer, cells.per_side, capacity)

        count = _count(flat, cells)
        return CellList(
            position_buffer=fill(position, 0),
            id_buffer=fill(jnp.arange(n, dtype=jnp.int32)[:, None], n),
            particle_cell_id=index,
            named_buffer={name: fill(x, _empty(x.dtype)) for name, x in named.items()},
            did_buffer_overflow=overflowed | jnp.any(count > capacity),
            cell_capacity=capacity,
            cell_size=jnp.asarray(cells.size, position.dtype),
            update_fn=update,
        )

    return CellListFns(allocate, update)


def count_cell_filling(
    position: Float[Array, "n d"], box_size: Any, minimum_cell_size: Any
) -> Int[Array, " cells"]:
    """Count the particles in each cell.

    Args:
        position: Positions, ``[n, d]`` (length).
        box_size: As in `cell_list`.
        minimum_cell_size: As in `cell_list`.

    Returns:
        ``[cells]``, cells being numbered with the first dimension of space fastest.

    Raises:
        ValueError: As in `cell_list`.
    """
    position = jnp.asarray(position)
    cells = _cells(position, box_size, minimum_cell_size)
    return _count(_flat_index(_cell_index(position, cells), cells), cells)


def shift_array(arr: Array, dindex: Any) -> Array:
    """Shift an array of cells periodically, by ``dindex[k]`` cells along axis ``k``.

    Args:
        arr: An array whose first axes are cells, such as `CellList.position_buffer`.
        dindex: Cells to shift by, one number for each such axis, in their order.
    """
    shifts = tuple(int(shift) for shift in dindex)
    return jnp.roll(arr, shifts, axis=tuple(range(len(shifts))))


def unflatten_cell_buffer(arr: Array, cells_per_side: Any, dim: int) -> Array:
    """Split the first axis of an array of slots into cells and slots of a cell.

    Args:
        arr: ``[cells * capacity, ...]``, the first dimension of space fastest.
        cells_per_side: Cells along each dimension of space, a number or ``[d]``.
        dim: Number of dimensions.

    Returns:
        ``[(cells_z,) cells_y, cells_x, capacity, ...]``.
    """
    sides = np.broadcast_to(np.asarray(cells_per_side).reshape(-1), (dim,))
    per_side = tuple(int(cells) for cells in sides)
    return _shape_cells(arr, per_side, arr.shape[0] // math.prod(per_side))


def _shape_cells(arr: Array, per_side: tuple[int, ...], capacity: int) -> Array:
    return arr.reshape(*reversed(per_side), capacity, *arr.shape[1:])


def _cells(position: Array, box_size: Any, minimum_cell_size: Any) -> _Cells:
    if position.ndim != 2 or position.shape[1] not in (2, 3):
        raise ValueError(
            "a cell list needs positions [n, d] in two or three dimensions; got shape "
            f"{position.shape}. `neighbor_list` takes any number of dimensions."
        )
    d = position.shape[1]
    box = _known("box_size", box_size, d)
    smallest = _known("minimum_cell_size", minimum_cell_size, d)
    ratio = box / smallest
    per_side = np.broadcast_to(np.floor(ratio).astype(int), (d,))
    if np.any(per_side < _FEWEST):
        raise ValueError(
            f"`box_size` must be at least {_FEWEST} times `minimum_cell_size` in every "
            f"dimension; got {box_size} and {minimum_cell_size}. Use a larger box or "
            "smaller cells, or search all pairs (`neighbor_list` does so by itself)."
        )
    return _Cells(tuple(int(cells) for cells in per_side), box / np.floor(ratio))


def _known(name: str, value: Any, d: int) -> np.ndarray:
    """A scalar or ``[d]`` of positive lengths, known when the list is made."""
    if isinstance(value, Tracer):
        raise ValueError(
            f"`{name}` decides how many cells there are, so it must be known when the "
            f"cell list is made; got the traced value {value}."
        )
    value = np.asarray(value, float)
    value = value.reshape(-1) if value.ndim else value
    if value.shape not in ((), (d,)):
        raise ValueError(
            f"`{name}` must be a scalar or a vector [{d}] for positions in {d} "
            f"dimensions; got shape {value.shape}."
        )
    if not (np.all(np.isfinite(value)) and np.all(value > 0)):
        raise ValueError(f"`{name}` must be positive and finite; got {value}.")
    return value


def _per_particle(name: str, value: Any, position: Array) -> Array:
    if not isinstance(value, jax.Array | np.ndarray):
        raise ValueError(
            f"`{name}` must be an array with an entry per particle; got "
            f"{type(value).__name__}."
        )
    if value.ndim == 0 or value.shape[0] != position.shape[0]:
        raise ValueError(
            f"`{name}` must have an entry per particle, [{position.shape[0]}, ...]; "
            f"got shape {value.shape}."
        )
    value = jnp.asarray(value)
    return value[:, None] if value.ndim == 1 else value


def _empty(dtype: Any) -> Any:
    if jnp.issubdtype(dtype, jnp.integer):
        return min(int(_EMPTY), jnp.iinfo(dtype).max)
    return _EMPTY


def _cell_index(position: Array, cells: _Cells) -> Int[Array, "n d"]:
    """Cell of each particle along each dimension."""
    per_side = np.asarray(cells.per_side, position.dtype)
    index = jnp.floor(position / np.asarray(cells.size, position.dtype))
    return jnp.mod(index, per_side).astype(jnp.int32)


def _flat_index(index: Array, cells: _Cells) -> Int[Array, " n"]:
    strides = np.cumprod([1, *cells.per_side[:-1]]).astype(np.int32)
    return jnp.sum(index * strides, axis=1, dtype=jnp.int32)


def _count(flat: Array, cells: _Cells) -> Int[Array, " cells"]:
    return jnp.zeros(math.prod(cells.per_side), jnp.int32).at[flat].add(1)
