"""Public neighbor sums: any function of two particles, summed over a neighbor list.

`neighbor_sum` gives one value per particle, `neighbor_total` the total of a symmetric
pair function such as a pair energy. Both differentiate to any order in both modes with
respect to nodes and parameters, and neither ever yields NaN from an empty slot.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from jax_md.util import high_precision_sum

from .pair_program import trace
from .plain import pair_terms
from .sum_primitive import neighbor_sum_p
from .sweep import Rows, take
from .total_primitive import neighbor_total_p


def _check_nodes(nodes: Any, n: int) -> None:
    for path, leaf in jax.tree_util.tree_flatten_with_path(nodes)[0]:
        if jnp.ndim(leaf) == 0 or jnp.shape(leaf)[0] != n:
            raise ValueError(
                f"every leaf of `nodes` must have one entry per particle, [{n}, ...]; "
                f"got shape {jnp.shape(leaf)} at "
                f"{jax.tree_util.keystr(path) or 'the root'}. Pass values that all "
                "pairs share through `params`."
            )


def _slot_edges(edges: Any, neighbors: Any, rows: Rows) -> Any:
    """Edge data ``[n, k, ...]`` beside the dense `idx`, in the order of the slots."""
    capacity, n = rows.slots.shape

    def arrange(x: Any) -> Any:
        x = jnp.asarray(x)
        if x.shape[:2] != (n, capacity):
            raise ValueError(
                f"`edges` must be [{n}, {capacity}, ...], beside the dense slots of "
                f"the list; got shape {x.shape}."
            )
        return jnp.moveaxis(take(x, rows.order), 0, 1)

    return jax.tree_util.tree_map(arrange, edges)


def neighbor_sum(
    fn: Callable,
    nodes: Any,
    params: Any,
    neighbors: Any,
    *,
    edges: Any = None,
    mask: Callable | None = None,
    symmetric: bool = False,
) -> Any:
    r"""Sum a function of two particles over the neighbors of each.

    .. math:: S_i = \sum_{j \in N(i)} f(a_i, a_j, \theta)

    Args:
        fn: ``fn(node_i, node_j, params) -> tree of arrays`` for one pair, where a node
            is the entry of one particle in `nodes`. With `edges`, it takes the entry of
            the slot as fourth argument.
        nodes: Tree of per-particle arrays ``[n, ...]`` of any dtype: positions,
            species, charges, features.
        params: Tree of values that all pairs share. Values that `fn` closes over are
            differentiated too.
        neighbors: A `NeighborList` of any format.
        edges: Tree of arrays ``[n, k, ...]`` beside the dense slots of the list
            (`NeighborList.dense_idx`), antisymmetric under exchange of the pair, such
            as image shifts. Not differentiable.
        mask: ``mask(node_i, node_j) -> bool`` (with `edges`, a third argument),
            symmetric: pairs that count. Unlike a `where` inside `fn`, it is applied
            after differentiation and lets no NaN through.
        symmetric: Promise that ``fn(x, y) == fn(y, x)``, which halves the cost of the
            reverse mode.

    Returns:
        The tree that `fn` returns, with leaves ``[n, ...]``. Pairs ``(i, i)`` are never
        included.

    Raises:
        ValueError: If a leaf of `nodes` is not per-particle, or `edges` does not fit.

    Example:
        The number of neighbors within a distance::

            def near(x, y, r):
                return (space.distance(displacement(x, y)) < r).astype(int)

            count = neighbor_sum(near, R, 1.5, neighbors)
    """
    _check_nodes(nodes, neighbors.n)
    rows = neighbors.rows
    if rows is None:
        return _directed_sum(fn, nodes, params, neighbors, edges, mask)
    arranged = None if edges is None else _slot_edges(edges, neighbors, rows)
    traced = trace(fn, nodes, arranged, params, mask)
    out = neighbor_sum_p.bind(
        *traced.nodes,
        *traced.edges,
        *traced.params,
        *rows,
        f=traced.call,
        sizes=traced.sizes,
        mask=traced.mask,
        symmetric=bool(symmetric),
    )
    return traced.out_tree.unflatten(out)


def neighbor_total(
    fn: Callable,
    nodes: Any,
    params: Any,
    neighbors: Any,
    *,
    edges: Any = None,
    mask: Callable | None = None,
) -> Array:
    r"""Total of a symmetric pair function, :math:`\sum_{ij} u(a_i, a_j, \theta) / 2`.

    Energy and gradient come from one sweep over the list, and a Hessian-vector product
    costs one more in either mode.

    Args:
        fn: ``fn(node_i, node_j, params) -> scalar`` for one pair, with
            ``fn(x, y) == fn(y, x)``. That is not checked; for a function without this
            symmetry use ``jnp.sum(neighbor_sum(...)) / 2``.
        nodes: As in `neighbor_sum`.
        params: As in `neighbor_sum`.
        neighbors: As in `neighbor_sum`.
        edges: As in `neighbor_sum`.
        mask: As in `neighbor_sum`.

    Returns:
        A scalar.

    Raises:
        ValueError: If `fn` does not return one scalar, or as in `neighbor_sum`.
    """
    _check_nodes(nodes, neighbors.n)
    rows = neighbors.rows
    if rows is None:
        total = high_precision_sum(
            _directed_sum(fn, nodes, params, neighbors, edges, mask, ordered=True)
        )
        return total if neighbors.is_ordered else total / 2
    arranged = None if edges is None else _slot_edges(edges, neighbors, rows)
    traced = trace(fn, nodes, arranged, params, mask)
    if [o.shape for o in traced.results] != [()]:
        raise ValueError(
            "`fn` of a neighbor total must return one scalar per pair; got shapes "
            f"{[o.shape for o in traced.results]}. Use `neighbor_sum` for more."
        )
    sizes = traced.sizes
    (total,) = neighbor_total_p.bind(
        *traced.nodes,
        *traced.edges,
        *traced.params,
        *rows,
        u=traced.call,
        sizes=sizes,
        given=(),
        wrt=(False,) * (sizes[0] + sizes[2]),
        value=True,
        mask=traced.mask,
    )
    return total


def _directed_sum(fn, nodes, params, neighbors, edges, mask, ordered=False):
    """Sums over a list whose entries were edited: gather, map, mask, add up."""
    if edges is not None:
        raise ValueError(
            "`edges` needs a list in its own order; this one was masked or edited, so "
            "its slots no longer match."
        )
    i, j, valid = neighbors.pairs
    if neighbors.is_ordered and not ordered:
        raise ValueError(
            "a masked or edited list of format OrderedSparse holds each pair once and "
            "has no sum per particle; use format Dense or Sparse."
        )
    traced = trace(fn, nodes, None, params, mask)
    n = neighbors.n
    flat_valid = valid.reshape(-1)
    donor = jnp.argmax(flat_valid)
    i_safe = jnp.where(valid, i, take(i.reshape(-1), donor) % n)
    j_safe = jnp.where(valid, j, take(j.reshape(-1), donor) % n)

    def total(x):
        x = x.reshape((-1, *x.shape[valid.ndim :]))
        target = jnp.where(valid, i, n).reshape(-1)
        return jax.ops.segment_sum(x, target, n + 1)[:n]

    out = pair_terms(
        traced.call,
        [take(x, i_safe) for x in traced.nodes],
        [take(x, j_safe) for x in traced.nodes],
        [],
        traced.params,
        valid,
        traced.mask,
        total,
    )
    return traced.out_tree.unflatten(out)
