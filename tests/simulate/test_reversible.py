"""Dynamics on the integer lattice: reversible, conserving, loud where it fails."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_md import quantity, simulate
from tests.soft_spheres import soft_spheres

DT = 0.01


def make(kind, dtype=jnp.float64, dt=DT, **options):
    system = soft_spheres(kind, n=12, dtype=dtype)
    energy_fn = partial(system.energy_fn, epsilon=20.0)
    simulator = simulate.nve_reversible(
        energy_fn,
        system.box,
        dt,
        fractional_coordinates=kind == "fractional",
        **options,
    )
    return energy_fn, simulator, system


def repeat(fn, state, steps):
    return jax.jit(lambda s: jax.lax.fori_loop(0, steps, lambda _, s: fn(s), s))(state)


@pytest.mark.parametrize("kind", ["periodic", "general", "fractional"])
def test_back_to_the_same_bits(kind, dtype):
    energy_fn, (init, step, inverse), system = make(kind, dtype)
    mass = jnp.linspace(1, 3, 12, dtype=dtype)
    state = init(jax.random.key(0), system.position, kT=0.5, mass=mass)
    assert state.position.dtype == state.momentum.dtype == dtype
    eps = float(jnp.finfo(dtype).eps)
    near = max(10 * eps, 2.0**-31)  # of the box, from rounding to the lattice
    dR = jax.vmap(system.displacement_fn)(state.position, system.position)
    assert jnp.max(jnp.abs(dR)) < 3 * near
    end = repeat(step, state, 1500)
    again = repeat(inverse, end, 1500)
    for name in ("lattice_position", "lattice_momentum"):
        assert jnp.all(getattr(again, name) == getattr(state, name)), name
    # Read off by another program, which may round a product with the box otherwise.
    for name in ("position", "momentum"):
        got, expected = getattr(again, name), getattr(state, name)
        np.testing.assert_allclose(got, expected, rtol=0, atol=8 * eps)
    assert not jnp.all(end.lattice_position == state.lattice_position)
    end.raise_if_failed()

    def total(s):
        kinetic = quantity.kinetic_energy(momentum=s.momentum, mass=s.mass)
        return energy_fn(s.position) + kinetic

    kinetic = quantity.kinetic_energy(momentum=state.momentum, mass=state.mass)
    assert abs(total(end) - total(state)) < 0.01 * kinetic  # (dt omega)^2 / 12


def test_converges_to_plain_dynamics():
    def end(step, state, dt):
        return repeat(partial(step, dt=dt), state, round(0.4 / dt))

    energy_fn, (init, step, _), system = make("periodic")
    plain = simulate.nve(energy_fn, system.shift_fn, DT)
    state = init(jax.random.key(0), system.position, kT=0.5)
    other = plain.init(
        jax.random.key(0), state.position, kT=0.5, momenta=state.momentum
    )
    exact = end(plain.step, other, 0.0005)
    errors = []
    for dt in (0.01, 0.005):
        p = end(step, state, dt).momentum
        errors.append(float(jnp.max(jnp.abs(p - exact.momentum))))
    np.testing.assert_allclose(errors[0] / errors[1], 4, rtol=0.05)  # second order


def test_start_is_differentiable():
    _, (init, step, _), system = make("periodic")

    def loss(R, kT):
        state = step(init(jax.random.key(0), R, kT=kT))
        return jnp.sum(state.momentum**2 * jnp.arange(3)) + jnp.sum(
            jnp.sin(2 * jnp.pi * state.position / system.box)
        )

    R = system.position
    bars = jax.grad(loss, (0, 1))(R, 0.5)
    h = 1e-3  # rounding momenta to 3e-8 adds 1e-6 / h, third derivatives h^2
    up, down = loss(R, 0.5 + h), loss(R, 0.5 - h)
    np.testing.assert_allclose(bars[1], (up - down) / (2 * h), rtol=2e-3)
    e = jnp.zeros_like(R).at[3, 1].set(h)
    difference = (loss(R + e, 0.5) - loss(R - e, 0.5)) / (2 * h)
    np.testing.assert_allclose(bars[0][3, 1], difference, rtol=2e-3)


def test_energy_drifts_no_more_than_by_verlet_in_float32():
    energy_fn, (init, step, _), system = make("periodic", jnp.float32)
    plain = simulate.nve(energy_fn, system.shift_fn, DT)
    starts = [
        init(jax.random.key(0), system.position, kT=0.5),
        plain.init(jax.random.key(0), system.position, kT=0.5),
    ]

    def energies(step, state):
        def total(s):
            kinetic = quantity.kinetic_energy(momentum=s.momentum, mass=s.mass)
            return energy_fn(s.position) + kinetic

        def many(state, _):
            state = jax.lax.fori_loop(0, 20, lambda _, s: step(s), state)
            return state, total(state)

        return jax.jit(lambda s: jax.lax.scan(many, s, None, length=1000)[1])(state)

    drifts, noises = [], []
    for fn, state in zip((step, plain.step), starts, strict=True):
        E = np.asarray(energies(fn, state), np.float64)
        parts = E.reshape(10, 100).mean(1)
        drifts.append(parts[-5:].mean() - parts[:5].mean())
        noises.append(parts.std())
    # Both wander by the error of the time step, of which blocks keep some.
    assert abs(drifts[0]) < abs(drifts[1]) + 3 * max(noises)
    assert abs(drifts[0]) < 2e-3 * 12 * 0.5


@pytest.mark.parametrize("scale", [0.05, 0.9])
def test_overflow_is_loud(scale):
    _, (init, step, _), system = make("periodic", momentum_range=1.0)
    momenta = jnp.zeros((12, 3)).at[:, 0].set(0.999 if scale > 0.5 else scale)
    state = init(jax.random.key(0), system.position, kT=0.0, momenta=momenta)
    assert not state.did_overflow
    end = repeat(step, state, 400)
    assert end.did_overflow and jnp.all(jnp.isnan(end.momentum))
    with pytest.raises(FloatingPointError, match="momentum_range"):
        end.raise_if_failed()


def test_motion_below_the_resolution_is_loud():
    _, (init, step, _), system = make("periodic")
    state = init(jax.random.key(0), system.position, kT=0.5)
    assert not step(state).did_stall
    state = step(state, dt=1e-10)
    assert state.did_stall
    with pytest.raises(FloatingPointError, match="`dt`"):
        state.raise_if_failed()


def test_refuses_wrong_options():
    with pytest.raises(ValueError, match="`momentum_range`"):
        make("periodic", momentum_range=0.0)
    _, (init, step, _), system = make("periodic")
    state = init(jax.random.key(0), system.position, kT=0.5)
    with pytest.raises(TypeError, match="dT"):
        step(state, dT=0.1)
