"""Which outputs of a traced function move with which inputs, and which smoothly.

A derivative of zero is right where an output does not depend on an input at all, and
wrong where it does, through a comparison, a rounding or an integer: the sum of a
thousand accepted or refused moves depends on the temperature, and its derivative along
each path is zero. The two cases look the same to automatic differentiation, so they are
told apart here, by walking the program: `jumps` are inputs that move the outputs by
decisions alone.

An input that moves outputs smoothly as well is harder. Decisions are all over smooth
steps: a cutoff, the nearest image, the update of a neighbor list. What makes an average
depend on a decision is chance, so draws of random numbers are followed, too. Noise that
a thermostat adds moves the state smoothly, whatever it is compared with on the way. A
draw that is there only to be compared decides by lot, and whatever changes its odds
changes averages: these inputs are `odds`.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax.extend.core import Literal

# Piecewise constant: values move in jumps only. Comparisons need no mention, since what
# they return has no tangents.
_FLAT = {"round", "floor", "ceil", "sign"}
# Where random numbers come from; typed keys lead to the first, arrays for keys as well.
_RANDOM = {"random_bits", "threefry2x32", "rng_bit_generator", "rng_uniform"}


class Bits(NamedTuple):
    """Sets of inputs, one bit each; above those of the inputs are bits for draws.

    Attributes:
        value: Inputs that a value depends on.
        slope: Inputs that it has a derivative to.
        random: Whether random numbers have gone into it.
        refused: Whether it refuses derivatives itself, in words of its own.
    """

    value: int = 0
    slope: int = 0
    random: bool = False
    refused: bool = False

    def __or__(self, other: Any) -> "Bits":
        return Bits(
            self.value | other.value,
            self.slope | other.slope,
            self.random or other.random,
            self.refused or other.refused,
        )

    def cut(self) -> "Bits":
        """The same without derivatives."""
        return self._replace(slope=0)


class Dependence(NamedTuple):
    """What was learned of a program.

    Attributes:
        outputs: For each output the inputs that it depends on.
        odds: Inputs that a draw is compared with, directly or after it was combined
            with them; one bit each.
    """

    outputs: list[Bits]
    odds: int


def dependence(jaxpr: Any, count: int) -> Dependence:
    """For each output of a traced function the inputs that it depends on.

    Args:
        jaxpr: What was traced. Its constants come first, then its arguments.
        count: Number of both together.
    """
    walk = _Walk(jaxpr, count)
    outputs = walk(jaxpr, [Bits(1 << i, 1 << i) for i in range(count)])
    every = _union(outputs)
    odds = 0
    for draw, inputs, direct in walk.decisions:
        # One that was combined with inputs first could be noise that moves particles,
        # whose distances are then compared with a cutoff.
        if every.value & draw and (direct or not every.slope & draw):
            odds |= inputs
    inside = (1 << count) - 1
    kept = [Bits(b.value & inside, b.slope & inside) for b in outputs]
    return Dependence(kept, odds & inside)


def jumps(outputs: Sequence[Bits], count: int) -> list[bool]:
    """Which inputs move outputs, but none of them smoothly."""
    every = _union(outputs)
    only = every.value & ~every.slope
    return [bool(only >> i & 1) for i in range(count)]


def odds(found: Dependence, first: int, count: int) -> list[bool]:
    """Which inputs change the odds of a lot, in one step or in later ones.

    Args:
        found: Of a step. Its outputs are a state.
        first: Number of the input that is the first array of the state.
        count: Number of inputs.
    """
    reach = found.odds
    while True:
        more = reach
        for j, bits in enumerate(found.outputs):
            if reach >> (first + j) & 1:
                more |= bits.value
        if more == reach:
            return [bool(reach >> i & 1) for i in range(count)]
        reach = more


def _union(bits: Sequence[Bits]) -> Bits:
    every = Bits()
    for b in bits:
        every = every | b
    return every


def _smooth(var: Any) -> bool:
    dtype = getattr(var.aval, "dtype", None)
    return dtype is not None and jnp.issubdtype(dtype, jnp.inexact)


class _Walk:
    """Follows bits through a program and the programs inside of it."""

    def __init__(self, jaxpr: Any, count: int):
        self.inputs = (1 << count) - 1
        variables = enumerate([*jaxpr.constvars, *jaxpr.invars])
        self.real = sum(1 << i for i, var in variables if _smooth(var))
        # A draw is known by where it is made: a program may be called several times.
        self.where: tuple[int, ...] = ()
        self.draws: dict[tuple[int, ...], int] = {}
        # Draws, inputs that they are compared with, and whether nothing else was done.
        self.decisions: list[tuple[int, int, bool]] = []

    def __call__(self, jaxpr: Any, given: Sequence[Bits]) -> list[Bits]:
        jaxpr = getattr(jaxpr, "jaxpr", jaxpr)
        inputs = [*jaxpr.constvars, *jaxpr.invars]
        # The constants of an inner program are numbers.
        given = [Bits()] * (len(inputs) - len(given)) + list(given)
        known: dict[Any, Bits] = dict(zip(inputs, given, strict=True))

        def read(atom: Any) -> Bits:
            return Bits() if isinstance(atom, Literal) else known[atom]

        for i, eqn in enumerate(jaxpr.eqns):
            outside, self.where = self.where, (*self.where, i)
            out = self.rule(eqn, [read(v) for v in eqn.invars])
            for j, (var, bits) in enumerate(zip(eqn.outvars, out, strict=True)):
                if not _smooth(var):
                    bits = bits.cut()
                elif self.pure(bits):
                    bits = self.draw(j, bits)
                known[var] = bits
            self.where = outside
        return [read(v) for v in jaxpr.outvars]

    def pure(self, bits: Bits) -> bool:
        """Whether a value is random and depends on no real number."""
        return bits.random and not bits.value & self.real

    def draw(self, j: int, bits: Bits) -> Bits:
        """A draw of its own: parts of one array are used for different ends."""
        bit = self.draws.setdefault(
            (*self.where, j), (self.inputs + 1) << len(self.draws)
        )
        return Bits(bits.value & self.inputs | bit, bit, True, bits.refused)

    def decide(self, given: Sequence[Bits]) -> None:
        """Note which draws are compared, and with what."""
        together = _union(given)
        if together.refused or not together.value & self.real:
            return  # nobody will differentiate it, or a lot with constant odds
        inputs = together.value & self.inputs
        for bits in given:
            if draws := bits.slope & ~self.inputs:
                self.decisions += [
                    (1 << k, inputs, self.pure(bits))
                    for k in range(draws.bit_length())
                    if draws >> k & 1
                ]

    def rule(self, eqn: Any, given: list[Bits]) -> list[Bits]:
        name, params = eqn.primitive.name, eqn.params
        together = _union(given)
        width = len(eqn.outvars)
        if name == "stop_gradient":
            return [Bits(random=self.pure(together))] * width  # said to be constant
        if name == "refused":
            return [Bits(together.value, together.value, together.random, True)]
        if name in _RANDOM:
            return [together._replace(random=True)] * width
        if name in _FLAT:
            self.decide(given)
            return [together.cut()] * width
        if name == "scan":
            body = getattr(params["jaxpr"], "jaxpr", params["jaxpr"])
            # What is scanned over has one axis less inside.
            rows = _ranks_differ(eqn.invars, body.invars)
            carried = len(body.outvars) - _ranks_differ(eqn.outvars, body.outvars)
            carry, out = self.loop(body, given, len(given) - rows - carried, carried)
            return out if params["length"] else [*carry, *out[carried:]]
        if name == "while":
            return self.turns(params, given)
        if name == "cond":
            choice, rest = given[0], given[1:]
            out = [choice.cut()] * width
            for branch in params["branches"]:
                pairs = zip(out, self.inside(branch, rest), strict=True)
                out = [a | b for a, b in pairs]
            return out
        inner = [p for p in params.values() if hasattr(p, "eqns")]
        if len(inner) == 1 and _fits(inner[0], eqn):
            before = len(self.decisions)
            out = self.inside(inner[0], given)
            if name.startswith("custom_"):  # whose derivatives are not its program's
                del self.decisions[before:]
                return [bits._replace(slope=together.slope) for bits in out]
            return out
        if not all(_smooth(var) for var in eqn.outvars):
            self.decide(given)
        return [together] * width

    def inside(self, jaxpr: Any, given: Sequence[Bits]) -> list[Bits]:
        """Walk one of the programs that an equation holds."""
        outside, self.where = self.where, (*self.where, id(jaxpr))
        out = self(jaxpr, given)
        self.where = outside
        return out

    def loop(
        self, body: Any, given: list[Bits], consts: int, carried: int
    ) -> tuple[list[Bits], list[Bits]]:
        """What the carry depends on after any number of turns, and a turn returns."""
        fixed, carry = given[:consts], given[consts : consts + carried]
        rows = given[consts + carried :]
        before = len(self.decisions)
        while True:
            del self.decisions[before:]  # of a turn that did not know everything yet
            out = self.inside(body, [*fixed, *carry, *rows])
            grown = [a | b for a, b in zip(carry, out[:carried], strict=True)]
            if grown == carry:
                return carry, out
            carry = grown

    def turns(self, params: dict[str, Any], given: list[Bits]) -> list[Bits]:
        tests, bodies = params["cond_nconsts"], params["body_nconsts"]
        fixed, carry = given[:tests], given[tests + bodies :]
        carry, _ = self.loop(
            params["body_jaxpr"],
            [*given[tests : tests + bodies], *carry],
            bodies,
            len(carry),
        )
        out = self.inside(params["cond_jaxpr"], [*fixed, *carry])
        return [bits | out[0].cut() for bits in carry]


def _ranks_differ(outer: Sequence[Any], inner: Sequence[Any]) -> int:
    pairs = zip(outer, inner, strict=True)
    return sum(a.aval.ndim != b.aval.ndim for a, b in pairs)


def _fits(jaxpr: Any, eqn: Any) -> bool:
    jaxpr = getattr(jaxpr, "jaxpr", jaxpr)
    counts = len(jaxpr.invars), len(jaxpr.outvars)
    return counts == (len(eqn.invars), len(eqn.outvars))
