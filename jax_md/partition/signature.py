"""Recognise a function that was traced before.

Outside `jit`, each call of a neighbor sum traces the function of the pair again, into a
program that is equal to the last one but another object. By its signature it is known
again, and what was compiled for it is used again.
"""

from collections.abc import Hashable
from typing import Any

import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal


class _Itself:
    """Something compared by identity, and kept alive as long as it is compared."""

    def __init__(self, value: Any):
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Itself) and self.value is other.value

    def __hash__(self) -> int:
        return id(self.value)


def signature(program: Jaxpr | ClosedJaxpr) -> Hashable:
    """Return a value that is equal for programs that do the same.

    What cannot be looked into (derivative rules, constants) is compared by identity,
    so that two programs that do the same may differ here, never the other way round.
    """
    closed = isinstance(program, ClosedJaxpr)
    jaxpr: Any = program.jaxpr if closed else program
    consts = tuple(map(_Itself, program.consts)) if closed else ()
    number: dict[Any, int] = {}

    def name(v: Any) -> Hashable:
        if isinstance(v, Literal):
            value = np.asarray(v.val)
            return str(v.aval), str(value.dtype), value.tobytes()
        return number.setdefault(v, len(number))

    arguments = [(name(v), str(v.aval)) for v in (*jaxpr.constvars, *jaxpr.invars)]
    equations = [
        (
            eqn.primitive,
            tuple(name(v) for v in eqn.invars),
            tuple((name(v), str(v.aval)) for v in eqn.outvars),
            tuple(
                (key, of_parameter(value)) for key, value in sorted(eqn.params.items())
            ),
        )
        for eqn in jaxpr.eqns
    ]
    results = [name(v) for v in jaxpr.outvars]
    return consts, tuple(arguments), tuple(equations), tuple(results)


def of_parameter(value: Any) -> Hashable:
    """A parameter of an equation; numbers of different types are not equal."""
    if isinstance(value, Jaxpr | ClosedJaxpr):
        return signature(value)
    if isinstance(value, tuple | list):
        return type(value), tuple(map(of_parameter, value))
    try:
        hash(value)
    except TypeError:
        return _Itself(value)
    return type(value), value
