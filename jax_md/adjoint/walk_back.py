"""Cotangents step by step back from an end, for the members of an ensemble at once."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .flat import Leaves, add, merge, split
from .lyapunov import norm
from .rollout import Prepared


def walk_back(
    prepared: Prepared, loss: Callable, active: list[bool], given: int | None
) -> Callable[..., tuple[np.ndarray, ...]]:
    """Make a function of parameters, members of an ensemble and a number of steps.

    It returns, by steps back from the end of a window of that length: norm of the first
    member's cotangent and of its state, norm of the mean gradient, spread of gradients.
    One program serves all lengths.
    """
    problem = prepared.problem._replace(every=1)
    mask = problem.state_mask
    counted = [a for a, smooth in zip(active, mask, strict=True) if smooth]
    length = math.isqrt(problem.steps - 1) + 1
    chunks = -(-problem.steps // length)

    def spread(theta_bar: Leaves, x_bar: Leaves) -> tuple[Any, Any]:
        if given is None:
            bars = split(counted, x_bar)[0]
        else:
            bars = theta_bar[: sum(problem.theta_mask[:given])]
        mean = [jnp.mean(b, 0) for b in bars]
        off = [b - m for b, m in zip(bars, mean, strict=True)]
        return norm(mean), norm(off) / math.sqrt(max(bars[0].shape[0] - 1, 1))

    def row(theta_bar: Leaves, x: Leaves, x_bar: Leaves) -> tuple[Any, ...]:
        own = [b[0] for b in split(counted, x_bar)[0]]
        size = [a[0] for a in split(active, x)[0]]
        return norm(own), norm(size), *spread(theta_bar, x_bar)

    def slope(x: Leaves) -> Leaves:
        x_in, x_rest = split(mask, x)

        def value(x_in: Leaves) -> Any:
            return loss(prepared.tree(merge(mask, x_in, x_rest)))

        return jax.grad(value)(x_in)

    @jax.jit
    def run(theta: Leaves, x: Leaves, skipped: Any) -> tuple[Any, Any]:
        # All windows have the length of the longest; first steps may be none.
        def chunk(x: Leaves, w: Any) -> tuple[Leaves, Leaves]:
            def move(x: Leaves, j: Any) -> tuple[Leaves, Leaves]:
                step = jax.vmap(lambda x: problem.step(theta, x))
                none = w * length + j < skipped
                return jax.lax.cond(none, lambda: x, lambda: step(x)), x

            return jax.lax.scan(move, x, jnp.arange(length))

        end, firsts = jax.lax.scan(
            lambda x, w: (chunk(x, w)[0], x), x, jnp.arange(chunks)
        )
        x_bar = jax.vmap(slope)(end)
        theta_bar = [
            jnp.zeros((x_bar[0].shape[0], *a.shape), a.dtype)
            for a in split(problem.theta_mask, theta)[0]
        ]

        def back(carry: Any, inputs: Any) -> tuple[Any, Any]:
            first, w = inputs
            _, states = chunk(first, w)

            def pull(carry: Any, inputs: Any) -> tuple[Any, Any]:
                x, j = inputs

                def pulled() -> Any:
                    theta_bar, x_bar = carry
                    one = lambda x, bar: problem.pull_back(theta, x, 0, bar, [])  # noqa: E731
                    more, bar = jax.vmap(one)(x, x_bar)
                    return add(theta_bar, more), bar

                none = w * length + j < skipped
                new = jax.lax.cond(none, lambda: carry, pulled)
                return new, row(new[0], x, new[1])

            return jax.lax.scan(pull, carry, (states, jnp.arange(length)), reverse=True)

        last = row(theta_bar, end, x_bar)
        inputs = firsts, jnp.arange(chunks)
        return last, jax.lax.scan(back, (theta_bar, x_bar), inputs, reverse=True)[1]

    def walk(theta: Leaves, x: Leaves, steps: int) -> tuple[np.ndarray, ...]:
        skipped = chunks * length - steps
        columns = []
        for first, others in zip(*run(theta, x, skipped), strict=True):
            ordered = np.asarray(others, float).reshape(-1)[skipped:][::-1]
            columns.append(np.concatenate([[float(first)], ordered]))
        return tuple(columns)

    return walk
