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

from .lanes import ELEMENTWISE, Lanes, evaluate, object_array

# Rough costs in arithmetic operations. Storing and loading a vector costs about four.
STORE = 4
_COST = {"div": 6, "sqrt": 6, "rsqrt": 6, "integer_pow": 3, "cbrt": 15, "pow": 20}
_COST |= dict.fromkeys("exp exp2 expm1 log log1p tanh logistic sin cos tan".split(), 12)
_COST |= dict.fromkeys("erf erfc erf_inv lgamma digamma atan2 acos asin".split(), 20)
_GATHER = 6
# Values to try to store at a time; a bound on compile time.
_CANDIDATES = 48


class Kernels:
    """A pair function on scalars, with marks on the values to store.

    Args:
        closed: The function of one pair, with arguments ``nodes_i``, ``nodes_j``,
            ``edges`` and ``params`` one after the other.
        n_own: Number of components in ``nodes_i``, and in ``nodes_j``.
        shapes: Shapes of all arguments but the parameters.
    """

    def __init__(self, closed: ClosedJaxpr, shapes: Sequence[tuple], n_own: int):
        avals = closed.in_avals
        n_lane_args = len(shapes)
        scalars = [
            jax.ShapeDtypeStruct((), a.dtype)
            for a, s in zip(avals, shapes, strict=False)
            for _ in range(int(np.prod(s)))
        ]
        params = [jax.ShapeDtypeStruct(a.shape, a.dtype) for a in avals[n_lane_args:]]

        def flat(*args: Any) -> list:
            values, at = [], 0
            for shape in shapes:
                size = int(np.prod(shape))
                values.append(Lanes(object_array(shape, args[at : at + size])))
                at += size
            out = evaluate(closed, [*values, *args[at:]], ())
            return [p for value in out for p in value.parts.flat]

        self.closed = jax.make_jaxpr(flat)(*scalars, *params)
        self.n_scalars = len(scalars)
        self._mark(range(n_own, 2 * n_own))

    def _mark(self, gathered: range) -> None:
        jaxpr = self.closed.jaxpr
        cost: dict[Any, int] = {}  # of what produces a value, once
        cone: dict[Any, int] = {}  # of everything before it
        for k, v in enumerate(jaxpr.invars[: self.n_scalars]):
            cost[v] = cone[v] = _GATHER if k in gathered else 1
        self.lane = set(cost)
        for eqn in jaxpr.eqns:
            inputs = [v for v in eqn.invars if not isinstance(v, Literal)]
            if not any(v in self.lane for v in inputs):
                continue
            name = eqn.primitive.name
            here = _COST.get(name, 1 if name in ELEMENTWISE else _GATHER)
            total = here + sum(cone.get(v, 0) for v in inputs)
            for v in eqn.outvars:
                self.lane.add(v)
                cost[v], cone[v] = here, min(total, 1000)
        self.stored: set = set()
        total, users = self._kernels(cost)
        while True:
            # Whatever lowers the work most is stored, until nothing does.
            shared = [
                ((users[v].bit_count() - 1) * cone[v], k, v)
                for k, v in enumerate(users)
                if v in cone and v not in self.stored and users[v].bit_count() > 1
            ]
            shared = [v for gain, _, v in sorted(shared, reverse=True) if gain >= STORE]
            best = None
            for v in shared[:_CANDIDATES]:
                trial, _ = self._kernels(cost, v)
                if trial < total:
                    total, best = trial, v
            if best is None:
                break
            self.stored.add(best)
            total, users = self._kernels(cost)
            for v in list(self.stored):  # what the last choice has made useless
                self.stored.discard(v)
                trial, after = self._kernels(cost)
                if trial <= total:
                    total, users = trial, after
                else:
                    self.stored.add(v)
        self.needed = [
            eqn for eqn in jaxpr.eqns if any(users.get(v, 0) for v in eqn.outvars)
        ]

    def _kernels(self, cost: dict, extra: Any = None) -> tuple[int, dict]:
        """Work of all kernels, and which need each value, as bits of an integer."""
        jaxpr, users, bits = self.closed.jaxpr, {}, 0
        for v in jaxpr.outvars:
            if not isinstance(v, Literal):
                users[v] = users.get(v, 0) | 1 << bits
                bits += 1
        total = 0

        def settle(v: Any) -> int:
            nonlocal bits, total
            kernels = users.get(v, 0)
            if kernels and (v in self.stored or v is extra):
                total += STORE + kernels.bit_count()
                kernels = 1 << bits
                bits += 1
            total += cost.get(v, 0) * kernels.bit_count()
            return kernels

        for eqn in reversed(jaxpr.eqns):
            kernels = 0
            for v in eqn.outvars:
                kernels |= settle(v)
            if kernels:
                for v in eqn.invars:
                    if not isinstance(v, Literal):
                        users[v] = users.get(v, 0) | kernels
        for v in jaxpr.invars[: self.n_scalars]:
            settle(v)
        return total, users

    def __call__(self, vectors: Sequence[Any], params: Sequence[Any], lanes: tuple):
        """Evaluate on vectors of shape `lanes`; returns one vector per component."""
        jaxpr = self.closed.jaxpr
        known = dict(zip(jaxpr.constvars, self.closed.consts, strict=True))
        for var, value in zip(jaxpr.invars, [*vectors, *params], strict=True):
            known[var] = (
                lax.optimization_barrier(value) if var in self.stored else value
            )

        def read(v: Any) -> Any:
            return (
                np.asarray(v.val, v.aval.dtype) if isinstance(v, Literal) else known[v]
            )

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
