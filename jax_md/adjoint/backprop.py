"""Reverse and forward mode through the scan of the steps, whole or in windows."""

from typing import Any

import jax
import jax.numpy as jnp

from .flat import Leaves, Problem


def backprop(
    problem: Problem, theta: Leaves, x: Leaves, remat: bool, window: int | None = None
) -> tuple[Leaves, Leaves]:
    """Roll out; JAX differentiates the scan.

    Args:
        problem: What to roll out.
        theta: Parameters.
        x: State to start from.
        remat: Whether to compute a step again in the backward pass.
        window: Steps that gradients go back at the most; None for all.
    """
    step = jax.checkpoint(problem.step) if remat else problem.step

    def move(theta: Leaves, x: Leaves, extra: tuple, i: Any):
        if window is not None:
            left = problem.steps - i
            cut = (left % window == 0) & (i > 0)
            x = [
                jnp.where(cut, jax.lax.stop_gradient(a), a) if m else a
                for m, a in zip(problem.state_mask, x, strict=True)
            ]
        return step(theta, x), extra

    numbers = None if window is None else jnp.arange(problem.steps)
    x, _, seen = problem.run(theta, x, move, (), numbers)
    return x, seen
