"""Many steps as one differentiable function, with the method as a value."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from . import backprop as _backprop
from . import forward as _forward
from . import hybrid as _hybrid
from . import reverse as _reverse
from .dependence import jumps, odds
from .flat import Flat, Problem, differentiable, is_key, strong, trace
from .guard import refuse_derivatives, refuse_forward
from .memory import slots_for
from .methods import (
    Backprop,
    Checkpointed,
    Forward,
    Hybrid,
    Method,
    Reversible,
    Truncated,
    check_count,
)
from .tempering import temper

_BACKPROP = Backprop()


def rollout(
    step: Callable[[Any, Any], Any],
    params: Any,
    state: Any,
    steps: int,
    method: Method = _BACKPROP,
    observe: Callable[[Any], Any] | None = None,
    every: int = 1,
) -> tuple[Any, Any]:
    """Take many steps; differentiable with respect to parameters and the start.

    Values are those of stepping in a loop, whatever the method. Derivatives are with
    respect to every floating-point array of `params` and `state`, and of what `step`
    and `observe` close over.

    They are derivatives along the path. Where those of averages are others, as in Monte
    Carlo, the program of the step tells, and they are refused: with respect to what
    moves the state by comparisons, rounding or integers alone, and to what a random
    number of the step is compared with, now or later, to decide between outcomes.
    The program does not tell of decisions by numbers that move smoothly, such as a pair
    potential with a step at its cutoff, whose derivative is right for almost every path
    and leaves the jumps out of averages, nor of random numbers drawn outside of the
    step. Of a draw that moves the state smoothly as well, it tells only of decisions in
    which the draw is compared by itself. `NotDifferentiable` marks such steps.

    Args:
        step: ``step(params, state) -> state``; the structure, shapes and dtypes of the
            state stay as they are. `Reversible` and `Hybrid` need a `ReversibleStep`.
        params: Tree of arrays.
        state: Tree of arrays; integers and random keys are moved along.
        steps: How many steps, at least one, a Python integer.
        method: How to differentiate; `Backprop` by default.
        observe: ``observe(state)``, a tree of arrays to record.
        every: Record after each so many steps; divides `steps`.

    Returns:
        ``(state, observables)``: the last state, and the observables stacked along a
        new first axis of length ``steps / every``, or None without `observe`.

    Raises:
        TypeError: If `steps` or `every` is no Python integer, if `method` is none of
            the methods, if `step` changes the structure or a dtype of the state, if
            `Reversible` gets a step without an inverse, or, when differentiated, if the
            step decides as said above.
        ValueError: If `steps` or `every` is less than one, or `every` does not divide
            `steps`, or the step changes a shape.

    Example:
        >>> def step(k, state):
        ...     x, p = state
        ...     p = p - 0.1 * k * x
        ...     return x + 0.1 * p, p
        >>> def loss(k):
        ...     (x, p), _ = rollout(step, k, (1.0, 0.0), 100, Checkpointed(slots=5))
        ...     return x**2
        >>> gradient = jax.grad(loss)(1.0)
    """
    prepared = prepare(step, params, state, steps, method, observe, every)
    problem, theta, x = prepared.problem, prepared.theta, prepared.x
    match method:
        case Backprop():
            end, seen = _backprop.backprop(problem, theta, x, method.remat)
        case Truncated() if method.window >= problem.steps:  # nothing is cut off
            end, seen = _backprop.backprop(problem, theta, x, method.remat)
        case Truncated(window, remat):
            fn = partial(_backprop.truncated, problem, window=window, remat=remat)
            end, seen = _backward_only("Truncated", fn, theta, x)
        case Checkpointed():
            slots = slots_for(method, problem, theta, x)
            fn = partial(_reverse.checkpointed, problem, slots)
            end, seen = _backward_only("Checkpointed", fn, theta, x)
        case Reversible():
            fn = partial(_reverse.reversible, problem)
            end, seen = _backward_only("Reversible", fn, theta, x)
        case Hybrid():
            fn = partial(_hybrid.hybrid, problem, method.every)
            end, seen = _backward_only("Hybrid", fn, theta, x)
        case Forward():
            end, seen = _forward.forward(problem, theta, x)
    return prepared.tree(end), prepared.observables(seen)


class Prepared(NamedTuple):
    """A rollout as a problem of flat lists, and the way back to trees.

    Attributes:
        problem: The rollout.
        theta: Its parameters, and what is closed over.
        x: The leaves of its state, keys as their bits.
        tree: From such leaves to a state.
        observables: From the leaves of the observables to their tree.
        names: What to call the entries of `theta` and `x`.
    """

    problem: Problem
    theta: list[Any]
    x: list[Any]
    tree: Callable[[list[Any]], Any]
    observables: Callable[[list[Any]], Any]
    names: tuple[list[str], list[str]]


def prepare(
    step: Callable[[Any, Any], Any],
    params: Any,
    state: Any,
    steps: int,
    method: Method = _BACKPROP,
    observe: Callable[[Any], Any] | None = None,
    every: int = 1,
) -> Prepared:
    """Trace what `rollout` is given, and check it; arguments as there."""
    if not isinstance(method, Method):
        raise TypeError(
            "`method` must be `Backprop()`, `Checkpointed()`, `Reversible()`, "
            f"`Hybrid(every)`, `Forward()` or `Truncated(window)`; got {method!r}."
        )
    steps = check_count("steps", steps)
    every = check_count("every", every)
    if observe is not None and steps % every:
        raise ValueError(f"`every` must divide `steps`; got {every} and {steps}.")
    if observe is None:
        every = 1

    leaves, structure = jax.tree.flatten(state)
    leaves = [strong(x) for x in leaves]
    state = jax.tree.unflatten(structure, leaves)
    params_leaves, params_structure = jax.tree.flatten(params)
    params = jax.tree.unflatten(params_structure, [strong(p) for p in params_leaves])
    begin, shared = (getattr(step, name, None) for name in ("begin", "shared"))
    if begin is not None:
        first = begin(params, state)
        _check_state("step.begin", state, first)
        leaves = [strong(x) for x in jax.tree.leaves(first)]
        state = jax.tree.unflatten(structure, leaves)
    # What steps share comes beside the parameters, as further arguments of a step.
    inputs = (params,) if shared is None else (params, jax.tree.map(strong, shared))

    # Keys travel as their bits, so that they can be stored like any array.
    key_kinds = [jax.random.key_impl(x) if is_key(x) else None for x in leaves]

    def bits(state: Any) -> list[Any]:
        return [
            jax.random.key_data(x) if is_key(x) else x for x in jax.tree.leaves(state)
        ]

    def from_bits(x: list[Any]) -> Any:
        keyed = [
            a if kind is None else jax.random.wrap_key_data(a, impl=kind)
            for a, kind in zip(x, key_kinds, strict=True)
        ]
        return jax.tree.unflatten(structure, keyed)

    clip, decay = getattr(method, "clip", None), getattr(method, "decay", 1.0)

    def on_bits(name: str, fn: Callable, tempered: bool = True) -> Flat:
        def moved(inputs: Any, x: list[Any]) -> list[Any]:
            if tempered:
                x = temper(x, clip, decay)
            params, *shared = inputs
            new = fn(params, from_bits(x), *shared)
            _check_state(name, state, new)
            return bits(new)

        return trace(moved, inputs, bits(state))

    move = step if shared is None else getattr(step, "forward", step)
    traced = {"step": on_bits("step", move)}
    if isinstance(method, Reversible | Hybrid):
        forward, inverse = (getattr(step, n, None) for n in ("forward", "inverse"))
        if not callable(forward) or not callable(inverse):
            raise TypeError(
                f"`{type(method).__name__}` needs a step with an exact inverse, such "
                "as `adjoint.ReversibleStep(forward, inverse)`; got "
                f"{type(step).__name__}. `Checkpointed` takes any step."
            )

        def undone(inputs: Any, x: list[Any]) -> tuple[list[Any], Any]:
            params, *given = inputs
            old, used = inverse(params, from_bits(x), *given), ()
            if given:
                if not (isinstance(old, tuple) and len(old) == 2):
                    raise TypeError(
                        "`step.inverse` must return a pair, the state and what steps "
                        f"share; got {type(old).__name__}."
                    )
                old, used = old
                _check_state("step.inverse", given[0], used, "what steps share")
            _check_state("step.inverse", state, old)
            return bits(old), used

        traced["inverse"] = trace(undone, inputs, bits(state))
        tangent_step = getattr(step, "tangent_step", None)
        if tangent_step is not None:
            traced["tangent_step"] = on_bits("step.tangent_step", tangent_step)
    renew = getattr(step, "renew", None)
    if isinstance(method, Hybrid) and renew is not None and shared is not None:

        def renewed(inputs: Any, x: list[Any]) -> Any:
            new = renew(inputs[0], from_bits(x), inputs[1])
            _check_state("step.renew", inputs[1], new, "what steps share")
            return new

        traced["renew"] = trace(renewed, inputs, bits(state))
    watch = observe or (lambda state: ())
    traced["observe"] = trace(lambda x: watch(from_bits(x)), bits(state))

    # All parameters in one list: those given, then what each function closes over.
    theta = jax.tree.leaves(inputs)
    where: dict[str, slice] = {}
    given = len(theta)
    for name, flat in traced.items():
        where[name] = slice(len(theta), len(theta) + len(flat.consts))
        theta = theta + [strong(c) for c in flat.consts]

    def function(name: str) -> Callable:
        flat, part = traced[name], where[name]
        if name == "observe":
            return lambda theta, x: flat.call(theta[part], x)
        return lambda theta, x: flat.call(theta[part], [*theta[:given], *x])

    x = bits(state)
    move = function("step")
    seen_leaves, seen_structure = jax.tree.flatten(traced["observe"].shape)
    problem = Problem(
        step=move,
        inverse=function("inverse") if "inverse" in traced else None,
        tangent_step=function("tangent_step") if "tangent_step" in traced else move,
        observe=function("observe"),
        theta_mask=differentiable(theta),
        state_mask=differentiable(x),
        observable_mask=differentiable(seen_leaves),
        steps=steps,
        every=every,
        renew=function("renew") if "renew" in traced else None,
        shared=slice(len(params_leaves), given),
    )

    names = [_names("params", params), _names("state", state)]
    names[0] += ["what its steps share"] * (given - len(params_leaves))
    names[0] += ["what it closes over"] * (len(theta) - given)
    smooth = "tangent_step" if "tangent_step" in traced else "step"
    # Constants come first in what was traced, then parameters, then the state.
    order = [*range(len(theta))[where[smooth]], *range(given)]
    found, count = traced[smooth].depend(), len(order) + len(x)
    chancy = odds(found, len(order), count)
    jumping = jumps(found.outputs, count)

    def guarded(leaf: Any, number: int, name: str) -> Any:
        if not differentiable([leaf])[0]:
            return leaf
        for refused, why in ((jumping, _JUMPS), (chancy, _ODDS)):
            if refused[number]:
                return refuse_derivatives(leaf, why.format(name))
        return leaf

    for j, i in enumerate(order):
        theta[i] = guarded(theta[i], j, names[0][i])
    x = [guarded(leaf, len(order) + i, names[1][i]) for i, leaf in enumerate(x)]

    def observables(seen: list[Any]) -> Any:
        return jax.tree.unflatten(seen_structure, seen) if observe else None

    return Prepared(problem, theta, x, from_bits, observables, (names[0], names[1]))


_JUMPS = (
    "`step` has no derivative with respect to {}: the state depends on it by "
    "comparisons, rounding or integers alone, so that the derivative along a path is "
    "zero, though its averages may change. Differentiate averages by reweighting or by "
    "the score function, or keep it constant by `jax.lax.stop_gradient`."
)
_ODDS = (
    "`step` has no derivative with respect to {}: a random number is compared with "
    "what depends on it, now or in later steps, as when a move is accepted or not, and "
    "the derivative along a path leaves out how the odds change. Differentiate "
    "averages by reweighting or by the score function. If a derivative at fixed "
    "outcomes is meant, compare with `jax.lax.stop_gradient` of the odds."
)


def _names(root: str, tree: Any) -> list[str]:
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return [f"`{root}{jax.tree_util.keystr(path)}`" for path, _ in leaves]


def _backward_only(name: str, fn: Callable, theta: list[Any], x: list[Any]) -> Any:
    why = (
        f"`{name}` has no forward mode (`jax.jvp`, `jax.jacfwd`): take `Forward()`, or "
        "`Backprop()`, which has both modes."
    )
    leaves = refuse_forward([*theta, *x], why)
    try:
        return fn(leaves[: len(theta)], leaves[len(theta) :])
    except TypeError as error:
        # In a batch of tangents JAX notices first, and does not know the method.
        if "forward-mode" not in str(error):
            raise
        raise TypeError(why) from error


def _check_state(name: str, old: Any, new: Any, what: str = "a state") -> None:
    expected, got = jax.tree.structure(old), jax.tree.structure(new)
    if expected != got:
        raise TypeError(
            f"`{name}` must return {what} of the structure it was given, {expected}; "
            f"got {got}."
        )
    before, _ = jax.tree_util.tree_flatten_with_path(old)
    for (path, a), b in zip(before, jax.tree.leaves(new), strict=True):
        at = jax.tree_util.keystr(path) or "itself"
        kind = b.dtype if is_key(b) else jnp.result_type(b)
        if kind != a.dtype:
            raise TypeError(
                f"`{name}` must keep the dtypes of the state; {at} went in as "
                f"{a.dtype} and came out as {kind}. Cast it in the step, or start from "
                "a state of that type."
            )
        if jnp.shape(a) != jnp.shape(b):
            raise ValueError(
                f"`{name}` must keep the shapes of the state; {at} went in as "
                f"{jnp.shape(a)} and came out as {jnp.shape(b)}."
            )
