"""Allocation of neighbor lists in a run, and how to repeat one at a restart.

What a list looks like, static fields included, follows from where it was allocated and
with how much extra room. Both are kept, so that a restart allocates the same list and
fills in the saved arrays: the order of summation, hence every bit, stays the same.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from .chunk import list_keywords, overflowed

GROWTH = 1.25  # each list has at least this much more room than the one before
MAX_ATTEMPTS = 8


class Allocation(NamedTuple):
    """How a list was allocated."""

    position: Any
    extra_capacity: int
    keywords: dict[str, Any]


def allocate(neighbor_fn: Any, how: Allocation) -> Any:
    """Allocate a list; the same arguments give the same list."""
    if not how.extra_capacity:
        return neighbor_fn.allocate(how.position, **how.keywords)
    return neighbor_fn.allocate(
        how.position, extra_capacity=how.extra_capacity, **how.keywords
    )


def first_list(
    neighbor_fn: Any, state: Any, values: dict[str, Any]
) -> tuple[Any, Allocation]:
    """Allocate a list at the position of a state."""
    how = Allocation(state.position, 0, list_keywords(state, values))
    neighbors = allocate(neighbor_fn, how)
    if overflowed(neighbors):
        return larger_list(neighbor_fn, state, neighbors, values)
    return neighbors, how


def larger_list(
    neighbor_fn: Any, state: Any, old: Any, values: dict[str, Any]
) -> tuple[Any, Allocation]:
    """Allocate a list at the position of a state, with more room than another has.

    Capacities grow geometrically and to whole buckets, so that there are few of them
    and few compilations. A list whose cells were too small grows no further than it
    needs.

    Raises:
        RuntimeError: If no capacity is enough.
    """
    keywords = list_keywords(state, values)
    full = bool(jnp.any(jnp.asarray(old.did_buffer_overflow) != 0))
    before = getattr(old, "max_occupancy", None) if full else 0
    extra = 0
    for attempt in range(MAX_ATTEMPTS):
        how = Allocation(state.position, extra, keywords)
        neighbors = allocate(neighbor_fn, how)
        missing = _missing(neighbors, before, attempt)
        if missing <= 0 and not overflowed(neighbors):
            return neighbors, how
        extra += max(1, missing)
        # At most N - 1 neighbors exist, so a list may refuse to grow to a bucket.
        if attempt and not overflowed(neighbors):
            return neighbors, how
    raise RuntimeError(
        f"a neighbor list still overflowed with `extra_capacity={extra}`; the "
        "particles may have collapsed onto each other, or the box is smaller than the "
        "cutoff allows."
    )


def _missing(neighbors: Any, before: int | None, attempt: int) -> int:
    """How much extra capacity brings the list to the bucket it should have."""
    has = getattr(neighbors, "max_occupancy", None)
    if has is None or before is None:  # a list that does not say: double
        return 0 if not overflowed(neighbors) else 2**attempt * 8
    wanted = max(has, int(GROWTH * before) + 1)
    wanted = -(-wanted // bucket(wanted)) * bucket(wanted)
    # Dense lists count neighbors of a particle, sparse ones count pairs.
    sparse = "Sparse" in getattr(getattr(neighbors, "format", None), "name", "")
    rows = _rows(neighbors) if sparse else 1
    return -(-(wanted - has) // rows)


def _rows(neighbors: Any) -> int:
    leaves = jax.tree.leaves(getattr(neighbors, "reference_position", None))
    return len(leaves[0]) if leaves else 1


def bucket(capacity: int) -> int:
    """Capacities are multiples of this: an eighth of a power of two."""
    return max(1, 1 << max(0, capacity.bit_length() - 4))
