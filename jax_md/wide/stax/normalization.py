"""Layer normalization."""

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jax_md.wide import layout
from jax_md.wide.kernel import Kernel
from jax_md.wide.stax.requirements import (
    Layer,
    layer,
    requires,
    shaped,
    supports_masking,
)

Array = jax.Array


@layer
@supports_masking(remask_kernel=True)
def LayerNorm(
    axis: int | Sequence[int] = -1,
    eps: float = 1e-12,
    batch_axis: int = 0,
    channel_axis: int = -1,
) -> Layer:
    r"""Subtract the mean over some axes and divide by the standard deviation.

    With many channels the mean is zero and the variance that of the kernel:
    :math:`K' = K / \sqrt{(p + \epsilon)(q + \epsilon)}`, with `p` and `q` averaged over
    the position axes that are normalized.

    Args:
        axis: Axes of the activations to normalize over; the channel axis among them.
        eps: The number added to variances.
        batch_axis: Batch axis of the inputs.
        channel_axis: Channel axis of the inputs.

    Raises:
        ValueError: If `axis` lacks the channels or holds the samples.
        NotImplementedError: From the kernel, if the inputs are not Gaussian.

    Source:
        J. Ba et al., arXiv:1607.06450.
    """
    axes = (axis,) if isinstance(axis, int) else tuple(axis)

    def resolve(ndim: int) -> tuple[int, ...]:
        resolved = tuple(sorted({a % ndim for a in axes}))
        if channel_axis % ndim not in resolved:
            raise ValueError(
                f"`axis` must hold the channel axis {channel_axis}; got {axis}. "
                "Without it the layer has no infinitely wide limit; add it."
            )
        if batch_axis % ndim in resolved:
            raise ValueError(
                f"`axis` must not hold the batch axis {batch_axis}; got {axis}. "
                "Samples are normalized one by one; drop it."
            )
        return resolved

    def apply_fn(params: Any, inputs: Array, *, mask: Any = None, **unused: Any) -> Any:
        over = tuple(a % inputs.ndim for a in axes)
        kept = None if mask is None else jnp.broadcast_to(~mask, inputs.shape)
        count = _count(kept, inputs, over)
        mean = jnp.sum(inputs, over, keepdims=True) / count
        centered = inputs - mean
        if kept is not None:
            centered = jnp.where(kept, centered, jnp.zeros((), inputs.dtype))
        variance = jnp.sum(centered**2, over, keepdims=True) / count
        return centered / jnp.sqrt(eps + variance)

    @requires(batch_axis=batch_axis, channel_axis=channel_axis)
    def kernel_fn(k: Kernel, **unused: Any) -> Kernel:
        over = resolve(len(k.shape1))
        if not k.is_gaussian:
            raise NotImplementedError(
                "`LayerNorm` has a kernel for Gaussian inputs only, which an affine "
                "layer makes; got others. Put `Dense`, `Conv` or alike before it."
            )
        positions = tuple(1 + i for i, a in enumerate(k.spatial_axes) if a in over)
        var1, var2 = k.variances()
        scale1 = _scale(var1, positions, k.kept(k.mask1, k.shape1), eps)
        scale2 = (
            scale1
            if k.cov2 is None
            else _scale(var2, positions, k.kept(k.mask2, k.shape2), eps)
        )
        scales = {1: scale1, 2: scale2}

        def divide(x: Array, n_batch: int, i: int, j: int) -> Array:
            left, right = layout.pair_views(
                scales[i], scales[j], n_batch, k.diagonal_spatial
            )
            return x * left * right

        return k.linear(divide)

    return shaped(lambda shape: shape), apply_fn, kernel_fn


def _count(kept: Array | None, x: Array, over: tuple[int, ...]) -> Any:
    if kept is None:
        return math.prod(x.shape[a] for a in over)
    return jnp.maximum(jnp.sum(kept, over, keepdims=True, dtype=x.dtype), 1)


def _scale(
    variance: Array, positions: tuple[int, ...], kept: Array | None, eps: float
) -> Array:
    """Return ``1 / sqrt(eps + mean variance)``, in the shape of `variance`."""
    if positions:
        if kept is None:
            mean = jnp.mean(variance, positions, keepdims=True)
        else:
            count = jnp.sum(kept, positions, keepdims=True, dtype=variance.dtype)
            mean = jnp.sum(variance, positions, keepdims=True) / jnp.maximum(count, 1)
        mean = jnp.broadcast_to(mean, variance.shape)
    else:
        mean = variance
    total = eps + mean
    # Masked entries with `eps = 0` have a variance of zero, and stay zero.
    return jnp.where(total > 0, jax.lax.rsqrt(jnp.where(total > 0, total, 1)), 0)
