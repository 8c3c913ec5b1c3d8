import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_md.wide import predict, stax
from jax_md.wide.empirical import empirical_kernel_fn
from jax_md.wide.monte_carlo import monte_carlo_kernel_fn

X1 = jax.random.normal(jax.random.key(0), (4, 3))
X2 = jax.random.normal(jax.random.key(1), (2, 3))
WIDTH = 128
NETWORK = stax.serial(stax.Dense(WIDTH, 1.5, 0.1), stax.Erf(), stax.Dense(8, 1.5, 0.1))
KEY = jax.random.key(7)


def plain_init(key, shape):
    return (shape[0], 6), jax.random.normal(key, (shape[-1], 6))


def plain_apply(params, x):
    return jnp.tanh(x @ params)


def test_mean_tends_to_the_analytic_kernel():
    init_fn, apply_fn, kernel_fn = NETWORK
    estimate = monte_carlo_kernel_fn(
        init_fn, apply_fn, KEY, [4, 64], vmap_axes=0, implementation=3
    )
    exact = kernel_fn(X1, X2, ("nngp", "ntk"))
    errors = [
        [
            np.linalg.norm(a - b) / np.linalg.norm(b)
            for a, b in zip(mean, exact, strict=True)
        ]
        for mean in estimate(X1, X2)
    ]
    for few, many in zip(*errors, strict=True):
        assert many < 0.15
        assert many < few


def test_generator_and_number_agree():
    init_fn, apply_fn = plain_init, plain_apply
    several = monte_carlo_kernel_fn(init_fn, apply_fn, KEY, (3, 1, 3))
    first, third = several(X1, None, ("ntk", "nngp"))
    assert type(first).__name__ == "MonteCarloKernel"
    assert first._fields == ("ntk", "nngp")
    again = list(several(X1, X1, "ntk"))
    np.testing.assert_allclose(again[1], third.ntk, rtol=1e-12)
    single = monte_carlo_kernel_fn(init_fn, apply_fn, KEY, np.int64(3))
    np.testing.assert_allclose(single(X1, get="ntk"), third.ntk, rtol=1e-12)
    blocks = monte_carlo_kernel_fn(init_fn, apply_fn, KEY, 3, 2, 0, False)
    np.testing.assert_allclose(blocks(X1).nngp, third.nngp, rtol=1e-12)
    # the first draw, by the documented order of keys
    init_key, _ = jax.random.split(jax.random.split(KEY)[1])
    _, params = init_fn(init_key, X1.shape)
    drawn = empirical_kernel_fn(apply_fn)(X1, None, "ntk", params)
    np.testing.assert_allclose(first.ntk, drawn, rtol=1e-12)


def test_functions_without_a_key_or_with_one():
    plain = monte_carlo_kernel_fn(plain_init, plain_apply, KEY, 2)
    assert plain(X1, X2, "nngp").shape == (4, 2)
    noisy = monte_carlo_kernel_fn(
        plain_init, lambda w, x, rng: x @ w + jax.random.normal(rng, (1, 6)), KEY, 2
    )
    assert jnp.abs(noisy(X1, X2, "nngp") - plain(X1, X2, "nngp")).max() > 1e-3


def test_in_predictions():
    y = jnp.sin(X1[:, :1])
    init_fn, apply_fn = plain_init, plain_apply
    estimate = monte_carlo_kernel_fn(init_fn, apply_fn, KEY, 3)
    sampled = predict.gradient_descent_mse_ensemble(estimate, X1, y, diag_reg=0.1)
    got = sampled(None, X2, "ntk", compute_cov=True)
    by_hand = predict.gp_inference(estimate(X1), y, diag_reg=0.1)(
        "ntk", estimate(X2, X1), estimate(X2)
    )
    np.testing.assert_allclose(got.mean, by_hand.mean, rtol=1e-10)
    np.testing.assert_allclose(got.covariance, by_hand.covariance, atol=1e-10)
    # one finite network, with its parameters handed through
    _, params = init_fn(KEY, X1.shape)
    finite = predict.gradient_descent_mse_ensemble(
        empirical_kernel_fn(apply_fn), X1, y, params=params
    )
    assert finite(3.0, X2, "nngp").shape == (2, 1)


def test_refuses_bad_counts():
    for bad in (0, -1, [], [1, 0], [1.5]):
        with pytest.raises(ValueError, match="`n_samples`"):
            monte_carlo_kernel_fn(NETWORK[0], NETWORK[1], KEY, bad)
    with pytest.raises(TypeError, match="`n_samples`"):
        monte_carlo_kernel_fn(NETWORK[0], NETWORK[1], KEY, 1.5)
    kernel_fn = monte_carlo_kernel_fn(NETWORK[0], NETWORK[1], KEY, [1])
    with pytest.raises(ValueError, match="get"):
        kernel_fn(X1, None, "cov1")
