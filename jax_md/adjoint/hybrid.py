"""Reverse mode that walks back between a few stored states."""

from typing import Any

import jax
import jax.numpy as jnp

from .flat import Leaves, Problem, add, split
from .guard import refuse_derivatives
from .reverse import same_state

_ONCE = (
    "`Hybrid` has first derivatives only: take `Backprop()` for derivatives of any "
    "order, or `Checkpointed()` for Hessian-vector products."
)


def hybrid(problem: Problem, every: int, theta: Leaves, x: Leaves) -> Any:
    """Roll out; gradients walk each window back, from its last state to its second.

    The first state of a window is stored, and its step is not undone but taken again:
    that it leads to the state that the walk has come to is the proof of the walk.

    Args:
        problem: What to roll out.
        every: Steps of a window; the last may be shorter.
        theta: Parameters.
        x: State to start from.
    """
    windows = -(-problem.steps // every)

    def shared(theta: Leaves, x: Leaves) -> Leaves:
        """What the steps of a window share, from its first state."""
        return (
            theta[problem.shared] if problem.renew is None else problem.renew(theta, x)
        )

    def forward(theta: Leaves, x: Leaves) -> tuple[Any, Any]:
        store = [jnp.zeros((windows, *a.shape), a.dtype) for a in x]

        def move(theta: Leaves, x: Leaves, extra: tuple, i: Any) -> tuple:
            store, now = extra
            first = i % every == 0
            slot = jnp.where(first, i // every, windows)  # the last stands for none
            store = [
                s.at[slot].set(a, mode="drop") for s, a in zip(store, x, strict=True)
            ]
            # A loop of at most one turn, since a `cond` would copy what it leaves.
            _, now = jax.lax.while_loop(
                lambda carry: carry[0],
                lambda carry: (jnp.zeros_like(first), shared(theta, x)),
                (first, now),
            )
            x = problem.step(problem.with_shared(theta, now), x)
            return x, (store, now)

        extra = store, theta[problem.shared]
        numbers = jnp.arange(problem.steps)
        x, (store, _), seen = problem.run(theta, x, move, extra, numbers)
        return (x, seen), (theta, store, x)

    def backward(kept: Any, bars: Any) -> tuple[Leaves, Leaves]:
        theta, store, end = kept
        x_bar, seen_bar = problem.cotangents(bars)
        theta_bar = [jnp.zeros_like(a) for a in split(problem.theta_mask, theta)[0]]

        def window(k: Any, carry: Any) -> Any:
            x, theta_bar, x_bar, same = carry
            w = windows - 1 - k
            begin = w * every
            count = jnp.minimum(every, problem.steps - begin)
            start = [s[w] for s in store]
            now = problem.with_shared(theta, shared(theta, start))

            def pull(theta: Leaves, x: Leaves, i: Any, bars: tuple) -> tuple:
                theta_bar, x_bar = bars
                more, x_bar = problem.pull_back(theta, x, i, x_bar, seen_bar)
                return add(theta_bar, more), x_bar

            def turn(j: Any, carry: Any) -> Any:
                x, *bars = carry
                x, then = problem.undo(now, x)
                return x, *pull(then, x, begin + count - 1 - j, tuple(bars))

            carry = (x, theta_bar, x_bar)
            x, *bars = jax.lax.fori_loop(0, count - 1, turn, carry)
            second = jax.lax.optimization_barrier(problem.step(now, start))
            same = same & same_state(problem.state_mask, x, second, end)
            return start, *pull(now, start, begin, tuple(bars)), same

        carry = (end, theta_bar, x_bar, jnp.asarray(True))
        start, theta_bar, x_bar, same = jax.lax.fori_loop(0, windows, window, carry)
        theta_bar, x_bar = jax.tree.map(
            lambda bar: jnp.where(same, bar, jnp.nan), (theta_bar, x_bar)
        )
        theta_bar, x_bar = refuse_derivatives((theta_bar, x_bar), _ONCE)
        return problem.full(theta, start, theta_bar, x_bar)

    # Values come from the windows, too: what is shared decides the order of sums.
    rolled = jax.custom_vjp(lambda theta, x: forward(theta, x)[0])
    rolled.defvjp(forward, backward)
    return rolled(theta, x)
