"""Layers that mix positions: normalization, products, resizing, graphs, attention."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jax_md.wide import layout, stax
from tests.wide.stax.oracle import assert_kernels_equal, check_linear, images, rng

X1, X2 = images(0, (2, 3, 4, 3)), images(1, (3, 3, 4, 3))


def slow(*values, **options):
    return pytest.param(*values, marks=pytest.mark.slow, **options)


@pytest.mark.parametrize(
    "options",
    [
        {"lhs": images(2, (5, 4)), "dimension_numbers": (((1,), (2,)), ((), ()))},
        {
            "rhs": images(2, (4, 3, 2)),
            "dimension_numbers": (((2, 1), (0, 1)), ((), ())),
        },
        {"rhs": images(2, (3, 4)), "dimension_numbers": (((2,), (1,)), ((1,), (0,)))},
        {},
        slow({"rhs": images(2, (3, 5)), "dimension_numbers": (((1,), (0,)), ((), ()))}),
        slow({"lhs": images(2, (2,))}),
        slow({"rhs": 1.7}),
    ],
    ids=["lhs", "two axes", "shared", "nothing", "rhs", "outer", "scalar"],
)  # fmt: skip
def test_dot_general_is_exact(options):
    layer = stax.DotGeneral(**options)
    out = layer[0](jax.random.PRNGKey(0), X1.shape)[0]
    numbers = options.get("dimension_numbers", (((), ()), ((), ())))
    if "lhs" in options:
        y = lax.dot_general(options["lhs"], jnp.asarray(X1), numbers)
    else:
        y = lax.dot_general(
            jnp.asarray(X1), jnp.asarray(options.get("rhs", 1.0)), numbers
        )
    assert out == y.shape
    np.testing.assert_allclose(layer[1]((), jnp.asarray(X1)), y)
    k = layer[2](X1, X2)
    check_linear(layer, X1, X2, out=(k.batch_axis, k.channel_axis))
    if k.diagonal_spatial is False and not numbers[0][0]:
        diagonal = layer[2](X1, X2, diagonal_spatial=True)
        np.testing.assert_allclose(
            diagonal.nngp, layout.spatial_diagonal(k.nngp, 2), rtol=1e-12
        )


def test_dot_general_refuses():
    with pytest.raises(ValueError, match="one constant"):
        stax.DotGeneral(lhs=1.0, rhs=1.0)
    mixed = stax.DotGeneral(
        rhs=np.ones((3, 2)), dimension_numbers=(((3,), (0,)), ((), ()))
    )
    with pytest.raises(ValueError, match="channel axis"):
        mixed[2](X1, X2)


@pytest.mark.parametrize(
    "shape,method",
    [
        ((-1, 5, 2, -1), "linear"),
        slow((-1, 5, 2, -1), "nearest"),
        slow((-1, 2, -1, 3), "linear"),
        ((-1, 2, -1, 3), "nearest"),
    ],
)
def test_image_resize_is_exact(shape, method):
    check_linear(stax.ImageResize(shape, method), X1, X2)


def test_image_resize_follows_one_convolution():
    """Outputs linear in the parameters: the kernel is the product of their slopes."""
    conv = stax.Conv(1, (2, 3), padding="SAME", W_std=1.3, b_std=0.4)
    resize = stax.ImageResize((-1, 5, 2, -1), "nearest")
    init_fn, apply_fn, kernel_fn = stax.serial(conv, resize)
    _, params = init_fn(jax.random.PRNGKey(0), X1.shape)

    def slopes(x):
        jacobian = jax.jacrev(lambda p: apply_fn(p, jnp.asarray(x))[..., 0])(params)
        return [j.reshape(j.shape[:3] + (-1,)) for j in jax.tree.leaves(jacobian)]

    expected = sum(
        jnp.einsum("nawi,mbvi->nmabwv", a, b)
        for a, b in zip(slopes(X1), slopes(X2), strict=True)
    )
    np.testing.assert_allclose(kernel_fn(X1, X2, "nngp"), expected, rtol=1e-12)


def test_image_resize_refuses():
    with pytest.raises(ValueError, match="channel axis"):
        stax.ImageResize((-1, 2, 2, 2), "linear")[1]((), X1)
    with pytest.raises(NotImplementedError, match="`method`"):
        stax.ImageResize((-1, 2, 2, -1), "cubic")[2](X1, X2)


def edges(seed, n, count, nodes):
    """Random directed edges, some of them padding, some twice."""
    high = np.asarray(nodes).reshape(1, 1, -1, 1)
    pattern = rng(seed).integers(0, high, (n, count, len(nodes), 2))
    pattern[:, 1] = pattern[:, 0]
    pattern[:, -1] = -1
    return pattern


@pytest.mark.parametrize("axis", [slow(None), (2,)])
def test_aggregate_is_exact(axis):
    axes = (1, 2) if axis is None else np.atleast_1d(axis)
    nodes = tuple(X1.shape[a] for a in axes)
    weights = [images(s, (n, *nodes, *nodes)) for s, n in ((3, 2), (4, 3))]
    dense = stax.Aggregate(axis)
    check_linear(dense, X1, X2, pattern=tuple(weights))

    lists = [edges(s, n, 6, nodes) for s, n in ((5, 2), (6, 3))]
    sparse = stax.Aggregate(axis, implementation="SPARSE")
    check_linear(sparse, X1, X2, pattern=tuple(lists))

    counts = [np.zeros((len(p), *nodes, *nodes)) for p in lists]
    for pattern, count in zip(lists, counts, strict=True):
        for n, sample in enumerate(pattern):
            for edge in sample[:-1]:
                count[(n, *edge[:, 0], *edge[:, 1])] += 1
    a, b = (
        layer[2](X1, X2, pattern=tuple(p))
        for layer, p in ((sparse, lists), (dense, counts))
    )
    assert_kernels_equal(a, b)


def test_aggregate_without_pattern():
    layer = stax.Aggregate()
    np.testing.assert_array_equal(layer[1]((), X1), X1)
    assert_kernels_equal(layer[2](X1, X2), stax.Index(...)[2](X1, X2))
    P = np.ones((2, 3, 4, 3, 4))
    with pytest.raises(NotImplementedError, match="`pattern`"):
        layer[2](X1, X2, pattern=(P, None))
    with pytest.raises(ValueError, match="`pattern`"):
        layer[2](X1, X2, pattern=(P[:, :2], P))
    with pytest.raises(ValueError, match="`implementation`"):
        stax.Aggregate(implementation="LIST")
    own = stax.Aggregate(to_dense=lambda p: p["weights"])[1]
    x = jnp.asarray(X1)
    np.testing.assert_allclose(
        own((), x, pattern={"weights": P}), layer[1]((), x, pattern=P)
    )


@pytest.mark.parametrize("axis", [-1, (3, 1)])
def test_layer_norm(axis):
    dense = stax.Dense(1, 1.3, 0.4)
    norm = stax.LayerNorm(axis, eps=1e-3)
    before = dense[2](X1, X2, diagonal_spatial=False)
    after = stax.serial(dense, norm)[2](X1, X2, diagonal_spatial=False)
    over = tuple(a % 4 for a in np.atleast_1d(axis) if a % 4 != 3)

    def scale(cov):
        var = layout.spatial_diagonal(cov, 1)
        mean = np.mean(var, over, keepdims=True) if over else var
        return 1 / np.sqrt(1e-3 + np.broadcast_to(mean, var.shape))

    s1, s2 = scale(before.cov1), scale(before.cov2)
    outer = np.einsum("nab,mcd->nmacbd", s1, s2)
    np.testing.assert_allclose(after.nngp, before.nngp * outer, rtol=1e-12)
    np.testing.assert_allclose(after.ntk, before.ntk * outer, rtol=1e-12)
    # and a wide network agrees
    init_fn, apply_fn, _ = stax.serial(stax.Dense(20000, 1.3, 0.4), norm)
    _, params = init_fn(jax.random.PRNGKey(0), X1.shape)
    y1, y2 = (apply_fn(params, jnp.asarray(x)) for x in (X1, X2))
    estimate = stax.Index(...)[2](y1, y2, "nngp", diagonal_spatial=False)
    np.testing.assert_allclose(estimate, after.nngp, atol=0.05)


def test_layer_norm_refuses():
    with pytest.raises(NotImplementedError, match="affine"):
        stax.LayerNorm()[2](X1, X2)
    for axis in (1, (0, 3)):
        with pytest.raises(ValueError, match="`axis`"):
            stax.serial(stax.Dense(1), stax.LayerNorm(axis))[2](X1, X2)


ATTENTION = {
    "softmax": {},
    "abs, embedded": {
        "attention_mechanism": "ABS", "pos_emb_type": "SUM", "W_pos_emb_std": 0.6,
    },
    "relu, decay, values": {
        "attention_mechanism": "RELU", "pos_emb_type": "CONCAT", "val_pos_emb": True,
        "pos_emb_decay_fn": lambda d: jnp.exp(-d), "n_chan_pos_emb": 64,
    },
    "random": {"linear_scaling": False, "attention_mechanism": "IDENTITY"},
    "random, embedded": {
        "linear_scaling": False, "attention_mechanism": "IDENTITY",
        "pos_emb_type": "SUM", "W_pos_emb_std": 0.7,
        "pos_emb_decay_fn": lambda d: 1 / (1 + d),
    },
    "random, values": {
        "linear_scaling": False, "attention_mechanism": "IDENTITY",
        "pos_emb_type": "CONCAT", "val_pos_emb": True,
    },
}  # fmt: skip


def test_attention_parameters_are_those_of_neural_tangents():
    """Shapes that 0.6.5 draws; query and key are one matrix with linear scaling."""
    options = {"n_chan_out": 5, "n_chan_key": 6, "n_chan_val": 7, "n_heads": 2}
    tied = stax.GlobalSelfAttention(**options, pos_emb_type="SUM", b_std=0.1)
    free = stax.GlobalSelfAttention(
        **options, linear_scaling=False, pos_emb_type="CONCAT", n_chan_pos_emb=3,
        val_pos_emb=True,
    )  # fmt: skip
    bias, noise = (1, 1, 1, 5), (1, 4, 5, 8)
    for layer, expected in (
        (tied, (None, (2, 8, 6), (2, 8, 7), (14, 5), bias, noise)),
        (free, ((2, 11, 6), (2, 11, 6), (2, 11, 7), (14, 5), None, (1, 4, 5, 3))),
    ):
        _, params = layer[0](jax.random.PRNGKey(0), (3, 4, 5, 8))
        assert tuple(p if p is None else p.shape for p in params) == expected


# Embeddings have 192 channels, which takes long.
FAST = ("softmax", "random")


@pytest.mark.parametrize(
    "name",
    [name if name in FAST else slow(name) for name in ATTENTION],
)
def test_attention_against_finite_networks(name):
    """Means over networks of Jacobian products, within 4 standard errors."""
    options = ATTENTION[name]
    # embeddings have as many channels as the inputs, and must have many
    channels = 192 if "pos_emb_type" in options else 4
    mix = images(5, (4, channels))
    x1, x2 = images(3, (2, 3, 4)) @ mix / 2, images(4, (1, 3, 4)) @ mix / 2
    is_constant = options.get("linear_scaling", True)
    heads, width = (2, 256) if is_constant else (64, 64)
    init_fn, apply_fn, kernel_fn = stax.GlobalSelfAttention(
        1, 1024 if is_constant else 64, width, heads, W_key_std=1.2, W_query_std=0.9,
        W_value_std=1.1, W_out_std=0.8, b_std=0.3, **options,
    )  # fmt: skip

    def sample(key):
        _, params = init_fn(key, x1.shape)
        J1, J2 = (
            jax.jacrev(lambda p, x=x: apply_fn(p, x)[..., 0])(params) for x in (x1, x2)
        )
        products = [
            jnp.einsum(
                "naz,mbz->nmab", a.reshape(a.shape[:2] + (-1,)),
                b.reshape(b.shape[:2] + (-1,)),
            )
            for a, b in zip(J1, J2, strict=True) if a is not None
        ]  # fmt: skip
        # linear in the output weights and biases, the products of which are the NNGP
        out, bias = products[2:4] if is_constant else products[3:5]
        return out + bias, sum(products)

    n = 24
    keys = jax.random.split(jax.random.PRNGKey(1), n)
    nngp, ntk = jax.jit(lambda keys: lax.map(sample, keys))(keys)
    k = kernel_fn(jnp.asarray(x1), jnp.asarray(x2))
    bias = 0.03 if is_constant else 0.05  # finite width, relative to the largest entry
    for samples, exact in ((nngp, k.nngp), (ntk, k.ntk)):
        error = np.std(samples, 0) / np.sqrt(n)
        gap = np.abs(np.mean(samples, 0) - exact)
        assert np.all(gap < 4 * error + bias * np.abs(exact).max())
        assert np.max(error) < 0.2 * np.abs(exact).max()


def test_attention_refuses():
    with pytest.raises(NotImplementedError, match="IDENTITY"):
        stax.GlobalSelfAttention(1, 2, 2, 1, linear_scaling=False)[2](X1, X2)
    with pytest.raises(ValueError, match="`attention_mechanism`"):
        stax.GlobalSelfAttention(1, 2, 2, 1, attention_mechanism="MAX")
    with pytest.raises(ValueError, match="`n_chan_pos_emb`"):
        stax.GlobalSelfAttention(1, 2, 2, 1, pos_emb_type="SUM", n_chan_pos_emb=7)[0](
            jax.random.PRNGKey(0), X1.shape
        )
    k = stax.serial(stax.Dense(1), stax.Relu())[2](X1, X2, diagonal_spatial=True)
    with pytest.raises(ValueError, match="diagonal_spatial=False"):
        stax.GlobalSelfAttention(1, 2, 2, 1)[2](k)
