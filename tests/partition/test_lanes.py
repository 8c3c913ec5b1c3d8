"""Functions of one pair evaluated on many, component by component, against `vmap`."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_md.partition import kernels, lanes

COUNT = 7
TABLE = jnp.arange(12.0).reshape(4, 3)


@jax.custom_jvp
def halved(x):
    return x / 2


halved.defjvp(lambda primals, tangents: (halved(*primals), 0.5 * tangents[0]))


def shapes(x, y, t):
    z = jnp.concatenate([x, y])[::-1].reshape(2, 3).T
    return (
        z[1:, ::-1],
        jnp.stack([x, y], 1)[None, ::2],
        jnp.broadcast_to(z[:, 0], (2, 3)),
    )


# Functions of two vectors [3] and a parameter [3, 3].
FUNCTIONS = {
    "arithmetic": lambda x, y, t: jnp.exp(-((x - y) ** 2)) / (1 + x**2) + y**3 % 2,
    "reductions": lambda x, y, t: (
        jnp.sum(x * y),
        jnp.max(x),
        jnp.prod(y),
        jnp.all(x > y),
    ),
    "norm": lambda x, y, t: jnp.linalg.norm(x - y),
    "where": lambda x, y, t: jnp.where(x > y, t[0], x * jnp.sign(y)),
    "matmul": lambda x, y, t: t @ x + jnp.outer(x, y) @ t @ (y * x[0]),
    "batched matmul": lambda x, y, t: jnp.einsum(
        "bi,bij->bj", jnp.stack([x, y]), jnp.stack([t, t.T])
    ),
    "cross": lambda x, y, t: jnp.cross(x, y) * jnp.arctan2(x, y),
    "shapes": shapes,
    "cumsum": lambda x, y, t: jnp.cumsum(x * y),
    "sort": lambda x, y, t: jnp.sort(x + y),
    "argmax": lambda x, y, t: TABLE[jnp.argmax(x), jnp.argmin(y)],
    "gather": lambda x, y, t: t[(jnp.floor(jnp.abs(x)) % 3).astype(int)],
    "update": lambda x, y, t: t.at[1].set(x).at[0, 1].add(y[2]),
    "cond": lambda x, y, t: jax.lax.cond(
        x[0] > y[0], lambda: x, lambda: jnp.sin(y) @ t
    ),
    "scan": lambda x, y, t: jax.lax.scan(lambda c, v: (c * v + 1, c), x[0], y),
    "while": lambda x, y, t: jax.lax.fori_loop(0, 3, lambda _, v: v @ t / 3, x),
    "jit": lambda x, y, t: jax.jit(lambda u: u * jnp.dot(u, y))(x),
    "custom_jvp": lambda x, y, t: jax.jvp(halved, (x,), (y,)),
    "checkpoint": lambda x, y, t: jax.checkpoint(jnp.sin)(x) * jax.nn.relu(y),
    "constant": lambda x, y, t: (jnp.ones(2), t * 2, jnp.array(3)),
    "derivative": lambda x, y, t: jax.jacrev(lambda u: jnp.linalg.norm(t @ u - y))(x),
    "second derivative": lambda x, y, t: jax.hessian(lambda u: 1 / jnp.sum(u * y))(x),
    "integers": lambda x, y, t: (x > 0).astype(jnp.int32) << 2 | jnp.int32(1),
    "inverse": lambda x, y, t: jnp.linalg.inv(t + jnp.diag(x * x)),
}


def arguments(dtype=jnp.float64):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, COUNT, 3)) * 2
    t = rng.normal(size=(3, 3))
    return jnp.asarray(x, dtype), jnp.asarray(y, dtype), jnp.asarray(t, dtype)


def equal(got, expected):
    for a, b in zip(got, expected, strict=True):
        assert a.shape == b.shape and a.dtype == b.dtype
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_against_vmap(name):
    x, y, t = arguments()
    fn = FUNCTIONS[name]
    one = jax.ShapeDtypeStruct((3,), x.dtype)
    closed = jax.make_jaxpr(fn)(one, one, t)

    def by_lanes(x, y, t):
        out = lanes.evaluate(closed, [lanes.split(x), lanes.split(y), t], (COUNT,))
        return [lanes.join(v) for v in out]

    def by_kernels(x, y, t):
        run = kernels.Kernels(closed, [(3,), (3,)], 3)
        vectors = [*lanes.split(x).parts.flat, *lanes.split(y).parts.flat]
        flat, out = run(vectors, [t], (COUNT,)), []
        for aval in closed.out_avals:
            size = int(np.prod(aval.shape))
            out.append(
                lanes.join(lanes.Lanes(lanes.object_array(aval.shape, flat[:size])))
            )
            flat = flat[size:]
        return out

    def by_map(x, y, t):
        return jax.tree_util.tree_leaves(jax.vmap(fn, (0, 0, None))(x, y, t))

    first, second, expected = jax.jit(
        lambda *a: (by_lanes(*a), by_kernels(*a), by_map(*a))
    )(x, y, t)
    equal(first, expected)
    equal(second, expected)


def test_two_axes_of_lanes():
    x, y, t = arguments()
    fn = FUNCTIONS["matmul"]
    one = jax.ShapeDtypeStruct((3,), x.dtype)
    closed = jax.make_jaxpr(fn)(one, one, t)
    run = kernels.Kernels(closed, [(3,), (3,)], 3)
    X = [jnp.broadcast_to(v[:, None], (COUNT, COUNT)) for v in x.T]
    Y = [jnp.broadcast_to(v[None], (COUNT, COUNT)) for v in y.T]
    got = jnp.stack(run([*X, *Y], [t], (COUNT, COUNT)), -1)
    product = jax.vmap(jax.vmap(fn, (None, 0, None)), (0, None, None))
    np.testing.assert_allclose(got, product(x, y, t), rtol=1e-12)


def test_too_wide_values_are_refused():
    wide = jax.ShapeDtypeStruct((lanes.WIDEST + 1,), jnp.float64)
    closed = jax.make_jaxpr(lambda x: jnp.sum(x))(wide)
    with pytest.raises(lanes.TooWide):
        lanes.split(jnp.zeros((COUNT, lanes.WIDEST + 1)))
    with pytest.raises(lanes.TooWide):
        kernels.Kernels(closed, [(lanes.WIDEST + 1,)], 0)


def test_values_that_several_results_need_are_stored():
    """The components of a force share its magnitude instead of computing it again."""

    def force(x, y):
        d = x - y
        return d * jnp.exp(-jnp.sqrt(jnp.sum(d * d))) / jnp.sum(d * d) ** 3

    one = jax.ShapeDtypeStruct((3,), jnp.float64)
    run = kernels.Kernels(jax.make_jaxpr(force)(one, one), [(3,), (3,)], 3)
    assert run.stored
    x, y, _ = arguments()
    vectors = [*x.T, *y.T]
    text = str(jax.make_jaxpr(lambda *v: run(v, [], (COUNT,)))(*vectors))
    assert text.count(" exp ") == 1 and "optimization_barrier" in text


def test_long_results_are_stored():
    """So that the kernel that sums up a short one beside them stays short."""

    def both(x, y):
        long = jnp.sum(x)
        for k in range(40):
            long = long * y[k % 3] + 1
        return x - y, long

    one = jax.ShapeDtypeStruct((3,), jnp.float64)
    closed = jax.make_jaxpr(both)(one, one)
    run = kernels.Kernels(closed, [(3,), (3,)], 3)
    assert run.operations < 10 and len(run.stored) == 1
    whole = kernels.Kernels(closed, [(3,), (3,)], 3, store=False)
    assert whole.operations > 80 and not whole.stored
    x, y = np.random.default_rng(0).uniform(size=(2, 3, COUNT))
    got = jnp.stack(run([*x, *y], [], (COUNT,)), -1)
    expected = jax.vmap(both)(x.T, y.T)
    np.testing.assert_allclose(got[:, :3], expected[0], rtol=1e-12)
    np.testing.assert_allclose(got[:, 3], expected[1], rtol=1e-12)
