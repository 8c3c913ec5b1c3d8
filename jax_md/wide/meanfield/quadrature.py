r"""Gaussian expectations of activations, accurate across a kink at zero.

In one dimension the half-lines are integrated apart. In two, polar coordinates turn the
lines ``u1 = 0`` and ``u2 = 0`` into rays: with :math:`c = \cos 2a`,

.. math:: u_1 = \sqrt q\, r \cos(\vartheta - a), \qquad
          u_2 = \sqrt q\, r \cos(\vartheta + a)

have variance ``q`` and correlation ``c``, and the integrand is smooth in each of the
four sectors, for ReLU as for tanh. Gauss-Hermite rules lose all but three digits on
ReLU.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

Activation = Callable[[jax.Array], jax.Array]

# exp(-RADIUS^2 / 2) is below rounding even where activations grow like a square.
RADIUS = 10.0
LINE_POINTS = 96
RADIAL_POINTS = 64
SECTOR_POINTS = 48


@lru_cache
def unit_rule(points: int) -> tuple[np.ndarray, np.ndarray]:
    """Return Gauss-Legendre nodes and weights on [0, 1]."""
    nodes, weights = np.polynomial.legendre.leggauss(points)
    return (nodes + 1) / 2, weights / 2


def slope(phi: Activation) -> Activation:
    """Return the derivative of an elementwise function."""
    return lambda x: jax.jvp(phi, (x,), (jnp.ones_like(x),))[1]


def expectation(fn: Activation, variance: Any, mean: Any = 0.0) -> jax.Array:
    """Return the mean of ``fn(u)`` over a Gaussian ``u``.

    Args:
        fn: An elementwise function, smooth but for a kink where ``u`` is its mean.
        variance: A scalar.
        mean: A scalar.
    """
    nodes, weights = unit_rule(LINE_POINTS)
    z = RADIUS * np.concatenate([-nodes[::-1], nodes])
    density = np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi)
    w = RADIUS * np.concatenate([weights[::-1], weights]) * density
    sigma = safe_sqrt(variance)
    z, w = (jnp.asarray(a, sigma.dtype) for a in (z, w))
    return jnp.sum(w * fn(mean + sigma * z))


def pair_expectation(fn: Callable[..., jax.Array], q: Any, c: Any) -> jax.Array:
    """Return the mean of ``fn(u1, u2)`` over two Gaussians.

    Args:
        fn: An elementwise function of two arrays, smooth but for kinks at zero.
        q: The variance of each, a scalar.
        c: Their correlation, a scalar in [-1, 1].
    """
    sigma = safe_sqrt(q)
    c = jnp.clip(jnp.asarray(c, sigma.dtype), -1.0, 1.0)
    r, wr = unit_rule(RADIAL_POINTS)
    r = RADIUS * r
    wr = RADIUS * wr * r * np.exp(-(r**2) / 2) / (2 * np.pi)
    r, wr = (jnp.asarray(a, sigma.dtype) for a in (r, wr))
    cos1, cos2, wt = sector_rule(c)
    shape = (cos1.shape[0], r.shape[0])
    u1 = sigma * cos1[:, None] * jnp.broadcast_to(r, shape)
    u2 = sigma * cos2[:, None] * jnp.broadcast_to(r, shape)
    return jnp.einsum("t,r,tr->", wt, wr, jnp.broadcast_to(fn(u1, u2), shape))


def sector_rule(c: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Return both cosines and the weight on a full turn, split where either is zero."""
    nodes, weights = (jnp.asarray(a, c.dtype) for a in unit_rule(SECTOR_POINTS))
    a = jnp.arccos(c) / 2
    starts = jnp.stack([-np.pi / 2 - a, -np.pi / 2 + a, np.pi / 2 - a, np.pi / 2 + a])
    widths = jnp.stack([2 * a, np.pi - 2 * a, 2 * a, np.pi - 2 * a])
    angle = (starts[:, None] + widths[:, None] * nodes[None]).reshape(-1)
    return (
        jnp.cos(angle - a),
        jnp.cos(angle + a),
        (widths[:, None] * weights[None]).reshape(-1),
    )


def safe_sqrt(variance: Any) -> jax.Array:
    """Return the square root in a floating dtype, with a finite derivative at zero."""
    variance = jnp.asarray(variance)
    if not jnp.issubdtype(variance.dtype, jnp.floating):
        variance = variance.astype(jnp.result_type(float))
    positive = variance > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, variance, 1.0)), 0.0)
