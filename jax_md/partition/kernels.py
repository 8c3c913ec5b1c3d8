"""Cut a pair function into vector kernels that compute nothing twice.

A compiler that fuses elementwise operations makes one kernel per result, and whatever
several results need is computed again in each: the three components of a force would
each gather the neighbor, take the minimum image and evaluate the potential. The remedy
is to store the few values that are needed by more than one kernel and dear to compute
(the displacement, the derivative of the potential), behind an optimization barrier.
They are chosen one by one, the one that saves most first, by a count of the operations
in all kernels; a value that is stored becomes a kernel of its own.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.core import ClosedJaxpr, Literal

from .lanes import ELEMENTWISE, Lanes, evaluate, literal, object_array, structs
from .tidy import tidied

# Rough costs in arithmetic operations. Storing and loading a vector costs about four.
STORE = 4
_COST = {"div": 6, "sqrt": 6, "rsqrt": 6, "integer_pow": 3, "cbrt": 15, "pow": 20}
_COST |= dict.fromkeys("exp exp2 expm1 log log1p tanh logistic sin cos tan".split(), 12)
_COST |= dict.fromkeys("erf erfc erf_inv lgamma digamma atan2 acos asin".split(), 20)
_GATHER = 6
# Operations of a kernel that is still unrolled where its results are summed, and those
# of a result that is better stored than summed in a kernel with more.
_SHORT, _LONG = 60, 24
# Values to try to store at a time; a bound on compile time.
_CANDIDATES = 256


class Kernels:
    """A pair function on scalars, with marks on the values to store.

    Args:
        closed: The function of one pair, with arguments ``nodes_i``, ``nodes_j``,
            ``edges`` and ``params`` one after the other.
        n_own: Number of components in ``nodes_i``, and in ``nodes_j``.
        shapes: Shapes of all arguments but the parameters.
        store: Whether to store anything. Where one kernel can have many results, as
            on accelerators, there is no need to.
    """

    def __init__(
        self,
        closed: ClosedJaxpr,
        shapes: Sequence[tuple],
        n_own: int,
        store: bool = True,
    ):
        avals = structs(closed.in_avals)
        n_lane_args = len(shapes)
        scalars = [
            jax.ShapeDtypeStruct((), a.dtype)
            for a, s in zip(avals, shapes, strict=False)
            for _ in range(int(np.prod(s)))
        ]
        params = avals[n_lane_args:]

        def flat(*args: Any) -> list:
            values, at = [], 0
            for shape in shapes:
                size = int(np.prod(shape))
                values.append(Lanes(object_array(shape, args[at : at + size])))
                at += size
            out = evaluate(closed, [*values, *args[at:]], ())
            return [p for value in out for p in value.parts.flat]

        self.closed = tidied(jax.make_jaxpr(flat)(*scalars, *params))
        self.n_scalars = len(scalars)
        self._mark(range(n_own, 2 * n_own), store)

    def _mark(self, gathered: range, store: bool) -> None:
        jaxpr = self.closed.jaxpr
        number: dict[Any, int] = {}  # of the values that differ from lane to lane
        cost: list[int] = []  # of what produces a value, once
        cone: list[int] = []  # of everything before it
        for k, v in enumerate(jaxpr.invars[: self.n_scalars]):
            number[v] = len(cost)
            cost.append(_GATHER if k in gathered else 1)
            cone.append(cost[-1])
        calls: list[tuple[Any, list[int], list[int]]] = []
        for eqn in jaxpr.eqns:
            inputs = [v for v in eqn.invars if not isinstance(v, Literal)]
            inputs = [number[v] for v in inputs if v in number]
            if not inputs:
                continue
            name = eqn.primitive.name
            here = _COST.get(name, 1 if name in ELEMENTWISE else _GATHER)
            outputs = list(range(len(cost), len(cost) + len(eqn.outvars)))
            number.update(zip(eqn.outvars, outputs, strict=True))
            cost += [here] * len(outputs)
            cone += [here + sum(cone[i] for i in inputs)] * len(outputs)
            calls.append((eqn, inputs, outputs))
        results = [
            number.get(v, -1) for v in jaxpr.outvars if not isinstance(v, Literal)
        ]
        plan = _Plan(calls, results, cost, self.n_scalars)
        chosen, users = plan.choose(cone) if store else (set(), plan.count(set())[1])
        self.lane = set(number)
        self.stored = {v for v, i in number.items() if i in chosen}
        # Operations on parameters alone are few, and the compiler drops what is unused.
        used = {id(eqn) for eqn, _, outputs in calls if any(users[i] for i in outputs)}
        used |= {id(eqn) for eqn in jaxpr.eqns} - {id(eqn) for eqn, _, _ in calls}
        self.needed = [eqn for eqn in jaxpr.eqns if id(eqn) in used]
        self.operations = self._operations(jaxpr.outvars)
        if store and self.operations > _SHORT:
            results = [v for v in jaxpr.outvars if not isinstance(v, Literal)]
            self.stored |= {v for v in results if self._operations([v]) > _LONG}
            self.operations = self._operations(jaxpr.outvars)

    def _operations(self, results: Sequence[Any]) -> int:
        """Operations between the stored values and some results."""
        made_by = {v: eqn for eqn in self.needed for v in eqn.outvars if v in self.lane}
        todo, seen = list(results), set()
        while todo:
            v = todo.pop()
            eqn = None if isinstance(v, Literal) else made_by.get(v)
            if eqn is None or v in self.stored or id(eqn) in seen:
                continue
            seen.add(id(eqn))
            todo += eqn.invars
        return len(seen)

    def __call__(self, vectors: Sequence[Any], params: Sequence[Any], lanes: tuple):
        """Evaluate on vectors of shape `lanes`; returns one vector per component."""
        jaxpr = self.closed.jaxpr
        known = dict(zip(jaxpr.constvars, self.closed.consts, strict=True))
        for var, value in zip(jaxpr.invars, [*vectors, *params], strict=True):
            known[var] = (
                lax.optimization_barrier(value) if var in self.stored else value
            )

        def read(v: Any) -> Any:
            return literal(v) if isinstance(v, Literal) else known[v]

        for eqn in self.needed:
            out = self._apply(eqn, [read(v) for v in eqn.invars], lanes)
            for v, value in zip(eqn.outvars, out, strict=True):
                known[v] = (
                    lax.optimization_barrier(value) if v in self.stored else value
                )
        return [jnp.broadcast_to(read(v), lanes) for v in jaxpr.outvars]

    def _apply(self, eqn: Any, values: list, lanes: tuple) -> list:
        def bind(*args: Any) -> Any:
            return eqn.primitive.bind(*args, **eqn.params)

        varies = [not isinstance(v, Literal) and v in self.lane for v in eqn.invars]
        if not any(varies):
            out = bind(*values)
        elif eqn.primitive.name in ELEMENTWISE:
            out = bind(
                *(
                    v if jnp.shape(v) == lanes else jnp.broadcast_to(v, lanes)
                    for v in values
                )
            )
        else:
            mapped = bind
            for _ in lanes:
                mapped = jax.vmap(mapped, tuple(0 if m else None for m in varies))
            out = mapped(*values)
        return list(out) if eqn.primitive.multiple_results else [out]


class _Plan:
    """Counts the operations of all kernels for a choice of stored values."""

    def __init__(self, calls: list, results: list[int], cost: list[int], n_inputs: int):
        self.calls = [(inputs, outputs) for _, inputs, outputs in reversed(calls)]
        self.results, self.cost, self.n_inputs = results, cost, n_inputs

    def choose(self, cone: list[int]) -> tuple[set[int], list[int]]:
        """The values to store, and the kernels that need each value then."""
        stored: set[int] = set()
        total, users = self.count(stored)
        while True:
            # Whatever lowers the work most is stored, until nothing does.
            shared = [
                ((kernels.bit_count() - 1) * cone[i], -i, i)
                for i, kernels in enumerate(users)
                if kernels.bit_count() > 1 and i not in stored
            ]
            best = None
            for gain, _, i in sorted(shared, reverse=True)[:_CANDIDATES]:
                if gain < STORE:
                    break
                trial, _ = self.count({*stored, i})
                if trial < total:
                    total, best = trial, i
            if best is None:
                return stored, users
            stored.add(best)
            for i in list(stored):  # what the last choice has made useless
                if self.count(stored - {i})[0] <= total:
                    stored.discard(i)
            total, users = self.count(stored)

    def count(self, stored: set[int]) -> tuple[int, list[int]]:
        """Operations in all, and which kernels need each value, as bits."""
        users, bits, total = [0] * len(self.cost), 0, 0
        for i in self.results:
            if i >= 0:
                users[i] |= 1 << bits
            bits += 1
        for inputs, outputs in self.calls:
            needed = 0
            for i in outputs:
                kernels = users[i]
                if kernels:
                    if i in stored:
                        total += STORE + kernels.bit_count()
                        kernels = 1 << bits
                        bits += 1
                    total += self.cost[i] * kernels.bit_count()
                    needed |= kernels
            if needed:
                for i in inputs:
                    users[i] |= needed
        for i in range(self.n_inputs):
            kernels = users[i]
            if kernels and i in stored:
                total += STORE + kernels.bit_count()
                kernels = 1
            total += self.cost[i] * kernels.bit_count()
        return total, users
