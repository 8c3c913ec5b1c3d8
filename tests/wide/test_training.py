"""Networks of finite width, trained, beside what their infinite limit predicts.

Source:
    J. Lee et al., NeurIPS 2019 (arXiv:1902.06720): widths, rates and exponents.
"""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_md import wide as nt
from jax_md.wide import stax

N_TRAIN, N_TEST, SEEDS, STEPS = 12, 6, 4, 200
WIDTHS = (32, 128, 512)
DIGITS = Path(__file__).parents[2] / "benchmarks" / "data" / "digits.npz"


def network(width):
    return stax.serial(
        stax.Dense(width, 1.5, 0.1), stax.Erf(), stax.Dense(width, 1.5, 0.1),
        stax.Erf(), stax.Dense(1, 1.5, 0.1),
    )  # fmt: skip


def points():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(N_TRAIN + N_TEST, 4))
    x *= 2 / np.linalg.norm(x, axis=1, keepdims=True)
    y = np.sin(2 * x[:N_TRAIN, :1]) + x[:N_TRAIN, 1:2]
    return jnp.asarray(x), jnp.asarray(y)


def train(f, params, x, y, rate, steps):
    """Outputs on all points after each step of descent on half the mean square."""

    def loss(p):
        return 0.5 * jnp.mean((f(p, x[:N_TRAIN]) - y) ** 2)

    def step(p, _):
        p = jax.tree.map(lambda a, g: a - rate * g, p, jax.grad(loss)(p))
        return p, f(p, x)

    return jax.lax.scan(step, params, None, length=steps)


def largest(trajectory, axis=(1, 2)):
    return jnp.max(jnp.sqrt(jnp.mean(trajectory**2, axis)))


def compare(width, rate):
    """Return what a network of this width misses, over several draws."""
    init_fn, f, _ = network(width)
    x, y = points()
    Theta = network(width)[2](x, get="ntk")
    on_train = np.asarray(Theta[:N_TRAIN, :N_TRAIN])
    step = rate / N_TRAIN * on_train
    powers = [
        np.linalg.matrix_power(np.eye(N_TRAIN) - step, t + 1) for t in range(STEPS)
    ]
    gain = np.linalg.solve(on_train, np.asarray(Theta[:N_TRAIN])).T
    learned = jnp.asarray([gain @ (np.eye(N_TRAIN) - p) for p in powers])

    @jax.jit
    def one(key):
        params = init_fn(key, x.shape)[1]
        last, path = train(f, params, x, y, rate, STEPS)
        _, linear = train(nt.linearize(f, params), params, x, y, rate, STEPS)
        start = f(params, x)
        limit = start[None] + learned @ (y - start[:N_TRAIN])
        ntk_fn = nt.empirical_ntk_fn(f)
        before, after = (ntk_fn(x, None, p) for p in (params, last))

        def moved(i):
            return jnp.linalg.norm(last[i][0] - params[i][0]) / jnp.linalg.norm(
                params[i][0]
            )

        norm = jnp.linalg.norm
        return {
            "linear": largest(path - linear),
            "limit": largest(path - limit),
            "ntk": norm(after - before) / norm(before),
            "ntk at start": norm(before - Theta) / norm(Theta),
            "input": moved(0),
            "hidden": moved(2),
        }

    found = jax.lax.map(one, jax.random.split(jax.random.PRNGKey(1), SEEDS))
    return {name: float(np.mean(values)) for name, values in found.items()}


@pytest.mark.slow
def test_errors_fall_with_the_width():
    x, y = points()
    Theta = network(8)[2](x[:N_TRAIN], get="ntk")
    rate = 0.5 * float(nt.predict.max_learning_rate(Theta, y.size))
    found = [compare(width, rate) for width in WIDTHS]
    exponents = {
        "linear": (-1.3, -0.5),
        "limit": (-0.8, -0.3),
        "ntk": (-1.2, -0.5),
        "ntk at start": (-0.8, -0.3),
        "input": (-0.65, -0.35),
        "hidden": (-1.15, -0.85),
    }
    for name, (low, high) in exponents.items():
        values = [one[name] for one in found]
        slope = np.polyfit(np.log(WIDTHS), np.log(values), 1)[0]
        assert low < slope < high, (name, slope, values)
    assert found[-1]["linear"] < 0.05


