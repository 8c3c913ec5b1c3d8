r"""Angle between two Gaussian units, and moments of rectified powers.

For covariance `(p, q, c)` let :math:`s = \sqrt{p q - c^2}` and :math:`\theta =
\operatorname{atan2}(s, c)`. The kernels of degree `n`,
:math:`E[(u v)^n 1_{u > 0} 1_{v > 0}] = U_n / 2 \pi`, obey

.. math:: U_0 = \pi - \theta, \quad U_1 = s + c (\pi - \theta), \quad
          U_{n+1} = (2 n + 1) c \, U_n + n^2 s^2 \, U_{n-1} .

Where the inputs coincide, `s` is zero and its derivatives are infinite. Those infinite
parts cancel in derivatives of kernels that have them; dropping all of them leaves the
right limit, so the derivatives of `s` and of the angle are set to zero there.

Source:
    Y. Cho and L. Saul, NeurIPS 2009. The recurrence follows from
    :math:`(1 - x^2) F' = x F + 1`, :math:`F = (\pi - \theta) / \sin\theta`, of which
    `J_n` there is a derivative in :math:`x = \cos\theta`.
"""

import jax
import jax.numpy as jnp

Array = jax.Array


def _safe(x: Array) -> Array:
    return jnp.where(x > 0, x, jnp.ones((), x.dtype))


def _square(p: Array, q: Array, c: Array) -> Array:
    """Return ``p q - c^2``, zero where it is not above its rounding error."""
    product = p * q
    r = product - c * c
    noise = 4 * jnp.finfo(r.dtype).eps
    return jnp.where(r > noise * product, r, jnp.zeros((), r.dtype))


@jax.custom_jvp
def cross(p: Array, q: Array, c: Array) -> Array:
    """Return ``sqrt(p q - c^2)``."""
    return jnp.sqrt(_square(p, q, c))


@cross.defjvp
def _(primals, tangents):
    p, q, c = primals
    dp, dq, dc = tangents
    s = cross(p, q, c)
    half = 0.5 * (q * dp + p * dq) - c * dc
    return s, jnp.where(s > 0, half / _safe(s), jnp.zeros((), s.dtype))


@jax.custom_jvp
def angle(p: Array, q: Array, c: Array) -> Array:
    """Return the angle, pi / 2 where a variance is zero."""
    s = cross(p, q, c)
    # As a rest of an arctangent: `arctan2` takes ten times as long on CPUs. A unit that
    # is always zero counts as orthogonal to all others.
    rest = jnp.where(s > 0, jnp.arctan(c / _safe(s)), 0.5 * jnp.pi * jnp.sign(c))
    return 0.5 * jnp.pi - rest


@angle.defjvp
def _(primals, tangents):
    p, q, c = primals
    dp, dq, dc = tangents
    s = cross(p, q, c)
    # d theta = (c (dp / p + dq / q) / 2 - dc) / s
    change = 0.5 * c * (dp / _safe(p) + dq / _safe(q)) - dc
    return angle(p, q, c), jnp.where(s > 0, change / _safe(s), jnp.zeros((), s.dtype))


@jax.custom_jvp
def rectified_pair(p: Array, q: Array, c: Array) -> tuple[Array, Array]:
    """Return ``(U_0, U_1)``."""
    supplement = jnp.pi - angle(p, q, c)
    # The compiler would keep `cross` for both: to take the root again is faster than to
    # store it, which for many samples and positions is a large array.
    p, q, c, supplement = jax.lax.optimization_barrier((p, q, c, supplement))
    s = cross(p, q, c)
    return supplement, s + c * supplement


@rectified_pair.defjvp
def _(primals, tangents):
    p, q, c = primals
    dp, dq, dc = tangents
    u0, u1 = rectified_pair(p, q, c)
    dangle = jax.jvp(angle, primals, tangents)[1]
    # dU_1 = U_0 dc + s (dp / p + dq / q) / 2: by Price's theorem and homogeneity
    s = cross(p, q, c)
    du1 = u0 * dc + 0.5 * s * (dp / _safe(p) + dq / _safe(q))
    return (u0, u1), (-dangle, du1)


def rectified_moments(n: int, p: Array, q: Array, c: Array) -> tuple[Array, Array]:
    """Return ``(U_n, U_{n-1})``; the second is zero for ``n = 0``."""
    u0, u1 = rectified_pair(p, q, c)
    if n == 0:
        return u0, jnp.zeros_like(u0)
    square = p * q - c * c
    below, last = u0, u1
    for m in range(1, n):
        below, last = last, (2 * m + 1) * c * last + m * m * square * below
    return last, below
