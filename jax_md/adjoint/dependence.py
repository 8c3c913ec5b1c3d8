"""Which outputs of a traced function move with which inputs, and which smoothly.

A derivative of zero is right where an output does not depend on an input at all, and
wrong where it does, through a comparison, a rounding or an integer: the sum of a
thousand accepted or refused moves depends on the temperature, and its derivative along
each path is zero. The two cases look the same to automatic differentiation, so they are
told apart here, by walking the program.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax.extend.core import Literal

# Piecewise constant: values move in jumps only. Comparisons need no mention, since what
# they return has no tangents.
_FLAT = {"round", "floor", "ceil", "sign"}


class Bits(NamedTuple):
    """Sets of inputs, one bit each.

    Attributes:
        value: Inputs that a value depends on.
        slope: Inputs that it has a derivative to.
    """

    value: int = 0
    slope: int = 0

    def __or__(self, other: Any) -> "Bits":
        return Bits(self.value | other.value, self.slope | other.slope)


def dependence(jaxpr: Any, count: int) -> list[Bits]:
    """For each output of a traced function the inputs that it depends on.

    Args:
        jaxpr: What was traced. Its constants come first, then its arguments.
        count: Number of both together.
    """
    return _walk(jaxpr, [Bits(1 << i, 1 << i) for i in range(count)])


def jumps(bits: Sequence[Bits], count: int) -> list[bool]:
    """Which inputs move outputs, but none of them smoothly."""
    every = Bits()
    for b in bits:
        every = every | b
    only = every.value & ~every.slope
    return [bool(only >> i & 1) for i in range(count)]


def _walk(jaxpr: Any, given: Sequence[Bits]) -> list[Bits]:
    jaxpr = getattr(jaxpr, "jaxpr", jaxpr)
    inputs = [*jaxpr.constvars, *jaxpr.invars]
    # The constants of an inner program are numbers.
    given = [Bits()] * (len(inputs) - len(given)) + list(given)
    known: dict[Any, Bits] = dict(zip(inputs, given, strict=True))

    def read(atom: Any) -> Bits:
        return Bits() if isinstance(atom, Literal) else known[atom]

    for eqn in jaxpr.eqns:
        out = _rule(eqn, [read(v) for v in eqn.invars])
        for var, bits in zip(eqn.outvars, out, strict=True):
            known[var] = bits if _smooth(var) else bits._replace(slope=0)
    return [read(v) for v in jaxpr.outvars]


def _smooth(var: Any) -> bool:
    dtype = getattr(var.aval, "dtype", None)
    return dtype is not None and jnp.issubdtype(dtype, jnp.inexact)


def _rule(eqn: Any, given: list[Bits]) -> list[Bits]:
    name, params = eqn.primitive.name, eqn.params
    together = Bits()
    for bits in given:
        together = together | bits
    width = len(eqn.outvars)
    if name == "stop_gradient":
        return [Bits()] * width  # said to be constant
    if name in _FLAT:
        return [together._replace(slope=0)] * width
    if name == "scan":
        body = getattr(params["jaxpr"], "jaxpr", params["jaxpr"])
        # What is scanned over has one axis less inside.
        rows = _ranks_differ(eqn.invars, body.invars)
        carried = len(body.outvars) - _ranks_differ(eqn.outvars, body.outvars)
        carry, out = _loop(body, given, len(given) - rows - carried, carried)
        return out if params["length"] else [*carry, *out[carried:]]
    if name == "while":
        return _while(params, given)
    if name == "cond":
        choice, rest = given[0], given[1:]
        out = [choice._replace(slope=0)] * width
        for branch in params["branches"]:
            pairs = zip(out, _walk(branch, rest), strict=True)
            out = [a | b for a, b in pairs]
        return out
    inner = [p for p in params.values() if hasattr(p, "eqns")]
    if len(inner) == 1 and _fits(inner[0], eqn):
        out = _walk(inner[0], given)
        if name.startswith("custom_"):  # whose derivatives are not those of its program
            return [Bits(bits.value, together.slope) for bits in out]
        return out
    return [together] * width


def _ranks_differ(outer: Sequence[Any], inner: Sequence[Any]) -> int:
    pairs = zip(outer, inner, strict=True)
    return sum(a.aval.ndim != b.aval.ndim for a, b in pairs)


def _fits(jaxpr: Any, eqn: Any) -> bool:
    jaxpr = getattr(jaxpr, "jaxpr", jaxpr)
    counts = len(jaxpr.invars), len(jaxpr.outvars)
    return counts == (len(eqn.invars), len(eqn.outvars))


def _loop(
    body: Any, given: list[Bits], consts: int, carried: int
) -> tuple[list[Bits], list[Bits]]:
    """What the carry depends on after any number of turns, and what a turn returns."""
    fixed, carry = given[:consts], given[consts : consts + carried]
    rows = given[consts + carried :]
    while True:
        out = _walk(body, [*fixed, *carry, *rows])
        grown = [a | b for a, b in zip(carry, out[:carried], strict=True)]
        if grown == carry:
            return carry, out
        carry = grown


def _while(params: dict[str, Any], given: list[Bits]) -> list[Bits]:
    tests, bodies = params["cond_nconsts"], params["body_nconsts"]
    fixed, carry = given[:tests], given[tests + bodies :]
    carry, _ = _loop(
        params["body_jaxpr"],
        [*given[tests : tests + bodies], *carry],
        bodies,
        len(carry),
    )
    turns = _walk(params["cond_jaxpr"], [*fixed, *carry])[0]._replace(slope=0)
    return [bits | turns for bits in carry]
