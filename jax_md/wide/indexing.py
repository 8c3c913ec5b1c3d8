"""Indices of activations, applied to both copies of the axes of a covariance."""

import operator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as onp

Array = jax.Array


def expand_index(idx: Any, ndim: int) -> tuple[Any, ...]:
    """Write `idx` with one entry for each of `ndim` axes.

    Returns:
        Slices, integers, and at most one array of positions, which stands without
        integers beside it.

    Raises:
        ValueError: If there are too many entries, or two ellipses.
        NotImplementedError: If `idx` adds axes, or merges or moves them as several
            arrays, or arrays and integers, do.
    """
    entries = [_entry(i) for i in (idx if isinstance(idx, tuple) else (idx,))]
    at = [n for n, i in enumerate(entries) if i is Ellipsis]
    missing = ndim - len(entries) + len(at)
    if missing < 0 or len(at) > 1:
        raise ValueError(
            f"`idx` must have at most {ndim} entries and one ellipsis; got {idx}. "
            "Index the axes of the activations."
        )
    where = at[0] if at else len(entries)
    whole = [slice(None)] * missing
    full = (*entries[:where], *whole, *entries[where + len(at) :])
    arrays = [i for i in full if isinstance(i, onp.ndarray)]
    if arrays and len(arrays) + sum(isinstance(i, int) for i in full) > 1:
        raise NotImplementedError(
            "`idx` may hold one list of positions, and no integer beside it; got "
            f"{idx}. Index one axis after the other."
        )
    return full


def _entry(i: Any) -> Any:
    if isinstance(i, slice) or i is Ellipsis:
        return i
    if i is None:
        raise NotImplementedError(
            "`idx` must not add axes to a kernel; got None in it."
        )
    if isinstance(i, tuple | list) or onp.ndim(i) > 0:
        positions = onp.asarray(i)
        if positions.ndim > 1:
            raise NotImplementedError(
                "`idx` may hold positions as a list or a vector; got an array of "
                f"shape {positions.shape}."
            )
        return positions.nonzero()[0] if positions.dtype == bool else positions
    return operator.index(i)


def take(x: Array, idx: tuple[Any, ...]) -> Array:
    """Return ``x[idx]``, arrays in which select along their axis alone."""
    for axis, i in enumerate(idx):
        if isinstance(i, onp.ndarray):
            x = jnp.take(x, i, axis=axis)
    return x[tuple(slice(None) if isinstance(i, onp.ndarray) else i for i in idx)]


def indexed_shape(shape: tuple[int, ...], idx: tuple[Any, ...]) -> tuple[int, ...]:
    """Return the shape of an array of this shape after indexing."""
    return onp.broadcast_to(onp.zeros((), bool), shape)[idx].shape


def index_mask(
    mask: Array | None, shape: tuple[int, ...], idx: tuple[Any, ...]
) -> Array | None:
    """Index a mask that broadcasts to `shape`; None stays None."""
    return None if mask is None else jnp.broadcast_to(mask, shape)[idx]
