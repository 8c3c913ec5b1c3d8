import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_md.wide import empirical
from jax_md.wide.empirical import NtkImplementation, structured

EXACT = 1e-10
ALL = list(NtkImplementation)
N1, N2 = 3, 2


def slow(*values, **options):
    return pytest.param(*values, marks=pytest.mark.slow, **options)


def dense_net(params, x, gain=1.0, rng=None, power=None):
    """Two matrix products, one nested in a jitted function, and biases."""
    w1, b1, w2, b2 = params
    hidden = jnp.tanh(x @ w1 / 2 + b1[None])
    if rng is not None:
        hidden = hidden * jax.random.bernoulli(rng, 0.7, hidden.shape[-1:])[None]
    power = 1.0 if power is None else power
    return gain * jnp.einsum("nh,ho->no", hidden, w2) * power + b2[None]


@pytest.fixture(scope="module")
def problem():
    keys = jax.random.split(jax.random.key(0), 6)
    params = (
        jax.random.normal(keys[0], (4, 5)),
        jax.random.normal(keys[1], (5,)),
        jax.random.normal(keys[2], (5, 3)),
        jax.random.normal(keys[3], (3,)),
    )
    x1 = jax.random.normal(keys[4], (N1, 4))
    return params, x1, jax.random.normal(keys[5], (N2, 4))


def full_kernel(f, params, x1, x2):
    """All pairs of outputs, from flat Jacobians: ``[n1, n2, o, o]``."""

    def jacobian(x):
        leaves = jax.tree.leaves(jax.jit(jax.jacobian(f))(params, x))
        shape = f(params, x).shape
        return np.concatenate([np.reshape(j, (*shape, -1)) for j in leaves], -1)

    return np.einsum("nap,mbp->nmab", jacobian(x1), jacobian(x2))


@pytest.fixture(scope="module")
def kernels_of_all_pairs(problem):
    """Of both inputs with each other, and of the first with itself."""
    params, x1, x2 = problem
    return full_kernel(dense_net, params, x1, x2), full_kernel(
        dense_net, params, x1, x1
    )


def all_implementations(f, **settings):
    """One compiled function that gives the kernel in each way."""
    fns = [
        empirical.empirical_ntk_fn(f, implementation=i, **settings) for i in (1, 2, 3)
    ]
    return jax.jit(lambda *args, **kwargs: [fn(*args, **kwargs) for fn in fns])


# Fast: each way once, mapped over samples or not; AUTO compiles all the others.
@pytest.mark.parametrize(
    "vmap_axes,implementation",
    [
        slow(None, ALL[0]),
        (None, ALL[1]),
        (None, ALL[2]),
        slow(None, ALL[3]),
        slow(0, ALL[0]),
        slow(0, ALL[1]),
        slow(0, ALL[2]),
        (0, ALL[3]),
    ],
)
def test_ntk_layouts(problem, kernels_of_all_pairs, implementation, vmap_axes):
    params, x1, x2 = problem
    full, square = kernels_of_all_pairs
    cases = [
        ((-1,), (), x2, np.einsum("nmaa->nm", full) / 3),
        ((), (), x2, full),
        ((), (1,), None, np.einsum("nmaa->nma", square)),
        ((1,), (0,), None, np.einsum("nnaa->n", square) / 3),
        ((0,), (), None, np.einsum("nnab->ab", square) / N1),
    ]
    if implementation is NtkImplementation.AUTO:
        cases = cases[:1]  # it compiles all the others

    def every_case(params):
        return [
            empirical.empirical_ntk_fn(
                dense_net, trace, diagonal, vmap_axes, implementation
            )(x1, second, params)
            for trace, diagonal, second, _ in cases
        ]

    for got, (*_, expected) in zip(jax.jit(every_case)(params), cases, strict=True):
        np.testing.assert_allclose(got, expected, atol=EXACT)


@pytest.mark.parametrize("forward", [slow(True), False])
def test_ntk_either_direction(problem, kernels_of_all_pairs, forward):
    params, x1, x2 = problem
    expected = np.einsum("nmaa->nm", kernels_of_all_pairs[0]) / 3
    for got in all_implementations(dense_net, _fwd=forward)(x1, x2, params):
        np.testing.assert_allclose(got, expected, atol=EXACT)


