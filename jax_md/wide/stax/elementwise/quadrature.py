r"""Expectations over two Gaussian units by quadrature, with exact derivatives.

:math:`G_{fg}(p, q, c) = E[f(u) g(v)]` for units of covariance `(p, q, c)` is a sum over
a Gauss-Hermite grid. The grid depends on the covariance through square roots that are
singular where the units coincide, so derivatives are not taken through it but from

.. math:: \frac{\partial G_{fg}}{\partial c} = G_{f'g'}, \qquad
          \frac{\partial G_{fg}}{\partial p} = \tfrac12 G_{f''g}
          = \frac{G_{xf', g} - c \, G_{f'g'}}{2 p} ,

which are such expectations again: derivatives of every order are right wherever they
exist. The last form needs one derivative of `f` less, and is right also for an `f` with
kinks; the one before serves where `p` is zero.

Source:
    R. Price, IRE Trans. Inf. Theory 4, 69 (1958); the last form is Stein's lemma.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as onp

Array = jax.Array
Scalar = Callable[[Array], Array]


def derivative(fn: Scalar) -> Scalar:
    """Return the derivative of a function that acts on each entry of an array."""

    def d_fn(x: Array) -> Array:
        return jax.jvp(fn, (x,), (jnp.ones_like(x),))[1]

    return d_fn


def _times_x(fn: Scalar) -> Scalar:
    return lambda x: x * fn(x)


@partial(jax.custom_jvp, nondiff_argnums=(0, 1, 2))
def expectation(
    fs: tuple[Scalar, ...],
    gs: tuple[Scalar, ...],
    deg: int,
    p: Array,
    q: Array,
    c: Array,
) -> Array:
    """Return ``E[f(u) g(v)]`` over a grid of ``deg * deg`` nodes.

    Args:
        fs: ``(f,)``, or ``(f, f')`` where the derivative is known.
        gs: The same for `g`.
        deg: Nodes in each direction.
        p: Variances of `u`.
        q: Variances of `v`.
        c: Covariances; all three broadcast.
    """
    shape = jnp.broadcast_shapes(p.shape, q.shape, c.shape)
    x, w = onp.polynomial.hermite.hermgauss(deg)
    nodes = jnp.asarray(x * onp.sqrt(2.0), c.dtype)
    weights = jnp.asarray(w / onp.sqrt(onp.pi), c.dtype)
    one = jnp.ones((), c.dtype)

    positive = jnp.where(p > 0, p, one)
    root_p = jnp.where(p > 0, jnp.sqrt(positive), 0)
    along = jnp.broadcast_to(c / jnp.sqrt(positive), shape)
    across = jnp.sqrt(jnp.maximum(q - c * c / positive, 0))
    across = jnp.broadcast_to(across, shape)
    steps = nodes.reshape((deg,) + (1,) * len(shape)) * across[None]

    def add(total: Array, node: tuple[Array, Array]) -> tuple[Array, None]:
        z, weight = node
        inner = jnp.tensordot(weights, gs[0](along[None] * z + steps), axes=1)
        return total + weight * fs[0](root_p * z) * inner, None

    zero = jnp.zeros(shape, c.dtype)
    return jax.lax.scan(add, zero, (nodes, weights))[0]


@expectation.defjvp
def _(fs, gs, deg, primals, tangents):
    p, q, c = primals
    dp, dq, dc = tangents
    f, df = fs if len(fs) == 2 else (fs[0], derivative(fs[0]))
    g, dg = gs if len(gs) == 2 else (gs[0], derivative(gs[0]))

    slope = expectation((df,), (dg,), deg, p, q, c)

    def half(variance: Array, moment: Array, curvature: Array) -> Array:
        one = jnp.ones((), variance.dtype)
        safe = jnp.where(variance > 0, variance, one)
        return jnp.where(
            variance > 0, (moment - c * slope) / (2 * safe), 0.5 * curvature
        )

    by_p = half(
        p,
        expectation((_times_x(df),), (g,), deg, p, q, c),
        expectation((derivative(df),), (g,), deg, p, q, c),
    )
    by_q = half(
        q,
        expectation((f,), (_times_x(dg),), deg, p, q, c),
        expectation((f,), (derivative(dg),), deg, p, q, c),
    )
    value = expectation(fs, gs, deg, p, q, c)
    return value, slope * dc + by_p * dp + by_q * dq
