"""Formats in which a neighbor list shows its pairs."""

from enum import Enum
from typing import Any

import jax.numpy as jnp


class NeighborListFormat(Enum):
    """How `NeighborList.idx` is laid out; what is stored is the same for all.

    Attributes:
        Dense: ``[n, max_occupancy]``: a row of neighbors for each particle.
        Sparse: ``[2, max_occupancy]``: receivers and senders of all directed pairs.
        OrderedSparse: As Sparse, each unordered pair once, receiver < sender.
    """

    Dense = 0
    Sparse = 1
    OrderedSparse = 2


Dense = NeighborListFormat.Dense
Sparse = NeighborListFormat.Sparse
OrderedSparse = NeighborListFormat.OrderedSparse


def is_sparse(fmt: NeighborListFormat) -> bool:
    """Whether pairs are listed one by one rather than in rows."""
    return fmt is Sparse or fmt is OrderedSparse


def is_format_valid(fmt: Any) -> None:
    """Raise `ValueError` unless `fmt` is a `NeighborListFormat`."""
    if fmt not in list(NeighborListFormat):
        raise ValueError(
            f"`format` must be one of {', '.join(map(str, NeighborListFormat))}; got "
            f"{fmt!r}."
        )


def is_box_valid(box: Any) -> Any:
    """Whether a box is a scalar, a vector or an upper-triangular matrix."""
    if jnp.ndim(box) <= 1:
        return True
    if jnp.ndim(box) == 2 and jnp.shape(box)[0] == jnp.shape(box)[1]:
        return jnp.all(jnp.triu(box) == box)
    return False