def test_structure_is_found_where_it_is(problem):
    params, x1, _ = problem

    def leaves_found(f, params):
        flat, tree = jax.tree.flatten(params)
        run = jax.make_jaxpr(lambda flat, x: f(jax.tree.unflatten(tree, flat), x))
        return [s.leaf for s in structured.find_factors(run(flat, x1), len(flat))]

    assert leaves_found(dense_net, params) == [0, 2]
    assert leaves_found(jax.jit(dense_net), params) == [0, 2]
    # used twice; entering a product after another operation; multiplied together
    assert leaves_found(lambda w, x: x @ w @ w, (jnp.eye(4),)[0]) == []
    assert leaves_found(lambda w, x: x @ jnp.sin(w), jnp.eye(4)) == []
    assert (
        leaves_found(lambda p, x: p[0] @ p[1] + x, (jnp.ones((3, 4)), jnp.eye(4))) == []
    )


@pytest.mark.parametrize("vmap_axes", [slow(None), 0])
def test_structured_products_of_every_form(problem, vmap_axes):
    """Weight on the left, shared batch axes, positions as free axes, tied weights."""
    _, x1, x2 = problem
    keys = jax.random.split(jax.random.key(3), 4)
    params = {
        "left": jax.random.normal(keys[0], (6, 2)),
        "heads": jax.random.normal(keys[1], (2, 6, 3)),
        "tied": jax.random.normal(keys[2], (3, 3)),
    }

    def f(params, x):
        x = x.reshape(-1, 2, 2)  # samples, positions, channels
        z = jnp.sin(jnp.einsum("co,npo->npc", params["left"], x))
        z = jnp.einsum("npc,pco->npo", z, params["heads"])
        z = jnp.tanh(jnp.tanh(z @ params["tied"]) @ params["tied"])
        return z.sum(1)

    exact = np.einsum("nmaa->nm", full_kernel(f, params, x1, x2)) / 3
    for got in all_implementations(f, vmap_axes=vmap_axes)(x1, x2, params):
        np.testing.assert_allclose(got, exact, atol=EXACT)


def test_trees_of_inputs_and_outputs(problem, kernels_of_all_pairs):
    params, x1, x2 = problem
    full, square = kernels_of_all_pairs

    def f(params, x):
        out = dense_net(params, x["a"]) + x["b"]
        return {"all": out, "first": out[:, :1]}

    def wrap(x):
        return {"a": x, "b": jnp.cos(x[:, :1]) * jnp.ones((1, 3))}

    for got in all_implementations(f, vmap_axes=0)(wrap(x1), wrap(x2), params):
        mean = np.einsum("nmaa->nm", full) / 3
        np.testing.assert_allclose(got["all"], mean, atol=EXACT)
        np.testing.assert_allclose(got["first"], full[:, :, 0, 0], atol=EXACT)
    nothing = {"a": None, "b": None}
    per_leaf = {"all": (), "first": (1,)}
    for got in all_implementations(f, trace_axes=per_leaf)(wrap(x1), nothing, params):
        np.testing.assert_allclose(got["all"], square, atol=EXACT)


def test_keyword_arguments_split(problem, kernels_of_all_pairs):
    params, x1, x2 = problem
    full, _ = kernels_of_all_pairs
    # the last bias carries no gain, hence the difference to one kernel with gain
    biases = np.eye(3)[None, None]
    expected = 10.0 * (full - biases) + biases
    fn = all_implementations(dense_net, trace_axes=())
    for got in fn(x1, x2, params, gain=(2.0, 5.0), power=None):
        np.testing.assert_allclose(got, expected, atol=EXACT)


def test_rng_equal_inputs_share_a_key(problem):
    params, x1, x2 = problem
    nngp_fn = jax.jit(empirical.empirical_nngp_fn(dense_net, trace_axes=()))
    key = jax.random.key(11)
    one = nngp_fn(x1, None, params, rng=key)
    for same in (
        nngp_fn(x1, x1 + 0, params, rng=key),
        nngp_fn(x1, 1 * x1, params, rng=(key, key)),
    ):
        np.testing.assert_allclose(one, same, atol=EXACT)
    split = nngp_fn(x1, 2 * x1, params, rng=key)
    other = jax.random.fold_in(key, 1)
    expected = nngp_fn(x1, 2 * x1, params, rng=(key, other))
    np.testing.assert_allclose(split, expected, atol=EXACT)
    assert jnp.abs(split - nngp_fn(x1, 2 * x1, params, rng=(key, key))).max() > 1e-3


