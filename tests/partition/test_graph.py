"""Graphs and rows from sparse lists."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_md import partition

R = jnp.array([[0.0, 0.0], [1.0, 0.0], [1.9, 0.0], [9.0, 9.0]])
SPARSE = [partition.Sparse, partition.OrderedSparse]


def listed(format):  # noqa: A002
    fns = partition.neighbor_list(lambda a, b: a - b, None, 1.2, format=format)
    return fns.allocate(R, 1)


@pytest.mark.parametrize("format", SPARSE)
def test_graph(format):  # noqa: A002
    neighbors = listed(format)
    nodes, globals_ = {"x": R}, jnp.ones((1, 3))
    edges = jnp.arange(neighbors.idx.shape[1])
    graph = partition.to_jraph(neighbors, None, nodes, edges, globals_)

    fields = ("nodes", "edges", "receivers", "senders", "globals", "n_node", "n_edge")
    assert graph._fields == fields
    np.testing.assert_array_equal(graph.receivers, neighbors.idx[0])
    np.testing.assert_array_equal(graph.senders, neighbors.idx[1])
    np.testing.assert_array_equal(graph.n_node, [4, 1])
    valid = 4 if format is partition.Sparse else 2
    np.testing.assert_array_equal(graph.n_edge, [valid, len(edges) - valid])
    assert len(edges) > valid
    np.testing.assert_array_equal(graph.nodes["x"], np.vstack([R, np.zeros((1, 2))]))
    np.testing.assert_array_equal(graph.globals, [[1, 1, 1], [0, 0, 0]])
    np.testing.assert_array_equal(graph.edges, edges)
    assert partition.to_jraph(neighbors).nodes is None


def test_masked_edges_are_compacted():
    neighbors = listed(partition.Sparse)
    receivers, senders = np.asarray(neighbors.idx)
    edges = {"at": jnp.arange(len(receivers)), "wide": jnp.ones((len(receivers), 2))}
    mask = jnp.asarray(senders > receivers)
    graph = jax.jit(lambda m: partition.to_jraph(neighbors, m, edges=edges))(mask)
    np.testing.assert_array_equal(graph.n_edge, [2, len(receivers) - 2])
    pairs = set(zip(*np.asarray([graph.receivers, graph.senders])[:, :2], strict=True))
    assert pairs == {(0, 1), (1, 2)}
    assert np.all(np.asarray(graph.receivers)[2:] == 4)
    assert np.all(np.asarray(graph.senders)[2:] == 4)
    at = np.asarray(graph.edges["at"])
    np.testing.assert_array_equal(receivers[at[:2]], graph.receivers[:2])
    np.testing.assert_array_equal(np.sort(at), np.arange(len(receivers)))


def test_rows():
    rows = np.asarray(partition.to_dense(listed(partition.Sparse)))
    assert rows.shape == (4, 2)
    assert [set(row) - {4} for row in rows] == [{1}, {0, 2}, {1}, set()]
    assert rows[0, 1] == 4 and rows[2, 1] == 4


def test_errors():
    dense, sparse = listed(partition.Dense), listed(partition.Sparse)
    size = sparse.idx.shape[1]
    with pytest.raises(ValueError, match="got Dense"):
        partition.to_jraph(dense)
    with pytest.raises(ValueError, match="`mask` must have"):
        partition.to_jraph(sparse, jnp.ones(size + 1, bool))
    with pytest.raises(ValueError, match=r"`edges` must have one row per entry"):
        partition.to_jraph(sparse, edges=jnp.ones(size + 1))
    with pytest.raises(ValueError, match=r"`nodes` must have one row per particle"):
        partition.to_jraph(sparse, nodes=jnp.ones(5))
    for other in (dense, listed(partition.OrderedSparse)):
        with pytest.raises(ValueError, match="format Sparse"):
            partition.to_dense(other)
    with pytest.raises(ValueError, match="cannot run inside"):
        jax.jit(partition.to_dense)(sparse)
