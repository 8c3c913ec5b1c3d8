"""What a gradient will cost, before it is computed.

Memory comes from the sizes of states and from XLA's account of one step and of the
cotangent through one step, which are compiled. Work is counted in steps, exactly, and
the cotangent through a step is worth as many of them as it has operations more.
"""

import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jax_md import dataclasses

from . import memory
from .flat import Leaves, Problem, split
from .methods import (
    Backprop,
    Checkpointed,
    Forward,
    Hybrid,
    Method,
    Reversible,
    Truncated,
)
from .rollout import Prepared, prepare
from .schedule import binomial

# A cotangent through a step in steps, where the compiler does not count operations:
# the step again, and each operation's two products.
_USUAL = 3.0


@dataclasses.dataclass
class Forecast:
    """Cost of a gradient through a rollout; prints as one line.

    Attributes:
        method: How the rollout is differentiated.
        steps: Steps of the rollout.
        memory: Bytes of working memory; parameters, the state and the gradient, which
            every method has, are not counted.
        forward_steps: Steps forward or back that the gradient takes in all, beside
            those inside of `pulls`. Exact, from the schedule.
        pulls: Steps that cotangents are pulled through, or tangents pushed through.
        runs: All work, in runs forward without a gradient.
        seconds: Measured steps times their numbers, or None.
    """

    method: Method = dataclasses.static_field()
    steps: int = dataclasses.static_field()
    memory: int = dataclasses.static_field()
    forward_steps: int = dataclasses.static_field()
    pulls: int = dataclasses.static_field()
    runs: float = dataclasses.static_field()
    seconds: float | None = dataclasses.static_field(default=None)

    def __str__(self) -> str:
        parts = [f"{describe(self.method):<22} {readable(self.memory):>9}"]
        parts.append(f"{self.runs:6.1f} forward runs")
        if self.seconds is not None:
            parts.append(f"{self.seconds:9.3g} s")
        return "  ".join(parts)


def forecast(
    step: Callable[[Any, Any], Any],
    params: Any,
    state: Any,
    steps: int,
    method: Method,
    observe: Callable[[Any], Any] | None = None,
    every: int = 1,
    measure: bool = False,
) -> Forecast:
    """Foretell memory and time of a gradient through a rollout, without computing it.

    Compiles one step, and the cotangent through one step. The memory is an estimate,
    rather above than below what XLA will say of the whole program.

    Args:
        step: As for `rollout`, and so are the others.
        params: Tree of arrays. For `Forward` all its real numbers are taken to be
            differentiated, and nothing of the state.
        state: Tree of arrays.
        steps: How many steps.
        method: How to differentiate.
        observe: What to record.
        every: After how many steps each.
        measure: Whether to run the compiled pieces and time them, a few times each. One
            call is one step, so that small systems show what a call costs.

    Returns:
        The forecast.

    Example:
        >>> def step(k, x):
        ...     return x - 0.1 * k * jnp.sin(x)
        >>> x = jnp.ones(1000)
        >>> few = forecast(step, 1.0, x, 10_000, Checkpointed(slots=20))
        >>> all_of_them = forecast(step, 1.0, x, 10_000, Backprop())
        >>> few.memory < all_of_them.memory / 50
        True
    """
    prepared = prepare(step, params, state, steps, method, observe, every)
    return forecast_prepared(prepared, method, {}, measure, count_numbers(params))


