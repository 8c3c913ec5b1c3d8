"""Diagnoses of systems whose exponents and horizons are known."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_md import adjoint, simulate

SIGMA = 5  # standard errors


def oscillator(k, state):
    x, p, count = state
    p = p - 0.1 * k * x
    return x + 0.1 * p, p, count + 1


def unoscillator(k, state):
    x, p, count = state
    x = x - 0.1 * p
    return x, p + 0.1 * k * x, count - 1


def logistic(r, x):
    return r * x * (1 - x)


def henon(params, state):
    x, y = state
    return 1 - params["a"] * x**2 + y, params["b"] * x


HENON = {"a": jnp.array(1.4), "b": jnp.array(0.3)}


def damped(k, state):
    """Overdamped Langevin dynamics in a well, with a constant among its state."""
    x, mobility, key = state
    key, draw = jax.random.split(key)
    noise = 0.1 * jax.random.normal(draw, x.shape, x.dtype)
    return x - 0.02 * mobility * k * x + noise, mobility, key


def test_oscillator():
    start = (jnp.array([1.0, 0.5]), jnp.zeros(2), 0)
    step = adjoint.ReversibleStep(oscillator, unoscillator)
    report = adjoint.diagnose(lambda s: jnp.sum(s[0]), step, 1.0, start, 1000)
    assert abs(report.lyapunov) < SIGMA * report.lyapunov_error
    assert report.lyapunov_error < 0.003
    assert report.horizon == report.rounding_horizon == report.steps == 1000
    # A rotation of phase space, up to the shape of its ellipses.
    assert np.all(report.cotangent_norm < 2 * report.cotangent_norm[0])
    assert [type(m).__name__ for m in report.methods] == [
        "Backprop",
        "Checkpointed",
        "Truncated",
        "Reversible",
        "Forward",
    ]
    exact = np.delete(report.difference, 2)
    assert np.all(exact < 1e-10) and report.difference[2] > 0.1
    assert report.numerical < 1e-6
    assert "holds over all 1,000 steps" in report.recommendation


def test_logistic_map():
    # From a start whose orbit floating-point numbers do not end.
    report = adjoint.diagnose(lambda x: x, logistic, 4.0, 0.3211, 4000)
    expected = math.log(2)
    assert report.lyapunov_error < 0.02
    assert abs(report.lyapunov - expected) < SIGMA * report.lyapunov_error
    # Distances of 1e-3 and roundings of 1e-16 double each step.
    assert 3 <= report.signal_horizon <= 25
    assert 40 <= report.rounding_horizon <= 65
    assert report.horizon == report.signal_horizon
    assert f"window={report.horizon}" in report.recommendation
    assert "gradients of neighboring starts differ" in report.recommendation


def test_henon_map():
    report = adjoint.diagnose(
        lambda s: s[0],
        henon,
        HENON,
        (jnp.array(0.1), jnp.array(0.1)),
        4000,
        [adjoint.Backprop(), adjoint.Forward()],
        spread=1e-12,
    )
    # 0.41922 per step, J. C. Sprott, Chaos and Time-Series Analysis (2003).
    assert abs(report.lyapunov - 0.41922) < SIGMA * report.lyapunov_error
    assert report.lyapunov_error < 0.02
    assert 40 < report.horizon < 120
    # The growth of cotangents is that of tangents.
    back = np.log(report.cotangent_norm[: report.horizon + 1])
    slope = np.polyfit(np.arange(len(back)), back, 1)[0]
    assert slope == pytest.approx(0.419, abs=0.15)
    assert np.all(report.difference < 1e-9)


def test_decay():
    start = (jnp.linspace(1.0, 2.0, 5), jnp.array(1.0), jax.random.key(3))
    report = adjoint.diagnose(lambda s: jnp.sum(s[0] ** 2), damped, 1.5, start, 400)
    # Every tangent shrinks by the same factor, whatever the noise; the mobility, which
    # is constant and has exponent zero, does not count.
    np.testing.assert_allclose(report.lyapunov, math.log(1 - 0.03), rtol=1e-9)
    h = report.steps_back
    expected = report.cotangent_norm[0] * 0.97**h
    np.testing.assert_allclose(report.cotangent_norm, expected, rtol=1e-9)
    assert report.horizon == 400


def test_signal_and_noise_are_those_of_an_ensemble():
    def loss(x):
        return jnp.sum(x**2)

    ensemble = jnp.stack([jnp.array([0.3, 0.4]) + 0.01 * i for i in range(4)])
    report = adjoint.diagnose(
        loss, logistic, 3.6, ensemble[0], 21, [adjoint.Backprop()], ensemble=ensemble
    )
    assert {1, 2, 4, 8} <= set(report.window)
    for h, signal, noise in zip(
        report.window, report.signal, report.noise, strict=True
    ):

        def window(r, x):
            return loss(adjoint.rollout(logistic, r, x, int(h))[0])

        single = jax.vmap(jax.grad(window), (None, 0))(3.6, ensemble)
        np.testing.assert_allclose(signal, abs(jnp.mean(single)), rtol=1e-10)
        np.testing.assert_allclose(noise, jnp.std(single, ddof=1), rtol=1e-10)
    good = report.noise <= report.signal
    assert report.signal_horizon == max(report.window[good])


@pytest.mark.slow
def test_gradients_with_respect_to_the_state():
    report = adjoint.diagnose(
        lambda s: jnp.sum(s[0]),
        lambda _, s: oscillator(1.0, s),
        (),
        (jnp.array([1.0, 0.5]), jnp.zeros(2), 0),
        50,
        [adjoint.Checkpointed(4), adjoint.Forward()],
        members=3,
    )
    assert report.wrt == "state" and report.gradient.shape == (4,)
    assert np.all(report.difference < 1e-11) and report.numerical < 1e-6
    assert report.horizon == 50


@pytest.mark.slow
def test_precision_sets_the_horizon_of_rounding():
    def horizon(dtype):
        start = (jnp.asarray(0.1, dtype), jnp.asarray(0.1, dtype))
        params = jax.tree.map(lambda a: a.astype(dtype), HENON)
        methods = [adjoint.Backprop()]
        report = adjoint.diagnose(lambda s: s[0], henon, params, start, 200, methods)
        assert report.gradient.dtype == dtype
        return report.rounding_horizon

    single, double = horizon(jnp.float32), horizon(jnp.float64)
    # 16 against 36 e-folds, of 2.4 steps each.
    assert 25 < single < 60 and 20 < double - single < 80


def test_report_prints_and_advises():
    start = (jnp.linspace(0.0, 1.0, 200), jnp.zeros(200), 0)
    known = {"members": 2, "memory": 30 * 200 * 8 * 2}
    report = adjoint.diagnose(
        lambda s: jnp.sum(s[0] ** 2), oscillator, 1.0, start, 500, **known
    )
    text = str(report)
    for word in ("steps back", "Lyapunov", "Checkpointed(", "forward runs", "all of"):
        assert word in text, text
    # Backprop's 500 states are above the budget.
    words = report.recommendation
    assert "`Backprop(" not in words and "`Forward()`" in words
    small = adjoint.Diagnosis(**{**vars(report), "memory": 10.0})
    assert "No exact method fits into 10 B" in small.recommendation
    assert len(jax.tree.leaves(report)) == 14


@pytest.mark.parametrize(
    ("error", "words", "change"),
    [
        (ValueError, "one real number", {"loss": lambda s: s[0]}),
        (ValueError, "depends on none", {"loss": lambda s: s[2] * 1.0}),
        (ValueError, "`ensemble` must", {"ensemble": (jnp.ones((3, 2)),)}),
        (ValueError, "`spread` must", {"spread": 0.0}),
        (ValueError, "`members` must", {"members": 1}),
        (
            TypeError,
            "no derivative along a path",
            {"step": adjoint.NotDifferentiable(oscillator)},
        ),
    ],
)
def test_errors(error, words, change):
    start = (jnp.array([1.0, 0.5]), jnp.zeros(2), 0)
    call = {"loss": lambda s: jnp.sum(s[0]), "step": oscillator, **change}
    with pytest.raises(error, match=words):
        adjoint.diagnose(**call, params=1.0, state=start, steps=10)


def test_members_of_an_ensemble_on_a_lattice():
    """Their integers have to differ, not only the numbers read off them."""
    side, dt, n = 3.0, 0.02, 6

    def potential(R, k):
        return k * jnp.sum(jnp.prod(jnp.cos(2 * jnp.pi * R / side), 1))

    simulator = simulate.nve_reversible(potential, side, dt)
    R = jnp.asarray(np.random.default_rng(0).uniform(0, side, (n, 2)))
    state = simulator.init(jax.random.key(1), R, kT=1.0)
    step = simulator.for_adjoint(lambda k: {"k": k})

    def plain(k, state):
        R = state["R"] + dt / 2 * state["P"]
        P = state["P"] - dt * jax.grad(potential)(R, k)
        return {"R": (R + dt / 2 * P) % side, "P": P}

    def report(step, state, name):
        return adjoint.diagnose(
            lambda s: jnp.sum(name(s) ** 2), step, 1.0, state, 60, (), members=64
        )

    real = {"R": state.position, "P": state.momentum}
    expected = report(plain, real, lambda s: s["P"])
    found = report(step, state, lambda s: s.momentum)
    np.testing.assert_array_equal(found.window, expected.window)
    np.testing.assert_allclose(found.signal, expected.signal, rtol=0.05)
    np.testing.assert_allclose(found.noise, expected.noise, rtol=0.4)
    unsettled = step._replace(settle=None)
    with pytest.raises(ValueError, match="hardly do.*`settle`"):
        report(unsettled, state, lambda s: s.momentum)
