r"""Polynomials, through Hermite polynomials scaled to the variance.

.. math:: E[\phi(u) \phi(v)] = \sum_l g_l(p) g_l(q) c^l, \qquad
          g_l(v) = \sum_i a_{2 i + l} \frac{(2 i + l)!}{2^i i! \sqrt{l!}} v^i

for :math:`\phi(x) = \sum_k a_k x^k`. No variance is divided by: zero inputs need
no care.

Source:
    Mehler's formula; A. Daniely et al., NeurIPS 2016 (arXiv:1602.05897), section 4.
"""

import math
import warnings
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as onp

from jax_md.wide.kernel import Kernel
from jax_md.wide.stax.elementwise.layer import Moments, elementwise
from jax_md.wide.stax.requirements import Layer, layer, supports_masking

Array = jax.Array


def _horner(coefficients: Sequence[float], x: Array) -> Array:
    total = jnp.zeros_like(x)
    for a in reversed(coefficients):
        total = total * x + a
    return total


def _polynomial_moments(a: Sequence[float]) -> Moments:
    rows = []  # rows[l] holds the coefficients of g_l
    for order in range(len(a)):
        row = []
        for i in range((len(a) - order - 1) // 2 + 1):
            k = 2 * i + order
            weight = math.factorial(k) / (2**i * math.factorial(i))
            row.append(a[k] * weight / math.sqrt(math.factorial(order)))
        rows.append(row)

    def moments(p: Array, q: Array, c: Array) -> tuple[Array, Array]:
        weights = [_horner(row, p) * _horner(row, q) for row in rows]
        T = slope = jnp.zeros_like(c)
        for order in reversed(range(len(rows))):
            T = T * c + weights[order]
            if order:
                slope = slope * c + order * weights[order]
        return T, slope

    return moments


@layer
@supports_masking(remask_kernel=True)
def Polynomial(coef: Sequence[float]) -> Layer:
    r"""Polynomial: :math:`\phi(x) = \sum_k a_k x^k`.

    Args:
        coef: Coefficients `a_k`, the constant first.
    """
    a = [float(x) for x in onp.asarray(coef)]

    def fn(x: Array) -> Array:
        return _horner(a, x)

    return elementwise(fn, _polynomial_moments(a))


@layer
@supports_masking(remask_kernel=True)
def Monomial(degree: int) -> Layer:
    r"""Power: :math:`\phi(x) = x^n`.

    Args:
        degree: The power `n`, an integer, 0 or more.

    Raises:
        NotImplementedError: If `degree` is no such integer.
    """
    n = _check_degree(degree)

    def fn(x: Array) -> Array:
        return x**n

    return elementwise(fn, _polynomial_moments([0.0] * n + [1.0]))


@layer
@supports_masking(remask_kernel=True)
def Hermite(degree: int) -> Layer:
    r"""Normalized Hermite polynomial: :math:`\phi(x) = He_n(x) / \sqrt{n!}`.

    Its kernel is :math:`c^n`, which holds for inputs of variance one only: put
    `LayerNorm` before it, or use `Polynomial` with the same coefficients.

    Args:
        degree: The degree `n`, an integer, 0 or more.

    Raises:
        NotImplementedError: If `degree` is no such integer.
    """
    n = _check_degree(degree)
    he = onp.polynomial.hermite_e.herme2poly([0.0] * n + [1.0])
    a = [float(x) for x in he / math.sqrt(math.factorial(n))]

    def fn(x: Array) -> Array:
        return _horner(a, x)

    def moments(p: Array, q: Array, c: Array) -> tuple[Array, Array]:
        return c**n, n * c ** (n - 1) if n else jnp.zeros_like(c)

    def before(k: Kernel) -> None:
        warnings.warn(
            "the kernel of `Hermite` holds for pre-activations of variance 1, which is "
            "not checked. Normalize them, with `LayerNorm` for example, or use "
            "`Polynomial`, whose kernel holds for any variance.",
            stacklevel=2,
        )

    return elementwise(fn, moments, before=before)


def _check_degree(degree: int) -> int:
    if int(degree) != degree or degree < 0:
        raise NotImplementedError(
            f"`degree` must be an integer, 0 or more; got {degree!r}. Round it."
        )
    return int(degree)
