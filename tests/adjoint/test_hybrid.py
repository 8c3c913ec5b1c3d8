"""Walks back from one stored state to the next."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_md import adjoint
from jax_md.simulate.reversible.rounding import exactly

METHODS = [
    adjoint.Backprop(),
    adjoint.Checkpointed(3),
    adjoint.Hybrid(1),
    adjoint.Hybrid(5),
    adjoint.Hybrid(10),
    adjoint.Hybrid(1000),
]
UNIT = 2.0**28


def kick(k, n):
    push = jnp.round(k * jnp.sin(2 * jnp.pi * n / 2.0**32) * UNIT / 16)
    return push.astype(jnp.int32)


def read(n, m):
    return n / 2.0**32, m / UNIT


def forward(k, state, event=10):
    """The standard map on integers; halves its momentum before each tenth step."""
    n, m, count, x, p = state
    halved = count % event == 0
    m = jnp.where(halved, m // 2, m)
    p = jnp.where(halved, p / 2, p)
    m = m + kick(k, n)
    p = p + k * jnp.sin(2 * jnp.pi * x) / 16
    n = n + 16 * m
    exact = read(n, m)
    return n, m, count + 1, exactly(exact[0], x + p), exactly(exact[1], p)


def inverse(k, state):
    n, m, count, _, _ = state
    n = n - 16 * m
    m = m - kick(k, n)
    return n, m, count - 1, *read(n, m)


STEP = adjoint.ReversibleStep(forward, inverse)


def start(p=0.5):
    n, m = jnp.int32(2**28), jnp.round(p * 2.0**23).astype(jnp.int32)
    exact = read(n, m)
    return n, m, jnp.int32(0), exact[0], exactly(exact[1], p / 32)


def loss(k, method, p=0.5, steps=23, step=STEP, **options):
    end, seen = adjoint.rollout(step, k, start(p), steps, method, **options)
    value = end[3] + end[4] ** 2
    return value if seen is None else value + jnp.sum(seen)


@pytest.mark.parametrize("method", METHODS[1:], ids=repr)
def test_steps_from_stored_states_need_no_inverse(method):
    every = getattr(method, "every", 1)
    fn = jax.jit(jax.grad(partial(loss, method=method), (0,)))
    got = fn(0.3)[0]
    expected = jax.grad(loss)(0.3, METHODS[0])
    if 10 % every:  # an event that is undone the wrong way
        assert jnp.isnan(got)
        return
    np.testing.assert_allclose(got, expected, rtol=1e-11)
    with_p = jax.grad(partial(loss, 0.3, method))(0.5)
    h = 1e-2  # the momentum is rounded to 2e-7 of its unit
    difference = (loss(0.3, method, 0.5 + h) - loss(0.3, method, 0.5 - h)) / (2 * h)
    np.testing.assert_allclose(with_p, difference, rtol=1e-2)


@pytest.mark.parametrize(("steps", "every"), [(20, 4), (23, 1)])
def test_observables_and_batches(steps, every):
    options = {"observe": lambda s: s[3] * s[4], "every": every, "steps": steps}
    k = jnp.array([0.2, 0.3])

    def batch(method):
        fn = jax.grad(partial(loss, method=method, **options))
        return jax.jit(jax.vmap(fn))(k)

    expected = batch(METHODS[0])
    np.testing.assert_allclose(batch(adjoint.Hybrid(5)), expected, rtol=1e-11)


def test_what_steps_share_is_renewed_from_the_stored_state():
    # The count at which the window began, in units of a kick that all steps get.
    def shared(fn, sign):
        def move(k, state, start):
            n, m, *rest = state
            if sign < 0:
                return fn(k, (n, m - 1000 * start, *rest)), start
            n, m, count, x, p = fn(k, state)
            m = m + 1000 * start
            return n, m, count, x, exactly(read(n, m)[1], p)

        return move

    renewals = []

    def renew(k, state, first):
        renewals.append(first)
        return state[2]

    step = adjoint.ReversibleStep(
        partial(shared(partial(forward, event=1000), 1)),
        shared(inverse, -1),
        shared=jnp.int32(7),
        renew=renew,
    )

    def end(method):
        return adjoint.rollout(step, 0.3, start(), 12, method)[0]

    assert len({int(end(m)[1]) for m in METHODS[:2]}) == 1  # those keep the first one
    windows = end(adjoint.Hybrid(4))
    plain = adjoint.rollout(partial(forward, event=1000), 0.3, start(), 12)[0]
    assert windows[1] != plain[1] and renewals
    assert jnp.isfinite(jax.grad(loss)(0.3, adjoint.Hybrid(4), step=step))


def test_memory_is_that_of_the_stored_states():
    def temporary(steps, every):
        def total(k, p):
            state = jax.tree.map(lambda x: jnp.broadcast_to(x, (1000,)), start())
            state = (*state[:4], p)
            method = adjoint.Hybrid(every)
            end, _ = adjoint.rollout(STEP, k, state, steps, method)
            return jnp.sum(end[3])

        fn = jax.jit(jax.grad(total))
        program = fn.lower(0.3, jnp.full(1000, 0.5)).compile()
        return program.memory_analysis().temp_size_in_bytes

    state = 1000 * (3 * 4 + 2 * 8)
    one = temporary(100, 10)
    assert abs(temporary(1000, 100) - one) < state
    # Ten states more, less what no derivative asks for.
    assert 5 * state < temporary(200, 10) - one < 11 * state


def test_a_wrong_inverse_gives_no_gradient():
    def almost(k, state):
        n, *rest = inverse(k, state)
        return n + 1, *rest

    step = adjoint.ReversibleStep(forward, almost)
    assert jnp.isnan(jax.grad(loss)(0.3, adjoint.Hybrid(10), step=step))
    # Where each state is stored, nothing is undone.
    assert jnp.isfinite(jax.grad(loss)(0.3, adjoint.Hybrid(1), step=step))


@pytest.mark.parametrize(
    ("error", "words", "call"),
    [
        (ValueError, "`every` must be at least 1", lambda: adjoint.Hybrid(0)),
        (TypeError, "`every` must be a Python int", lambda: adjoint.Hybrid(2.0)),
        (ValueError, "`clip`", lambda: adjoint.Hybrid(2, clip=-1.0)),
        (
            TypeError,
            "`Hybrid` needs a step with an exact inverse",
            lambda: loss(0.3, adjoint.Hybrid(2), step=forward),
        ),
        (ValueError, "`steps`", lambda: loss(0.3, adjoint.Hybrid(2), steps=0)),
        (ValueError, "`steps`", lambda: loss(0.3, adjoint.Hybrid(2), steps=-2)),
        (
            TypeError,
            "what steps share",
            lambda: loss(
                0.3,
                adjoint.Hybrid(2),
                step=adjoint.ReversibleStep(
                    lambda k, s, c: forward(k, s),
                    lambda k, s, c: (inverse(k, s), c),
                    shared=jnp.int32(1),
                    renew=lambda k, s, c: (c, c),
                ),
            ),
        ),
        (
            TypeError,
            "must return a pair",
            lambda: loss(
                0.3,
                adjoint.Reversible(),
                step=adjoint.ReversibleStep(
                    lambda k, s, c: forward(k, s), lambda k, s, c: 1, shared=1
                ),
            ),
        ),
        (
            TypeError,
            "first derivatives only",
            lambda: jax.grad(jax.grad(partial(loss, method=adjoint.Hybrid(2))))(0.3),
        ),
    ],
)
def test_errors(error, words, call):
    with pytest.raises(error, match=words):
        call()
