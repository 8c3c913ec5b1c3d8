r"""Nonlinearities made of the error function.

The kernels are analytic also where inputs coincide, so plain differentiation is right
to any order. Arcsines are written as arctangents of a square root of
:math:`p q - c^2 \geq 0` plus positive terms, which keeps digits at large variances (and
is several times faster on CPUs than `arcsin` or `arctan2`).
"""

import jax
import jax.numpy as jnp

from jax_md.wide.stax.elementwise.layer import elementwise
from jax_md.wide.stax.requirements import Layer, layer, supports_masking

Array = jax.Array


def _at_least_one(x: Array) -> Array:
    """Bound what is above one unless `c` exceeds a variance by grown rounding."""
    return jnp.where(x > 1, x, jnp.ones((), x.dtype))


def _erf_moments(a: float, b: float, c0: float):
    def moments(p: Array, q: Array, c: Array) -> tuple[Array, Array]:
        k = 2 * b * b
        root = jnp.sqrt(_at_least_one(1 + k * (p + q) + k * k * (p * q - c * c)))
        T = a * a * (2 / jnp.pi) * jnp.arctan(k * c / root) + c0 * c0
        return T, (a * a * 2 * k / jnp.pi) / root

    return moments


@layer
@supports_masking(remask_kernel=True)
def Erf(a: float = 1.0, b: float = 1.0, c: float = 0.0) -> Layer:
    r"""Error function: :math:`\phi(x) = a \operatorname{erf}(b x) + c`.

    Args:
        a: Amplitude.
        b: Inverse width.
        c: Offset.

    Source:
        C. Williams, NeurIPS 1996, "Computing with infinite networks".
    """

    def fn(x: Array) -> Array:
        return a * jax.lax.erf(b * x) + c

    return elementwise(fn, _erf_moments(a, b, c))


# The width at which an error function comes closest to the logistic sigmoid.
_SIGMOID_WIDTH = 2.4020563531719796


@layer
@supports_masking(remask_kernel=True)
def Sigmoid_like() -> Layer:  # noqa: N802
    r"""Look-alike of the logistic sigmoid: :math:`\phi(x) = (1 + \mathrm{erf}(x/w))/2`.

    The width `w` is 2.4020563531719796.
    """

    def fn(x: Array) -> Array:
        return 0.5 * jax.lax.erf(x / _SIGMOID_WIDTH) + 0.5

    return elementwise(fn, _erf_moments(0.5, 1 / _SIGMOID_WIDTH, 0.5))


@layer
@supports_masking(remask_kernel=False)
def Gelu(approximate: bool = False) -> Layer:
    r"""Gaussian error linear unit: :math:`\phi(x) = x \Phi(x)`.

    Args:
        approximate: Use the tanh form in `apply_fn`; the kernel is that of the exact
            one in either case.

    Source:
        R. Tsuchida et al., AAAI 2021 (arXiv:2002.08517).
    """

    def fn(x: Array) -> Array:
        return jax.nn.gelu(x, approximate=approximate)

    def moments(p: Array, q: Array, c: Array) -> tuple[Array, Array]:
        square = _at_least_one(1 + p + q + (p * q - c * c))
        root = jnp.sqrt(square)
        turn = jnp.arctan(c / root) / (2 * jnp.pi)
        outer = (1 + p) * (1 + q)
        T = c / 4 + c * turn
        T = T + (c * c + p * q * square) / (2 * jnp.pi * outer * root)
        slope = 1 / square + (1 - p * q) / outer + 1
        return T, 0.25 + turn + c / (2 * jnp.pi * root) * slope

    return elementwise(fn, moments)
