"""What each method promises, on a pendulum."""

import re
from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_md import adjoint
from jax_md.adjoint.schedule import advances, binomial

METHODS = [
    adjoint.Backprop(),
    adjoint.Checkpointed(),
    adjoint.Checkpointed(slots=1),
    adjoint.Forward(),
    adjoint.Truncated(window=100),
]
EQUAL = 1e-11  # additions in another order, at derivatives of order one


def pendulum(k, state):
    x, p, count = state
    p = p - 0.1 * k * jnp.sin(x)
    return x + 0.1 * p, p, count + 1


def energy(k, x, method, steps=30, step=pendulum, **kwargs):
    (x, p, _), _ = adjoint.rollout(step, k, (x, 0 * x, 0), steps, method, **kwargs)
    return jnp.sum(p**2 / 2 + x**3)


X = jnp.array([0.5, 1.0, 1.5])


@pytest.mark.parametrize("method", METHODS, ids=repr)
def test_batches(method):
    k = jnp.array([0.7, 1.0, 1.3])
    fn = jax.grad(lambda k: energy(k, X, method))
    batched = jax.jit(jax.vmap(fn))(k)
    expected = [jax.grad(lambda k: energy(k, X, adjoint.Backprop()))(k) for k in k]
    np.testing.assert_allclose(batched, expected, rtol=EQUAL)


@pytest.mark.parametrize("method", METHODS, ids=repr)
def test_what_the_step_closes_over_is_differentiated(method):
    def closed(scale, method):
        def step(k, state):
            return pendulum(k * scale, state)

        return energy(1.0, X, method, step=step)

    got = jax.jit(jax.grad(closed), static_argnums=1)(1.2, method)
    expected = jax.grad(lambda k: energy(k, X, adjoint.Backprop()))(1.2)
    np.testing.assert_allclose(got, expected, rtol=EQUAL)


@pytest.mark.parametrize("method", METHODS, ids=repr)
def test_second_derivatives(method):
    first = jax.grad(lambda k: energy(k, X, method))
    exact = jax.grad(lambda k: energy(k, X, adjoint.Backprop(remat=False)))
    expected = jax.jvp(exact, (1.0,), (1.0,))[1]
    difference = (exact(1 + 1e-5) - exact(1 - 1e-5)) / 2e-5
    np.testing.assert_allclose(expected, difference, rtol=1e-7)
    np.testing.assert_allclose(jax.jvp(first, (1.0,), (1.0,))[1], expected, rtol=EQUAL)
    if isinstance(method, adjoint.Checkpointed):
        with pytest.raises(TypeError, match=r"`jax.jvp` of `jax.grad`"):
            jax.grad(first)(1.0)
    else:
        np.testing.assert_allclose(jax.grad(first)(1.0), expected, rtol=EQUAL)


def test_forward_mode_of_a_jacobian():
    def loss(k):
        return energy(k, X, adjoint.Forward())

    expected = jax.grad(loss)(1.0)
    np.testing.assert_allclose(jax.jacfwd(loss)(1.0), expected, rtol=EQUAL)


def test_windows_are_counted_from_the_end():
    # Of seven steps in windows of three, the start is seen by none but the first.
    def end(x, steps, window):
        return energy(1.0, x, adjoint.Truncated(window), steps)

    assert jnp.all(jax.grad(end)(X, 7, 3) == 0)
    k_bar = jax.grad(lambda k: energy(k, X, adjoint.Truncated(3), 7))(1.0)
    middle, _ = adjoint.rollout(pendulum, 1.0, (X, 0 * X, 0), 4)

    def last_three(k):
        (x, p, _), _ = adjoint.rollout(pendulum, k, middle, 3)
        return jnp.sum(p**2 / 2 + x**3)

    np.testing.assert_allclose(k_bar, jax.grad(last_three)(1.0), rtol=EQUAL)


def cut_by_hand(k, x, steps, window, every, watched):
    """The windows of `Truncated`, as a loop that stops gradients between them."""
    state, total = (x, 0 * x, 0), 0.0
    for i in range(steps):
        if i and (steps - i) % window == 0:
            state = jax.lax.stop_gradient(state)
        state = pendulum(k, state)
        if watched and (i + 1) % every == 0:
            total = total + jnp.sum(jnp.sin(state[0]) * state[1] * (i + 1))
    return total + jnp.sum(state[1] ** 2 / 2 + state[0] ** 3)