def test_nngp_and_get(problem):
    params, x1, x2 = problem
    kernel_fn = empirical.empirical_kernel_fn(dense_net)
    fx1, fx2 = dense_net(params, x1), dense_net(params, x2)
    both = kernel_fn(x1, x2, None, params)
    assert both._fields == ("nngp", "ntk")
    np.testing.assert_allclose(both.nngp, fx1 @ fx2.T / 3, atol=EXACT)
    order = kernel_fn(x1, x2, ("NTK", "nngp"), params)
    assert type(order).__name__ == "EmpiricalKernel" and order._fields == (
        "ntk",
        "nngp",
    )
    np.testing.assert_array_equal(order.ntk, kernel_fn(x1, x2, "ntk", params))
    nngp_fn = empirical.empirical_nngp_fn(dense_net, (), (1,))
    np.testing.assert_allclose(
        nngp_fn(x1, x2, params), jnp.einsum("na,ma->nma", fx1, fx2), atol=EXACT
    )
    for get in ((), ("ntk", "NTK"), "cov1"):
        with pytest.raises(ValueError, match="get"):
            kernel_fn(x1, x2, get, params)


def test_ntk_vector_product(problem):
    params, x1, x2 = problem
    v = jax.random.normal(jax.random.key(5), (N2, 3))
    vp_fn = empirical.empirical_ntk_vp_fn(dense_net, x1, x2, params, gain=1.0)
    full = full_kernel(dense_net, params, x1, x2)
    expected = np.einsum("nmab,mb->na", full, v)
    np.testing.assert_allclose(jax.jit(vp_fn)(v), expected, atol=EXACT)
    same = empirical.empirical_ntk_vp_fn(dense_net, x1, None, params)
    assert same(jnp.ones((N1, 3))).shape == (N1, 3)


def test_vmap_axes_of_inputs_outputs_and_keywords(problem, kernels_of_all_pairs):
    params, x1, x2 = problem

    def f(params, x, scale):  # samples along axis 1 of x, axis -1 of the outputs
        return (dense_net(params, x.T) * scale[:, None]).T

    scales = (jnp.arange(1.0, N1 + 1), jnp.arange(1.0, N2 + 1))
    plain = np.einsum("nmaa->nm", kernels_of_all_pairs[0]) / 3
    expected = plain * scales[0][:, None] * scales[1][None]
    for axes in (None, (1, -1, {"scale": 0})):
        fn = all_implementations(f, trace_axes=(0,), vmap_axes=axes)
        for got in fn(x1.T, x2.T, params, scale=scales):
            np.testing.assert_allclose(got, expected, atol=EXACT)


def test_convolutions_fall_back(problem):
    kernel = jax.random.normal(jax.random.key(1), (3, 2, 4))
    head = jax.random.normal(jax.random.key(2), (4, 2))
    x = jax.random.normal(jax.random.key(3), (2, 5, 2))

    def f(params, x):
        z = jax.lax.conv_general_dilated(
            x, params[0], (1,), "SAME", dimension_numbers=("NHC", "HIO", "NHC")
        )
        return jax.nn.relu(z).mean(1) @ params[1]

    kernels = all_implementations(f, vmap_axes=0)(x, None, (kernel, head))
    np.testing.assert_allclose(kernels[0], kernels[1], atol=EXACT)
    np.testing.assert_allclose(kernels[0], kernels[2], atol=EXACT)


def test_structured_costs_less_where_it_should():
    """Wide layers, few samples: no product of two Jacobians of a hidden layer."""
    params = [jnp.ones((64, 64)) * 0.01 for _ in range(3)]

    def f(params, x):
        for w in params:
            x = jnp.tanh(x @ w)
        return x[:, :8]

    x = jnp.ones((4, 64))

    def operations(i):
        ntk_fn = empirical.empirical_ntk_fn(f, (), vmap_axes=0, implementation=i)
        lowered = jax.jit(ntk_fn).lower(x, None, params)
        return lowered.compile().cost_analysis()["flops"]

    assert operations(3) < 0.2 * operations(1)


def test_refuses_bad_input(problem):
    params, x1, x2 = problem
    with pytest.raises(ValueError, match="`implementation` must be one of 0 .AUTO"):
        empirical.empirical_ntk_fn(dense_net, implementation=7)
    with pytest.raises(ValueError, match="`vmap_axes`"):
        empirical.empirical_ntk_fn(dense_net, vmap_axes=(0, 0))
    with pytest.raises(ValueError, match="`trace_axes` must be axes"):
        empirical.empirical_ntk_fn(dense_net, (2,))(x1, x2, params)
    with pytest.raises(ValueError, match="sizes 3 and 2"):
        empirical.empirical_ntk_fn(dense_net, (), (0,))(x1, x2, params)
    with pytest.raises(ValueError, match="either in `trace_axes`"):
        empirical.empirical_nngp_fn(dense_net, (1,), (-1,))(x1, x2, params)
