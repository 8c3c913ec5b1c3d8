r"""Interpolating splines on a uniform grid, and schedules.

The cubic spline is the one with not-a-knot ends: its third derivative is continuous at
the first and the last inner point. On a uniform grid with spacing :math:`h` the second
derivatives :math:`m_i` solve

.. math::
    m_{i-1} + 4 m_i + m_{i+1} = d_i = 6 (y_{i-1} - 2 y_i + y_{i+1}) / h^2,

and the end conditions :math:`m_0 = 2 m_1 - m_2` turn the first of these equations into
:math:`m_1 = d_1 / 6`, likewise at the other end.

Source:
    C. de Boor, A Practical Guide to Splines, Springer (1978), chapter IV.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array


def constant(f: Any) -> Callable[[Any], Any]:
    """Return a schedule, a function of time, whose value is always `f`."""

    def schedule(unused_t: Any) -> Any:
        return f

    return schedule


def canonicalize(scalar_or_schedule_fun: Any) -> Callable[[Any], Any]:
    """Return a schedule, given either a schedule or its constant value.

    Raises:
        TypeError: If it is neither a function nor a scalar.
    """
    if callable(scalar_or_schedule_fun):
        return scalar_or_schedule_fun
    if jnp.ndim(scalar_or_schedule_fun) == 0:
        return constant(scalar_or_schedule_fun)
    raise TypeError(
        "`scalar_or_schedule_fun` must be a function of time or a scalar; got an array "
        f"of shape {jnp.shape(scalar_or_schedule_fun)}."
    )


def spline(y: Any, dx: float, degree: int = 3) -> Callable[[Any], Array]:
    """Interpolate a table by a spline, ``f(i * dx) = y[i]``.

    Args:
        y: Values at ``0, dx, 2 dx, ...``, ``[n]`` with ``n > degree``. For the cubic
            spline they may be traced, so that a table can be learned.
        dx: Grid spacing.
        degree: Degree of the pieces, 1 to 5. All but the cubic spline need scipy.

    Returns:
        A function of an array of any shape, ``degree - 1`` times continuously
        differentiable, with the dtype of its argument. Below 0 the first piece
        continues; from ``(n - 1) * dx`` to ``n * dx`` the last piece does, and from
        there on the value is 0.

    Raises:
        ValueError: If `degree` or the shape of `y` is out of range.
        ImportError: If `degree` is not 3 and scipy is missing.

    Example:
        >>> f = spline(jnp.arange(6.0) ** 2, 1.0)
        >>> float(f(2.5))
        6.25
    """
    if not 1 <= degree <= 5:
        raise ValueError(f"`degree` must be from 1 to 5; got {degree}.")
    y = y if hasattr(y, "dtype") else np.asarray(y, float)
    if jnp.ndim(y) != 1 or len(y) <= degree:
        raise ValueError(
            f"`y` must be a vector of more than `degree` = {degree} values; got shape "
            f"{jnp.shape(y)}."
        )
    if degree == 3:
        width, pieces = dx, _cubic_pieces(y, dx)
    elif isinstance(y, Tracer):
        raise TypeError(
            f"a spline of degree {degree} needs concrete values `y`, not traced ones. "
            "Build it outside of `jit` and `grad`, or use `degree=3`."
        )
    else:
        width, pieces = _scipy_pieces(np.asarray(y, float), dx, degree)
    end = len(y) * dx
    table_dtype = jnp.result_type(y, 0.0)

    def spline_fn(x: Any) -> Array:
        x = jnp.asarray(x, None if hasattr(x, "dtype") else table_dtype)
        x = x if jnp.issubdtype(x.dtype, jnp.floating) else x.astype(table_dtype)
        inside = x < end
        x = jnp.where(inside, x, 0)
        i = jnp.clip(jnp.floor(x / width).astype(jnp.int32), 0, len(pieces) - 1)
        t = x - i * width
        c = jnp.asarray(pieces, x.dtype)[i]
        value = c[..., 0]
        for power in range(1, degree + 1):
            value = value * t + c[..., power]
        return jnp.where(inside, value, 0)

    return spline_fn


def _cubic_pieces(y: Any, dx: float) -> Any:
    """Coefficients of the not-a-knot cubic spline, ``[n - 1, 4]``, highest first."""
    traced = isinstance(y, Tracer)
    # In double precision whatever is enabled, where the table is known.
    xp: Any = jnp if traced else np
    y = y if traced else np.asarray(y, float)
    curvature = (y[:-2] - 2 * y[1:-1] + y[2:]) / dx**2
    solve = _solve_traced if traced else _solve
    # With the ends known, `[1, 4, 1] m = 6 curvature` for those between them.
    rhs = 6 * curvature[1:-1]
    m = curvature
    if len(rhs) > 0:
        first, last = curvature[:1], curvature[-1:]
        zeros = xp.zeros_like(rhs)
        known = xp.concatenate([first, zeros[1:]]) + xp.concatenate([zeros[1:], last])
        m = xp.concatenate([first, solve(rhs - known), last])
    m = xp.concatenate([2 * m[:1] - m[1:2], m, 2 * m[-1:] - m[-2:-1]])
    a, b = m[:-1], m[1:]
    slope = (y[1:] - y[:-1]) / dx - (2 * a + b) * dx / 6
    return xp.stack([(b - a) / (6 * dx), a / 2, slope, y[:-1]], axis=-1)


def _solve(rhs: np.ndarray) -> np.ndarray:
    """Solve the tridiagonal system ``[1, 4, 1] m = rhs`` by elimination."""
    pivot, m = np.empty_like(rhs), np.empty_like(rhs)
    pivot[0], m[0] = 4, rhs[0]
    for i in range(1, len(rhs)):
        pivot[i] = 4 - 1 / pivot[i - 1]
        m[i] = rhs[i] - m[i - 1] / pivot[i - 1]
    m[-1] /= pivot[-1]
    for i in range(len(rhs) - 2, -1, -1):
        m[i] = (m[i] - m[i + 1]) / pivot[i]
    return m


def _solve_traced(rhs: Array) -> Array:
    """Solve the same system with derivatives."""
    one = jnp.ones_like(rhs)
    lower, upper = one.at[0].set(0), one.at[-1].set(0)
    return jax.lax.linalg.tridiagonal_solve(lower, 4 * one, upper, rhs[:, None])[:, 0]


def _scipy_pieces(y: np.ndarray, dx: float, degree: int) -> tuple[float, np.ndarray]:
    """Width and coefficients of the pieces of scipy's interpolating spline."""
    try:
        from scipy.interpolate import BSpline, splrep
    except ImportError as error:
        raise ImportError(
            f"a spline of degree {degree} needs scipy: pip install scipy. The cubic "
            "spline, `degree=3`, does not."
        ) from error
    # In units of dx. Knots lie on the grid if the degree is odd, halfway if even.
    per_interval = 1 if degree % 2 else 2
    knots: Any = splrep(np.arange(len(y)), y, k=degree, s=0)
    curve = BSpline(*knots)
    left = np.arange((len(y) - 1) * per_interval) / per_interval
    middle, half = left + 0.5 / per_interval, 0.5 / per_interval
    # Taylor series about the middle of a piece, where no knot is near, then moved to
    # its left end by (t - half)^k = sum_j C(k, j) (-half)^(k - j) t^j.
    orders = range(degree + 1)
    series = np.array([curve(middle, nu=k) / math.factorial(k) for k in orders])
    move = [
        [math.comb(k, j) * (-half) ** (k - j) * (j <= k) for k in orders]
        for j in reversed(orders)
    ]
    powers = dx ** np.arange(degree, -1, -1.0)
    return dx / per_interval, (np.array(move) @ series).T / powers
