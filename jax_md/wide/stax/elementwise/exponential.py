r"""Sines, exponentials and Gaussians: elementary kernels, analytic everywhere.

All follow from :math:`E[e^{\alpha u + \beta v}] = e^{(\alpha^2 p + 2 \alpha \beta c +
\beta^2 q) / 2}` with real or imaginary exponents, or from a Gaussian integral.
"""

import math

import jax
import jax.numpy as jnp

from jax_md.wide.stax.elementwise.layer import elementwise
from jax_md.wide.stax.requirements import Layer, layer, supports_masking

Array = jax.Array


def _sine(a: float, b: float, c0: float) -> Layer:
    def fn(x: Array) -> Array:
        return a * jnp.sin(b * x + c0)

    def moments(p: Array, q: Array, c: Array) -> tuple[Array, Array]:
        half = 0.5 * (p + q)
        difference = jnp.exp(b * b * (c - half))
        total = jnp.cos(2 * jnp.asarray(c0, c.dtype)) * jnp.exp(-b * b * (c + half))
        T = 0.5 * a * a * (difference - total)
        return T, 0.5 * a * a * b * b * (difference + total)

    return elementwise(fn, moments)


@layer
@supports_masking(remask_kernel=True)
def Sin(a: float = 1.0, b: float = 1.0, c: float = 0.0) -> Layer:
    r"""Sine: :math:`\phi(x) = a \sin(b x + c)`.

    Args:
        a: Amplitude.
        b: Frequency.
        c: Phase.
    """
    return _sine(a, b, c)


@layer
@supports_masking(remask_kernel=True)
def Cos(a: float = 1.0, b: float = 1.0, c: float = 0.0) -> Layer:
    r"""Cosine: :math:`\phi(x) = a \cos(b x + c)`.

    Args:
        a: Amplitude.
        b: Frequency.
        c: Phase.
    """
    return _sine(a, b, c + math.pi / 2)


@layer
@supports_masking(remask_kernel=True)
def Rbf(gamma: float = 1.0) -> Layer:
    r"""Random feature of the radial kernel :math:`e^{-\gamma E[(u - v)^2]}`.

    :math:`\phi(x) = \sqrt 2 \sin(\sqrt{2 \gamma} x + \pi / 4)`.

    Args:
        gamma: Inverse squared width.

    Source:
        A. Rahimi and B. Recht, NeurIPS 2007.
    """

    def fn(x: Array) -> Array:
        return math.sqrt(2) * jnp.sin((2 * gamma) ** 0.5 * x + math.pi / 4)

    def moments(p: Array, q: Array, c: Array) -> tuple[Array, Array]:
        T = jnp.exp(-gamma * (p + q - 2 * c))
        return T, 2 * gamma * T

    return elementwise(fn, moments)


@layer
@supports_masking(remask_kernel=True)
def Exp(a: float = 1.0, b: float = 1.0) -> Layer:
    r"""Exponential: :math:`\phi(x) = a e^{b x}`.

    Args:
        a: Amplitude.
        b: Rate.
    """

    def fn(x: Array) -> Array:
        return a * jnp.exp(b * x)

    def moments(p: Array, q: Array, c: Array) -> tuple[Array, Array]:
        T = a * a * jnp.exp(b * b * (0.5 * (p + q) + c))
        return T, b * b * T

    return elementwise(fn, moments)


@layer
@supports_masking(remask_kernel=True)
def Gaussian(a: float = 1.0, b: float = -1.0) -> Layer:
    r"""Gaussian: :math:`\phi(x) = a e^{b x^2}`.

    Args:
        a: Amplitude.
        b: Curvature, negative for a bump; where positive the kernel exists for
            variances below ``1 / (4 b)``.

    Source:
        C. Williams, NeurIPS 1996.
    """

    def fn(x: Array) -> Array:
        return a * jnp.exp(b * x * x)

    def moments(p: Array, q: Array, c: Array) -> tuple[Array, Array]:
        det = 1 - 2 * b * (p + q) + 4 * b * b * (p * q - c * c)
        root = jnp.sqrt(det)
        return a * a / root, 4 * a * a * b * b * c / (det * root)

    return elementwise(fn, moments)


@layer
@supports_masking(remask_kernel=False)
def Gabor() -> Layer:
    r"""Wave packet: :math:`\phi(x) = e^{-x^2} \sin x`."""

    def fn(x: Array) -> Array:
        return jnp.exp(-x * x) * jnp.sin(x)

    def moments(p: Array, q: Array, c: Array) -> tuple[Array, Array]:
        s, d = p + q, 4 * (p * q - c * c)
        det = 2 * s + d + 1
        decay = jnp.exp(-(s + d + 2 * c) / (2 * det))
        growth = jnp.exp(2 * c / det)
        root = jnp.sqrt(det)
        T = decay * (growth - 1) / (2 * root)
        A = 1 + 2 * s + 4 * (c * c + p * q)
        B = 4 * c * (d + 3 * s + 2)
        slope = decay * ((A - B) + growth * (A + B)) / (2 * det * det * root)
        return T, slope

    return elementwise(fn, moments)


@layer
@supports_masking(remask_kernel=True)
def ExpNormalized(
    gamma: float = 1.0, shift: float = -1.0, do_clip: bool = False
) -> Layer:
    r"""Exponential of the correlation: :math:`K' = \sqrt{p q} e^{\gamma(\rho + s)}`.

    A kernel without a finite network: :math:`\rho = c / \sqrt{p q}`.

    Args:
        gamma: Rate.
        shift: The shift `s` of the correlation.
        do_clip: Clip the correlation to [-1, 1].

    Source:
        J. Mairal et al., NeurIPS 2014 (arXiv:1406.3332).
    """

    def fn(x: Array) -> Array:
        raise NotImplementedError(
            "`ExpNormalized` is known as a kernel only; got a call of its `apply_fn`. "
            "Use `kernel_fn`, or `Exp` for a network with a kernel alike."
        )

    def moments(p: Array, q: Array, c: Array) -> tuple[Array, Array]:
        product = p * q
        one = jnp.ones((), product.dtype)
        root = jnp.sqrt(jnp.where(product > 0, product, one))
        rho = c / root
        if do_clip:
            rho = jnp.clip(rho, -1, 1)
        growth = jnp.exp(gamma * (rho + shift))
        T = jnp.where(product > 0, root * growth, jnp.zeros((), product.dtype))
        return T, gamma * growth

    return elementwise(fn, moments)