@pytest.mark.slow
def test_largest_learning_rate_is_that_of_a_network():
    init_fn, f, kernel_fn = network(512)
    x, y = points()
    limit = nt.predict.max_learning_rate(kernel_fn(x[:N_TRAIN], get="ntk"), y.size)
    params = init_fn(jax.random.PRNGKey(0), x.shape)[1]

    @jax.jit
    def losses(factor):
        _, path = train(f, params, x, y, factor * limit, 60)
        return jnp.mean((path[:, :N_TRAIN] - y[None]) ** 2, (1, 2))

    slow, fast = losses(0.5), losses(3.0)
    start = jnp.mean((f(params, x[:N_TRAIN]) - y) ** 2)
    assert slow[-1] < 0.3 * start and jnp.all(jnp.diff(slow[5:]) < 0)
    assert not jnp.max(fast) < 30 * start


@pytest.mark.slow
def test_ensemble_of_trained_networks():
    """Means and spreads of 100 networks, within their standard errors."""
    init_fn, f, kernel_fn = network(512)
    x, y = points()
    t, rate = (
        40,
        0.1
        * float(
            nt.predict.max_learning_rate(kernel_fn(x[:N_TRAIN], get="ntk"), y.size)
        ),
    )
    predict_fn = nt.predict.gradient_descent_mse_ensemble(
        kernel_fn, x[:N_TRAIN], y, learning_rate=rate
    )
    mean, covariance = predict_fn(t, x[N_TRAIN:], "ntk", compute_cov=True)

    @jax.jit
    def outputs(key):
        params = init_fn(key, x.shape)[1]
        return train(f, params, x, y, rate, t)[1][-1, N_TRAIN:, 0]

    n = 100
    values = np.asarray(
        jax.lax.map(outputs, jax.random.split(jax.random.PRNGKey(2), n))
    )
    spread = np.sqrt(np.diag(covariance))
    # Steps of a tenth of the limit are close to the flow that the closed form follows.
    assert np.all(np.abs(values.mean(0) - mean[:, 0]) < 3.5 * spread / n**0.5 + 0.02)
    ratio = values.var(0) / np.diag(covariance)
    assert 0.75 < np.mean(ratio) < 1.3, ratio


def test_pooling_does_not_see_shifts():
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 5, 4, 3)))
    moved = jnp.roll(x[:1], (2, 1), (1, 2))
    gaps = {}
    for end in (stax.GlobalAvgPool(), stax.Flatten()):
        conv = stax.Conv(8, (3, 2), padding="CIRCULAR", b_std=0.2)
        kernel_fn = jax.jit(
            stax.serial(conv, stax.Relu(), conv, stax.Relu(), end, stax.Dense(1))[2],
            static_argnames="get",
        )
        k, other = (kernel_fn(a, x[1:], get="ntk") for a in (x[:1], moved))
        gaps[end[2].__name__] = float(jnp.abs(k - other)[0, 0] / k[0, 0])
    assert gaps["GlobalAvgPool"] < 1e-12 < 1e-4 < gaps["Flatten"]


@pytest.mark.slow
@pytest.mark.parametrize("get", ["nngp", "ntk"])
def test_digits(get):
    data = np.load(DIGITS)
    x = jnp.asarray(data["images"].reshape(-1, 64) / 16.0)
    y = jnp.asarray(np.eye(10)[data["labels"]] - 0.1)
    layers = [layer for _ in range(2) for layer in (stax.Dense(1, 2**0.5), stax.Relu())]
    kernel_fn = stax.serial(*layers, stax.Dense(1))[2]
    predict_fn = nt.predict.gradient_descent_mse_ensemble(
        kernel_fn, x[:1000], y[:1000], diag_reg=1e-4
    )
    found = predict_fn(x_test=x[1000:], get=get)
    accuracy = np.mean(np.argmax(found, 1) == data["labels"][1000:])
    assert accuracy > 0.95