@pytest.mark.parametrize(
    ("steps", "window", "every", "watched", "remat"),
    [
        (12, 5, 3, True, True),
        (11, 4, 1, False, True),
        (12, 4, 1, True, False),
        pytest.param(10, 4, 5, True, True, marks=pytest.mark.slow),
        pytest.param(12, 4, 1, True, True, marks=pytest.mark.slow),
    ],
)
def test_windows_are_those_of_stopped_gradients(steps, window, every, watched, remat):
    def loss(k, x):
        (x, p, _), seen = adjoint.rollout(
            pendulum,
            k,
            (x, 0 * x, 0),
            steps,
            adjoint.Truncated(window, remat=remat),
            (lambda s: (jnp.sin(s[0]) * s[1], s[2])) if watched else None,
            every,
        )
        total = jnp.sum(p**2 / 2 + x**3)
        if watched:
            total = total + jnp.sum(seen[0] * seen[1][:, None])
        return total

    got = jax.jit(jax.grad(loss, (0, 1)))(1.2, X)
    expected = jax.grad(cut_by_hand, (0, 1))(1.2, X, steps, window, every, watched)
    for a, b in zip(got, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=EQUAL, atol=1e-14)
    batch = jnp.array([0.7, 1.2])
    several = jax.jit(jax.vmap(jax.grad(loss), (0, None)))(batch, X)
    np.testing.assert_allclose(several[1], got[0], rtol=EQUAL)


def test_windows_hold_one_window():
    def observed(steps):
        def loss(k, x):
            method = adjoint.Truncated(window=10)
            _, seen = adjoint.rollout(
                pendulum, k, (x, 0 * x, 0), steps, method, lambda s: jnp.sum(s[0])
            )
            return jnp.sum(seen)

        program = jax.jit(jax.grad(loss)).lower(1.0, jnp.zeros(1000)).compile()
        return program.memory_analysis().temp_size_in_bytes

    state = 2 * 1000 * 8
    assert observed(1000) < 20 * state
    assert observed(1000) - observed(100) <= 2 * 8 * 900 + 1024  # the observables
    last = temporary(adjoint.Truncated(window=10), 1000)
    # The numbers of the steps are scanned over.
    assert last <= temporary(adjoint.Truncated(window=10), 100) + 8 * 900 < 20 * state


@pytest.mark.parametrize(
    "kind", [adjoint.Backprop, adjoint.Checkpointed, adjoint.Truncated]
)
def test_tempered_cotangents(kind):
    options = {"window": 100} if kind is adjoint.Truncated else {}

    def start_bar(steps, **tempering):
        method = kind(**options, **tempering)
        return jax.grad(lambda x: energy(1.0, x, method, steps))(X)

    # One factor a step.
    plain = start_bar(8)
    np.testing.assert_allclose(start_bar(8, decay=0.5), plain / 2**8, rtol=EQUAL)
    norm = float(jnp.linalg.norm(start_bar(1)))
    assert norm > 0.1
    clipped = start_bar(1, clip=0.1)  # the norm counts the momenta, too
    assert jnp.linalg.norm(clipped) < 0.1
    cosine = jnp.vdot(clipped, start_bar(1)) / norm / jnp.linalg.norm(clipped)
    np.testing.assert_allclose(cosine, 1, rtol=EQUAL)
    np.testing.assert_allclose(start_bar(8, clip=1e9), plain, rtol=EQUAL)


@lru_cache
def least_advances(steps, slots):
    """By dynamic programming over where to store the next state."""
    if steps == 1:
        return 0
    if slots == 1:
        return steps * (steps - 1) // 2
    return min(
        m + least_advances(steps - m, slots - 1) + least_advances(m, slots)
        for m in range(1, steps)
    )


@pytest.mark.parametrize("slots", [1, 2, 3, 5])
def test_the_schedule_is_optimal_and_whole(slots):
    for steps in range(slots, 40):
        first, rows = binomial(steps, slots)
        stored = {int(s): i for i, s in enumerate(first) if s < slots}
        taken, pulled = max(stored.values()), []
        for slot, start, count, target in rows:
            assert stored[slot] == start
            taken += count
            if target < 0:
                pulled.append(start + count)
            else:
                stored[target] = start + count
        assert pulled == list(range(steps))[::-1]
        assert taken == least_advances(steps, slots) == advances(steps, slots)


def compiled(method, steps, n=1000):
    fn = jax.jit(jax.grad(lambda k, x: energy(k, x, method, steps)))
    return fn.lower(1.0, jnp.zeros(n)).compile()


def temporary(method, steps, n=1000):
    return compiled(method, steps, n).memory_analysis().temp_size_in_bytes


