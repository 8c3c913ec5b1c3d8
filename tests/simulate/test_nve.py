from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_md import quantity, simulate, space
from tests.soft_spheres import SPACES, soft_spheres


def advance(step, state, steps, **kwargs):
    return jax.lax.fori_loop(0, steps, lambda i, s: step(s, **kwargs), state)


@pytest.mark.parametrize("kind", SPACES)
def test_energy_error_falls_as_the_square_of_the_time_step(kind):
    system = soft_spheres(kind)
    init, step = simulate.nve(system.energy_fn, system.shift_fn)
    start = init(jax.random.key(0), system.position, 0.1, jnp.linspace(1.0, 2.0, 8))

    def total(state):
        return system.energy_fn(state.position) + simulate.kinetic_energy(state)

    @partial(jax.jit, static_argnums=0)
    def worst(dt):
        def body(state, _):
            state = step(state, dt=dt)
            return state, total(state)

        _, energies = jax.lax.scan(body, start, jnp.arange(round(2 / dt)))
        return jnp.max(jnp.abs(energies - total(start)))

    ratio = worst(0.02) / worst(0.01)
    assert worst(0.02) > 1e-9
    np.testing.assert_allclose(ratio, 4, rtol=0.25)


def test_time_runs_back():
    system = soft_spheres("periodic")
    _, shift = space.periodic(system.box, wrapped=False)
    init, step = simulate.nve(system.energy_fn, shift, 0.01)
    start = init(jax.random.key(0), system.position, 0.5)
    there = advance(step, start, 200)
    assert jnp.max(jnp.abs(there.position - start.position)) > 0.5
    turned = there.set(momentum=-there.momentum)
    back = advance(step, turned, 200)
    np.testing.assert_allclose(back.position, start.position, atol=1e-11)
    np.testing.assert_allclose(back.momentum, -start.momentum, atol=1e-11)


def test_momentum_is_conserved(dtype):
    system = soft_spheres("fractional", dtype=dtype)
    init, step = simulate.nve(system.energy_fn, system.shift_fn, 0.01)
    state = init(jax.random.key(0), system.position, 1.0, mass=3)
    state = advance(step, state, 200)
    limit = 200 * 10 * jnp.finfo(dtype).eps
    assert jnp.max(jnp.abs(jnp.sum(state.momentum, axis=0))) < limit


@pytest.mark.parametrize("kind", SPACES)
def test_a_step_is_verlet_and_the_force_is_fresh(kind):
    system = soft_spheres(kind)
    mass = jnp.linspace(1.0, 2.0, 8)[:, None]
    init, step = simulate.nve(system.energy_fn, system.shift_fn, 0.05)
    state = init(jax.random.key(0), system.position, 1.0, mass)
    F = quantity.force(system.energy_fn)
    p = state.momentum + 0.025 * F(state.position)
    R = system.shift_fn(state.position, 0.05 * p / mass)
    p = p + 0.025 * F(R)
    new = step(state)
    np.testing.assert_allclose(new.position, R, atol=1e-13)
    np.testing.assert_allclose(new.momentum, p, atol=1e-13)
    np.testing.assert_allclose(new.force, F(R), atol=1e-13)
    np.testing.assert_allclose(new.velocity, new.momentum / mass)


def test_the_force_is_evaluated_once_a_step():
    count = []

    def force(R):
        jax.debug.callback(lambda: count.append(1))
        return -R

    init, step = simulate.nve(force, space.free()[1], 0.1)
    state = init(jax.random.key(0), jnp.ones((2, 2)), 1.0)
    jax.effects_barrier()
    count.clear()
    for _ in range(5):
        state = step(state)
    jax.block_until_ready(state)
    jax.effects_barrier()
    assert len(count) == 5


def test_trees_of_positions_and_of_shifts():
    R = {"a": jnp.ones((4, 3)), "b": jnp.ones((2, 2))}
    shift = {"a": space.free()[1], "b": space.periodic(1.5)[1]}

    def energy(R):
        return sum(jnp.sum(x**2) for x in R.values()) / 2

    init, step = simulate.nve(energy, shift, 0.1)
    state = init(jax.random.key(0), R, 1.0, {"a": jnp.arange(1.0, 5.0), "b": 2.0})
    assert state.mass["a"].shape == (4, 1)
    new = step(state)
    p = state.momentum["b"] - 0.05 * R["b"]
    np.testing.assert_allclose(new.position["b"], (R["b"] + 0.1 * p / 2) % 1.5)
    one = init(jax.random.key(0), R, 1.0, 2)  # one mass for all, an integer
    np.testing.assert_allclose(step(one).velocity["a"], step(one).momentum["a"] / 2)


def test_a_state_built_by_hand():
    R, p = jnp.ones((3, 2)), jnp.zeros((3, 2))
    _, step = simulate.nve(lambda R: jnp.sum(R**2) / 2, space.free()[1], 0.1)
    state = step(simulate.NVEState(R, p, -R, mass=1.0))
    np.testing.assert_allclose(state.position, R - 0.005)
