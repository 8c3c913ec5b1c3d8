import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_md.wide import meanfield

RELU = {
    4: 3.08406,
    5: 2.27371,
    8: 1.78819,
    64: 1.49306,
    1000: 1.46854,
}


@pytest.mark.parametrize("batch_size", RELU)
def test_relu(batch_size):
    rate = meanfield.batchnorm_rate(jax.nn.relu, batch_size)
    np.testing.assert_allclose(rate.growth, RELU[batch_size], rtol=4e-6)
    x = -1 / (batch_size - 1)
    j1 = (np.sqrt(1 - x**2) + (np.pi - np.arccos(x)) * x) / np.pi
    np.testing.assert_allclose((rate.q, rate.c), (0.5, j1), rtol=1e-10)


@pytest.mark.parametrize("b", [6, 16])
def test_relu_forward(b):
    """The closed form, with arccosine kernels at the correlation -1 / (B - 1)."""
    x = -1 / (b - 1)
    j0 = 1 - np.arccos(x) / np.pi
    j1 = (np.sqrt(1 - x**2) + np.pi * j0 * x) / np.pi
    single = ((b - 2) * (1 - j1) + b / (b - 1) * j0) / ((b + 1) * (1 - j1))
    pair = b * j0 / ((b + 1) * (1 - j1))
    rate = meanfield.batchnorm_rate(jax.nn.relu, b)
    np.testing.assert_allclose(rate.forward_single, single, rtol=4e-6)
    np.testing.assert_allclose(rate.forward_pair, pair, rtol=4e-6)
    published = {6: (0.668, 0.482), 16: (0.866, 0.631)}[b]
    np.testing.assert_allclose((single, pair), published, atol=6e-4)


@pytest.mark.parametrize("batch_size", [4, pytest.param(16, marks=pytest.mark.slow)])
def test_linear_is_the_least(batch_size):
    least = meanfield.batchnorm_rate(lambda x: 3.0 * x + 1.0, batch_size).growth
    np.testing.assert_allclose(least, (batch_size - 2) / (batch_size - 3), rtol=1e-10)
    for phi in (jnp.tanh, jax.nn.silu):
        assert meanfield.batchnorm_rate(phi, batch_size).growth > least


def test_other_activations():
    table = [  # B = 64 and 16
        (jnp.tanh, 1.192, 1.247),
        (lambda x: jnp.tanh(0.5 * x), 1.049, 1.105),
        (lambda x: jax.nn.relu(x + 2), 1.033, 1.089),
    ]
    for phi, *expected in table:
        got = [meanfield.batchnorm_rate(phi, b).growth for b in (64, 16)]
        np.testing.assert_allclose(got, expected, atol=1e-3)


def test_against_samples_of_the_trace():
    """The trace itself, on points of the sphere, without any of the formulas."""
    b, n = 8, 20_000
    g = np.random.default_rng(0).normal(size=(n, b))
    g -= g.mean(1, keepdims=True)
    x = np.sqrt(b) * g / np.linalg.norm(g, axis=1, keepdims=True)
    center = np.eye(b) - 1 / b
    project = center - x[:, :, None] * x[:, None, :] / b
    d = 1 - np.tanh(x) ** 2
    inner = project * d[:, None, :]
    trace = np.einsum("nij,jk,nik->n", inner, center, inner).mean()
    moments = np.tanh(x).T @ np.tanh(x) / n
    spread = np.diag(moments).mean() - moments[~np.eye(b, dtype=bool)].mean()
    expected = b / ((b - 3) * (b - 1) * spread) * trace
    got = meanfield.batchnorm_rate(jnp.tanh, b)
    np.testing.assert_allclose(got.growth, expected, rtol=1e-2)
    np.testing.assert_allclose(got.xi, 1 / np.log(got.growth))

    # and a departure of covariances, followed through one layer
    y = np.tanh(x)
    for change, factor in (
        (np.diag([1.0, -1.0] + [0.0] * 6), got.forward_single),
        (np.outer([1, -1] + [0] * 6, [0, 0, 1, -1] + [0] * 4), got.forward_pair),
    ):
        change = center @ (change + change.T) @ center
        size = np.einsum("ni,ij,nj->n", x, change, x) * (b - 1) / (2 * b * spread)
        after = np.einsum("n,ni,nj->ij", size, y, y) / n
        measured = np.sum(after * change) / np.sum(change**2)
        np.testing.assert_allclose(factor, measured, rtol=0.04)


def test_refuses_small_batches():
    with pytest.raises(ValueError, match="`batch_size` must be at least 4; got 3"):
        meanfield.batchnorm_rate(jnp.tanh, 3)
