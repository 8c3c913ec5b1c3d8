"""Neighbor sums by ordinary differentiation: gather, map, mask, add up.

It holds arrays of the size of the list and its derivatives scatter; it serves lists
that are not symmetric, gradients of tables, and as the oracle in tests.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from .sweep import PairFn, Rows, take


def plain_sum(
    f: PairFn,
    nodes: Any,
    edges: Any,
    params: Any,
    rows: Rows,
    mask: PairFn | None = None,
) -> list[Array]:
    """What `jax_md.partition.sweep.sweep` computes, differentiable as it stands."""
    slots, count, order, inverse = rows
    n = slots.shape[1]
    lane = jnp.broadcast_to(jnp.arange(n, dtype=slots.dtype), slots.shape)
    valid = slots < n
    # An empty slot is evaluated at a pair that exists, where `f` has finite
    # derivatives: zero times infinity would reach a gradient otherwise.
    donor = jnp.argmax(count)
    i = jnp.where(valid, lane, donor)
    j = jnp.where(valid, slots, slots[0, donor] % n)
    return pair_terms(
        f,
        [take(x, take(order, i)) for x in nodes],
        [take(x, take(order, j)) for x in nodes],
        edges,
        params,
        valid,
        mask,
        total=lambda x: take(jnp.sum(x, axis=0), inverse),
    )


def pair_terms(f, x, y, edges, params, valid, mask, total) -> list[Array]:
    """Map ``f`` over pairs on the leading axes, drop what is not `valid`, add up."""
    axes = (0, 0, 0, None)

    def lift(g):
        for _ in valid.shape:
            g = jax.vmap(g, axes)
        return g(x, y, list(edges), list(params))

    out = lift(lambda *group: [jnp.asarray(v) for v in f(*group)])
    if mask is not None:
        valid = valid & lift(mask)[0]

    def kept(v):
        where = valid.reshape(valid.shape + (1,) * (v.ndim - valid.ndim))
        return total(jnp.where(where, v, 0))

    return [kept(v) for v in out]