def forecast_prepared(
    prepared: Prepared,
    method: Method,
    known: dict[Any, Any],
    measure: bool = False,
    columns: int = 1,
) -> Forecast:
    """Foretell; `known` holds programs that were compiled for another method."""
    problem, theta, x = prepared.problem, prepared.theta, prepared.x
    steps, state = problem.steps, memory.nbytes(memory.shapes(x))
    seen = jax.eval_shape(problem.observe, theta, x)
    records = 2 * memory.nbytes(seen) * (steps // problem.every)
    tempered = getattr(method, "clip", None), getattr(method, "decay", 1.0)
    backward = isinstance(method, Reversible | Hybrid), *tempered

    def once(key: Any, make: Callable[[], Any]) -> Any:
        if key not in known:
            known[key] = make()
        return known[key]

    plain = once(("step", backward[0]), lambda: _forward_program(problem, theta, x))
    if isinstance(method, Forward):
        columns = max(columns, 1)
        program = once(
            ("tangents", columns),
            lambda: memory.tangents(problem, theta, x, columns),
        )
    else:
        columns = 1
        program = once(("pull", backward), lambda: memory.pull(problem, theta, x))

    forward_steps, pulls = steps, steps
    held = program.temporary + 2 * state
    match method:
        case Backprop():
            held += steps * memory.kept_for_step(problem, theta, x, method.remat)
            if not method.remat:  # a pull has no step of its own to take
                forward_steps = 0
        case Truncated() if method.window >= steps:
            held += steps * memory.kept_for_step(problem, theta, x, method.remat)
        case Truncated():
            windows = -(-steps // method.window) if any(problem.observable_mask) else 1
            kept = memory.kept_for_step(problem, theta, x, method.remat)
            held += method.window * kept + 2 * state
            pulls = windows * method.window
            forward_steps = steps + (pulls if method.remat else 0)
        case Checkpointed():
            slots = memory.slots_for(method, problem, theta, x)
            held = memory.overhead(problem, theta, x, program) + slots * state
            forward_steps += int(binomial(steps, slots).rows[:, 2].sum())
        case Reversible():
            held += 2 * state
            forward_steps += steps
        case Hybrid():
            held += (-(-steps // method.every) + 2) * state
            forward_steps += steps  # one of a window is taken again, not undone
        case Forward():
            smooth = split(problem.state_mask, memory.shapes(x))[0]
            held += 2 * columns * memory.nbytes(smooth)
            forward_steps = 0
    seconds = None
    if measure:
        steps_take = once(("plain", backward[0]), lambda: _seconds(plain, theta, x))
        pulls_take = once(
            ("seconds", isinstance(method, Forward), columns, backward),
            lambda: _seconds(program, *_full(problem, theta, x, method, columns)),
        )
        seconds = forward_steps * steps_take + pulls * pulls_take
    if plain.operations and program.operations:
        ratio = program.operations / plain.operations
    else:
        ratio = 1.0 + columns if isinstance(method, Forward) else _USUAL
    runs = (forward_steps + pulls * ratio) / steps
    return Forecast(method, steps, held + records, forward_steps, pulls, runs, seconds)


def _forward_program(problem: Problem, theta: Leaves, x: Leaves) -> Any:
    return memory.compiled(problem.step, memory.shapes(theta), memory.shapes(x))


def _full(
    problem: Problem, theta: Leaves, x: Leaves, method: Method, columns: int
) -> tuple[Any, ...]:
    """Arguments of the program of one pull, or of one step with tangents."""
    smooth = split(problem.theta_mask, theta)[0], split(problem.state_mask, x)[0]
    if isinstance(method, Forward):
        smooth = [[jnp.ones((columns, *a.shape), a.dtype) for a in s] for s in smooth]
    return theta, x, *smooth


def _seconds(program: Any, *args: Any, repeats: int = 5) -> float:
    args = jax.tree.map(jnp.asarray, args)
    jax.block_until_ready(program.call(*args))
    taken = []
    for _ in range(repeats):
        begin = time.perf_counter()
        jax.block_until_ready(program.call(*args))
        taken.append(time.perf_counter() - begin)
    return float(np.median(taken))


def count_numbers(tree: Any) -> int:
    """How many real numbers a tree of arrays has."""
    leaves = [jnp.asarray(leaf) for leaf in jax.tree.leaves(tree)]
    return sum(a.size for a in leaves if jnp.issubdtype(a.dtype, jnp.inexact))


def describe(method: Method) -> str:
    """A method with what differs from its defaults, as short as it was written."""
    default = {f.name: f.default for f in dataclasses.fields(method)}
    given = {name: getattr(method, name) for name in default}
    parts = [
        f"{n}={v:g}" if isinstance(v, float) else f"{n}={v}"
        for n, v in given.items()
        if v != default[n]
    ]
    return f"{type(method).__name__}({', '.join(parts)})"


def readable(number: float) -> str:
    """Bytes in the unit that fits."""
    for unit in ("B", "kB", "MB"):
        if number < 1000:
            return f"{number:.3g} {unit}"
        number /= 1000
    return f"{number:.3g} GB"
