from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_md import simulate, space
from jax_md.simulate.nose_hoover import chain_energy
from tests.soft_spheres import soft_spheres


@pytest.mark.parametrize("length", [1, 2, 5])
def test_the_invariant_converges_as_the_square_of_the_time_step(length):
    system = soft_spheres("fractional")
    init, step = simulate.nvt_nose_hoover(
        system.energy_fn, system.shift_fn, 0.01, 0.3, chain_length=length, tau=0.3
    )
    mass = jnp.linspace(1.0, 2.0, 8)
    start = init(jax.random.key(0), system.position, mass, kT=0.6)

    def invariant(state):
        return simulate.nvt_nose_hoover_invariant(system.energy_fn, state, 0.3)

    @partial(jax.jit, static_argnums=0)
    def worst(dt):
        def body(state, _):
            state = step(state, dt=dt)
            return state, (invariant(state), chain_energy(state.chain, 0.3))

        _, (total, bath) = jax.lax.scan(body, start, jnp.arange(round(2 / dt)))
        return jnp.max(jnp.abs(total - invariant(start))), jnp.max(jnp.abs(bath))

    (coarse, bath), (fine, _) = worst(0.02), worst(0.01)
    assert bath > 1  # the bath takes part
    assert coarse < 1e-3
    np.testing.assert_allclose(coarse / fine, 4, rtol=0.3)


def chain_flow(t, y, dof, kT, Q, twice_K):
    """Equations of motion of a chain and of ln |P|, written from the paper."""
    length = len(Q)
    p, log_scale = y[:length], y[-1]
    K2 = twice_K * np.exp(2 * log_scale)
    pull = [K2 - dof * kT] + [p[k] ** 2 / Q[k] - kT for k in range(length - 1)]
    drag = [p[k] * p[k + 1] / Q[k + 1] for k in range(length - 1)] + [0.0]
    return [*(np.array(pull) - drag), *(p / Q), -p[0] / Q[0]]


@pytest.mark.parametrize("length", [1, 2, 3])
@pytest.mark.parametrize("sy_steps", [1, 3, 5, 7])
def test_half_steps_follow_the_equations_of_the_chain(length, sy_steps):
    from scipy.integrate import solve_ivp

    dof, kT, tau, K, time = 6, 0.7, 0.5, 4.0, 0.4
    args = dof, kT, np.array([dof] + [1] * (length - 1)) * kT * tau**2, 2 * K
    accurate = {"method": "DOP853", "rtol": 1e-13, "atol": 1e-13}
    rest = np.zeros(2 * length + 1)
    exact = solve_ivp(chain_flow, (0, time), rest, args=args, **accurate).y[:, -1]

    def error(steps):
        fns = simulate.nose_hoover_chain(2 * time, length, steps, sy_steps, tau)
        chain = fns.initialize(dof, K, kT)
        P, chain = fns.half_step({"a": jnp.ones(2)}, chain, kT)
        np.testing.assert_allclose(chain.kinetic_energy, K * P["a"][0] ** 2)
        found = [*chain.momentum, *chain.position, jnp.log(P["a"][0])]
        return np.max(np.abs(np.array(found) - exact))

    order = 6 if sy_steps == 7 else 2
    coarse, fine = error(4), error(8)
    assert fine < 4e-3
    np.testing.assert_allclose(np.log2(coarse / fine), order, atol=0.1)


def test_temperature_changes_the_masses_and_not_the_options():
    fns = simulate.nose_hoover_chain(0.1, 3, 1, 1, 2.0)
    chain = fns.update_mass(fns.initialize(12, 1.0, 1.0), 0.5)
    np.testing.assert_allclose(chain.mass, [24, 2, 2])
    system = soft_spheres("free")
    init, step = simulate.nvt_nose_hoover(
        system.energy_fn, system.shift_fn, 0.01, 1.0, 2, 1, 1, tau=2.0
    )
    state = step(init(jax.random.key(0), system.position), kT=0.5)
    np.testing.assert_allclose(state.chain.mass, [48, 2])


def test_options():
    with pytest.raises(ValueError, match="`chain_length`"):
        simulate.nose_hoover_chain(0.1, 0, 1, 1, 1.0)
    with pytest.raises(ValueError, match="`sy_steps`"):
        simulate.nose_hoover_chain(0.1, 3, 1, 2, 1.0)
    options = simulate.default_nhc_kwargs(2.0, {"sy_steps": 5, 1: 1})
    assert options == {"chain_length": 3, "chain_steps": 2, "sy_steps": 5, "tau": 2.0}
    assert simulate.default_nhc_kwargs(1.0, None)["tau"] == 1.0
    with pytest.raises(TypeError, match="`systeps`"):
        simulate.default_nhc_kwargs(1.0, {"systeps": 5})


def test_kinetic_energy_has_the_canonical_distribution():
    n, kT = 12, 0.8
    # Wells of different stiffness, so that the motion is not one oscillation.
    stiffness = jnp.linspace(0.5, 2.0, 3 * n).reshape(n, 3)

    def energy(R):
        return jnp.sum(stiffness * R**2 / 2 + R**4 / 4)

    init, step = simulate.nvt_nose_hoover(energy, space.free()[1], 0.05, kT, tau=1.0)
    state = init(jax.random.key(1), jnp.zeros((n, 3)))

    def body(state, _):
        state = step(state)
        return state, simulate.kinetic_energy(state)

    state = jax.lax.fori_loop(0, 2_000, lambda i, s: step(s), state)
    _, K = jax.lax.scan(body, state, jnp.arange(100_000))
    blocks = np.asarray(K).reshape(50, -1)
    dof = 3 * n
    for moment, expected in (
        (blocks, dof * kT / 2),
        ((blocks - dof * kT / 2) ** 2, dof * kT**2 / 2),
    ):
        means = moment.mean(axis=1)
        error = means.std(ddof=1) / np.sqrt(len(means))
        assert error < 0.1 * expected
        assert abs(means.mean() - expected) < 5 * error
