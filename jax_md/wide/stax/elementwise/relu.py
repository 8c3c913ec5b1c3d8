r"""Piecewise linear and piecewise power nonlinearities: the angular kernels."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jax_md.wide.kernel import Kernel
from jax_md.wide.stax.elementwise.angular import (
    angle,
    rectified_moments,
    rectified_pair,
)
from jax_md.wide.stax.elementwise.layer import elementwise
from jax_md.wide.stax.requirements import Layer, layer, supports_masking
from jax_md.wide.stax.smoothness import SMOOTH, Smoothness

Array = jax.Array


def _positive(x: Array) -> Array:
    return jnp.where(x > 0, x, jnp.zeros((), x.dtype))


def _abrelu(
    name: str, a: float, b: float, fn: Callable[[Array], Array], do_stabilize: bool
) -> Layer:
    def moments(p: Array, q: Array, c: Array) -> tuple[Array, Array]:
        # phi(x) = (b - a) relu(x) + a x, and E[relu(u) v] = c / 2
        u0, u1 = rectified_pair(p, q, c)
        jump = (b - a) ** 2 / (2 * jnp.pi)
        return jump * u1 + a * b * c, jump * u0 + a * b

    smoothness = Smoothness(1, 0, name) if a != b else SMOOTH
    init_fn, apply_fn, kernel_fn = elementwise(fn, moments, smoothness)
    if not do_stabilize:
        return init_fn, apply_fn, kernel_fn

    def stable_kernel_fn(k: Kernel, **kwargs: Any) -> Kernel:
        return _scaled(kernel_fn, k, **kwargs)

    stable_kernel_fn.smoothness = smoothness  # type: ignore[attr-defined]
    return init_fn, apply_fn, stable_kernel_fn


def _scaled(kernel_fn: Callable[..., Kernel], k: Kernel, **kwargs: Any) -> Kernel:
    """Apply a map of degree one to `k` divided by its largest entry, and undo that."""
    parts = [k.nngp, k.cov1] if k.cov2 is None else [k.nngp, k.cov1, k.cov2]
    largest = jnp.max(jnp.stack([jnp.max(jnp.abs(x)) for x in parts]))
    scale = jnp.where(largest > 0, largest, jnp.ones((), largest.dtype))
    scale = jax.lax.stop_gradient(scale)

    def by(k: Kernel, factor: Array) -> Kernel:
        return k.replace(
            nngp=k.nngp * factor,
            cov1=k.cov1 * factor,
            cov2=None if k.cov2 is None else k.cov2 * factor,
        )

    return by(kernel_fn(by(k, 1 / scale), **kwargs), scale)


@layer
@supports_masking(remask_kernel=False)
def ABRelu(a: float, b: float, do_stabilize: bool = False) -> Layer:
    r"""Two slopes: :math:`\phi(x) = a \min(x, 0) + b \max(x, 0)`.

    Args:
        a: Slope at negative inputs.
        b: Slope at positive inputs.
        do_stabilize: Divide the kernel by its largest entry before, and multiply
            after, so that very deep networks neither overflow nor underflow.

    Source:
        Y. Cho and L. Saul, NeurIPS 2009; R. Tsuchida et al., arXiv:1711.09090.
    """

    def fn(x: Array) -> Array:
        return jnp.where(x > 0, b * x, a * x)

    return _abrelu("ABRelu", a, b, fn, do_stabilize)


@layer
@supports_masking(remask_kernel=False)
def Relu(do_stabilize: bool = False) -> Layer:
    r"""Rectifier: :math:`\phi(x) = \max(x, 0)`.

    Args:
        do_stabilize: See `ABRelu`.

    Source:
        Y. Cho and L. Saul, NeurIPS 2009.
    """
    return _abrelu("Relu", 0, 1, _positive, do_stabilize)


@layer
@supports_masking(remask_kernel=False)
def LeakyRelu(alpha: float, do_stabilize: bool = False) -> Layer:
    r"""Leaky rectifier: :math:`\phi(x) = \max(x, 0) + \alpha \min(x, 0)`.

    Args:
        alpha: Slope at negative inputs.
        do_stabilize: See `ABRelu`.
    """

    def fn(x: Array) -> Array:
        return jnp.where(x > 0, x, alpha * x)

    return _abrelu("LeakyRelu", alpha, 1, fn, do_stabilize)


@layer
@supports_masking(remask_kernel=False)
def Abs(do_stabilize: bool = False) -> Layer:
    r"""Absolute value: :math:`\phi(x) = |x|`.

    Args:
        do_stabilize: See `ABRelu`.
    """
    return _abrelu("Abs", -1, 1, jnp.abs, do_stabilize)


@layer
@supports_masking(remask_kernel=False)
def Sign() -> Layer:
    r"""Sign: :math:`\phi(x) = \operatorname{sign}(x)`.

    Its tangent kernel is zero: no gradient passes a step.
    """

    def moments(p: Array, q: Array, c: Array) -> tuple[Array, Array]:
        theta = angle(p, q, c)
        return 1 - 2 * theta / jnp.pi, jnp.zeros_like(theta)

    return elementwise(jnp.sign, moments, Smoothness(0, 0, "Sign"))


@layer
@supports_masking(remask_kernel=False)
def RectifiedMonomial(degree: int) -> Layer:
    r"""One-sided power: :math:`\phi(x) = x^n` for :math:`x \geq 0`, else 0.

    Args:
        degree: The power `n`, an integer, 0 or more.

    Raises:
        NotImplementedError: If `degree` is no such integer.

    Source:
        Y. Cho and L. Saul, NeurIPS 2009.
    """
    if int(degree) != degree or degree < 0:
        raise NotImplementedError(
            f"`degree` must be an integer, 0 or more; got {degree!r}. Round it."
        )
    n = int(degree)

    def fn(x: Array) -> Array:
        return jnp.where(x >= 0, x**n, jnp.zeros((), x.dtype))

    def moments(p: Array, q: Array, c: Array) -> tuple[Array, Array]:
        last, below = rectified_moments(n, p, q, c)
        return last / (2 * jnp.pi), n * n * below / (2 * jnp.pi)

    smoothness = Smoothness(n, max(n - 1, 0), f"RectifiedMonomial({n})")
    return elementwise(fn, moments, smoothness)
