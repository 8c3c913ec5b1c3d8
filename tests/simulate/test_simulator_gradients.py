"""Gradients through runs: forward, reverse and finite differences are one number."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_md import simulate
from tests.soft_spheres import soft_spheres

WAY = jax.random.normal(jax.random.key(5), (8, 3))
START = {
    "sigma": jnp.array(1.0),
    "epsilon": jnp.array(1.3),
    "kT": jnp.array(0.5),
    "dt": jnp.array(0.03),
    "gamma": jnp.array(0.8),
    "mass": jnp.linspace(1.0, 2.0, 8),
    "start": 0.1 * WAY,
}


def rollout(kind, name):
    system = soft_spheres(kind)
    init, step = {
        "nve": lambda: simulate.nve(system.energy_fn, system.shift_fn),
        "nvt_nose_hoover": lambda: simulate.nvt_nose_hoover(
            system.energy_fn, system.shift_fn, 0.03, 0.5, 3, 1, 3, tau=0.5
        ),
        "nvt_langevin": lambda: simulate.nvt_langevin(
            system.energy_fn, system.shift_fn, 0.03, 0.5
        ),
        "brownian": lambda: simulate.brownian(
            system.energy_fn, system.shift_fn, 0.03, 0.5
        ),
    }[name]()
    bath = ["dt", "kT", "gamma"]
    names = {"nvt_nose_hoover": ["dt", "kT"], "nvt_langevin": bath, "brownian": bath}

    def loss(q):
        pair = {"sigma": q["sigma"], "epsilon": q["epsilon"]}
        R = system.shift_fn(system.position, q["start"])
        kT = {"kT": q["kT"]}
        state = init(jax.random.key(0), R, mass=q["mass"], **kT, **pair)
        run_time = {key: q[key] for key in names.get(name, ["dt"])}

        def body(state, _):
            return step(state, **run_time, **pair), None

        state, _ = jax.lax.scan(body, state, None, length=12)
        U = system.energy_fn(state.position, **pair)
        if name == "brownian":
            return U
        return U + jnp.sum(WAY * state.momentum) / 8 + simulate.kinetic_energy(state)

    return loss


CASES = [
    ("fractional", "nve"),
    pytest.param("general", "nvt_nose_hoover", marks=pytest.mark.slow),
]
CASES += [("periodic", "nvt_langevin"), ("fractional", "brownian")]


@pytest.mark.parametrize(("kind", "name"), CASES)
def test_forward_reverse_and_differences_agree(kind, name):
    loss = rollout(kind, name)
    gradient = jax.jit(jax.grad(loss))(START)
    forward = jax.jit(lambda q, dq: jax.jvp(loss, (q,), (dq,)))
    ways = {key: jnp.ones_like(value) for key, value in START.items()}
    ways |= {"mass": jax.random.normal(jax.random.key(6), (8,)), "start": WAY[::-1]}
    for parameter, way in ways.items():
        only = {key: jnp.zeros_like(value) for key, value in START.items()}
        only[parameter] = way
        _, slope = forward(START, only)
        reverse = jnp.sum(gradient[parameter] * way)
        h = 1e-5
        up, down = (
            forward(START | {parameter: START[parameter] + s * h * way}, only)[0]
            for s in (1, -1)
        )
        np.testing.assert_allclose(slope, reverse, rtol=1e-9, err_msg=parameter)
        np.testing.assert_allclose(
            reverse, (up - down) / (2 * h), rtol=2e-6, err_msg=parameter
        )
        with_friction = name in ("nvt_langevin", "brownian")
        assert (slope != 0) == (parameter != "gamma" or with_friction)


def test_gradients_are_finite_without_motion_bath_or_friction():
    loss = rollout("free", "nvt_langevin")
    cold = START | {"kT": 0.0, "gamma": 0.0}
    for slope in jax.tree.leaves(jax.jit(jax.grad(loss))(cold)):
        assert jnp.all(jnp.isfinite(slope))


@pytest.mark.slow
def test_second_derivatives():
    loss = rollout("periodic", "nvt_langevin")
    names = ["sigma", "kT", "dt", "gamma"]

    def of(x):
        return loss(START | dict(zip(names, x, strict=True)))

    x = jnp.array([START[name] for name in names])
    H = jax.jit(jax.hessian(of))(x)
    gradient = jax.jit(jax.grad(of))
    h = 1e-5
    rows = [(gradient(x + e) - gradient(x - e)) / (2 * h) for e in h * jnp.eye(4)]
    np.testing.assert_allclose(H, jnp.stack(rows), rtol=1e-4, atol=1e-5)
