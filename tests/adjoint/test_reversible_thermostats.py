"""Gradients that walk thermostatted trajectories back."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_md import adjoint, simulate
from tests.soft_spheres import soft_spheres

STEPS = 20
START = {"epsilon": 20.0, "kT": 0.5, "dt": 0.02, "gamma": 2.0}
METHODS = adjoint.Backprop(), adjoint.Checkpointed(4), adjoint.Hybrid(7)
WAY = jnp.linspace(-1, 1, 36).reshape(12, 3)


def make(name, kind, dtype, **options):
    system = soft_spheres(kind, n=12, dtype=dtype)
    options |= {"fractional_coordinates": kind == "fractional", "momentum_range": 16.0}
    dt, kT = START["dt"], START["kT"]
    fns = system.energy_fn, system.box, dt, kT
    if name == "langevin":
        return system, simulate.nvt_langevin_reversible(*fns, **options)
    return system, simulate.nvt_nose_hoover_reversible(*fns, tau=0.3, **options)


def liquid(name, kind, dtype, **options):
    system, simulator = make(name, kind, dtype, **options)
    used = set(START) - ({"gamma"} if name == "nose_hoover" else set())
    step = simulator.for_adjoint(lambda q: {key: q[key] for key in used})
    way = WAY.astype(dtype)

    def loss(q, method, steps=STEPS):
        q = {key: jnp.asarray(x, dtype) for key, x in q.items()}
        R = system.shift_fn(system.position, q.get("start", 0) * way)
        state = simulator.init(jax.random.key(0), R, kT=q["kT"], epsilon=q["epsilon"])
        end, seen = adjoint.rollout(
            step,
            q,
            state,
            steps,
            method=method,
            observe=lambda s: jnp.sum(s.momentum * way),
            every=10,
        )
        return jnp.sum(end.momentum**2) / 12 + jnp.sum(seen) / 10

    return loss


CASES = [
    pytest.param(
        "langevin",
        "fractional",
        jnp.float32,
        (adjoint.Backprop(),),
        marks=pytest.mark.slow,
    ),
    pytest.param("nose_hoover", "general", jnp.float64, ()),
]
CASES += [
    pytest.param(name, kind, dtype, METHODS, marks=pytest.mark.slow)
    for name in ("langevin", "nose_hoover")
    for kind, dtype in [("periodic", jnp.float32), ("fractional", jnp.float64)]
]


@pytest.mark.parametrize(("name", "kind", "dtype", "others"), CASES)
def test_gradient_is_that_of_stored_states_and_of_differences(
    name, kind, dtype, others
):
    loss = liquid(name, kind, dtype)
    q = START | {"start": 0.0}
    got, *grads = (
        jax.jit(jax.grad(partial(loss, method=m)))(q)
        for m in (adjoint.Reversible(), *others)
    )
    value = jax.jit(partial(loss, method=adjoint.Reversible()))
    wide = dtype == jnp.float64
    for key, x in q.items():
        for other in grads:
            # The same steps at the same bits: only additions differ.
            np.testing.assert_allclose(
                got[key], other[key], rtol=1e-9 if wide else 1e-3, err_msg=key
            )
        # Momenta are rounded to 7e-9, or to 1e-7 of themselves in float32, in each
        # step; differences have an error of (h / x)^2, too.
        h = (2e-3 if wide else 2e-2) * (x or 0.2)
        up, down = (float(value(q | {key: x + s * h})) for s in (1, -1))
        expected = (up - down) / (2 * h)
        np.testing.assert_allclose(
            got[key], expected, rtol=1e-3 if wide else 0.03, err_msg=key
        )
        assert (abs(expected) > 1e-4) == (key != "gamma" or name == "langevin")


def test_a_state_of_other_parameters_is_refreshed():
    # Its force is that of another energy: a first kick that the inverse cannot know.
    system, simulator = make("langevin", "periodic", jnp.float64)
    state = simulator.init(jax.random.key(0), system.position, epsilon=1.0)
    step = simulator.for_adjoint(lambda q: {"epsilon": q[0], "gamma": q[1]})

    def loss(q, steps=10):
        end, _ = adjoint.rollout(step, q, state, steps, adjoint.Reversible())
        return jnp.sum(end.momentum * WAY)

    bars = jax.jit(jax.grad(loss))((20.0, 2.0))
    value = jax.jit(loss)
    up, down = value((20.2, 2.0)), value((19.8, 2.0))
    np.testing.assert_allclose(bars[0], (up - down) / 0.4, rtol=1e-3)
    # At such friction 128 bits do not last for 200 steps.
    far = jax.jit(jax.value_and_grad(partial(loss, steps=200)))
    found, bars = far((20.0, 30.0))
    assert jnp.isfinite(found) and jnp.isnan(bars[1])
