"""Sums over neighbors against ordinary differentiation of the same sums over pairs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import tree_util

from jax_md import partition
from jax_md.partition import neighbor_sum, neighbor_total, sweep
from jax_md.partition.sweep import Rows
from tests.partition import geometries

N, SIDE, REACH = 14, 4.0, 1.9
TOLERANCE = {jnp.float32: 3e-4, jnp.float64: 1e-10}


class Listed:
    """A list made by hand, with lanes in an order of their own and spare slots."""

    is_ordered = False

    def __init__(self, near: np.ndarray, spare: int = 2, seed: int = 5):
        self.n = n = len(near)
        self.near = near
        self.i, self.j = np.nonzero(near)
        order = np.random.default_rng(seed).permutation(n)
        inverse = np.argsort(order)
        count = near.sum(1)[order]
        slots = np.full((count.max() + spare, n), n, np.int32)
        for lane, i in enumerate(order):
            slots[: count[lane], lane] = inverse[np.nonzero(near[i])[0]]
        arrays = (slots, count, order, inverse)
        self.rows = Rows(*(jnp.asarray(x, jnp.int32) for x in arrays))

    @property
    def dense_idx(self) -> np.ndarray:
        return np.asarray(partition.views.dense_view(self.rows))

    def sum(self, fn, nodes, params):
        """The sum that autodiff understands: nothing but pairs that exist."""
        pick = lambda at: tree_util.tree_map(lambda x: x[at], nodes)  # noqa: E731
        terms = jax.vmap(lambda x, y: fn(x, y, params))(pick(self.i), pick(self.j))
        return tree_util.tree_map(
            lambda v: jax.ops.segment_sum(v, self.i, self.n), terms
        )

    def total(self, fn, nodes, params):
        return jnp.sum(self.sum(fn, nodes, params)) / 2


def positions(seed: int = 0, dtype=jnp.float64):
    return jnp.asarray(np.random.default_rng(seed).uniform(size=(N, 2)) * SIDE, dtype)


def listed(R) -> Listed:
    D = np.linalg.norm(np.asarray(R)[:, None] - np.asarray(R)[None], axis=-1)
    return Listed((D < REACH) & ~np.eye(len(R), dtype=bool))


@pytest.fixture(scope="module")
def system():
    R = positions()
    nodes = {"R": R, "q": jnp.cos(jnp.arange(N) + 0.2), "kind": jnp.arange(N) % 3}
    params = {"a": jnp.array(0.7), "b": jnp.linspace(-1, 1, 3)}
    return nodes, params, listed(R)


def close(a, b, dtype=jnp.float64):
    for x, y in zip(tree_util.tree_leaves(a), tree_util.tree_leaves(b), strict=True):
        assert x.dtype == y.dtype and x.shape == y.shape
        assert np.all(np.isfinite(y))
        scale = float(jnp.max(jnp.abs(y), initial=1e-3))
        np.testing.assert_allclose(x, y, rtol=0, atol=TOLERANCE[dtype] * scale)


def pair(x, y, t):
    """Symmetric, with a gradient that is NaN where an empty slot is evaluated."""
    r = jnp.linalg.norm(x["R"] - y["R"])
    species = t["b"][x["kind"]] * t["b"][y["kind"]]
    return x["q"] * y["q"] * jnp.exp(-t["a"] * r) / r + species * r**2 * t["a"]


def directed(x, y, t):
    """Without any symmetry; a scalar and a vector."""
    dR = x["R"] - 0.5 * y["R"]
    s = x["q"] ** 2 * jnp.sin(y["q"] * t["a"]) / jnp.linalg.norm(x["R"] - y["R"])
    return {"scalar": s * t["b"][y["kind"]], "vector": s * dR * x["R"][::-1]}


WEIGHT = jnp.sin(1.0 + jnp.arange(N))


def weighted(out):
    leaves = tree_util.tree_leaves(out)
    return sum(jnp.sum(WEIGHT.reshape(-1, *[1] * (x.ndim - 1)) * x**2) for x in leaves)


def energies(kind: str, neighbors):
    """A function of (floating nodes, params), and the same by ordinary autodiff."""
    fn = directed if kind == "directed" else pair
    if kind == "total":
        ours = lambda nodes, t: neighbor_total(fn, nodes, t, neighbors)  # noqa: E731
        plain = lambda nodes, t: neighbors.total(fn, nodes, t)  # noqa: E731
        return ours, plain

    def ours(nodes, t):
        symmetric = kind == "symmetric"
        return weighted(neighbor_sum(fn, nodes, t, neighbors, symmetric=symmetric))

    return ours, lambda nodes, t: weighted(neighbors.sum(fn, nodes, t))


def direction(tree, seed):
    leaves, treedef = tree_util.tree_flatten(tree)
    rng = np.random.default_rng(seed)
    return treedef.unflatten(
        [jnp.asarray(rng.normal(size=x.shape), x.dtype) for x in leaves]
    )


def dot(a, b):
    pairs = zip(tree_util.tree_leaves(a), tree_util.tree_leaves(b), strict=True)
    return sum(jnp.sum(x * y) for x, y in pairs)


def along(F, z, v):
    return jax.jvp(F, (z,), (v,))[1]


# F reverse, forward ... of what stands to the right of it.
FORMS = {
    "value": lambda F, z, v, w: F(z),
    "r": lambda F, z, v, w: jax.grad(F)(z),
    "f": lambda F, z, v, w: along(F, z, v),
    "fr": lambda F, z, v, w: along(jax.grad(F), z, v),
    "rr": lambda F, z, v, w: jax.grad(lambda z: dot(jax.grad(F)(z), v))(z),
    "rf": lambda F, z, v, w: jax.grad(lambda z: along(F, z, v))(z),
    "ff": lambda F, z, v, w: along(lambda z: along(F, z, v), z, w),
}
THIRD = {
    "ffr": lambda F, z, v, w: along(lambda z: along(jax.grad(F), z, v), z, w),
    "rfr": lambda F, z, v, w: jax.grad(lambda z: dot(along(jax.grad(F), z, v), w))(z),
    "rrr": lambda F, z, v, w: jax.grad(
        lambda z: dot(jax.grad(lambda z: dot(jax.grad(F)(z), v))(z), w)
    )(z),
}


def compare(forms, ours, plain, nodes, params, dtype=jnp.float64):
    """All forms of both, with respect to floating nodes and parameters together."""
    floating = {k: v for k, v in nodes.items() if k != "kind"}
    z = (floating, params)
    v, w = direction(z, 1), direction(z, 2)

    def evaluate(E):
        F = lambda z: E({**nodes, **z[0]}, z[1])  # noqa: E731
        return jax.jit(lambda: {name: f(F, z, v, w) for name, f in forms.items()})()

    got, expected = evaluate(ours), evaluate(plain)
    for name in forms:
        close(got[name], expected[name], dtype)


@pytest.mark.parametrize(
    "kind", ["total", pytest.param("symmetric", marks=pytest.mark.slow), "directed"]
)
def test_derivatives_in_both_modes(kind, system):
    nodes, params, neighbors = system
    forms = FORMS if kind != "symmetric" else {k: FORMS[k] for k in ("r", "rr", "rf")}
    compare(forms, *energies(kind, neighbors), nodes, params)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["total", "symmetric", "directed"])
def test_third_derivatives(kind, system):
    nodes, params, neighbors = system
    forms = THIRD if kind == "total" else {"rfr": THIRD["rfr"]}
    compare(forms, *energies(kind, neighbors), nodes, params)


@pytest.mark.parametrize("kind", ["total", "directed"])
def test_single_precision(kind, system):
    nodes, params, neighbors = tree_util.tree_map(
        lambda x: x.astype(jnp.float32) if x.dtype == jnp.float64 else x, system[:2]
    ) + (system[2],)
    fn = pair if kind == "total" else directed
    out = neighbor_sum(fn, nodes, params, neighbors)
    assert all(x.dtype == jnp.float32 for x in tree_util.tree_leaves(out))

    def E(a, t):
        if kind == "total":
            return neighbor_total(fn, a, t, neighbors)
        return dot(neighbor_sum(fn, a, t, neighbors), out)

    def plain(a, t):
        if kind == "total":
            return neighbors.total(fn, a, t)
        return dot(neighbors.sum(fn, a, t), out)

    compare({"r": FORMS["r"], "fr": FORMS["fr"]}, E, plain, nodes, params, jnp.float32)


def test_shapes_integers_and_several_outputs(system):
    nodes, params, neighbors = system

    def fn(x, y, t):
        same = (x["kind"] == y["kind"]).astype(jnp.int32)
        return same, (x["R"][:, None] * y["R"] * t["a"], jnp.array(1.0))

    count, (outer, degree) = neighbor_sum(fn, nodes, params, neighbors)
    close((count, (outer, degree)), neighbors.sum(fn, nodes, params))
    assert count.dtype == jnp.int32 and outer.shape == (N, 2, 2)
    np.testing.assert_array_equal(degree, neighbors.near.sum(1))


def test_counts_beside_energies_differentiate(system):
    """What is an integer has no tangent, alone or beside what has one."""
    nodes, _, neighbors = system
    R = nodes["R"]

    def both(x, y, t):
        squared = jnp.sum((x - y) ** 2)
        return t * squared**2, (squared < 1).astype(jnp.int32)

    def energy(R, sums):
        value, count = sums(both, R, 0.7)
        return jnp.sum(value * count), count

    def count(R):
        return neighbor_sum(lambda *a: both(*a)[1], R, 0.7, neighbors)

    ours = lambda fn, R, t: neighbor_sum(fn, R, t, neighbors)  # noqa: E731
    (value, near), gradient = jax.value_and_grad(energy, has_aux=True)(R, ours)
    (expected, _), reference = jax.value_and_grad(energy, has_aux=True)(
        R, neighbors.sum
    )
    close(value, expected)
    close(gradient, reference)
    assert near.dtype == jnp.int32 and near.sum() > 0
    np.testing.assert_array_equal(jax.jvp(count, (R,), (R,))[0], near)
    hessian = jax.jacfwd(jax.grad(lambda R: energy(R, ours)[0]))(R)
    close(hessian, jax.hessian(lambda R: energy(R, neighbors.sum)[0])(R))


def test_tables_and_values_that_are_closed_over(system):
    nodes, _, neighbors = system
    table = jnp.asarray(np.random.default_rng(3).normal(size=(9, 9)))  # over 64 entries
    assert table.size > partition.primitives.TABLE

    def energy(total, R, table, c, v):
        def fn(x, y, t):
            r = jnp.linalg.norm(x[0] - y[0])
            return t[x[1], y[1]] * t[y[1], x[1]] * jnp.cos(c * r) ** 2

        return total(fn, (R, nodes["kind"]), table)

    ours = lambda *a: energy(lambda *s: neighbor_total(*s, neighbors), *a)  # noqa: E731
    plain = lambda *a: energy(neighbors.total, *a)  # noqa: E731

    def forms(E):
        R, c, v = nodes["R"], jnp.array(0.8), direction(table, 4)
        grad = jax.grad(E, (0, 1, 2))
        return jax.jit(
            lambda: (
                grad(R, table, c, v),
                jax.jvp(lambda c: grad(R, table, c, v), (c,), (c,))[1],
                jax.grad(lambda t: jnp.sum(grad(R, t, c, v)[0] ** 2))(table),
                jax.jvp(lambda t: E(R, t, c, v), (table,), (v,))[1],
            )
        )()

    close(forms(ours), forms(plain))


def test_a_table_of_a_sum(system):
    nodes, _, neighbors = system
    table = jnp.asarray(np.random.default_rng(3).normal(size=(9, 9)))

    def fn(x, y, t):
        return t[x[1], y[1] + 3] * x[0]

    def gradient(total):
        return jax.grad(
            lambda t: jnp.sum(total(fn, (nodes["R"], nodes["kind"]), t) ** 3)
        )

    ours = jax.jit(gradient(lambda *a: neighbor_sum(*a, neighbors)))(table)
    close(ours, jax.jit(gradient(neighbors.sum))(table))


@pytest.mark.parametrize("kind", ["total", pytest.param("sum", marks=pytest.mark.slow)])
def test_batches(kind, system):
    nodes, params, neighbors = system
    R = jnp.stack([nodes["R"], nodes["R"] + 0.1 * direction(nodes["R"], 6)])
    others = [neighbors, listed(R[1])]
    capacity = max(o.rows.slots.shape[0] for o in others)

    def padded(rows):
        spare = capacity - rows.slots.shape[0]
        slots = jnp.pad(rows.slots, ((0, spare), (0, 0)), constant_values=N)
        return rows._replace(slots=slots)

    stacked = tree_util.tree_map(
        lambda *x: jnp.stack(x), *(padded(o.rows) for o in others)
    )

    class Of:
        n, is_ordered = N, False

        def __init__(self, rows):
            self.rows = rows

    def E(R, a, rows):
        t = {**params, "a": a}
        if kind == "total":
            return neighbor_total(pair, {**nodes, "R": R}, t, Of(rows))
        return weighted(neighbor_sum(directed, {**nodes, "R": R}, t, Of(rows)))

    def plain(R, a, neighbors):
        t = {**params, "a": a}
        if kind == "total":
            return neighbors.total(pair, {**nodes, "R": R}, t)
        return weighted(neighbors.sum(directed, {**nodes, "R": R}, t))

    a = jnp.array([0.7, 0.9])
    grad = jax.grad(E, (0, 1))
    mapped = jax.jit(jax.vmap(grad))(R, a, stacked)
    shared = jax.jit(jax.vmap(grad, (0, None, None)))(R, a[0], neighbors.rows)
    ref = jax.jit(jax.grad(plain, (0, 1)), static_argnums=2)
    stack = lambda *x: tree_util.tree_map(lambda *y: jnp.stack(y), *x)  # noqa: E731
    close(mapped, stack(*(ref(R[k], a[k], others[k]) for k in (0, 1))))
    close(shared, stack(*(ref(R[k], a[0], neighbors) for k in (0, 1))))


def test_batched_hessian(system):
    nodes, params, neighbors = system
    E, plain = energies("total", neighbors)
    ours = jax.jit(jax.hessian(lambda R: E({**nodes, "R": R}, params)))(nodes["R"])
    ref = jax.jit(jax.hessian(lambda R: plain({**nodes, "R": R}, params)))(nodes["R"])
    close(ours, ref)


def test_wide_features(system):
    _, _, neighbors = system
    rng = np.random.default_rng(7)
    h = jnp.asarray(rng.normal(size=(N, 100)))
    W = jnp.asarray(rng.normal(size=(5, 5)) / 5)

    def message(x, y, W):
        mixed = (y.reshape(20, 5) @ W).reshape(-1)
        return jnp.tanh(mixed) * x, jnp.sum(x * y)

    def forms(total):
        F = lambda h, W: weighted(total(message, h, W))  # noqa: E731
        return jax.jit(
            lambda: (
                F(h, W),
                jax.grad(F, (0, 1))(h, W),
                jax.jvp(jax.grad(F), (h, W), (h * 0.3, W))[1],
            )
        )()

    close(forms(lambda *a: neighbor_sum(*a, neighbors)), forms(neighbors.sum))


def image_shifts(R, L, idx):
    n = len(R)
    d = R[:, None] - np.concatenate([R, R[:1]])[idx]
    return np.where((idx < n)[..., None], -np.round(d / L), 0).astype(np.int32)


@pytest.mark.parametrize("kind", ["total", "sum", "symmetric"])
def test_edges(kind):
    """Image shifts as data of the slots, against displacements that find them."""
    L, R = SIDE, positions(3)
    d = np.asarray(R[:, None] - R[None])
    D = np.linalg.norm(d - L * np.round(d / L), axis=-1)
    neighbors = Listed((D < REACH) & ~np.eye(N, dtype=bool))
    shifts = image_shifts(np.asarray(R), L, neighbors.dense_idx)
    assert np.any(shifts)

    def potential(dR, x, y):
        s = jnp.exp(-jnp.sum(dR**2))
        return s if kind != "sum" else s * jnp.sum(x * y**2 * dR)

    def with_edges(x, y, L, e):
        return potential(x - y + L * e, x, y)

    def minimum_image(x, y, L):
        dR = x - y
        return potential(dR - L * jax.lax.stop_gradient(jnp.round(dR / L)), x, y)

    def ours(R, L):
        if kind == "total":
            return neighbor_total(with_edges, R, L, neighbors, edges=shifts)
        symmetric = kind == "symmetric"
        out = neighbor_sum(
            with_edges, R, L, neighbors, edges=shifts, symmetric=symmetric
        )
        return weighted(out)

    def plain(R, L):
        if kind == "total":
            return neighbors.total(minimum_image, R, L)
        return weighted(neighbors.sum(minimum_image, R, L))

    v = direction(R, 1)

    def forms(E):
        g = jax.grad(E, (0, 1))
        return jax.jit(
            lambda R, L: (
                E(R, L),
                g(R, L),
                jax.jvp(g, (R, L), (v, 1.0))[1],
                jax.grad(lambda R: jnp.sum(g(R, L)[0] * v))(R),
            )
        )(R, L)

    close(forms(ours), forms(plain))
    with pytest.raises(ValueError, match="`edges` must be"):
        neighbor_sum(with_edges, R, L, neighbors, edges=shifts[:, :-1])
    with pytest.raises(TypeError, match="cannot be differentiated"):
        jax.grad(lambda e: jnp.sum(neighbor_sum(with_edges, R, L, neighbors, edges=e)))(
            shifts.astype(float)
        )


def test_mask_function_lets_no_nan_through(system):
    """Two particles coincide and the mask leaves them out; nothing guards `pair`."""
    nodes, params, _ = system
    R = nodes["R"].at[3].set(nodes["R"][4])
    nodes = {**nodes, "R": R}
    neighbors = listed(R)
    assert neighbors.near[3, 4]
    kind = np.asarray(nodes["kind"])
    kept = Listed(neighbors.near & (kind[:, None] == kind[None]))

    def mask(x, y):
        return x["kind"] == y["kind"]

    def total(nodes, t):
        return neighbor_total(pair, nodes, t, neighbors, mask=mask)

    def summed(nodes, t):
        return weighted(neighbor_sum(directed, nodes, t, neighbors, mask=mask))

    forms = {k: FORMS[k] for k in ("r", "fr")}
    compare(forms, total, energies("total", kept)[1], nodes, params)
    compare(forms, summed, energies("directed", kept)[1], nodes, params)


def test_coincident_particles_count(system):
    """A pair at distance zero is a pair: what `fn` says there is what is summed."""
    R = jnp.array([[0.5, 0.5], [0.5, 0.5], [1.0, 0.5]])
    neighbors = Listed(~np.eye(3, dtype=bool))

    def soft(x, y, t):
        r2 = jnp.sum((x - y) ** 2)
        r = jnp.sqrt(jnp.where(r2 > 0, r2, 1.0)) * (r2 > 0)
        return t * (1 - r) ** 2

    E = lambda R: neighbor_total(soft, R, 2.0, neighbors)  # noqa: E731
    np.testing.assert_allclose(E(R), 2 * (1 + 0.25 + 0.25), rtol=1e-12)
    grad, hessian = jax.grad(E)(R), jax.hessian(E)(R)
    assert np.all(np.isfinite(hessian))
    np.testing.assert_allclose(grad[2], [-4.0, 0.0], atol=1e-12)


def test_no_pairs():
    neighbors = Listed(np.zeros((4, 4), bool), spare=0)
    R = jnp.ones((4, 2))
    fn = lambda x, y, t: jnp.sum(x - y) / jnp.sum((x - y) ** 2)  # noqa: E731
    np.testing.assert_array_equal(neighbor_sum(fn, R, None, neighbors), np.zeros(4))
    grad = jax.grad(lambda R: neighbor_total(fn, R, None, neighbors))(R)
    np.testing.assert_array_equal(grad, 0 * R)


# Loops over slots and blocks, and the lowering for accelerators ---------------------


@pytest.mark.parametrize(
    ("turn", "depth"), [(1, 1), (48, 1), (48, 4), (12, 2), (15, 8), (10**4, 2)]
)
def test_loops(turn, depth, system, monkeypatch):
    """One slot a turn or several, one block or several; the last reaches back."""
    nodes, params, neighbors = system
    neighbors = Listed(neighbors.near, spare=0)
    assert neighbors.rows.slots.shape[0] % 3, "the last turn of three reaches back"
    monkeypatch.setattr(sweep, "DEPTH", depth)
    monkeypatch.setattr(sweep, "TURN", turn)
    leaves, treedef = tree_util.tree_flatten(nodes)

    def f(x, y, e, t):
        out = directed(treedef.unflatten(x), treedef.unflatten(y), params)
        return tree_util.tree_leaves(out)

    got = jax.jit(lambda *a: sweep.sweep(f, a, [], [], neighbors.rows))(*leaves)
    close(got, tree_util.tree_leaves(neighbors.sum(directed, nodes, params)))


@pytest.mark.parametrize("wide", [False, True])
def test_dense_lowering(wide, system):
    nodes, params, neighbors = system
    leaves = [nodes["R"], jnp.ones((N, 80 if wide else 2)) * nodes["q"][:, None]]

    def f(x, y, e, t):
        return [x[1] * y[1] / jnp.linalg.norm(x[0] - y[0]), t[0] * x[0]]

    def mask(x, y, e, t):
        return [x[1][0] * y[1][0] > 0]

    def run(dense):
        t = [params["a"]]
        return jax.jit(
            lambda: sweep.sweep(f, leaves, [], t, neighbors.rows, mask, dense)
        )()

    close(run(True), run(False))
    fn = lambda x, y, t: jnp.where(x[1][0] * y[1][0] > 0, f(x, y, [], t)[0], 0)  # noqa: E731
    close(run(True)[0], neighbors.sum(fn, tuple(leaves), [params["a"]]))


# Lists as `neighbor_list` makes them ------------------------------------------------


def test_every_format_and_edited_lists():
    """Symmetric rows serve every format; an edited list is summed as it stands."""
    geometry = geometries.geometry("small", 2)
    R = geometry.sample(12, 1)
    fn = lambda x, y, t: jnp.exp(-jnp.sum(geometry.displacement(x, y) ** 2))  # noqa: E731
    near = geometry.distances(R) < 2.0
    full = np.asarray(Listed(near).sum(fn, R, None))
    even = (np.arange(12)[:, None] + np.arange(12)) % 2 == 0
    half = np.asarray(Listed(near & even).sum(fn, R, None))

    def keep_even(idx):
        return jnp.where((idx + jnp.arange(12)[:, None]) % 2 == 0, idx, 12)

    for format in partition.NeighborListFormat:  # noqa: A001
        for mask_function, expected in ((None, full), (keep_even, half)):
            neighbors = partition.neighbor_list(
                geometry.displacement,
                geometry.box,
                2.0,
                custom_mask_function=mask_function,
                mask_self=False,
                format=format,
            ).allocate(R)
            total = jax.jit(lambda R, nb: neighbor_total(fn, R, None, nb))
            np.testing.assert_allclose(total(R, neighbors), expected.sum() / 2)
            if mask_function and format is partition.OrderedSparse:
                with pytest.raises(ValueError, match="no sum per particle"):
                    neighbor_sum(fn, R, None, neighbors)
                continue
            out = jax.jit(lambda R, nb: neighbor_sum(fn, R, None, nb))(R, neighbors)
            np.testing.assert_allclose(out, expected)

    directed_list = neighbors.set(format=partition.Sparse, idx=jnp.array([[0], [1]]))
    out = neighbor_sum(fn, R, None, directed_list)
    np.testing.assert_allclose(out, np.eye(12)[0] * fn(R[0], R[1], None))


def test_edited_list_differentiates():
    R = positions()
    neighbors = listed(R)
    nb = partition.neighbor_list(
        lambda a, b: a - b, None, REACH, format=partition.Sparse
    ).allocate(R)
    nb = nb.set(idx=nb.idx)
    assert nb.rows is None
    q = jnp.cos(jnp.arange(N) + 0.2)
    nodes = {"R": R, "q": q, "kind": jnp.arange(N) % 3}
    params = {"a": jnp.array(0.7), "b": jnp.linspace(-1, 1, 3)}
    total = lambda a, t: neighbor_total(pair, a, t, nb)  # noqa: E731
    forms = {k: FORMS[k] for k in ("value", "r", "fr")}
    compare(forms, total, energies("total", neighbors)[1], nodes, params)


def test_errors(system):
    nodes, params, neighbors = system
    with pytest.raises(ValueError, match=r"`nodes` must have one entry per particle"):
        neighbor_sum(pair, {**nodes, "q": nodes["q"][1:]}, params, neighbors)
    with pytest.raises(ValueError, match="`nodes`.*q"):
        neighbor_total(pair, {**nodes, "q": 1.0}, params, neighbors)
    with pytest.raises(ValueError, match="must return one scalar"):
        neighbor_total(directed, nodes, params, neighbors)
