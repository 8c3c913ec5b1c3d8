"""Forecasts of memory and work, against XLA's account and against counted steps."""

import jax
import jax.numpy as jnp
import pytest

from jax_md import adjoint
from jax_md.adjoint.schedule import advances

N = 500


def ring(params, state):
    """Pendulums that pull at their neighbors."""
    x, p, count = state
    pull = jnp.roll(x, 1) + jnp.roll(x, -1) - 2 * x
    p = p + 0.05 * (params["k"] * jnp.tanh(pull) - params["g"] * jnp.sin(x))
    return x + 0.05 * p, p, count + 1


def unring(params, state):
    x, p, count = state
    x = x - 0.05 * p
    pull = jnp.roll(x, 1) + jnp.roll(x, -1) - 2 * x
    p = p - 0.05 * (params["k"] * jnp.tanh(pull) - params["g"] * jnp.sin(x))
    return x, p, count - 1


STEP = adjoint.ReversibleStep(ring, unring)
PARAMS = {"k": jnp.array(1.0), "g": jnp.array(0.3)}
STATE = (jnp.linspace(0.0, 1.0, N), jnp.zeros(N), 0)

METHODS = [
    adjoint.Backprop(),
    adjoint.Backprop(remat=False),
    adjoint.Checkpointed(),
    adjoint.Checkpointed(slots=4),
    adjoint.Checkpointed(memory=2e5),
    adjoint.Reversible(),
    adjoint.Forward(),
    adjoint.Truncated(20),
    adjoint.Truncated(20, remat=False),
    adjoint.Truncated(1000),
]


def look(state):
    return jnp.sum(state[0] ** 2)


def gradient(method, steps, observe=None):
    def loss(params):
        end, seen = adjoint.rollout(STEP, params, STATE, steps, method, observe)
        return look(end) + (0 if seen is None else jnp.sum(seen))

    return jax.jit(jax.grad(loss))


@pytest.mark.parametrize("method", METHODS, ids=repr)
def test_memory_is_what_the_compiler_says(method):
    steps = 300
    got = adjoint.forecast(STEP, PARAMS, STATE, steps, method)
    program = gradient(method, steps).lower(PARAMS).compile()
    actual = program.memory_analysis().temp_size_in_bytes
    # From above, and within a few states where few are held.
    assert actual <= got.memory + 1000
    assert got.memory <= 1.4 * actual + 8 * 16 * N
    assert f"{type(method).__name__}(" in str(got) and "forward runs" in str(got)


counts = {"steps": 0}


def counted(params, state):
    jax.debug.callback(lambda: counts.update(steps=counts["steps"] + 1))
    x, p = state
    p = p - 0.1 * params * jnp.sin(x)
    return x + 0.1 * p, p


@pytest.mark.parametrize("slots", [1, 3, 7, 40])
def test_steps_of_a_schedule_are_counted(slots):
    steps, start = 40, (jnp.array(1.0), jnp.array(0.0))
    method = adjoint.Checkpointed(slots=slots)
    got = adjoint.forecast(counted, jnp.array(1.0), start, steps, method)
    counts["steps"] = 0
    gradient = jax.grad(
        lambda k: adjoint.rollout(counted, k, start, steps, method)[0][0]
    )
    jax.block_until_ready(gradient(1.0))
    jax.effects_barrier()
    assert got.pulls == steps
    assert counts["steps"] == got.forward_steps + got.pulls
    # No schedule does with less; the first descent is part of the forward pass.
    least = advances(steps, slots)
    assert least <= got.forward_steps <= least + steps


def test_work():
    steps = 200
    many = {
        type(m).__name__ + str(getattr(m, "slots", "")): adjoint.forecast(
            STEP, PARAMS, STATE, steps, m
        )
        for m in (
            adjoint.Backprop(),
            adjoint.Checkpointed(slots=2),
            adjoint.Checkpointed(slots=50),
            adjoint.Reversible(),
            adjoint.Truncated(20),
        )
    }
    runs = {name: f.runs for name, f in many.items()}
    assert 2.5 < runs["Backprop"] < 6
    assert runs["Backprop"] < runs["Checkpointed50"] < runs["Reversible"]
    assert runs["Checkpointed2"] > 3 * runs["Checkpointed50"]
    assert runs["Truncated"] < runs["Backprop"] / 2  # without observables, one window
    watched = adjoint.forecast(STEP, PARAMS, STATE, steps, adjoint.Truncated(20), look)
    assert watched.pulls == steps and watched.forward_steps == 2 * steps
    assert watched.memory - many["Truncated"].memory == 2 * 8 * steps


def test_measured_seconds():
    method = adjoint.Checkpointed(5)
    got = adjoint.forecast(STEP, PARAMS, STATE, 100, method, measure=True)
    twice = adjoint.forecast(STEP, PARAMS, STATE, 100, method)
    assert got.seconds > 0 and " s" in str(got)
    assert twice.seconds is None and twice.runs == got.runs
