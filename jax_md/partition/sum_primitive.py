r"""The neighbor sum, a primitive closed under differentiation.

Everything short-ranged is one operation,

.. math:: S(a, \theta)_i = \sum_{j \in N(i)} f(a_i, a_j, \theta),

over a full symmetric list (``i`` in ``N(j)`` whenever ``j`` in ``N(i)``). Its tangent
is a neighbor sum over nodes :math:`(a, da)`, and since the list is symmetric its
transpose is one over nodes :math:`(a, c)` with the roles of the pair swapped,

.. math::
    (S^T c)_i = \sum_j \partial_1 f(a_i, a_j)^T c_i + \partial_2 f(a_j, a_i)^T c_j,

so that derivatives of any order and mode are sweeps over the same list: no scatter, no
array of the size of the list, and no NaN from an empty slot, because slots are masked
after the derivative of ``f`` has been taken, not before.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import ad

from jax_md.util import high_precision_sum

from .plain import plain_sum
from .primitives import (
    fill,
    has_table,
    install,
    is_zero,
    no_tangent,
    pick,
    plain_jvp,
    refuse_edge_tangents,
)
from .sweep import PairFn, Rows, sweep


@dataclass(frozen=True)
class _Tangent:
    """The tangent of a pair function, over nodes and parameters with tangents appended.

    Only the leaves in `given_x` and `given_t` carry a tangent, behind the primal ones,
    and only the results in `moves`: a count has none.
    """

    f: PairFn
    given_x: tuple[bool, ...]
    given_t: tuple[bool, ...]
    moves: tuple[bool, ...]

    def __call__(self, x: list, y: list, e: list, t: list) -> list:
        given_x, given_t = self.given_x, self.given_t
        n_x, n_t = len(given_x), len(given_t)

        def g(xs: list, ys: list, ts: list) -> list:
            return self.f(
                fill(given_x, xs, x[:n_x]),
                fill(given_x, ys, y[:n_x]),
                e,
                fill(given_t, ts, t[:n_t]),
            )

        point = (
            pick(given_x, x[:n_x]),
            pick(given_x, y[:n_x]),
            pick(given_t, t[:n_t]),
        )
        return pick(self.moves, jax.jvp(g, point, (x[n_x:], y[n_x:], t[n_t:]))[1])


@dataclass(frozen=True)
class _Transpose:
    """The transpose of a pair function, over known nodes with cotangents appended.

    It is linear in the leaves in `lin_a` and `lin_t`, whose entries have the shapes and
    dtypes in `holes_a` and `holes_t`.
    """

    f: PairFn
    lin_a: tuple[bool, ...]
    lin_t: tuple[bool, ...]
    holes_a: tuple
    holes_t: tuple
    symmetric: bool

    def __call__(self, x: list, y: list, e: list, t: list) -> list:
        m_a = self.lin_a.count(False)
        kx, cx, ky, cy = x[:m_a], x[m_a:], y[:m_a], y[m_a:]
        if self.symmetric:
            together = [p + q for p, q in zip(cx, cy, strict=True)]
            bars, _, _ = self.pull(kx, ky, e, t, together)
            t_bar = self.pull(kx, ky, e, t, cx)[2] if self.holes_t else []
            return [*bars, *t_bar]
        as_center, _, t_bar = self.pull(kx, ky, e, t, cx)
        _, as_neighbor, _ = self.pull(ky, kx, [-v for v in e], t, cy)
        return [*(p + q for p, q in zip(as_center, as_neighbor, strict=True)), *t_bar]

    def pull(self, x: list, y: list, e: list, t: list, c: list) -> tuple:
        """Cotangents of the leaves of ``x``, of ``y`` and of the parameters."""

        def g(own: list, other: list, lin: list) -> list:
            return self.f(
                _merge(self.lin_a, own, x),
                _merge(self.lin_a, other, y),
                e,
                _merge(self.lin_t, lin, t),
            )

        zeros_a = [jnp.zeros(*hole) for hole in self.holes_a]
        zeros_t = [jnp.zeros(*hole) for hole in self.holes_t]
        return jax.vjp(g, zeros_a, zeros_a, zeros_t)[1](c)


def _merge(linear: tuple[bool, ...], unknown: list, known: list) -> list:
    unknowns, knowns = iter(unknown), iter(known)
    return [next(unknowns) if lin else next(knowns) for lin in linear]


neighbor_sum_p = Primitive("neighbor_sum")
neighbor_sum_p.multiple_results = True


def _sum_apply(*args, f, sizes, mask, symmetric, dense=False):
    n_a, n_e, _ = sizes
    a, e, t = args[:n_a], args[n_a : n_a + n_e], args[n_a + n_e : -4]
    return sweep(f, a, e, t, Rows(*args[-4:]), mask, dense)


def _sum_jvp(primals, tangents, *, f, sizes, mask, symmetric):
    params = dict(mask=mask, symmetric=symmetric)
    out = neighbor_sum_p.bind(*primals, f=f, sizes=sizes, **params)
    n_a, n_e, n_t = sizes
    live = tuple(not is_zero(t) for t in tangents)
    if not any(live):
        return out, [no_tangent(o) for o in out]
    refuse_edge_tangents(live[n_a : n_a + n_e])
    given_a, given_t = live[:n_a], live[n_a + n_e : -4]
    if has_table(given_t, primals[n_a + n_e : -4]):
        return plain_jvp(
            _sum_plain, primals, tangents, live, f=f, sizes=sizes, mask=mask
        )
    moves = tuple(jnp.issubdtype(o.dtype, jnp.inexact) for o in out)
    if not any(moves):
        return out, [no_tangent(o) for o in out]
    a, e, t = primals[:n_a], primals[n_a : n_a + n_e], primals[n_a + n_e : -4]
    da, dt = pick(given_a, tangents[:n_a]), pick(given_t, tangents[n_a + n_e : -4])
    dots = neighbor_sum_p.bind(
        *a, *da, *e, *t, *dt, *primals[-4:],
        f=_Tangent(f, given_a, given_t, moves),
        sizes=(n_a + len(da), n_e, n_t + len(dt)),
        **params,
    )  # fmt: skip
    return out, fill(moves, dots, [no_tangent(o) for o in out])


def _sum_plain(*args, f, sizes, mask):
    n_a, n_e, _ = sizes
    a, e, t = args[:n_a], args[n_a : n_a + n_e], args[n_a + n_e : -4]
    return plain_sum(f, a, e, t, Rows(*args[-4:]), mask)


def _sum_transpose(cotangents, *args, f, sizes, mask, symmetric):
    n_a, n_e, n_t = sizes
    linear = tuple(ad.is_undefined_primal(x) for x in args)
    lin_a, lin_t = linear[:n_a], linear[n_a + n_e : -4]
    known_a = pick(tuple(not x for x in lin_a), args[:n_a])
    known_t = pick(tuple(not x for x in lin_t), args[n_a + n_e : -4])
    c = [c.instantiate() if isinstance(c, ad.Zero) else c for c in cotangents]
    holes_a = [(x.aval.shape[1:], x.aval.dtype) for x in pick(lin_a, args[:n_a])]
    holes_t = [(x.aval.shape, x.aval.dtype) for x in pick(lin_t, args[n_a + n_e : -4])]
    bars = neighbor_sum_p.bind(
        *known_a, *c, *args[n_a : n_a + n_e], *known_t, *args[-4:],
        f=_Transpose(f, lin_a, lin_t, tuple(holes_a), tuple(holes_t), symmetric),
        sizes=(len(known_a) + len(c), n_e, len(known_t)),
        mask=None if mask is None else mask.without(lin_a, lin_t),
        symmetric=False,
    )  # fmt: skip
    bars_a, bars_t = bars[: len(holes_a)], bars[len(holes_a) :]
    bars_t = [high_precision_sum(b, axis=0) for b in bars_t]
    return [
        *fill(lin_a, bars_a, [None] * n_a),
        *[None] * n_e,
        *fill(lin_t, bars_t, [None] * n_t),
        *[None] * 4,
    ]


install(neighbor_sum_p, _sum_apply, _sum_jvp, _sum_transpose)
