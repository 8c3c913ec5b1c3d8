"""Reverse mode with little memory: from few stored states, or none at all."""

from typing import Any

import jax
import jax.numpy as jnp

from .flat import Leaves, Problem, add, split
from .guard import refuse_derivatives, refuse_reverse
from .schedule import PULL, binomial

_TWICE = (
    "`Checkpointed` has no reverse mode of its gradient: take `jax.jvp` of `jax.grad` "
    "for Hessian-vector products, or `Backprop()` for derivatives of any order."
)
_ONCE = (
    "`Reversible` has first derivatives only: take `Backprop()` for derivatives of any "
    "order, or `Checkpointed()` for Hessian-vector products."
)


def checkpointed(problem: Problem, slots: int, theta: Leaves, x: Leaves) -> Any:
    """Roll out; gradients start from states stored by the binomial schedule.

    One compiled loop over a table, whatever the number of steps.
    """
    schedule = binomial(problem.steps, slots)

    def forward(theta: Leaves, x: Leaves) -> tuple[Any, Any]:
        store = [jnp.zeros((slots, *a.shape), a.dtype) for a in x]

        def move(theta: Leaves, x: Leaves, store: Leaves, slot: Any):
            # The slot past the last stands for none.
            store = [
                s.at[slot].set(a, mode="drop") for s, a in zip(store, x, strict=True)
            ]
            return problem.step(theta, x), store

        first = jnp.asarray(schedule.first)
        x, store, seen = problem.run(theta, x, move, store, first)
        return (x, seen), (theta, store)

    def backward(kept: Any, bars: Any) -> tuple[Leaves, Leaves]:
        theta, store = kept
        x_bar, seen_bar = problem.cotangents(bars)
        theta_bar = [jnp.zeros_like(a) for a in split(problem.theta_mask, theta)[0]]

        def turn(carry: Any, row: Any) -> tuple[Any, None]:
            store, theta_bar, x_bar = carry
            slot, start, count, target = row
            x = [s[slot] for s in store]
            x = jax.lax.fori_loop(0, count, lambda _, x: problem.step(theta, x), x)

            def keep() -> Any:
                return theta_bar, x_bar

            def pull() -> Any:
                more, bar = problem.pull_back(theta, x, start + count, x_bar, seen_bar)
                return add(theta_bar, more), bar

            # Outside of the branches, which would copy all states that are held.
            place = jnp.where(target == PULL, slots, target)
            store = [
                s.at[place].set(a, mode="drop") for s, a in zip(store, x, strict=True)
            ]
            return (store, *jax.lax.cond(target == PULL, pull, keep)), None

        rows = jnp.asarray(schedule.rows)
        carry, _ = jax.lax.scan(turn, (store, theta_bar, x_bar), rows)
        store, theta_bar, x_bar = carry
        theta_bar, x_bar = refuse_reverse((theta_bar, x_bar), _TWICE)
        return problem.full(theta, [s[0] for s in store], theta_bar, x_bar)

    rolled = jax.custom_vjp(problem.plain)
    rolled.defvjp(forward, backward)
    return rolled(theta, x)


def reversible(problem: Problem, theta: Leaves, x: Leaves) -> Any:
    """Roll out; gradients walk the trajectory back with the inverse of the step."""

    def forward(theta: Leaves, x: Leaves) -> tuple[Any, Any]:
        end, seen = problem.plain(theta, x)
        return (end, seen), (theta, x, end)

    def backward(kept: Any, bars: Any) -> tuple[Leaves, Leaves]:
        theta, start, end = kept
        x_bar, seen_bar = problem.cotangents(bars)
        theta_bar = [jnp.zeros_like(a) for a in split(problem.theta_mask, theta)[0]]

        def turn(k: Any, carry: Any) -> Any:
            x, theta_bar, x_bar = carry
            x, then = problem.undo(theta, x)
            i = problem.steps - 1 - k
            more, x_bar = problem.pull_back(then, x, i, x_bar, seen_bar)
            return x, add(theta_bar, more), x_bar

        carry = (end, theta_bar, x_bar)
        x, theta_bar, x_bar = jax.lax.fori_loop(0, problem.steps, turn, carry)
        same = same_state(problem.state_mask, x, start, end)
        theta_bar, x_bar = jax.tree.map(
            lambda bar: jnp.where(same, bar, jnp.nan), (theta_bar, x_bar)
        )
        theta_bar, x_bar = refuse_derivatives((theta_bar, x_bar), _ONCE)
        return problem.full(theta, start, theta_bar, x_bar)

    rolled = jax.custom_vjp(problem.plain)
    rolled.defvjp(forward, backward)
    return rolled(theta, x)


def same_state(mask: list[bool], walked: Leaves, known: Leaves, end: Leaves) -> Any:
    """Whether a walk back from `end` came to the state that is known to be there.

    All integers have to agree, and if there are none, all real numbers to the bit.
    Beside integers, real numbers follow from them and may round otherwise on the way
    back, each by its own size on the way. Flags need not agree: that of an overflow,
    once set, stays.
    """
    exact, close = [], []
    for real, a, b, c in zip(mask, walked, known, end, strict=True):
        if real:
            eps = float(jnp.finfo(a.dtype).eps)
            size = jnp.maximum(*(jnp.max(jnp.abs(x), initial=0) for x in (b, c)))
            off = jnp.abs(a - b) <= eps**0.5 * size
            close.append(jnp.all((a == b) | off | (jnp.isnan(a) & jnp.isnan(b))))
        elif a.dtype != bool:
            exact.append(jnp.all(a == b))
    if not exact:
        pairs = zip(walked, known, strict=True)
        exact, close = [jnp.all(a == b) for a, b in pairs], []
    return jnp.all(jnp.stack([*exact, *close]))
