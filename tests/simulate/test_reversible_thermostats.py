"""Thermostats on the integer lattice: undone bit for bit, and right as physics."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_md import quantity, simulate
from jax_md.simulate import nvt_nose_hoover_reversible_invariant as invariant
from tests.soft_spheres import soft_spheres

DT, KT = 0.01, 0.5
LATTICE = ("lattice_position", "lattice_momentum", "lost_bits")
MAKE = {
    "nve": lambda *fns, **options: simulate.nve_reversible(*fns, DT, **options),
    "langevin": lambda *fns, **options: simulate.nvt_langevin_reversible(
        *fns, DT, KT, 1.0, **options
    ),
    "nose_hoover": lambda *fns, **options: simulate.nvt_nose_hoover_reversible(
        *fns, DT, KT, tau=0.3, **options
    ),
}


def make(name, kind, dtype=jnp.float64, n=12, epsilon=20.0, **options):
    system = soft_spheres(kind, n=n, dtype=dtype)
    energy_fn = partial(system.energy_fn, epsilon=epsilon)
    fractional = kind == "fractional"
    fns = energy_fn, system.box
    simulator = MAKE[name](*fns, fractional_coordinates=fractional, **options)
    return energy_fn, simulator, system


def repeat(fn, state, steps):
    return jax.jit(lambda s: jax.lax.fori_loop(0, steps, lambda _, s: fn(s), s))(state)


def there_and_back(simulator, state, steps):
    end = repeat(simulator.step, state, steps)
    again = repeat(simulator.inverse, end, steps)
    end.raise_if_failed()
    again.raise_if_failed()
    before, _ = jax.tree_util.tree_flatten_with_path(state)
    after = jax.tree.leaves(again)
    whole = 0
    for (path, a), b in zip(before, after, strict=True):
        if jnp.issubdtype(a.dtype, jnp.integer):
            assert jnp.all(a == b), jax.tree_util.keystr(path)
            whole += 1
    assert whole >= 2
    assert not jnp.all(end.lattice_position == state.lattice_position)
    return end


@pytest.mark.parametrize(
    ("name", "kind", "dtype"),
    [
        ("langevin", "periodic", jnp.float64),
        ("langevin", "general", jnp.float32),
        ("nose_hoover", "fractional", jnp.float32),
    ],
)
def test_back_to_the_same_bits(name, kind, dtype):
    _, simulator, system = make(name, kind, dtype)
    mass = jnp.linspace(1, 3, 12, dtype=dtype)
    state = simulator.init(jax.random.key(0), system.position, mass=mass)
    end = there_and_back(simulator, state, 2000)
    assert end.position.dtype == end.momentum.dtype == dtype
    assert jnp.any(end.lost_bits != 0)


@pytest.mark.slow
@pytest.mark.parametrize("name", list(MAKE))
def test_back_to_the_same_bits_after_many_steps(name, dtype):
    words = {} if name == "nve" else {"words": 72}
    _, simulator, system = make(name, "general", dtype, **words)
    state = simulator.init(jax.random.key(0), system.position, kT=KT)
    there_and_back(simulator, state, 100_000)


def test_nose_hoover_is_that_of_the_plain_simulator():
    energy_fn, simulator, system = make("nose_hoover", "periodic")
    plain = simulate.nvt_nose_hoover(
        energy_fn, system.shift_fn, DT, KT, chain_length=3, tau=0.3
    )
    state = simulator.init(jax.random.key(0), system.position, kT=2 * KT)
    other = plain.init(jax.random.key(0), state.position, kT=KT, momenta=state.momentum)
    exact = repeat(partial(plain.step, dt=0.0005), other, 800)
    errors = []
    for dt in (0.01, 0.005):
        end = repeat(partial(simulator.step, dt=dt), state, round(0.4 / dt))
        errors.append(float(jnp.max(jnp.abs(end.momentum - exact.momentum))))
        links = end.chain.velocity / 0.3 - exact.chain.momentum / exact.chain.mass
        errors.append(float(jnp.max(jnp.abs(links))))
    assert errors[2] < 1e-3 and errors[3] < 5e-3
    np.testing.assert_allclose(errors[0] / errors[2], 4, rtol=0.1)  # second order
    np.testing.assert_allclose(errors[1] / errors[3], 4, rtol=0.1)


def test_nose_hoover_conserves_its_invariant(dtype):
    energy_fn, simulator, system = make("nose_hoover", "general", dtype)
    state = simulator.init(jax.random.key(0), system.position, kT=2 * KT)
    end = repeat(simulator.step, state, 2000)
    before, after = (invariant(energy_fn, s, KT) for s in (state, end))
    assert after.dtype == dtype
    # Much heat was exchanged, and the invariant moved by the error of the time step.
    heat = KT * abs(end.chain.heat - state.chain.heat)
    assert heat > 5 * KT
    assert abs(after - before) < 0.02 * heat


def well(R, **unused):
    return 2 * jnp.sum((R - 2) ** 2)


def test_langevin_samples_a_harmonic_well():
    # B A O A B has no error of the time step in positions, not even at dt omega = 1.
    box, n = 4.0, 4000
    init, step, *_ = simulate.nvt_langevin_reversible(
        well, box, 0.5, 0.01, 1.0, momentum_range=4.0, words=1
    )
    state = init(jax.random.key(1), jnp.full((n, 3), 2.0))

    @jax.jit
    def squares(state):
        def body(state, _):
            state = step(state)
            return state, (jnp.mean((state.position - 2) ** 2), state.did_overflow)

        return jax.lax.scan(body, state, None, length=100)[1]

    found, failed = squares(state)
    assert not jnp.any(failed)
    # 12,000 coordinates, decorrelated within some ten steps: 0.5 %.
    np.testing.assert_allclose(jnp.mean(found[20:]), 0.01 / 4, rtol=0.02)


def test_langevin_noise_is_that_of_the_key_and_the_step():
    _, simulator, system = make("langevin", "periodic")
    state = simulator.init(jax.random.key(0), system.position)
    same = simulator.step(state.set(count=state.count)).momentum
    later = simulator.step(state.set(count=state.count + 1)).momentum
    assert jnp.all(simulator.step(state).momentum == same)
    assert jnp.all(later != same)
    assert simulator.step(state).count == 1
    cold = simulator.step(state, kT=0.0, gamma=0.0)
    nve = make("nve", "periodic")[1]
    other = nve.init(jax.random.key(0), state.position, kT=0.0, momenta=state.momentum)
    # Without a bath, velocity Verlet: that of positions differs in second order.
    np.testing.assert_allclose(cold.momentum, nve.step(other).momentum, atol=1e-2)


def test_too_much_friction_is_loud():
    _, simulator, system = make("langevin", "periodic")
    state = simulator.init(jax.random.key(0), system.position)
    state = simulator.step(state, gamma=0.7 / DT)
    assert state.did_overflow and jnp.all(jnp.isnan(state.momentum))
    with pytest.raises(FloatingPointError, match="gamma"):
        state.raise_if_failed()


def test_bits_without_room_are_told():
    _, simulator, system = make("langevin", "periodic", words=1)
    state = simulator.init(jax.random.key(0), system.position)
    end = repeat(partial(simulator.step, gamma=30.0), state, 200)
    assert end.did_forget and not end.did_overflow
    assert jnp.all(jnp.isfinite(end.momentum))  # as a run it is right
    with pytest.raises(FloatingPointError, match="`words`"):
        end.raise_if_failed()
    back = simulator.inverse(end)
    assert back.did_overflow and jnp.all(jnp.isnan(back.momentum))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"words": 0}, "`words`"),
        ({"chain_length": 0}, "`chain_length`"),
        ({"chain_steps": 0}, "`chain_steps`"),
        ({"momentum_range": -1.0}, "`momentum_range`"),
    ],
)
def test_refuses_wrong_options(options, words):
    with pytest.raises(ValueError, match=words):
        make("nose_hoover", "periodic", **options)
    if "chain_length" not in options and "chain_steps" not in options:
        with pytest.raises(ValueError, match=words):
            make("langevin", "periodic", **options)


@pytest.mark.parametrize("name", ["langevin", "nose_hoover"])
def test_refuses_misspelt_parameters(name):
    _, simulator, system = make(name, "periodic")
    state = simulator.init(jax.random.key(0), system.position)
    for fn in (simulator.step, simulator.inverse):
        with pytest.raises(TypeError, match="kT"):
            fn(state, kt=1.0)
    kinetic = quantity.kinetic_energy(momentum=state.momentum, mass=state.mass)
    assert kinetic > 0


@pytest.mark.parametrize("name", ["langevin", "nose_hoover"])
def test_without_64_bit_types(name):
    with jax.enable_x64(False):
        _, simulator, system = make(name, "periodic", jnp.float32)
        state = simulator.init(jax.random.key(0), system.position)
        there_and_back(simulator, state, 20)
