import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_md import quantity, simulate, space
from tests.soft_spheres import soft_spheres


def test_a_step_is_baoab():
    system = soft_spheres("periodic")
    mass = jnp.linspace(1.0, 2.0, 8)[:, None]
    dt, kT, gamma = 0.05, 0.7, 0.9
    init, step = simulate.nvt_langevin(system.energy_fn, system.shift_fn, dt, kT, gamma)
    state = init(jax.random.key(0), system.position, mass)
    F = quantity.force(system.energy_fn)
    p = state.momentum + dt / 2 * F(state.position)
    R = system.shift_fn(state.position, dt / 2 * p / mass)
    # The noise is what a step in a bath alone adds.
    still = state.set(momentum=jnp.zeros_like(p))
    noise = simulate.stochastic_step(still, dt, kT, gamma).momentum
    p = np.exp(-gamma * dt) * p + noise
    R = system.shift_fn(R, dt / 2 * p / mass)
    p = p + dt / 2 * F(R)
    new = step(state)
    np.testing.assert_allclose(new.position, R, atol=1e-13)
    np.testing.assert_allclose(new.momentum, p, atol=1e-13)
    np.testing.assert_allclose(new.force, F(R), atol=1e-13)


def test_harmonic_wells_have_their_variance_whatever_the_time_step():
    n, kT, k, gamma, dt = 4_000, 0.7, 2.0, 1.0, 0.8
    mass = jnp.linspace(1.0, 2.0, n)
    init, step = simulate.nvt_langevin(
        lambda R: k * jnp.sum(R**2) / 2, space.free()[1], dt, kT, gamma
    )
    state = init(jax.random.key(2), jnp.zeros((n, 1)), mass)
    state = jax.lax.fori_loop(0, 100, lambda i, s: step(s), state)

    def body(state, _):
        state = jax.lax.fori_loop(0, 20, lambda i, s: step(s), state)
        return state, (jnp.mean(state.position**2), simulate.temperature(state))

    _, (square, T) = jax.lax.scan(body, state, jnp.arange(40))
    error = jnp.std(square, ddof=1) / np.sqrt(len(square))
    # B A O A B samples positions exactly: with the wrong order dt = 0.8 would show.
    assert abs(jnp.mean(square) - kT / k) < 5 * error < 0.01
    # Kinetic temperature does carry the error of the splitting, dt^2 k / 4 m.
    expected = kT * jnp.mean(1 - dt**2 * k / (4 * mass))
    error = jnp.std(T, ddof=1) / np.sqrt(len(T))
    assert abs(jnp.mean(T) - expected) < 5 * error < 0.01


def test_replicas_of_one_particle_and_an_energy_without_keywords():
    init, step = simulate.nvt_langevin(
        lambda x: jnp.sum(x**2) / 2, space.free()[1], 0.1, 1.0, 0.3, False
    )
    keys = jax.random.split(jax.random.PRNGKey(0), 5)
    states = jax.vmap(init, (0, 0, None))(keys, jnp.ones((5, 1, 1)), 2.0)
    assert len(np.unique(states.momentum)) == 5
    states = jax.vmap(step)(states)
    assert states.position.shape == (5, 1, 1)


def test_center_velocity_is_about_drawn_momenta():
    R = jnp.zeros((6, 3))
    shift = space.free()[1]

    def total(center):
        init, _ = simulate.nvt_langevin(jnp.sum, shift, 0.1, 1.0, 0.1, center)
        return jnp.sum(init(jax.random.key(0), R).momentum, axis=0)

    np.testing.assert_allclose(total(True), 0, atol=1e-14)
    assert jnp.all(jnp.abs(total(False)) > 1e-3)


@pytest.mark.parametrize("make", [jax.random.PRNGKey, jax.random.key])
def test_friction_of_each_particle_and_both_kinds_of_keys(make):
    gamma = jnp.array([[0.0], [1e3]])
    init, step = simulate.nvt_langevin(
        lambda R: 0.0 * jnp.sum(R), space.free()[1], 0.1, 1e-6, gamma
    )
    p = jnp.ones((2, 3))
    state = step(init(make(0), jnp.zeros((2, 3)), momenta=p))
    np.testing.assert_allclose(state.momentum[0], 1)
    np.testing.assert_allclose(state.momentum[1], 0, atol=0.01)
