r"""The total of a symmetric pair function, a primitive closed under differentiation.

With :math:`E = \frac12 \sum_{ij} u(a_i, a_j, \theta)` and :math:`T_k(v_1 \ldots v_k) =
\nabla^{k+1} E[v_1 \ldots v_k]`, a covector on nodes and parameters, the tangent of
:math:`T_k` is :math:`T_{k+1}`, and because derivatives commute the transpose of
:math:`T_k` in any of its directions is :math:`T_k` with the cotangent as that
direction. So there is one operation for energies, forces and derivatives of any order,
and a Hessian-vector product costs one sweep in either mode.
"""

from collections.abc import Callable
from typing import Any

import jax
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

neighbor_total_p = Primitive("neighbor_total")
neighbor_total_p.multiple_results = True


def _derivative(u: PairFn, given: tuple, wrt: tuple, n_a: int) -> Callable:
    """``(x, y, e, t, directions) -> covectors in wrt`` (``[u]`` if there are none)."""

    def gradient(x: list, y: list, e: list, t: list) -> list:
        def v(xs: list, ts: list) -> Any:
            return u(fill(wrt[:n_a], xs, x), y, e, fill(wrt[n_a:], ts, t))[0]

        bars = jax.grad(v, (0, 1))(pick(wrt[:n_a], x), pick(wrt[n_a:], t))
        return [*bars[0], *bars[1]]

    def contracted(k: int, x, y, e, t, directions):
        if k == 0:
            return gradient(x, y, e, t) if any(wrt) else u(x, y, e, t)
        mask, (vx, vy, vt) = given[k - 1], directions[k - 1]

        def g(xs: list, ys: list, ts: list) -> list:
            return contracted(
                k - 1,
                fill(mask[:n_a], xs, x),
                fill(mask[:n_a], ys, y),
                e,
                fill(mask[n_a:], ts, t),
                directions,
            )

        point = pick(mask[:n_a], x), pick(mask[:n_a], y), pick(mask[n_a:], t)
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
    live = tuple(not is_zero(t) for t in tangents)
    out_given = dict(given=given, wrt=wrt, value=value)
    if not any(live):
        out = neighbor_total_p.bind(*primals, **static, **out_given)
        return out, [no_tangent(o) for o in out]
    a, e, t, directions, rows = _total_split(primals, sizes, given)
    da, de, dt, d_directions, _ = _total_split(tangents, sizes, given)
    refuse_edge_tangents(tuple(not is_zero(x) for x in de))
    moved = _leaves(da, dt)
    new = tuple(not is_zero(x) for x in moved)
    if has_table(new[n_a:], t):
        return plain_jvp(_total_plain, primals, tangents, live, **static, **out_given)
    step = pick(new, moved)

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
            return [energy], [no_tangent(energy)]
        return [energy], [d_energy]
    out = neighbor_total_p.bind(*primals, **static, **out_given)
    terms = []
    if step:
        k_a = sum(new[:n_a])
        along = (step[:k_a], step[k_a:])
        terms.append(bind([*directions, along], (*given, new), wrt, False))
    for k, dv in enumerate(d_directions):
        changes = _leaves(*dv)
        here = tuple(not is_zero(x) for x in changes)
        if not any(here):
            continue
        changed = fill(given[k], here, [False] * len(given[k]))
        k_a = sum(changed[:n_a])
        flat = pick(here, changes)
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
    target = tuple(fill(given[at], unknown, [False] * len(wrt)))
    here = tuple(not isinstance(c, ad.Zero) for c in cotangents)
    source = tuple(fill(wrt, here, [False] * len(wrt)))
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
        lead += fill(unknown, bars, [None] * size) if k == at else [None] * size
    return [*lead, *[None] * 4]


def _total_plain(*args, **params):
    return _total_apply(*args, **params, sum_over=plain_sum)


install(neighbor_total_p, _total_apply, _total_jvp, _total_transpose)
