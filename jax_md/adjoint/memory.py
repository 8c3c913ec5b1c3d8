"""What the methods hold in memory, from the sizes of states and XLA's own account.

All is working memory: parameters, the state to start from and the gradient, which every
method has, are not counted.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .dependence import dependence
from .flat import Leaves, Problem, add, merge, split
from .methods import Checkpointed

_NUMBER = 4  # bytes of an entry of the schedule


def nbytes(leaves: Sequence[Any]) -> int:
    """Bytes of arrays, traced ones and shapes included."""
    return sum(int(np.prod(x.shape)) * np.dtype(x.dtype).itemsize for x in leaves)


def shapes(leaves: Sequence[Any]) -> list[Any]:
    """Shapes and dtypes of arrays."""
    return [jax.ShapeDtypeStruct(jnp.shape(x), jnp.result_type(x)) for x in leaves]


class Program(NamedTuple):
    """A function that was compiled, with XLA's account of it.

    Attributes:
        temporary: Bytes beside arguments and results.
        operations: Floating-point operations, loops counted once; None if unknown.
        call: The program.
    """

    temporary: int
    operations: float | None
    call: Callable


def compiled(fn: Callable, *args: Any) -> Program:
    """Compile a function for arguments of such shapes."""
    # Not part of what is being traced, should this happen inside a trace.
    program = jax.jit(fn).lower(*args).compile()
    memory, costs = program.memory_analysis(), program.cost_analysis()
    if isinstance(costs, list):
        costs = costs[0] if costs else None
    operations = float((costs or {}).get("flops", 0.0))
    temporary = 0 if memory is None else int(memory.temp_size_in_bytes)
    return Program(temporary, operations if operations > 0 else None, program)


def pull(problem: Problem, theta: Leaves, x: Leaves) -> Program:
    """The cotangent through one step, added to what there is."""

    def one(theta: Leaves, x: Leaves, theta_bar: Leaves, x_bar: Leaves) -> Any:
        more, x_bar = problem._replace(every=1).pull_back(theta, x, 0, x_bar, [])
        return add(theta_bar, more), x_bar

    theta, x = shapes(theta), shapes(x)
    smooth = split(problem.theta_mask, theta)[0], split(problem.state_mask, x)[0]
    return compiled(one, theta, x, *smooth)


def tangents(problem: Problem, theta: Leaves, x: Leaves, columns: int) -> Program:
    """One step of a state and of so many tangents of it."""

    def one(theta: Leaves, x: Leaves, theta_dots: Leaves, x_dots: Leaves) -> Any:
        theta_in, theta_rest = split(problem.theta_mask, theta)
        x_in, x_rest = split(problem.state_mask, x)

        def move(theta_in: Leaves, x_in: Leaves) -> tuple[Leaves, Leaves]:
            theta = merge(problem.theta_mask, theta_in, theta_rest)
            x = merge(problem.state_mask, x_in, x_rest)
            return split(problem.state_mask, problem.step(theta, x))

        def column(theta_dot: Leaves, x_dot: Leaves) -> tuple[Leaves, Leaves]:
            return jax.jvp(move, (theta_in, x_in), (theta_dot, x_dot), has_aux=True)[:2]

        return jax.vmap(column, out_axes=(None, 0))(theta_dots, x_dots)

    theta, x = shapes(theta), shapes(x)
    smooth = split(problem.theta_mask, theta)[0], split(problem.state_mask, x)[0]
    dots = [
        [jax.ShapeDtypeStruct((columns, *a.shape), a.dtype) for a in leaves]
        for leaves in smooth
    ]
    return compiled(one, theta, x, *dots)


def kept_for_step(problem: Problem, theta: Leaves, x: Leaves, remat: bool) -> int:
    """Bytes that the backward pass of a scan holds of each step."""
    step = jax.checkpoint(problem.step) if remat else problem.step
    theta, x = shapes(theta), shapes(x)
    x_in, x_rest = split(problem.state_mask, x)
    theta_in, theta_rest = split(problem.theta_mask, theta)

    def residuals(theta_in: Any, theta_rest: Any, x_in: Any, x_rest: Any) -> Any:
        def move(theta_in: Any, x_in: Any) -> Any:
            theta = merge(problem.theta_mask, theta_in, theta_rest)
            x = merge(problem.state_mask, x_in, x_rest)
            return split(problem.state_mask, step(theta, x))[0]

        return jax.vjp(move, theta_in, x_in)[1]

    closed, kept = jax.make_jaxpr(residuals, return_shape=True)(
        theta_in, theta_rest, x_in, x_rest
    )
    constants = len(closed.jaxpr.constvars) + len(theta)
    bits = dependence(closed.jaxpr, constants + len(x)).outputs
    # What depends on parameters alone is held once, not for each step.
    leaves = zip(jax.tree.leaves(kept), bits, strict=True)
    return nbytes([leaf for leaf, b in leaves if b.value >> constants])


def overhead(problem: Problem, theta: Leaves, x: Leaves, program: Program) -> int:
    """Bytes of the backward loop of `Checkpointed` beside the states that it holds."""
    smooth = split(problem.theta_mask, theta)[0], split(problem.state_mask, x)[0]
    bars = nbytes(shapes(smooth[0])) + nbytes(shapes(smooth[1]))
    # The state at hand, its cotangent and that of the parameters, each before and after
    # a turn of the loop; a row of the schedule for each step and each state stored.
    table = _NUMBER * (4 * 2 * problem.steps + problem.steps)
    return program.temporary + 2 * nbytes(shapes(x)) + 2 * bars + table


def slots_for(method: Checkpointed, problem: Problem, theta: Leaves, x: Leaves) -> int:
    """The number of states that `Checkpointed` holds."""
    if method.memory is None:
        return method.slots_for(problem.steps)
    state = max(nbytes(shapes(x)), 1)
    beside = overhead(problem, theta, x, pull(problem, theta, x))
    slots = int((method.memory - beside) // state)
    if slots < 1:
        raise ValueError(
            f"`memory` must have room for one state and for what one step takes: one "
            f"slot needs {beside + state:,} bytes, of which {state:,} are a state; got "
            f"{method.memory:.4g}. Raise it, or use `Forward()` for few parameters, or "
            "`Reversible()` for a step with an exact inverse."
        )
    return min(slots, problem.steps)
