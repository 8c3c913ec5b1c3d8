"""Reverse mode through the scan of the steps, whole or in windows."""

from typing import Any

import jax
import jax.numpy as jnp

from .flat import Leaves, Problem, add, merge, split


def backprop(
    problem: Problem, theta: Leaves, x: Leaves, remat: bool
) -> tuple[Leaves, Leaves]:
    """Roll out; JAX differentiates the scan.

    Args:
        problem: What to roll out.
        theta: Parameters.
        x: State to start from.
        remat: Whether to compute a step again in the backward pass.
    """
    step = jax.checkpoint(problem.step) if remat else problem.step

    def move(theta: Leaves, x: Leaves, extra: tuple, i: Any):
        return step(theta, x), extra

    x, _, seen = problem.run(theta, x, move, ())
    return x, seen


def truncated(
    problem: Problem, theta: Leaves, x: Leaves, remat: bool, window: int
) -> tuple[Leaves, Leaves]:
    """Roll out; gradients stay within windows, counted from the end.

    No cotangent crosses from one window into another, so windows need not be taken in
    reverse: the backward pass goes over the trajectory once more from its start and
    holds the states of one window at a time. Without observables to differentiate, all
    windows but the last have zero gradients and are left out.

    Args:
        problem: What to roll out.
        theta: Parameters.
        x: State to start from.
        remat: Whether to compute a step again in the backward pass.
        window: Steps of a window, fewer than those of the rollout.
    """
    step = jax.checkpoint(problem.step) if remat else problem.step
    observed = any(problem.observable_mask)
    windows = -(-problem.steps // window) if observed else 1
    first = problem.steps - windows * window  # not above zero where all are taken

    def forward(theta: Leaves, x: Leaves) -> tuple[Any, Any]:
        def move(theta: Leaves, x: Leaves, kept: Leaves, i: Any):
            # Values are cut as well, for who differentiates the gradient.
            cut = ((problem.steps - i) % window == 0) & (i > 0)
            x = [jnp.where(cut, jax.lax.stop_gradient(a), a) for a in x]
            if not observed:
                kept = jax.lax.cond(i == first, lambda: x, lambda: kept)
            return problem.step(theta, x), kept

        numbers = jnp.arange(problem.steps)
        end, kept, seen = problem.run(theta, x, move, [] if observed else x, numbers)
        return (end, seen), (theta, x if observed else kept)

    def backward(kept: Any, bars: Any) -> tuple[Leaves, Leaves]:
        theta, x = kept
        end_bar, seen_bar = problem.cotangents(bars)
        theta_in, theta_rest = split(problem.theta_mask, theta)
        if not end_bar and not seen_bar:
            smooth = split(problem.state_mask, x)[0]
            zeros = [jax.tree.map(jnp.zeros_like, a) for a in (theta_in, smooth)]
            return problem.full(theta, x, *zeros)
        kind = jnp.finfo(jnp.result_type(*end_bar, *seen_bar)).dtype

        def product(bars: Leaves, values: Leaves) -> Any:
            pairs = zip(bars, values, strict=True)
            parts = [jnp.real(jnp.sum(b * v)).astype(kind) for b, v in pairs]
            return sum(parts, jnp.zeros((), kind))

        def weigh(theta: Leaves, x: Leaves, i: Any) -> Any:
            row = (i + 1) // problem.every - 1
            bars = [jax.lax.dynamic_index_in_dim(b, row, 0, False) for b in seen_bar]
            seen = split(problem.observable_mask, problem.observe(theta, x))[0]
            return product(bars, seen)

        def walk(theta_in: Leaves, x_in: Leaves, x_rest: Leaves, w: Any) -> Any:
            theta = merge(problem.theta_mask, theta_in, theta_rest)
            begin = first + w * window

            def move(carry: Any, j: Any) -> tuple[Any, None]:
                x, total = carry
                i = begin + j
                if first < 0:  # steps before the start are none
                    x = jax.lax.cond(i < 0, lambda: x, lambda: step(theta, x))
                else:
                    x = step(theta, x)
                if observed:
                    due = (i >= 0) & ((i + 1) % problem.every == 0)
                    total = total + jax.lax.cond(
                        due, lambda: weigh(theta, x, i), lambda: jnp.zeros((), kind)
                    )
                return (x, total), None

            x = merge(problem.state_mask, x_in, x_rest)
            carry = (x, jnp.zeros((), kind))
            (x, total), _ = jax.lax.scan(move, carry, jnp.arange(window))
            smooth = split(problem.state_mask, x)[0]
            last = jnp.where(w == windows - 1, product(end_bar, smooth), 0)
            return total + last, x

        def turn(carry: Any, w: Any) -> tuple[Any, None]:
            x, theta_bar, x_bar = carry
            x_in, x_rest = split(problem.state_mask, x)
            _, pull, x = jax.vjp(
                lambda theta_in, x_in: walk(theta_in, x_in, x_rest, w),
                theta_in,
                x_in,
                has_aux=True,
            )
            more, bar = pull(jnp.ones((), kind))
            begins = observed & (w == 0)  # the window that the start belongs to
            pairs = zip(bar, x_bar, strict=True)
            x_bar = [jnp.where(begins, b, kept) for b, kept in pairs]
            x = [jax.lax.stop_gradient(a) for a in x]
            return (x, add(theta_bar, more), x_bar), None

        theta_bar = [jnp.zeros_like(a) for a in theta_in]
        x_bar = [jnp.zeros_like(a) for a in split(problem.state_mask, x)[0]]
        carry, _ = jax.lax.scan(turn, (x, theta_bar, x_bar), jnp.arange(windows))
        return problem.full(theta, x, *carry[1:])

    rolled = jax.custom_vjp(problem.plain)
    rolled.defvjp(forward, backward)
    return rolled(theta, x)
