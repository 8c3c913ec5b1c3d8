"""Neighbor lists in the forms that graph networks take."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Bool, Int

from .formats import Dense
from .mask import neighbor_list_mask


class GraphsTuple(NamedTuple):
    """A batch of graphs, with the fields and the order of `jraph.GraphsTuple`.

    Attributes:
        nodes: Tree of features, ``[nodes, ...]``, or None.
        edges: Tree of features, ``[edges, ...]``, or None.
        receivers: Node that each edge leads to.
        senders: Node that each edge comes from.
        globals: Tree of features, ``[graphs, ...]``, or None.
        n_node: Nodes of each graph.
        n_edge: Edges of each graph.
    """

    nodes: Any
    edges: Any
    receivers: Int[Array, " e"]
    senders: Int[Array, " e"]
    globals: Any
    n_node: Int[Array, " g"]
    n_edge: Int[Array, " g"]


def to_jraph(
    neighbor: Any,
    mask: Bool[Array, " e"] | None = None,
    nodes: Any = None,
    edges: Any = None,
    globals: Any = None,  # noqa: A002
) -> GraphsTuple:
    """Turn a sparse neighbor list into a padded graph.

    The particles are a first graph; empty entries of the list are the edges of a second
    one, whose only node is the sentinel ``n``.

    Args:
        neighbor: A list of format Sparse or OrderedSparse.
        mask: Entries of the list to keep, ``[e]``. Edges and their features are
            reordered, so that those kept come first.
        nodes: Tree of arrays ``[n, ...]``.
        edges: Tree of arrays ``[e, ...]`` beside the entries of the list.
        globals: Tree of arrays ``[1, ...]``.

    Returns:
        A `GraphsTuple` of two graphs. Leaves of `nodes` and `globals` have one more
        row, of zeros, for the second.

    Raises:
        ValueError: If the list is dense, or if `mask`, `nodes` or `edges` do not fit.

    Example:
        Hand a graph to a network written for jraph::

            graph = jraph.GraphsTuple(*partition.to_jraph(neighbors, nodes=features))
    """
    if neighbor.format is Dense:
        raise ValueError(
            "a graph is made from a list of format Sparse or OrderedSparse; got Dense. "
            "Pass `format=partition.Sparse` to `neighbor_list`."
        )
    receivers, senders = neighbor.idx
    n, size = neighbor.reference_position.shape[0], receivers.shape[0]
    _check("nodes", nodes, n, "particle")
    _check("edges", edges, size, "entry of the list")
    valid = neighbor_list_mask(neighbor)
    if mask is not None:
        mask = jnp.asarray(mask)
        if mask.shape != (size,):
            raise ValueError(
                f"`mask` must have an element per entry of the list, [{size}]; got "
                f"shape {mask.shape}."
            )
        valid &= mask.astype(bool)
        order = jnp.argsort(~valid, stable=True)
        valid = valid[order]
        receivers = jnp.where(valid, receivers[order], n)
        senders = jnp.where(valid, senders[order], n)
        edges = jax.tree_util.tree_map(lambda x: jnp.asarray(x)[order], edges)
    kept = jnp.sum(valid, dtype=jnp.int32)
    return GraphsTuple(
        nodes=jax.tree_util.tree_map(_with_zeros, nodes),
        edges=edges,
        receivers=receivers,
        senders=senders,
        globals=jax.tree_util.tree_map(_with_zeros, globals),
        n_node=jnp.array([n, 1], jnp.int32),
        n_edge=jnp.stack([kept, size - kept]).astype(jnp.int32),
    )


def to_dense(neighbor: Any) -> Int[Array, "n k"]:
    """Turn a list of format Sparse into rows, as wide as the longest; not compilable.

    Args:
        neighbor: A list of format Sparse.

    Returns:
        ``[n, k]``, the senders of each receiver packed to the left, ``n`` where empty.

    Raises:
        ValueError: If the list has another format, or is traced.
    """
    if neighbor.format is Dense or neighbor.is_ordered:
        raise ValueError(
            f"rows are made from a list of format Sparse; got {neighbor.format}. A "
            "list of any format has `neighbors.dense_idx`."
        )
    if isinstance(neighbor.idx, Tracer):
        raise ValueError(
            "the width of the rows depends on the entries, so `to_dense` cannot run "
            "inside `jit`, `vmap` or `grad`; `neighbors.dense_idx` can."
        )
    receivers, senders = np.asarray(neighbor.idx)
    n = neighbor.reference_position.shape[0]
    valid = receivers < n
    receivers, senders = receivers[valid], senders[valid]
    count = np.bincount(receivers, minlength=n)
    order = np.argsort(receivers, kind="stable")
    starts = np.cumsum(count) - count
    slot = np.arange(len(order)) - np.repeat(starts, count)
    rows = np.full((n, int(count.max(initial=0))), n, np.int32)
    rows[receivers[order], slot] = senders[order]
    return jnp.asarray(rows)


def _with_zeros(x: Any) -> Array:
    x = jnp.asarray(x)
    return jnp.concatenate([x, jnp.zeros((1, *x.shape[1:]), x.dtype)])


def _check(name: str, tree: Any, size: int, what: str) -> None:
    for leaf in jax.tree_util.tree_leaves(tree):
        if jnp.ndim(leaf) == 0 or jnp.shape(leaf)[0] != size:
            raise ValueError(
                f"leaves of `{name}` must have one row per {what}, [{size}, ...]; got "
                f"shape {jnp.shape(leaf)}."
            )
