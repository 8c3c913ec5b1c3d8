import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_md import quantity, simulate, space
from tests.soft_spheres import soft_spheres

FREE = space.free()[1]


def steps(step, state, count):
    return jax.lax.fori_loop(0, count, lambda i, s: step(s), state)


def test_a_step_is_drift_and_noise():
    system = soft_spheres("fractional")
    mass = jnp.linspace(1.0, 2.0, 8)[:, None]
    dt, kT, gamma = 0.05, 0.7, jnp.linspace(0.5, 0.9, 8)[:, None]
    init, step = simulate.brownian(system.energy_fn, system.shift_fn, dt, kT, gamma)
    state = init(jax.random.key(0), system.position, mass[:, 0])
    np.testing.assert_array_equal(state.mass, mass)
    # The noise is what a step without forces in free space adds.
    pull, noise = simulate.brownian(lambda R: jnp.zeros_like(R), FREE, dt, kT, gamma)
    noise = noise(pull(state.rng, jnp.zeros((8, 3)), mass)).position
    drift = dt / (mass * gamma) * quantity.force(system.energy_fn)(system.position)
    new = step(state)
    expected = system.shift_fn(system.position, drift + noise)
    np.testing.assert_allclose(new.position, expected, atol=1e-13)
    cold = step(state, kT=0.0, sigma=0.8)
    force = quantity.force(system.energy_fn)(system.position, sigma=0.8)
    expected = system.shift_fn(system.position, dt / (mass * gamma) * force)
    np.testing.assert_allclose(cold.position, expected, atol=1e-13)


def test_harmonic_wells_have_the_variance_of_the_scheme():
    n, kT, k, gamma, dt = 4_000, 0.7, 2.0, 1.0, 0.1
    mass = jnp.linspace(1.0, 2.0, n)
    init, step = simulate.brownian(lambda R: k * jnp.sum(R**2) / 2, FREE, dt, kT, gamma)
    state = steps(step, init(jax.random.key(2), jnp.zeros((n, 1)), mass), 100)

    def body(state, _):
        state = steps(step, state, 20)
        return state, jnp.mean(state.position**2)

    _, square = jax.lax.scan(body, state, None, length=40)
    error = jnp.std(square, ddof=1) / np.sqrt(len(square))
    # The fixed point of <x^2> <- (1 - k nu dt)^2 <x^2> + 2 kT nu dt.
    expected = jnp.mean(kT / k / (1 - k * dt / (2 * mass * gamma)))
    assert abs(jnp.mean(square) - expected) < 5 * error < 0.01
    assert abs(expected - kT / k) > 5 * error


@pytest.mark.parametrize("dt", [1e-7, 0.1])
def test_diffusion_constant(dt, dtype):
    """The energy is a constant, as it is of an ideal gas."""
    n, kT, mass, gamma, count = 20_000, 0.8, 2.0, 0.25, 50
    init, step = simulate.brownian(lambda R: 0.0, FREE, dt, kT, gamma)
    start = jnp.zeros((n, 2), dtype)
    state = steps(step, init(jax.random.key(1), start, mass), count)
    assert state.position.dtype == state.mass.dtype == dtype
    D = jnp.sum(jnp.square(state.position), axis=-1) / (4 * count * dt)
    error = float(jnp.std(D, ddof=1)) / np.sqrt(n)
    assert abs(jnp.mean(D) - kT / (mass * gamma)) < 5 * error < 0.06


def test_the_drift_of_a_short_step_is_not_rounded_away():
    """It is a quarter of the spacing of single-precision numbers at the start."""
    n, dt, force, count = 200_000, 1e-7, 0.5, 20
    drift = 10 * dt * force  # gamma = 0.1 and mass = 1 make nu = 10
    init, step = simulate.brownian(lambda R: force * jnp.ones_like(R), FREE, dt, 1e-3)
    start = jnp.full((n, 1), 20.0, jnp.float32)
    assert jnp.all(start + jnp.float32(drift) == start)
    end = steps(step, init(jax.random.key(3), start), count).position
    moved = np.asarray(end, np.float64) - 20
    error = np.std(moved, ddof=1) / np.sqrt(n)
    assert abs(moved.mean() - count * drift) < 5 * error
    assert moved.mean() > 5 * error


@pytest.mark.parametrize("make", [jax.random.PRNGKey, jax.random.key])
def test_trees_of_positions_and_both_kinds_of_keys(make):
    init, step = simulate.brownian(
        lambda R: jnp.sum(R["a"]) + jnp.sum(R["b"]), FREE, 0.1, 0.0, {"a": 1.0, "b": 2}
    )
    R = {"a": jnp.zeros((2, 3)), "b": np.zeros((4, 1), np.float32)}
    state = step(init(make(0), R, mass={"a": 1.0, "b": 4.0}))
    np.testing.assert_allclose(state.position["a"], -0.1)
    np.testing.assert_allclose(state.position["b"], -0.1 / 8, rtol=1e-6)
    assert state.position["b"].dtype == state.mass["b"].dtype == jnp.float32
    warm = step(state, kT=1.0)
    a, b = warm.position["a"] - state.position["a"], warm.position["b"]
    assert len(np.unique(np.concatenate([np.ravel(a), np.ravel(b)]))) == 10


def test_it_runs():
    system = soft_spheres("periodic", dtype=jnp.float32)
    simulator = simulate.brownian(system.energy_fn, system.shift_fn, 1e-3, 0.4)
    state = simulator.init(jax.random.key(0), system.position)
    run = simulate.run(
        simulator, state, 20, observe={"U": lambda s: system.energy_fn(s.position)}
    )
    assert run.state.position.dtype == jnp.float32
    assert np.all(np.isfinite(run.records["U"]))
