"""A step of any trees as a function of flat lists of arrays, with nothing closed over.

What a step closes over becomes an argument beside its parameters. Rules for derivatives
may not close over traced values; this way they need not, and derivatives with respect
to closed-over values are right, too.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import (
    ClosedJaxpr,  # pyright: ignore[reportPrivateImportUsage]
    jaxpr_as_fun,
)

from .dependence import Dependence, dependence

Leaves = list[Any]


class Flat(NamedTuple):
    """A function of trees, traced: ``call(consts, leaves) -> leaves``."""

    call: Callable[[Sequence[Any], Sequence[Any]], Leaves]
    consts: Leaves
    shape: Any  # a tree of `jax.ShapeDtypeStruct`
    jaxpr: Any

    def depend(self) -> Dependence:
        """How the outputs depend on the constants and the arguments."""
        return dependence(self.jaxpr, len(self.consts) + len(self.jaxpr.invars))


def trace(fn: Callable, *args: Any) -> Flat:
    """Trace a function of trees of arrays at its arguments."""
    leaves, structure = jax.tree.flatten(args)
    closed, shape = jax.make_jaxpr(
        lambda *leaves: fn(*jax.tree.unflatten(structure, leaves)), return_shape=True
    )(*leaves)
    jaxpr = closed.jaxpr
    dtypes = [leaf.dtype for leaf in jax.tree.leaves(shape)]

    def call(consts: Sequence[Any], leaves: Sequence[Any]) -> Leaves:
        out = jaxpr_as_fun(ClosedJaxpr(jaxpr, list(consts)))(*leaves)
        # A Python number that a step returns is weakly typed; a carry must not be.
        return [strong(x, dtype) for x, dtype in zip(out, dtypes, strict=True)]

    return Flat(call, list(closed.consts), shape, jaxpr)


def is_key(x: Any) -> bool:
    """Whether an array holds typed random keys."""
    dtype = getattr(x, "dtype", None)
    return dtype is not None and jnp.issubdtype(dtype, jax.dtypes.prng_key)


def strong(x: Any, dtype: Any = None) -> Any:
    """Turn a value into an array whose type is not weak."""
    return x if is_key(x) else jnp.asarray(x, dtype or jnp.result_type(x))


def differentiable(leaves: Sequence[Any]) -> list[bool]:
    """Which arrays have tangents: the real and complex ones."""
    return [not is_key(x) and jnp.issubdtype(x.dtype, jnp.inexact) for x in leaves]


def split(mask: Sequence[bool], leaves: Sequence[Any]) -> tuple[Leaves, Leaves]:
    """The leaves that a mask marks, and the others."""
    pairs = list(zip(mask, leaves, strict=True))
    return [x for m, x in pairs if m], [x for m, x in pairs if not m]


def merge(mask: Sequence[bool], marked: Sequence[Any], rest: Sequence[Any]) -> Leaves:
    """Undo `split`."""
    a, b = iter(marked), iter(rest)
    return [next(a) if m else next(b) for m in mask]


def no_tangents(leaves: Sequence[Any]) -> Leaves:
    """The cotangents of arrays that have none."""
    return [np.zeros(jnp.shape(x), jax.dtypes.float0) for x in leaves]


def add(a: Sequence[Any], b: Sequence[Any]) -> Leaves:
    """Sum of two lists, entry by entry."""
    return [x + y for x, y in zip(a, b, strict=True)]


class Problem(NamedTuple):
    """A rollout of flat lists: `theta` are the parameters and closed-over values.

    Among them, at `shared`, is what all steps of a window share; `renew` makes it from
    the state that the window starts with, and `inverse` returns it after the state
    before a step, as that step used it.
    """

    step: Callable[[Leaves, Leaves], Leaves]
    inverse: Callable[[Leaves, Leaves], Leaves] | None
    tangent_step: Callable[[Leaves, Leaves], Leaves]
    observe: Callable[[Leaves, Leaves], Leaves]
    theta_mask: list[bool]
    state_mask: list[bool]
    observable_mask: list[bool]
    steps: int
    every: int
    renew: Callable[[Leaves, Leaves], Leaves] | None = None
    shared: slice = slice(0, 0)

    def run(self, theta: Leaves, x: Leaves, move: Callable, extra: Any, xs: Any = None):
        """Scan ``move(theta, x, extra, i)`` and observe every so many steps.

        Args:
            theta: Parameters.
            x: State to start from.
            move: Returns the next state and the next `extra`.
            extra: Carried along with the state.
            xs: What a move gets of its step, ``[steps, ...]``.

        Returns:
            The last state, the last `extra`, the observables stacked.
        """
        chunks = self.steps // self.every
        rows = jax.tree.map(lambda a: a.reshape(chunks, self.every, *a.shape[1:]), xs)

        def inner(carry: Any, i: Any) -> tuple[Any, None]:
            return move(theta, *carry, i), None

        def outer(carry: Any, rows: Any) -> tuple[Any, Leaves]:
            carry, _ = jax.lax.scan(inner, carry, rows, length=self.every)
            return carry, self.observe(theta, carry[0])

        (x, extra), seen = jax.lax.scan(outer, (x, extra), rows, length=chunks)
        return x, extra, seen

    def with_shared(self, theta: Leaves, new: Leaves) -> Leaves:
        """`theta` with something else for what steps share."""
        return [*theta[: self.shared.start], *new, *theta[self.shared.stop :]]

    def undo(self, theta: Leaves, x: Leaves) -> tuple[Leaves, Leaves]:
        """The state before a step, and the `theta` to differentiate that step with."""
        assert self.inverse is not None
        # Apart from the step that cotangents go through: fused with it, the inverse
        # could round otherwise than the forward pass did.
        out = jax.lax.optimization_barrier(self.inverse(theta, x))
        return out[: len(x)], self.with_shared(theta, out[len(x) :])

    def plain(self, theta: Leaves, x: Leaves) -> tuple[Leaves, Leaves]:
        """The rollout itself: the last state and the observables."""

        def move(theta: Leaves, x: Leaves, extra: Any, i: Any):
            return self.step(theta, x), extra

        x, _, seen = self.run(theta, x, move, ())
        return x, seen

    def pull_back(
        self, theta: Leaves, x: Leaves, i: Any, x_bar: Leaves, seen_bar: Leaves
    ) -> tuple[Leaves, Leaves]:
        """Pull cotangents through step `i`, which starts from the state `x`.

        Args:
            theta: Parameters.
            x: State before the step.
            i: Number of the step, from zero.
            x_bar: Cotangents of the differentiable part of the state after the step.
            seen_bar: Cotangents of the differentiable observables, stacked.

        Returns:
            Cotangents of the differentiable parts of `theta` and `x`.
        """
        theta_in, theta_rest = split(self.theta_mask, theta)
        x_in, x_rest = split(self.state_mask, x)

        def move(theta_in: Leaves, x_in: Leaves) -> tuple[Leaves, Leaves]:
            theta = merge(self.theta_mask, theta_in, theta_rest)
            x = merge(self.state_mask, x_in, x_rest)
            return theta, self.tangent_step(theta, x)

        def state_only(theta_in: Leaves, x_in: Leaves) -> Leaves:
            return split(self.state_mask, move(theta_in, x_in)[1])[0]

        def both(theta_in: Leaves, x_in: Leaves) -> tuple[Leaves, Leaves]:
            theta, x = move(theta_in, x_in)
            seen = split(self.observable_mask, self.observe(theta, x))[0]
            return split(self.state_mask, x)[0], seen

        def unseen() -> tuple[Leaves, Leaves]:
            return jax.vjp(state_only, theta_in, x_in)[1](x_bar)

        def seen() -> tuple[Leaves, Leaves]:
            row = (i + 1) // self.every - 1
            bars = [jax.lax.dynamic_index_in_dim(b, row, 0, False) for b in seen_bar]
            return jax.vjp(both, theta_in, x_in)[1]((x_bar, bars))

        if not seen_bar:
            return unseen()
        if self.every == 1:
            return seen()
        return jax.lax.cond((i + 1) % self.every == 0, seen, unseen)

    def cotangents(self, bars: tuple[Leaves, Leaves]) -> tuple[Leaves, Leaves]:
        """The differentiable parts of the cotangents of state and observables."""
        x_bar, seen_bar = bars
        return (
            split(self.state_mask, x_bar)[0],
            split(self.observable_mask, seen_bar)[0],
        )

    def full(
        self, theta: Leaves, x: Leaves, theta_bar: Leaves, x_bar: Leaves
    ) -> tuple[Leaves, Leaves]:
        """Cotangents of all leaves, from those of the differentiable ones."""
        theta_rest = no_tangents(split(self.theta_mask, theta)[1])
        x_rest = no_tangents(split(self.state_mask, x)[1])
        return (
            merge(self.theta_mask, theta_bar, theta_rest),
            merge(self.state_mask, x_bar, x_rest),
        )
