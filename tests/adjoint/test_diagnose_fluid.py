"""Diagnosis of a Lennard-Jones fluid, against measurements made without it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_md import adjoint, energy, simulate, space

# A liquid in two dimensions, hot enough not to freeze.
N_SIDE, DENSITY, KT, DT, STEPS = 6, 0.75, 2.0, 0.005, 2000
N = N_SIDE**2
SIDE = (N / DENSITY) ** 0.5
METHODS = adjoint.Backprop(), adjoint.Checkpointed(), adjoint.Forward()

displacement_fn, shift_fn = space.periodic(SIDE)
energy_fn = energy.lennard_jones_pair(displacement_fn, r_onset=1.5, r_cutoff=2.0)
init, apply = simulate.nve(energy_fn, shift_fn, DT)


def step(params, state):
    return apply(state, **params)


def loss(state):
    return jnp.sum(jnp.sin(2 * jnp.pi * state.position / SIDE) * state.momentum)


def run(state, steps, params):
    body = lambda _, state: step(params, state)  # noqa: E731
    return jax.lax.fori_loop(0, steps, body, state)


PARAMS = {"epsilon": jnp.array(1.0), "sigma": jnp.array(1.0)}


@pytest.fixture(scope="module")
def liquid():
    grid = np.stack(np.meshgrid(*[np.arange(N_SIDE)] * 2, indexing="ij"), -1)
    R = jnp.asarray((grid.reshape(-1, 2) + 0.5) * SIDE / N_SIDE)
    state = init(jax.random.key(0), R, kT=KT, **PARAMS)
    return jax.jit(run)(state, 4000, PARAMS)


@pytest.fixture(scope="module")
def report(liquid):
    return adjoint.diagnose(loss, step, PARAMS, liquid, STEPS, METHODS, memory=1e9)


def divergence_rate(state, pairs=8, stretch=100, distance=1e-7):
    """Rate at which two trajectories part, which are brought together now and then."""

    def apart(a, b):
        dR = jax.vmap(displacement_fn)(b.position, a.position)
        return dR, b.momentum - a.momentum

    @jax.jit
    def measure(key):
        keys = jax.random.split(key)
        noise = tuple(jax.random.normal(k, (N, 2)) for k in keys)

        def turn(carry, _):
            a, (dR, dp) = carry
            length = jnp.sqrt(jnp.sum(dR**2) + jnp.sum(dp**2))
            dR, dp = (distance * x / length for x in (dR, dp))
            R = shift_fn(a.position, dR)
            b = a.set(position=R, momentum=a.momentum + dp)
            b = b.set(force=-jax.grad(energy_fn)(R, **PARAMS))
            a, b = run(a, stretch, PARAMS), run(b, stretch, PARAMS)
            dR, dp = apart(a, b)
            new = jnp.sqrt(jnp.sum(dR**2) + jnp.sum(dp**2))
            return (a, (dR, dp)), jnp.log(new / distance) / stretch

        rates = jax.lax.scan(turn, (state, noise), length=STEPS // stretch)[1]
        return jnp.mean(rates[len(rates) // 4 :])

    rates = np.asarray(jax.lax.map(measure, jax.random.split(jax.random.key(1), pairs)))
    return rates.mean(), rates.std(ddof=1) / pairs**0.5


@pytest.mark.slow
def test_the_exponent_is_that_of_diverging_trajectories(liquid, report):
    rate, error = divergence_rate(liquid)
    # Both follow the same trajectory, so that they agree better than their errors say;
    # a tenth covers that they measure different tangents until these have turned.
    assert abs(report.lyapunov - rate) < 0.1 * rate
    assert error < 0.05 * rate
    assert 5 * report.lyapunov_error < report.lyapunov
    # Of order one per unit of time, as for any simple liquid.
    assert 0.3 < report.lyapunov / DT < 5


@pytest.mark.slow
def test_gradients_are_of_use_within_the_horizon_and_of_none_beyond(liquid, report):
    horizon = report.horizon
    assert 20 < horizon < STEPS / 3
    assert horizon == min(report.signal_horizon, report.rounding_horizon)
    # Starts that differ by 1e-3 of the box grow apart to what bends a pair's force.
    assert 1 < horizon * report.lyapunov < np.log(1e3)
    # A rounding of 2e-16 needs 36 of them.
    assert report.rounding_horizon * report.lyapunov > 0.5 * 36

    def spread(steps, h=1e-3):
        """How the gradient varies between starts; its mean, also by differences."""

        first = jax.jit(run)(liquid, STEPS - steps, PARAMS)  # the last steps count

        def at(params, key):
            def around(x, key):
                size = jnp.sqrt(jnp.mean(x**2))
                return x + h * size * jax.random.normal(key, x.shape)

            keys = jax.random.split(key)
            R, P = around(first.position, keys[0]), around(first.momentum, keys[1])
            state = first.set(position=R, momentum=P)
            state = state.set(force=-jax.grad(energy_fn)(R, **params))
            end, _ = adjoint.rollout(step, params, state, steps)
            return loss(end)

        keys = jax.random.split(jax.random.key(2), 16)
        slopes = jax.jit(jax.vmap(jax.grad(at), (None, 0)))(PARAMS, keys)
        mean = np.array([np.mean(slopes[k]) for k in PARAMS])
        off = np.array([np.std(slopes[k], ddof=1) for k in PARAMS])
        values = jax.jit(jax.vmap(at, (None, 0)))
        up, down = (
            values({**PARAMS, "sigma": PARAMS["sigma"] + s * h}, keys) for s in (1, -1)
        )
        difference = np.mean(up - down) / (2 * h)
        noise = np.linalg.norm(off) / np.linalg.norm(mean)
        return noise, mean[1], difference

    noise, slope, difference = spread(horizon // 2)
    assert noise < 0.5
    np.testing.assert_allclose(slope, difference, rtol=0.1)
    # A gradient from one start is several times off for another that is next to it.
    assert spread(3 * horizon)[0] > 2


@pytest.mark.slow
def test_the_report_of_a_liquid_says_what_to_do(report):
    assert report.wrt == "params" and report.gradient.shape == (2,)
    # Differences step over what a wall of twelfth power bends in so many e-folds.
    assert np.all(report.difference < 1e-9) and report.numerical < 1e-2
    words = report.recommendation
    assert f"window={report.horizon}" in words and "drowns" in words
    backprop, few, forward = report.forecasts
    state = 3 * N * 2 * 8
    assert backprop.memory > STEPS * N * 2 * 8 > few.memory > 45 * state / 3
    assert forward.memory < few.memory
    for forecast in report.forecasts:
        assert forecast.steps == STEPS and 1 < forecast.runs < 20
        assert forecast.seconds is None  # measured on demand
