"""Take even powers of a distance from its square.

A pair potential is written in terms of the distance, which is the root of a sum of
squares, and often uses nothing but even powers of it: ``(sigma / dr) ** 6``. Root and
square cancel on paper, but not in the derivative that autodiff makes, where a root, two
divisions by it and what guards them against zero remain, the dearest part of a simple
potential. So before a pair function is differentiated its roots are followed, through
products, quotients and whatever only changes shapes, and an even power is computed from
the square.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import ClosedJaxpr, Literal

from .lanes import structs

_ROOT = "root_of_square"  # of `jax_md.space`
_CALLS = frozenset(("jit", "pjit"))
# What moves entries or copies them: it does the same to their squares.
_MOVES = frozenset(
    "broadcast_in_dim reshape squeeze expand_dims transpose copy".split()
)


def from_squares(closed: ClosedJaxpr) -> ClosedJaxpr:
    """Return the same function, with even powers of roots taken from the squares.

    Args:
        closed: A function; `jax_md.space.distance` and ``sqrt`` are the roots.
    """
    if not _has_root(closed.jaxpr):
        return closed

    def run(*args: Any) -> list[Any]:
        return _run(closed.jaxpr, closed.consts, [_Value(x) for x in args])

    avals = structs(closed.in_avals)
    return jax.make_jaxpr(lambda *args: [v.value for v in run(*args)])(*avals)


class _Value:
    """A value, and how to make its square if that is easier than to square it."""

    def __init__(self, value: Any, make: Callable[[], Any] | None = None):
        self.value, self._make, self._square = value, make, None

    @property
    def is_root(self) -> bool:
        return self._make is not None

    @property
    def square(self) -> Any:
        if self._square is None:
            make = self._make
            self._square = self.value * self.value if make is None else make()
        return self._square

    def power(self, n: int) -> Any:
        """The value to a whole power, of two or more either way."""
        half, odd = divmod(abs(n), 2)
        out = lax.integer_pow(self.square, half)
        out = out * self.value if odd else out
        return 1 / out if n < 0 else out


def _is_root(eqn: Any) -> bool:
    name = eqn.primitive.name
    marked = name in _CALLS and eqn.params["name"] == _ROOT
    return marked or name == "sqrt"


def _has_root(jaxpr: Any) -> bool:
    return any(
        _is_root(eqn)
        or (eqn.primitive.name in _CALLS and _has_root(eqn.params["jaxpr"].jaxpr))
        for eqn in jaxpr.eqns
    )


def _run(jaxpr: Any, consts: Any, inputs: list[_Value]) -> list[_Value]:
    known: dict[Any, _Value] = dict(
        zip(jaxpr.constvars, map(_Value, consts), strict=True)
    )
    known.update(zip(jaxpr.invars, inputs, strict=True))

    def read(v: Any) -> _Value:
        return _Value(v.val) if isinstance(v, Literal) else known[v]

    for eqn in jaxpr.eqns:
        out = _apply(eqn, [read(v) for v in eqn.invars])
        known.update(zip(eqn.outvars, out, strict=True))
    return [read(v) for v in jaxpr.outvars]


def _apply(eqn: Any, inputs: list[_Value]) -> list[_Value]:
    name, params = eqn.primitive.name, eqn.params
    if _is_root(eqn):
        (x,) = (v.value for v in inputs)
        # No tangent at a distance of zero, as for the distance itself.
        guarded = (lambda: x) if name == "sqrt" else lambda: jnp.where(x != 0, x, 0)
        return [_Value(_plain(eqn, inputs)[0], guarded)]
    if name in _CALLS:
        inner = params["jaxpr"]
        if any(v.is_root for v in inputs) or _has_root(inner.jaxpr):
            return _run(inner.jaxpr, inner.consts, inputs)
    if not any(v.is_root for v in inputs):
        return [_Value(v) for v in _plain(eqn, inputs)]
    if name == "mul" and inputs[0] is inputs[1]:
        return [_Value(inputs[0].square)]
    if name == "square":
        return [_Value(inputs[0].square)]
    if name == "integer_pow" and abs(params["y"]) > 1:
        return [_Value(inputs[0].power(params["y"]))]
    (out, *_) = outputs = _plain(eqn, inputs)
    if name == "mul":
        return [_Value(out, lambda: inputs[0].square * inputs[1].square)]
    if name == "div":
        return [_Value(out, lambda: inputs[0].square / inputs[1].square)]
    if name in ("neg", "abs"):
        return [_Value(out, lambda: inputs[0].square)]
    if name in _MOVES:
        rest = [_Value(v.value) for v in inputs[1:]]
        moved = [_Value(inputs[0].square), *rest]
        return [_Value(out, lambda: _plain(eqn, moved)[0])]
    if name == "select_n":
        which, *cases = inputs
        return [
            _Value(out, lambda: lax.select_n(which.value, *(c.square for c in cases)))
        ]
    return [_Value(v) for v in outputs]


def _plain(eqn: Any, inputs: list[_Value]) -> list[Any]:
    """Evaluate one equation as it stands, with the rules its primitive has."""
    params = eqn.primitive.get_bind_params(eqn.params)
    out = eqn.primitive.bind(*(v.value for v in inputs), **params)
    return list(out) if eqn.primitive.multiple_results else [out]
