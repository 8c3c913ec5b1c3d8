r"""How variances and correlations pass through one wide layer, and where they settle.

A layer :math:`z' = \sigma_w W \phi(z) / \sqrt n + \sigma_b b` maps the variance ``q``
of its units and the correlation ``c`` of two inputs by

.. math::
    q' = \sigma_w^2\, E\,\phi(u)^2 + \sigma_b^2, \qquad
    c' = [\sigma_w^2\, E\,\phi(u_1)\phi(u_2) + \sigma_b^2] / q.

The slope of the second map, :math:`\chi_c = \sigma_w^2 E\,\phi'(u_1)\phi'(u_2)`, is
also, at ``c = 1``, the growth of the squared gradient norm per layer.

Source:
    B. Poole, S. Lahiri, M. Raghu, J. Sohl-Dickstein, S. Ganguli, NeurIPS 2016,
    arXiv:1606.05340; S. S. Schoenholz, J. Gilmer, S. Ganguli, J. Sohl-Dickstein, "Deep
    information propagation", ICLR 2017, arXiv:1611.01232.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .quadrature import Activation, expectation, pair_expectation, slope
from .roots import bracketed_root, scan_until

# Variances that grow past this are taken to grow for ever; single precision holds it.
UNBOUNDED = 1e30


def q_map(phi: Activation, q: Any, W_std: Any, b_std: Any) -> Float[Array, ""]:
    """Return the variance of the next layer's units.

    Args:
        phi: The activation, elementwise.
        q: Variance of this layer's units.
        W_std: Standard deviation of the weights, scaled by the fan-in.
        b_std: Standard deviation of the biases.
    """
    return W_std**2 * expectation(lambda u: phi(u) ** 2, q) + b_std**2


def c_map(phi: Activation, c: Any, q: Any, W_std: Any, b_std: Any) -> Float[Array, ""]:
    """Return the correlation of two inputs after the next layer.

    Args:
        phi: The activation, elementwise.
        c: Correlation in this layer.
        q: Variance in this layer, a fixed point of `q_map`.
        W_std: Standard deviation of the weights, scaled by the fan-in.
        b_std: Standard deviation of the biases.
    """
    product = pair_expectation(lambda u1, u2: phi(u1) * phi(u2), q, c)
    return (W_std**2 * product + b_std**2) / q


def chi(phi: Activation, q: Any, W_std: Any, c: Any = None) -> Float[Array, ""]:
    """Return the slope of `c_map` at the correlation `c`; at 1 by default.

    Args:
        phi: The activation, elementwise.
        q: Variance of the units.
        W_std: Standard deviation of the weights, scaled by the fan-in.
        c: Correlation of two inputs.
    """
    dphi = slope(phi)
    if c is None:
        return W_std**2 * expectation(lambda u: dphi(u) ** 2, q)
    return W_std**2 * pair_expectation(lambda u1, u2: dphi(u1) * dphi(u2), q, c)


def alpha_q(phi: Activation, q: Any, W_std: Any) -> Float[Array, ""]:
    r"""Return the slope of `q_map`: perturbations of the variance decay if below 1.

    By integration by parts :math:`E[\phi'^2 + \phi \phi''] = E[z \phi\phi'] / \sqrt q`,
    which needs no second derivative where `phi` has a kink.

    Args:
        phi: The activation, elementwise.
        q: Variance of the units.
        W_std: Standard deviation of the weights, scaled by the fan-in.
    """
    dphi = slope(phi)
    q = jnp.asarray(q, jnp.result_type(float, q))
    positive = q > 0
    safe = jnp.where(positive, q, 1.0)
    moved = expectation(lambda u: u * phi(u) * dphi(u), safe) / safe
    zero = jnp.zeros_like(q)
    at_zero = dphi(zero) ** 2 + phi(zero) * slope(dphi)(zero)
    return W_std**2 * jnp.where(positive, moved, at_zero)


def q_fixed_point(
    phi: Activation, W_std: Any, b_std: Any, q_start: Any = 1.0
) -> Float[Array, ""]:
    """Return the variance at which `q_map` settles, from `q_start` on.

    Differentiable in `W_std` and `b_std` through the fixed-point equation.

    Args:
        phi: The activation, elementwise.
        W_std: Standard deviation of the weights, scaled by the fan-in.
        b_std: Standard deviation of the biases.
        q_start: Where the search starts. A variance that every map leaves alone, as
            ReLU does at ``W_std**2 = 2``, is returned as it is.

    Returns:
        The fixed point; infinity if variances grow without bound.
    """

    def excess(q: Array, W_std: Any = W_std, b_std: Any = b_std) -> Array:
        return q_map(phi, q, W_std, b_std) - q

    W_fixed, b_fixed = (jax.lax.stop_gradient(a) for a in (W_std, b_std))

    def solve(_: Any, start: Array) -> Array:
        def fixed_excess(q: Array) -> Array:
            return excess(q, W_fixed, b_fixed)

        def fixed_slope(q: Array) -> Array:
            return alpha_q(phi, q, W_fixed) - 1.0

        info = jnp.finfo(start.dtype)
        first = fixed_excess(start)
        top = scan_until(lambda q: (fixed_excess(q) > 0) & (q < UNBOUNDED), start, 4.0)
        bottom = scan_until(
            lambda q: (fixed_excess(q) <= 0) & (q > info.eps**2), start, 0.25
        )
        grows = first > 0
        root = bracketed_root(
            fixed_excess,
            fixed_slope,
            jnp.where(grows, start, bottom),
            jnp.where(grows, top, start),
        )
        root = jnp.where(grows & (top >= UNBOUNDED), jnp.inf, root)
        root = jnp.where(~grows & (bottom <= info.eps**2), 0.0, root)
        # 512 roundings are what the quadrature leaves of a map that is the identity.
        return jnp.where(jnp.abs(first) <= 512 * info.eps * start, start, root)

    dtype = jnp.result_type(float, W_std, b_std, q_start)
    start = jnp.asarray(jax.lax.stop_gradient(q_start), dtype)
    return jax.lax.custom_root(excess, start, solve, lambda g, y: y / g(1.0))


def c_fixed_point(phi: Activation, W_std: Any, b_std: Any, q: Any) -> Float[Array, ""]:
    """Return the stable fixed point of `c_map`.

    Args:
        phi: The activation, elementwise.
        W_std: Standard deviation of the weights, scaled by the fan-in.
        b_std: Standard deviation of the biases.
        q: Variance of the units, a fixed point of `q_map`.

    Returns:
        1 in the ordered phase and at criticality, less in the chaotic phase.
    """
    q = jnp.asarray(q, jnp.result_type(float, q))

    # The unknown is the distance x = 1 - c, which keeps its digits near criticality.
    def excess(x: Array) -> Array:
        return 1.0 - c_map(phi, 1.0 - x, q, W_std, b_std) - x

    def excess_slope(x: Array) -> Array:
        return chi(phi, q, W_std, 1.0 - x) - 1.0

    eps = jnp.finfo(q.dtype).eps
    one = jnp.ones_like(q)
    low = scan_until(lambda x: (excess(x) <= 0) & (x > 8 * eps), one, 0.25)
    # With `low` at the start the root lies at or beyond c = 0, as for odd activations
    # without biases.
    root = bracketed_root(excess, excess_slope, low, jnp.where(low < 1, one, 2 * one))
    distance = jnp.where((low > 8 * eps) & (chi(phi, q, W_std) > 1), root, 0.0)
    return 1.0 - distance
