"""Neighbor lists in the layouts that scripts index: rows, and pairs."""

import jax.numpy as jnp
from jaxtyping import Array, Int

from .sweep import Rows, take


def dense_view(rows: Rows, itself: bool = False) -> Int[Array, "n k"]:
    """Rows of neighbors by particle, packed to the left, ``n`` where empty.

    Args:
        rows: The list.
        itself: Whether each row starts with the particle itself.
    """
    n = rows.slots.shape[1]
    particle = jnp.concatenate([rows.order, jnp.full(1, n, jnp.int32)])
    entries = take(take(particle, rows.slots).T, rows.inverse)
    if itself:
        entries = jnp.concatenate([jnp.arange(n, dtype=jnp.int32)[:, None], entries], 1)
    return entries


def pair_view(
    rows: Int[Array, "n k"], capacity: int, ordered: bool
) -> Int[Array, "2 p"]:
    """Pairs (receiver, sender) of rows, packed, ``n`` in both where empty."""
    n, k = rows.shape
    receiver = jnp.broadcast_to(jnp.arange(n, dtype=jnp.int32)[:, None], rows.shape)
    valid = (rows < n) & (receiver != rows)
    if ordered:
        valid &= receiver < rows
    if n * k == 0:
        return jnp.full((2, capacity), n, jnp.int32)
    (at,) = jnp.nonzero(valid.reshape(-1), size=capacity, fill_value=n * k)
    pairs = jnp.stack([receiver.reshape(-1), rows.reshape(-1)])
    pairs = jnp.concatenate([pairs, jnp.full((2, 1), n, jnp.int32)], axis=1)
    return pairs[:, jnp.minimum(at, n * k)].astype(jnp.int32)


def pack_rows(rows: Int[Array, "n k"]) -> tuple[Array, Array, Array]:
    """Pack the valid entries of rows; also the longest row, and the number of pairs."""
    n = rows.shape[0]
    valid = rows < n
    order = jnp.argsort(~valid, axis=1, stable=True)
    packed = jnp.take_along_axis(rows, order, axis=1)
    itself = rows == jnp.arange(n, dtype=rows.dtype)[:, None]
    longest = jnp.max(jnp.sum(valid, axis=1), initial=0)
    return packed, longest, jnp.sum(valid & ~itself)
