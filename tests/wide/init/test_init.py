import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_md.wide import init, meanfield

KEY = jax.random.key(0)


@pytest.mark.parametrize("shape", [(6, 6), (8, 3), (3, 8), (2, 5, 5)])
def test_orthogonal(shape):
    weights = init.orthogonal(1.5)(KEY, shape)
    n_in, n_out = shape[-2:]
    small = min(n_in, n_out)
    gram = (
        jnp.swapaxes(weights, -1, -2) @ weights
        if n_out <= n_in
        else weights @ jnp.swapaxes(weights, -1, -2)
    )
    scale = 1.5**2 * max(1.0, n_out / n_in)
    expected = np.broadcast_to(scale * np.eye(small), gram.shape)
    np.testing.assert_allclose(gram, expected, atol=1e-12)
    # each output sums over inputs with total variance W_std^2
    np.testing.assert_allclose((weights**2).sum((-2, -1)), 1.5**2 * n_out, rtol=1e-12)


def test_orthogonal_is_uniform():
    """Haar measure: trace of mean 0 and variance 1; a plain QR misses both."""
    weights = init.orthogonal()(KEY, (4000, 3, 3))
    traces = jnp.trace(weights, axis1=-2, axis2=-1)
    assert abs(traces.mean()) < 5 / 4000**0.5
    np.testing.assert_allclose(traces.var(), 1.0, rtol=0.1)


