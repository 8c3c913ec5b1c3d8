r"""Sums over neighbors, closed under differentiation.

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

The total of a symmetric pair function, :math:`E = \frac12 \sum_{ij} u(a_i, a_j,
\theta)`, is simpler. With :math:`T_k(v_1 \ldots v_k) = \nabla^{k+1} E[v_1 \ldots v_k]`,
a covector on nodes and parameters, the tangent of :math:`T_k` is :math:`T_{k+1}`, and
because derivatives commute the transpose of :math:`T_k` in any of its directions is
:math:`T_k` with the cotangent as that direction: a Hessian-vector product costs one
sweep in either mode.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.core import ShapedArray
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from jax_md.util import high_precision_sum

from .plain import plain_sum
from .sweep import PairFn, Rows, sweep

# A parameter with more entries is a table; its gradient is scattered, not summed up
# from a copy of the table for each particle.
TABLE = 64


def _is_zero(tangent: Any) -> bool:
    # A tangent may be a plain Python number.
    dtype = getattr(tangent, "dtype", None)
    return isinstance(tangent, ad.Zero) or dtype == jax.dtypes.float0


def _no_tangent(value: Any) -> ad.Zero:
    return ad.Zero(jax.typeof(value).to_tangent_aval())


def _fill(given: tuple[bool, ...], values: Any, absent: Any) -> list:
    """The next of `values` where given, else the entry of `absent`."""
    values = iter(values)
    return [next(values) if g else z for g, z in zip(given, absent, strict=True)]


def _pick(given: tuple[bool, ...], values: Any) -> list:
    return [v for g, v in zip(given, values, strict=True) if g]


def _tangent_of(f: PairFn, given_x: tuple, given_t: tuple, moves: tuple) -> PairFn:
    """The tangent of a pair function, over nodes and parameters with tangents appended.

    Only the leaves in `given_x` and `given_t` carry a tangent, behind the primal ones,
    and only the results in `moves`: a count has none.
    """
    n_x, n_t = len(given_x), len(given_t)

    def f_dot(x: list, y: list, e: list, t: list) -> list:
        def g(xs: list, ys: list, ts: list) -> list:
            return f(
                _fill(given_x, xs, x[:n_x]),
                _fill(given_x, ys, y[:n_x]),
                e,
                _fill(given_t, ts, t[:n_t]),
            )

        point = (
            _pick(given_x, x[:n_x]),
            _pick(given_x, y[:n_x]),
            _pick(given_t, t[:n_t]),
        )
        return _pick(moves, jax.jvp(g, point, (x[n_x:], y[n_x:], t[n_t:]))[1])

    return f_dot


# The general sum -----------------------------------------------------------------

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
    live = tuple(not _is_zero(t) for t in tangents)
    if not any(live):
        return out, [_no_tangent(o) for o in out]
    _refuse_edge_tangents(live[n_a : n_a + n_e])
    given_a, given_t = live[:n_a], live[n_a + n_e : -4]
    if _has_table(given_t, primals[n_a + n_e : -4]):
        return _plain_jvp(
            _sum_plain, primals, tangents, live, f=f, sizes=sizes, mask=mask
        )
    moves = tuple(jnp.issubdtype(o.dtype, jnp.inexact) for o in out)
    if not any(moves):
        return out, [_no_tangent(o) for o in out]
    a, e, t = primals[:n_a], primals[n_a : n_a + n_e], primals[n_a + n_e : -4]
    da, dt = _pick(given_a, tangents[:n_a]), _pick(given_t, tangents[n_a + n_e : -4])
    dots = neighbor_sum_p.bind(
        *a, *da, *e, *t, *dt, *primals[-4:],
        f=_tangent_of(f, given_a, given_t, moves),
        sizes=(n_a + len(da), n_e, n_t + len(dt)),
        **params,
    )  # fmt: skip
    return out, _fill(moves, dots, [_no_tangent(o) for o in out])


def _sum_transpose(cotangents, *args, f, sizes, mask, symmetric):
    n_a, n_e, n_t = sizes
    linear = tuple(ad.is_undefined_primal(x) for x in args)
    lin_a, lin_t = linear[:n_a], linear[n_a + n_e : -4]
    known_a = _pick(tuple(not x for x in lin_a), args[:n_a])
    known_t = _pick(tuple(not x for x in lin_t), args[n_a + n_e : -4])
    m_a = len(known_a)
    c = [c.instantiate() if isinstance(c, ad.Zero) else c for c in cotangents]
    holes_a = [(x.aval.shape[1:], x.aval.dtype) for x in _pick(lin_a, args[:n_a])]
    holes_t = [(x.aval.shape, x.aval.dtype) for x in _pick(lin_t, args[n_a + n_e : -4])]

    def f_bar(x: list, y: list, e: list, t: list) -> list:
        zeros_a = [jnp.zeros(*hole) for hole in holes_a]
        zeros_t = [jnp.zeros(*hole) for hole in holes_t]

        def pull(x: list, y: list, e: list):
            """The transpose of f with the pair in this order."""

            def g(own: list, other: list, lin: list) -> list:
                return f(
                    _merge(lin_a, own, x),
                    _merge(lin_a, other, y),
                    e,
                    _merge(lin_t, lin, t),
                )

            return jax.vjp(g, zeros_a, zeros_a, zeros_t)[1]

        kx, cx, ky, cy = x[:m_a], x[m_a:], y[:m_a], y[m_a:]
        if symmetric:
            together = [p + q for p, q in zip(cx, cy, strict=True)]
            bars, _, _ = pull(kx, ky, e)(together)
            t_bar = pull(kx, ky, e)(cx)[2] if holes_t else []
            return [*bars, *t_bar]
        as_center, _, t_bar = pull(kx, ky, e)(cx)
        _, as_neighbor, _ = pull(ky, kx, [-v for v in e])(cy)
        return [*(p + q for p, q in zip(as_center, as_neighbor, strict=True)), *t_bar]

    bars = neighbor_sum_p.bind(
        *known_a, *c, *args[n_a : n_a + n_e], *known_t, *args[-4:],
        f=f_bar, sizes=(m_a + len(c), n_e, len(known_t)), mask=mask, symmetric=False,
    )  # fmt: skip
    bars_a, bars_t = bars[: len(holes_a)], bars[len(holes_a) :]
    bars_t = [high_precision_sum(b, axis=0) for b in bars_t]
    return [
        *_fill(lin_a, bars_a, [None] * n_a),
        *[None] * n_e,
        *_fill(lin_t, bars_t, [None] * n_t),
        *[None] * 4,
    ]


def _merge(linear: tuple[bool, ...], unknown: list, known: list) -> list:
    unknowns, knowns = iter(unknown), iter(known)
    return [next(unknowns) if lin else next(knowns) for lin in linear]


# The total of a symmetric pair function ------------------------------------------

neighbor_total_p = Primitive("neighbor_total")
neighbor_total_p.multiple_results = True


def _derivative(u: PairFn, given: tuple, wrt: tuple, n_a: int) -> Callable:
    """``(x, y, e, t, directions) -> covectors in wrt`` (``[u]`` if there are none)."""

    def gradient(x: list, y: list, e: list, t: list) -> list:
        def v(xs: list, ts: list) -> Any:
            return u(_fill(wrt[:n_a], xs, x), y, e, _fill(wrt[n_a:], ts, t))[0]

        bars = jax.grad(v, (0, 1))(_pick(wrt[:n_a], x), _pick(wrt[n_a:], t))
        return [*bars[0], *bars[1]]

    def contracted(k: int, x, y, e, t, directions):
        if k == 0:
            return gradient(x, y, e, t) if any(wrt) else u(x, y, e, t)
        mask, (vx, vy, vt) = given[k - 1], directions[k - 1]

        def g(xs: list, ys: list, ts: list) -> list:
            return contracted(
                k - 1,
                _fill(mask[:n_a], xs, x),
                _fill(mask[:n_a], ys, y),
                e,
                _fill(mask[n_a:], ts, t),
                directions,
            )

        point = _pick(mask[:n_a], x), _pick(mask[:n_a], y), _pick(mask[n_a:], t)
        return jax.jvp(g, point, (vx, vy, vt))[1]

    return lambda *args: contracted(len(given), *args)


def _total_split(args, sizes, given):
    """Operands as (a, e, t, directions, rows); a direction is (leaves a, leaves t)."""
    n_a, n_e, n_t = sizes
    args, rows = list(args[:-4]), args[-4:]
    a, e, t = args[:n_a], args[n_a : n_a + n_e], args[n_a + n_e : n_a + n_e + n_t]
    rest, directions = args[n_a + n_e + n_t :], []
    for mask in given:
        k_a, k_t = sum(mask[:n_a]), sum(mask[n_a:])
        directions.append((rest[:k_a], rest[k_a : k_a + k_t]))
        rest = rest[k_a + k_t :]
    return a, e, t, directions, rows


def _total_apply(*args, u, sizes, given, wrt, value, mask, sum_over=None, dense=False):
    a, e, t, directions, rows = _total_split(args, sizes, given)
    n_a, _, n_t = sizes
    counts = [(len(v_a), len(v_t)) for v_a, v_t in directions]
    derivative = _derivative(u, given, wrt, n_a)

    def f(x: list, y: list, e: list, t: list) -> list:
        spread, at_a, at_t = [], n_a, n_t
        for k_a, k_t in counts:
            spread.append(
                (x[at_a : at_a + k_a], y[at_a : at_a + k_a], t[at_t : at_t + k_t])
            )
            at_a, at_t = at_a + k_a, at_t + k_t
        return derivative(x[:n_a], y[:n_a], e, t[:n_t], spread)

    nodes = [*a, *(v for v_a, _ in directions for v in v_a)]
    params = [*t, *(v for _, v_t in directions for v in v_t)]
    if sum_over is None:
        sums = sweep(f, nodes, e, params, Rows(*rows), mask, dense)
    else:
        sums = sum_over(f, nodes, e, params, Rows(*rows), mask)
    lead, covectors = (sums[:1], sums[1:]) if value else ([], sums)
    k_a = sum(wrt[:n_a])
    return [
        *(0.5 * high_precision_sum(s) for s in lead),
        *covectors[:k_a],
        *(0.5 * high_precision_sum(s, axis=0) for s in covectors[k_a:]),
    ]


def _leaves(a: Any, t: Any) -> list:
    return [*a, *t]


def _total_jvp(primals, tangents, *, u, sizes, given, wrt, value, mask):
    static = dict(u=u, sizes=sizes, mask=mask)
    n_a, n_e, n_t = sizes
    live = tuple(not _is_zero(t) for t in tangents)
    out_given = dict(given=given, wrt=wrt, value=value)
    if not any(live):
        out = neighbor_total_p.bind(*primals, **static, **out_given)
        return out, [_no_tangent(o) for o in out]
    a, e, t, directions, rows = _total_split(primals, sizes, given)
    da, de, dt, d_directions, _ = _total_split(tangents, sizes, given)
    _refuse_edge_tangents(tuple(not _is_zero(x) for x in de))
    moved = _leaves(da, dt)
    new = tuple(not _is_zero(x) for x in moved)
    if _has_table(new[n_a:], t):
        return _plain_jvp(_total_plain, primals, tangents, live, **static, **out_given)
    step = _pick(new, moved)

    def bind(directions, given, wrt, value):
        flat = [v for v_a, v_t in directions for v in _leaves(v_a, v_t)]
        return neighbor_total_p.bind(
            *a, *e, *t, *flat, *rows, **static, given=given, wrt=wrt, value=value
        )

    if value:
        # Apart from the gradient, though one sweep could give both: where only forces
        # are wanted this one is dropped, and the other has fewer results to serve.
        (energy,) = bind([], (), (False,) * len(new), True)
        covectors = bind([], (), new, False) if step else []
        pairs = zip(covectors, step, strict=True)
        d_energy = sum(high_precision_sum(g * d) for g, d in pairs) if step else None
        if d_energy is None:
            return [energy], [_no_tangent(energy)]
        return [energy], [d_energy]
    out = neighbor_total_p.bind(*primals, **static, **out_given)
    terms = []
    if step:
        k_a = sum(new[:n_a])
        along = (step[:k_a], step[k_a:])
        terms.append(bind([*directions, along], (*given, new), wrt, False))
    for k, dv in enumerate(d_directions):
        changes = _leaves(*dv)
        here = tuple(not _is_zero(x) for x in changes)
        if not any(here):
            continue
        changed = _fill(given[k], here, [False] * len(given[k]))
        k_a = sum(changed[:n_a])
        flat = _pick(here, changes)
        replaced = [*directions[:k], (flat[:k_a], flat[k_a:]), *directions[k + 1 :]]
        masks = (*given[:k], tuple(changed), *given[k + 1 :])
        terms.append(bind(replaced, masks, wrt, False))
    dots = [sum(parts[1:], parts[0]) for parts in zip(*terms, strict=True)]
    return out, dots


def _total_transpose(cotangents, *args, u, sizes, given, wrt, value, mask):
    a, e, t, directions, rows = _total_split(args, sizes, given)
    n_a, n_e, n_t = sizes
    flags = [
        any(ad.is_undefined_primal(x) for x in _leaves(*direction))
        for direction in directions
    ]
    if value or sum(flags) != 1:
        raise TypeError(
            "only the derivative directions of a neighbor total can be transposed, one "
            "at a time; use `jax.grad` or `jax.linearize` rather than "
            "`jax.linear_transpose`."
        )
    at = flags.index(True)
    unknown = tuple(ad.is_undefined_primal(x) for x in _leaves(*directions[at]))
    target = tuple(_fill(given[at], unknown, [False] * len(wrt)))
    here = tuple(not isinstance(c, ad.Zero) for c in cotangents)
    source = tuple(_fill(wrt, here, [False] * len(wrt)))
    flat = [v for c, v in zip(here, cotangents, strict=True) if c]
    k_a = sum(source[:n_a])
    rest = [d for k, d in enumerate(directions) if k != at]
    masks = tuple(g for k, g in enumerate(given) if k != at)
    directions = [*rest, (flat[:k_a], flat[k_a:])]
    flat = [v for v_a, v_t in directions for v in _leaves(v_a, v_t)]
    bars = neighbor_total_p.bind(
        *a, *e, *t, *flat, *rows, u=u, sizes=sizes, mask=mask,
        given=(*masks, source), wrt=target, value=False,
    )  # fmt: skip
    lead = [None] * (n_a + n_e + n_t)
    for k, mask_k in enumerate(given):
        size = sum(mask_k)
        lead += _fill(unknown, bars, [None] * size) if k == at else [None] * size
    return [*lead, *[None] * 4]


# Shared by both ------------------------------------------------------------------


def _refuse_edge_tangents(live: tuple[bool, ...]) -> None:
    if any(live):
        raise TypeError(
            "`edges` of a neighbor sum are data of the list (image shifts) and cannot "
            "be differentiated; pass what depends on parameters through `params` or "
            "`nodes`."
        )


def _has_table(given: tuple[bool, ...], params: Any) -> bool:
    return any(g and p.size > TABLE for g, p in zip(given, params, strict=True))


def _sum_plain(*args, f, sizes, mask):
    n_a, n_e, _ = sizes
    a, e, t = args[:n_a], args[n_a : n_a + n_e], args[n_a + n_e : -4]
    return plain_sum(f, a, e, t, Rows(*args[-4:]), mask)


def _total_plain(*args, **params):
    return _total_apply(*args, **params, sum_over=plain_sum)


def _plain_jvp(apply, primals, tangents, live, **params):
    """Ordinary differentiation of the plain sum, for gradients of tables."""

    def g(*moving: Any) -> list:
        return apply(*_fill(live, moving, primals), **params)

    return jax.jvp(g, _pick(live, primals), _pick(live, tangents))


def _batch(primitive: Primitive) -> Callable:
    def rule(args, dims, **params):
        """One system after the other: each has as many slots to visit as it needs."""
        mapped = tuple(d is not None for d in dims)
        moving = [
            jnp.moveaxis(x, d, 0)
            for x, d, m in zip(args, dims, mapped, strict=True)
            if m
        ]

        def one(moving: list) -> list:
            return primitive.bind(*_fill(mapped, moving, args), **params)

        out = lax.map(one, moving)
        return out, [0] * len(out)

    return rule


def _install(primitive: Primitive, apply: Callable, jvp: Callable, transpose: Callable):
    def impl(*args: Any, **params: Any) -> list:
        return jax.jit(lambda *x: apply(*x, **params))(*args)

    def abstract(*args: Any, **params: Any) -> list:
        structs = [jax.ShapeDtypeStruct(x.shape, x.dtype) for x in args]
        shapes = jax.eval_shape(lambda *x: apply(*x, **params, dense=True), *structs)
        return [ShapedArray(s.shape, s.dtype) for s in shapes]

    primitive.def_impl(impl)
    primitive.def_abstract_eval(abstract)
    mlir.register_lowering(primitive, mlir.lower_fun(apply, multiple_results=True))
    for platform in ("cuda", "rocm", "tpu"):
        mlir.register_lowering(
            primitive,
            mlir.lower_fun(
                lambda *x, **p: apply(*x, **p, dense=True), multiple_results=True
            ),
            platform=platform,
        )
    ad.primitive_jvps[primitive] = jvp
    ad.primitive_transposes[primitive] = transpose
    batching.primitive_batchers[primitive] = _batch(primitive)


_install(neighbor_sum_p, _sum_apply, _sum_jvp, _sum_transpose)
_install(neighbor_total_p, _total_apply, _total_jvp, _total_transpose)
