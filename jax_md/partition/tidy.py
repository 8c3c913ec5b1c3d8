"""Remove from a program what it computes twice.

Derivatives repeat themselves: each of them asks again whether the distance is zero, and
divides again by the same number. A compiler would find most of that, but within a
kernel only, and kernels are chosen before it is asked.
"""

from collections.abc import Hashable
from typing import Any

import jax
import numpy as np
from jax import lax
from jax.core import Tracer
from jax.extend.core import ClosedJaxpr, Literal

from .lanes import literal, structs
from .signature import of_parameter


def tidied(closed: ClosedJaxpr) -> ClosedJaxpr:
    """Return the same function, in which equal operations on equal values are one.

    A negative power becomes that of the reciprocal, of which there is one for a value.
    """

    def run(*args: Any) -> list[Any]:
        return _Walk(closed)(args)

    return jax.make_jaxpr(run)(*structs(closed.in_avals))


class _Walk:
    def __init__(self, closed: ClosedJaxpr):
        self.jaxpr, self.consts = closed.jaxpr, closed.consts
        self.found: dict[Hashable, list[Any]] = {}
        self.kept: list[Any] = []  # alive, so that identities stay theirs

    def __call__(self, args: Any) -> list[Any]:
        jaxpr = self.jaxpr
        known = dict(zip(jaxpr.constvars, self.consts, strict=True))
        known.update(zip(jaxpr.invars, args, strict=True))

        def read(v: Any) -> Any:
            return literal(v) if isinstance(v, Literal) else known[v]

        for eqn in jaxpr.eqns:
            out = self.apply(eqn, [read(v) for v in eqn.invars])
            known.update(zip(eqn.outvars, out, strict=True))
        return [read(v) for v in jaxpr.outvars]

    def apply(self, eqn: Any, values: list[Any]) -> list[Any]:
        name = eqn.primitive.name
        if name == "integer_pow" and eqn.params["y"] < 0:
            inverse = self.reciprocal(values[0])
            n = -eqn.params["y"]
            return self.once(
                ("power", n, self.of(inverse)),
                lambda: [inverse if n == 1 else lax.integer_pow(inverse, n)],
            )
        if name == "div" and isinstance(eqn.invars[0], Literal):
            one, x = values
            if one.ndim == 0 and one == 1 and np.issubdtype(x.dtype, np.floating):
                return [self.reciprocal(x)]
        params = tuple((k, of_parameter(v)) for k, v in sorted(eqn.params.items()))
        key = (eqn.primitive, params, tuple(map(self.of, values)))
        return self.once(key, lambda: _bind(eqn, values))

    def reciprocal(self, x: Any) -> Any:
        one = np.ones((), x.dtype)
        return self.once(("reciprocal", self.of(x)), lambda: [lax.div(one, x)])[0]

    def once(self, key: Hashable, make: Any) -> list[Any]:
        if key not in self.found:
            self.found[key] = make()
        return self.found[key]

    def of(self, value: Any) -> Hashable:
        """What tells a value from others: numbers by what they are."""
        if isinstance(value, Tracer | jax.Array):
            self.kept.append(value)
            return id(value)
        array = np.asarray(value)
        return type(value), str(array.dtype), array.shape, array.tobytes()


def _bind(eqn: Any, values: list[Any]) -> list[Any]:
    params = eqn.primitive.get_bind_params(eqn.params)
    out = eqn.primitive.bind(*values, **params)
    return list(out) if eqn.primitive.multiple_results else [out]
