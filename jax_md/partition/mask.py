"""Which entries of a neighbor list are pairs."""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Bool

from .formats import Dense


def neighbor_list_mask(neighbor: Any, mask_self: bool = False) -> Bool[Array, "..."]:
    """Return True for the entries of `neighbor.idx` that are pairs.

    Args:
        neighbor: A list of any format, of one or of many images.
        mask_self: Whether to drop pairs of a particle with itself, too.

    Returns:
        ``[n, k]`` for a dense list, ``[p]`` for a sparse one.
    """
    idx = neighbor.idx
    n = neighbor.reference_position.shape[0]
    if neighbor.format is Dense:
        mask = idx < n
        receiver = jnp.arange(idx.shape[0])[:, None]
        return mask & (idx != receiver) if mask_self else mask
    mask = idx[0] < n
    return mask & (idx[0] != idx[1]) if mask_self else mask