def test_memory():
    state = 2 * 1000 * 8
    few = temporary(adjoint.Checkpointed(slots=4), 100)
    many = temporary(adjoint.Checkpointed(slots=4), 1000)
    more = temporary(adjoint.Checkpointed(slots=14), 1000)
    table = 900 * 4 * 10  # the schedule, in numbers of four bytes
    assert abs(many - few) < table
    np.testing.assert_allclose((more - many) / (10 * state), 1, atol=1)
    assert temporary(adjoint.Backprop(), 1000) > 1000 * state / 2  # x alone is needed
    assert temporary(adjoint.Forward(), 1000) == temporary(adjoint.Forward(), 100)


@pytest.mark.parametrize("states", [8, 30])
def test_slots_from_memory(states):
    state = 2 * 1000 * 8 + 4
    method = adjoint.Checkpointed(memory=states * state)
    needed = temporary(method, 1000)
    # Within the budget, and most of it used.
    assert (states - 6) * state < needed <= states * state
    got = jax.grad(lambda k: energy(k, X, adjoint.Checkpointed(memory=1e5)))(1.0)
    expected = jax.grad(lambda k: energy(k, X, adjoint.Backprop()))(1.0)
    np.testing.assert_allclose(got, expected, rtol=EQUAL)


def test_memory_for_less_than_a_slot():
    def fails(memory):
        method = adjoint.Checkpointed(memory=memory)
        with pytest.raises(ValueError, match="one slot needs ([0-9,]+) bytes") as error:
            jax.grad(lambda k: energy(k, jnp.zeros(1000), method))(1.0)
        return int(re.search(r"needs ([0-9,]+)", str(error.value))[1].replace(",", ""))

    needed = fails(1000)
    assert fails(needed - 1) == needed
    method = adjoint.Checkpointed(memory=needed)
    assert jnp.isfinite(jax.grad(lambda k: energy(k, jnp.zeros(1000), method))(1.0))


def test_the_program_does_not_grow_with_the_steps():
    def lines(steps):
        fn = jax.jit(jax.grad(lambda k: energy(k, X, adjoint.Checkpointed(6), steps)))
        return len(fn.lower(1.0).as_text().splitlines())

    assert lines(30) == lines(3000)


STATE = (X, 0 * X, 0)


@pytest.mark.parametrize(
    ("error", "words", "call"),
    [
        (
            ValueError,
            "`steps` must be at least 1",
            lambda: energy(1.0, X, METHODS[0], 0),
        ),
        (ValueError, "got -3", lambda: energy(1.0, X, METHODS[0], -3)),
        (
            TypeError,
            "`steps` must be a Python int",
            lambda: energy(1.0, X, METHODS[0], 2.0),
        ),
        (
            ValueError,
            "`every` must divide `steps`",
            lambda: energy(1.0, X, METHODS[0], 7, observe=lambda s: s, every=2),
        ),
        (ValueError, "`every` must be", lambda: energy(1.0, X, METHODS[0], 7, every=0)),
        (TypeError, "`method` must be", lambda: energy(1.0, X, adjoint.Backprop)),
        (TypeError, "inverse", lambda: energy(1.0, X, adjoint.Reversible())),
        (ValueError, "`slots`", lambda: adjoint.Checkpointed(slots=0)),
        (
            ValueError,
            "exclude each other",
            lambda: adjoint.Checkpointed(slots=2, memory=1e6),
        ),
        (ValueError, "`memory`", lambda: adjoint.Checkpointed(memory=0)),
        (ValueError, "`window`", lambda: adjoint.Truncated(window=0)),
        (ValueError, "`clip`", lambda: adjoint.Backprop(clip=0.0)),
        (ValueError, "`decay`", lambda: adjoint.Checkpointed(decay=1.5)),
        (
            TypeError,
            "structure",
            lambda: adjoint.rollout(lambda k, s: s[:2], 1.0, STATE, 3),
        ),
        (
            TypeError,
            r"\[2\] went in as int64 and came out as float64",
            lambda: adjoint.rollout(lambda k, s: (*s[:2], s[2] * 1.5), 1.0, STATE, 3),
        ),
        (
            ValueError,
            "shapes",
            lambda: adjoint.rollout(lambda k, s: (s[0][:2], *s[1:]), 1.0, STATE, 3),
        ),
    ],
)
def test_errors(error, words, call):
    with pytest.raises(error, match=words):
        call()


def test_forward_refuses_complex_numbers():
    def loss(k):
        end, _ = adjoint.rollout(lambda k, z: z * k, k, 1.0 + 0j, 3, adjoint.Forward())
        return jnp.abs(end)

    with pytest.raises(TypeError, match="real numbers only"):
        jax.grad(loss)(1.0 + 1j)
