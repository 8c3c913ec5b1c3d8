r"""How far back a gradient through a rollout can be trusted.

In a chaotic system the derivative of the end with respect to a state grows as
:math:`e^{\lambda h}` with the number :math:`h` of steps back. It stays the derivative
of what was computed, but ceases to be of use, for one of two reasons:

- windows of ``h`` steps whose starts differ by little have gradients that differ by
  more than their mean, so that a gradient tells nothing of the loss nearby
  (``signal_horizon``);
- a rounding error made there changes the loss as much as moving the last state by its
  own size does, so that the end is chance (``rounding_horizon``).

Both are measured here, on the system itself.

Source:
    L. Metz, C. D. Freeman, S. S. Schoenholz, T. Kachman, arXiv:2111.05803 (2021);
    G. Benettin, L. Galgani, A. Giorgilli, J.-M. Strelcyn, Meccanica 15, 9 (1980) for
    the exponent.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .dependence import dependence
from .diagnosis import Diagnosis
from .flat import Leaves, differentiable, is_key, merge, split, strong
from .forecast import count_numbers, forecast_prepared
from .lyapunov import lyapunov, norm
from .methods import (
    Backprop,
    Checkpointed,
    Forward,
    Method,
    Reversible,
    Truncated,
    check_count,
)
from .rollout import Prepared, prepare, rollout
from .walk_back import walk_back

_FEW = 16  # numbers that forward mode is tried for, unasked


def diagnose(
    loss: Callable[[Any], Any],
    step: Callable[[Any, Any], Any],
    params: Any,
    state: Any,
    steps: int,
    methods: Sequence[Method] | None = None,
    *,
    members: int = 8,
    spread: float = 1e-3,
    ensemble: Any = None,
    memory: float | None = None,
    measure: bool = False,
    key: Any = None,
) -> Diagnosis:
    """Tell how far back a gradient can be trusted, and what each method costs.

    Steps back and forth over the rollout, and over windows at its end that grow until
    the gradients of an ensemble have nothing in common any more; about twice the square
    root of `steps` states are held for each member. Then differentiates the part that
    can be trusted by each method. Runs on the host, not under `jit`.

    Args:
        loss: ``loss(state)``, a real number of the last state.
        step: ``step(params, state) -> state``, as for `rollout`.
        params: Tree of arrays; where it has no real numbers, gradients are with respect
            to the state.
        state: Tree of arrays to start from.
        steps: How many steps. They should take many times the time in which the system
            forgets, or the exponent is that of the first moments.
        methods: Which methods to compare; by default `Backprop`, `Checkpointed`,
            windows of half the horizon, `Reversible` for a step with an inverse and
            `Forward` for few parameters.
        members: Size of the ensemble, at least 2.
        spread: How much its members differ where a window begins: the standard
            deviation of each number, over the root mean square of its array.
        ensemble: Where windows begin in place of that, a tree like `state` with a
            first axis for the members, such as frames of a trajectory.
        memory: Bytes that there are, to choose a method by.
        measure: Whether to time a step and a cotangent through it.
        key: Random key of the ensemble.

    Returns:
        The numbers, to print or to plot.

    Raises:
        TypeError: If the step cannot be differentiated, or has another structure.
        ValueError: If no real number of the state moves the loss, or `spread` moves
            nothing.

    Example:
        >>> def step(r, x):
        ...     return r * x * (1 - x)
        >>> report = diagnose(lambda x: x, step, 3.9, 0.3, 200)
        >>> bool(report.lyapunov > 0.4 and report.horizon < 50)
        True
    """
    steps = check_count("steps", steps)
    members = check_count("members", members, 2)
    key = jax.random.key(0) if key is None else key
    leaves, structure = jax.tree.flatten(params)
    params = jax.tree.unflatten(structure, [strong(p) for p in leaves])
    prepared = prepare(step, params, state, steps)
    given = len(leaves)
    wrt = "params" if any(prepared.problem.theta_mask[:given]) else "state"

    advance = _advance(prepared)
    end = advance(prepared.x, steps)
    active = _active(prepared, loss, end)
    walk = walk_back(prepared, loss, active, given if wrt == "params" else None)

    settle = getattr(step, "settle", None)

    @jax.jit
    def settled(x: Leaves) -> Leaves:
        tree = prepared.tree(x)
        return _bits(tree if settle is None else settle(params, tree))

    def members_at(x: Leaves) -> Leaves:
        if ensemble is not None:
            return _given(prepared, ensemble)
        return jax.vmap(settled)(_around(active, x, members, spread, key))

    around = members_at(prepared.x)
    _refuse_copies(prepared, around)
    if ensemble is None:
        _refuse_mirrors(prepared, active, around)
    count = around[0].shape[0]
    alone = [jnp.broadcast_to(a, (count, *a.shape)) for a in prepared.x]
    norms, sizes, _, _ = walk(prepared.theta, alone, steps)
    epsilon = float(jnp.finfo(jnp.result_type(*split(active, end)[0])).eps)
    with np.errstate(invalid="ignore", over="ignore"):
        rounding = epsilon * norms * sizes / (norms[0] * sizes[0])
    lost = np.flatnonzero(~(rounding < 1))
    rounding_horizon = int(lost[0]) - 1 if lost.size else steps

    def spread_of(window: int) -> tuple[float, float]:
        x = around
        if ensemble is None and window < steps:
            x = members_at(advance(prepared.x, steps - window))
        _, _, signal, noise = walk(prepared.theta, x, window)
        return float(signal[window]), float(noise[window])

    windows, signal, noise = _grow(spread_of, steps)
    good = np.isfinite(signal) & (noise <= signal)
    signal_horizon = int(max(windows[good], default=0))
    horizon = max(min(rounding_horizon, signal_horizon), 0)
    exponent, error = lyapunov(prepared, active, key)

    count = count_numbers(params) if wrt == "params" else count_numbers(state)
    if methods is None:
        tried: list[Method] = [Backprop(), Checkpointed()]
        tried.append(Truncated(max(horizon // 2, 1)))
        if callable(getattr(step, "inverse", None)):
            tried.append(Reversible())
        if count <= _FEW:
            tried.append(Forward())
        methods = tried
    known: dict[Any, Any] = {}
    forecasts = tuple(
        forecast_prepared(
            prepare(step, params, state, steps, method), method, known, measure, count
        )
        for method in methods
    )
    last = max(horizon, 1)
    near = prepared.tree(advance(prepared.x, steps - last))
    gradient, difference, numerical = _compare(
        loss, step, params, near, last, methods, wrt
    )
    return Diagnosis(
        steps_back=np.arange(steps + 1),
        cotangent_norm=norms,
        rounding=rounding,
        window=windows,
        signal=signal,
        noise=noise,
        lyapunov=exponent,
        lyapunov_error=error,
        signal_horizon=signal_horizon,
        rounding_horizon=max(rounding_horizon, 0),
        horizon=horizon,
        gradient=gradient,
        difference=difference,
        numerical=numerical,
        methods=tuple(methods),
        forecasts=forecasts,
        wrt=wrt,
        memory=memory,
    )


def _advance(prepared: Prepared) -> Callable[[Leaves, int], Leaves]:
    """Make a function that takes any number of steps, with one program."""
    step, theta = prepared.problem.step, prepared.theta

    @jax.jit
    def run(theta: Leaves, x: Leaves, count: Any) -> Leaves:
        return jax.lax.fori_loop(0, count, lambda _, x: step(theta, x), x)

    return lambda x, steps: run(theta, x, steps)


def _active(prepared: Prepared, loss: Callable, end: Leaves) -> list[bool]:
    """Which arrays of the state move, and move the loss smoothly."""
    problem, theta, x = prepared.problem, prepared.theta, prepared.x
    first = jax.tree.leaves(jax.eval_shape(loss, prepared.tree(x)))
    if [leaf.shape for leaf in first] != [()] or not differentiable(first)[0]:
        raise ValueError(f"`loss` must return one real number; got {first}.")
    traced = jax.make_jaxpr(problem.step)(theta, x).jaxpr
    before = len(traced.constvars) + len(theta)
    moved = [b.slope >> before for b in dependence(traced, before + len(x)).outputs]
    seen = jax.make_jaxpr(lambda x: loss(prepared.tree(x)))(x).jaxpr
    before = len(seen.constvars)
    matters = dependence(seen, before + len(x)).outputs[0].slope >> before
    while True:
        more = matters
        for j, sources in enumerate(moved):
            if matters >> j & 1:
                more |= sources
        if more == matters:
            break
        matters = more
    active = [
        smooth and bool(matters >> j & 1) and bool(jnp.any(a != b))
        for j, (smooth, a, b) in enumerate(zip(problem.state_mask, x, end, strict=True))
    ]
    if not any(active):
        raise ValueError(
            "`loss` must depend, differentiably, on real numbers of the state that the "
            "step moves; it depends on none."
        )
    return active


def _bits(state: Any) -> Leaves:
    """The arrays of a state, keys as their bits."""
    leaves = jax.tree.leaves(state)
    return [jax.random.key_data(a) if is_key(a) else strong(a) for a in leaves]


def _given(prepared: Prepared, ensemble: Any) -> Leaves:
    """States that windows begin with, ``[members, ...]``, as the user has them."""
    others = _bits(ensemble)
    expected, got = [a.shape for a in prepared.x], [a.shape for a in others]
    if [a[1:] for a in got] != expected or len({a[:1] for a in got}) != 1:
        raise ValueError(
            "`ensemble` must be a tree like `state` with a first axis for the "
            f"members; got shapes {got} for states of {expected}."
        )
    return others


def _around(
    active: list[bool], x: Leaves, members: int, spread: float, key: Any
) -> Leaves:
    """States that differ a little from one, ``[members, ...]``."""
    many = []
    for moving, a, k in zip(active, x, jax.random.split(key, len(x)), strict=True):
        copies = jnp.broadcast_to(a, (members, *a.shape))
        if moving:
            size = jnp.sqrt(jnp.mean(jnp.abs(a) ** 2))
            copies += spread * size * jax.random.normal(k, copies.shape, copies.dtype)
        many.append(copies)
    return many


_DIFFER = (
    "`spread` must make states differ, but after one step {}: real numbers of this "
    "state only mirror its integers, or are zero. Pass states that differ as "
    "`ensemble`, or give the step a `settle`, as those of `simulate` have."
)


def _refuse_copies(prepared: Prepared, members: Leaves) -> None:
    step = jax.jit(jax.vmap(lambda x: prepared.problem.step(prepared.theta, x)))
    if all(bool(jnp.all(a == a[:1])) for a in step(members)):
        raise ValueError(_DIFFER.format("all are the same"))


def _refuse_mirrors(prepared: Prepared, active: list[bool], members: Leaves) -> None:
    """Raise if members differ by much less than the derivative of the step says."""
    problem, theta, x = prepared.problem, prepared.theta, prepared.x
    mask = problem.state_mask
    x_in, x_rest = split(mask, x)

    def move(x_in: Leaves) -> Leaves:
        return split(mask, problem.step(theta, merge(mask, x_in, x_rest)))[0]

    @jax.jit
    def differences(member: Leaves) -> list[tuple[Any, Any]]:
        off = [b - a for a, b in zip(x_in, split(mask, member)[0], strict=True)]
        here, expected = jax.jvp(move, (x_in,), (off,))
        there = split(mask, problem.step(theta, member))[0]
        moved = [b - a for a, b in zip(here, there, strict=True)]
        return [(norm([a]), norm([b])) for a, b in zip(moved, expected, strict=True)]

    one = [a[0] for a in members]
    counted = [a for a, smooth in zip(active, mask, strict=True) if smooth]
    for counts, (moved, expected) in zip(counted, differences(one), strict=True):
        # Far below what a derivative can miss.
        if counts and moved < 0.1 * expected:
            raise ValueError(_DIFFER.format("they hardly do"))


def _grow(spread_of: Callable, steps: int) -> tuple[np.ndarray, ...]:
    """Double a window until its gradients differ, then halve the interval."""
    seen: dict[int, tuple[float, float]] = {}

    def holds(window: int) -> bool:
        if window not in seen:
            seen[window] = spread_of(window)
        signal, noise = seen[window]
        return math.isfinite(signal) and noise <= signal

    window, good, bad = 1, 0, steps + 1
    while True:
        if holds(window):
            good = window
        elif (
            window > 4
        ):  # a gradient of zero, as of positions after one kick, is no end
            bad = window
        if window == steps or bad <= steps:
            break
        window = min(2 * window, steps)
    while bad <= steps and bad - good > max(1, good // 16):
        middle = (good + bad) // 2
        good, bad = (middle, bad) if holds(middle) else (good, middle)
    windows = sorted(seen)
    values = np.array([seen[w] for w in windows])
    return np.array(windows), values[:, 0], values[:, 1]


def _compare(
    loss: Callable,
    step: Callable,
    params: Any,
    state: Any,
    steps: int,
    methods: Sequence[Method],
    wrt: str,
) -> tuple[np.ndarray, np.ndarray, float]:
    """The gradient, each method's distance from it, and that of differences."""
    leaves, structure = jax.tree.flatten(params if wrt == "params" else state)
    leaves = [strong(a) for a in leaves]
    mask = differentiable(leaves)
    smooth, rest = split(mask, leaves)

    def value(smooth: Leaves, method: Method) -> Any:
        tree = jax.tree.unflatten(structure, merge(mask, smooth, rest))
        both = (tree, state) if wrt == "params" else (params, tree)
        return loss(rollout(step, *both, steps, method)[0])

    def gradient(method: Method) -> Leaves:
        return jax.jit(jax.grad(lambda smooth: value(smooth, method)))(smooth)

    def row(leaves: Leaves) -> np.ndarray:
        return np.concatenate([np.ravel(np.asarray(a)) for a in leaves])

    first = gradient(Backprop())
    own = row(first)
    length = float(np.linalg.norm(own))
    scale = length if length > 0 else 1.0
    others = [row(gradient(m)) if m != Backprop() else own for m in methods]
    difference = np.array([float(np.linalg.norm(g - own)) / scale for g in others])

    # Along the gradient itself, by a step where truncation and rounding balance.
    plain = jax.jit(lambda smooth: value(smooth, Backprop()))
    size = max(float(np.linalg.norm(row(smooth))), 1e-3)
    h = size * float(np.finfo(own.dtype).eps) ** (1 / 3)
    along = [np.conj(g) / scale for g in first]
    ends = [
        float(plain([a + s * d for a, d in zip(smooth, along, strict=True)]))
        for s in (h, -h)
    ]
    numerical = abs((ends[0] - ends[1]) / (2 * h) - length) / scale
    return own, difference, numerical