@pytest.mark.parametrize("make", [init.delta_orthogonal, init.conv_orthogonal])
@pytest.mark.parametrize("shape", [(3, 3, 4, 6), (5, 4, 4)])
def test_convolutions_keep_norms(make, shape):
    weights = make(1.3)(KEY, shape)
    assert weights.shape == shape
    *window, n_in, _ = shape
    ndim = len(window)
    x = jax.random.normal(jax.random.key(1), (1, *(7,) * ndim, n_in))
    pads = [(size // 2, size // 2) for size in window]
    wrapped = jnp.pad(x, [(0, 0), *pads, (0, 0)], mode="wrap")
    axes = "HW"[:ndim]
    y = jax.lax.conv_general_dilated(
        wrapped,
        weights,
        (1,) * ndim,
        "VALID",
        dimension_numbers=(f"N{axes}C", f"{axes}IO", f"N{axes}C"),
    )
    assert y.shape[1:-1] == x.shape[1:-1]
    np.testing.assert_allclose(jnp.linalg.norm(y), 1.3 * jnp.linalg.norm(x), rtol=1e-10)
    taps = jnp.sum(jnp.abs(weights), axis=(-2, -1))
    filled = 1 if make is init.delta_orthogonal else taps.size
    assert int((taps > 1e-12).sum()) == filled


def test_convolutions_refuse_bad_shapes():
    with pytest.raises(ValueError, match="odd along each axis"):
        init.delta_orthogonal()(KEY, (2, 4, 4))
    with pytest.raises(ValueError, match="fewer outputs than inputs"):
        init.conv_orthogonal()(KEY, (3, 4, 2))
    with pytest.raises(ValueError, match="use `orthogonal`"):
        init.delta_orthogonal()(KEY, (4, 4))
    with pytest.raises(ValueError, match="input and an output axis"):
        init.orthogonal()(KEY, (4,))


def test_dtypes():
    start = init.critical(jnp.tanh, 8)
    for make, shape in (
        (start.kernel, (3, 4)),
        (start.conv_kernel, (3, 3, 4)),
        (start.bias, (3,)),
        (init.gaussian(), (3, 4)),
    ):
        assert make(KEY, shape).dtype == jnp.float64
        for dtype in (jnp.float32, jnp.bfloat16):
            assert make(KEY, shape, dtype).dtype == dtype


def squared_singular_values(start, depth, width):
    """Of the Jacobian of a tanh network entered at its fixed point."""

    def layer(z, key):
        weight, bias = jax.random.split(key)
        w = start.kernel(weight, (width, width))
        return jnp.tanh(z) @ w + start.bias(bias, (width,)), None

    def network(z):
        return jax.lax.scan(layer, z, jax.random.split(KEY, depth))[0]

    z = start.q**0.5 * jax.random.normal(jax.random.key(5), (width,))
    return jnp.linalg.svd(jax.jit(jax.jacfwd(network))(z), compute_uv=False) ** 2


def test_critical_network_is_isometric():
    depth, width = 32, 64
    start = init.critical(jnp.tanh, depth)
    np.testing.assert_allclose(start.q, 1 / depth)
    np.testing.assert_allclose(start.jacobian, (1.0, 0.191), rtol=3e-3)
    squared = squared_singular_values(start, depth, width)
    np.testing.assert_allclose(squared.mean(), 1.0, atol=0.15)
    np.testing.assert_allclose(squared.var(), start.jacobian.variance, rtol=0.4)
    gaussian = init.critical(jnp.tanh, depth, weights="gaussian")
    assert gaussian.W_std == start.W_std
    spread = squared_singular_values(gaussian, depth, width)
    assert spread.min() < 1e-3 and squared.min() > 3e-3


def test_critical_values():
    start = init.critical(jnp.tanh, 16)
    np.testing.assert_allclose(start.W_std**2, 1.1153806, rtol=1e-7)
    np.testing.assert_allclose(start.b_std**2, 2.369e-4, rtol=1e-3)
    assert start.alpha_q < 1
    he = init.critical(jax.nn.relu, 50)
    np.testing.assert_allclose((he.W_std**2, he.b_std), (2.0, 0.0), atol=1e-9)
    deep = init.critical(jax.nn.silu, 4, q=20.0)
    np.testing.assert_allclose(deep.alpha_q, 0.993, atol=1e-3)


def test_critical_refuses_and_warns():
    with pytest.raises(ValueError, match=r"biases of variance -1\.9"):
        init.critical(jax.nn.softplus, 100)
    with pytest.warns(UserWarning, match="drifts off criticality"):
        init.critical(jax.nn.silu, 10, q=1.0)
    with pytest.raises(ValueError, match="`depth`"):
        init.critical(jnp.tanh, 0)
    with pytest.raises(ValueError, match="`weights`"):
        init.critical(jnp.tanh, 3, weights="uniform")


@pytest.mark.parametrize("cell", ["lstm", "gru", "minimal"])
def test_gated_cells_remember(cell):
    start = init.gated_critical_init(cell, steps=100)
    assert 100 <= start.field.xi < 150
    mean = float(start.bias["forget"](KEY, (3,))[0])
    np.testing.assert_allclose(mean, np.log(200), rtol=0.1)
    if cell == "lstm":
        packed = start.packed_bias()(KEY, (12,), jnp.float32)
        np.testing.assert_allclose(packed, [0] * 3 + [mean] * 3 + [0] * 6, rtol=1e-6)
        with pytest.raises(ValueError, match="4 gates"):
            start.packed_bias()(KEY, (10,))


def test_gated_cells_refuse():
    with pytest.raises(ValueError, match="`cell`"):
        init.gated_critical_init("rnn", 10)
    with pytest.raises(ValueError, match="`steps`"):
        init.gated_critical_init("gru", 0.1)
    with pytest.raises(ValueError, match="no stable memory of 50 steps"):
        init.gated_critical_init("minimal", 50, recurrent_std=20.0)


@pytest.mark.extra
def test_initializers_in_flax():
    linen = pytest.importorskip("flax.linen")
    start = init.critical(jnp.tanh, 10)
    dense = linen.Dense(6, kernel_init=start.kernel, bias_init=start.bias)
    params = dense.init(KEY, jnp.ones((1, 6)))["params"]
    np.testing.assert_allclose(
        params["kernel"] @ params["kernel"].T, start.W_std**2 * np.eye(6), atol=1e-5
    )
    conv = linen.Conv(8, (3, 3), kernel_init=start.conv_kernel)
    kernel = conv.init(KEY, jnp.ones((1, 5, 5, 4)))["params"]["kernel"]
    assert int((jnp.abs(kernel).sum((2, 3)) > 0).sum()) == 1
    assert meanfield.mean_field(jnp.tanh, start.W_std, start.b_std).name == "critical"
