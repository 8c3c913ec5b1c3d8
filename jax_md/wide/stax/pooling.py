"""Pooling over windows and over all positions.

Sums of activations are sums over both copies of a position axis of a kernel.
"""

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jax_md.wide.kernel import Kernel
from jax_md.wide.stax.diagonal import Bool, Diagonal
from jax_md.wide.stax.requirements import (
    Layer,
    layer,
    requires,
    shaped,
    supports_masking,
)
from jax_md.wide.stax.windows import (
    Padding,
    Window,
    as_padding,
    as_strides,
    center,
    window,
    window_sum,
)

Array = jax.Array


@layer
@supports_masking(remask_kernel=True)
def AvgPool(
    window_shape: Sequence[int],
    strides: Sequence[int] | None = None,
    padding: str = Padding.VALID.name,
    normalize_edges: bool = False,
    batch_axis: int = 0,
    channel_axis: int = -1,
) -> Layer:
    """Mean over windows.

    Args:
        window_shape: Size of the window along each position axis.
        strides: Steps of the window; None for 1.
        padding: ``"VALID"``, ``"SAME"`` (zeros) or ``"CIRCULAR"``.
        normalize_edges: Divide by the entries of the window inside the borders; else by
            all of them.
        batch_axis: Batch axis of the inputs.
        channel_axis: Channel axis of the inputs.
    """
    return _pool(
        True, window_shape, strides, padding, normalize_edges, batch_axis, channel_axis
    )


@layer
@supports_masking(remask_kernel=True)
def SumPool(
    window_shape: Sequence[int],
    strides: Sequence[int] | None = None,
    padding: str = Padding.VALID.name,
    batch_axis: int = 0,
    channel_axis: int = -1,
) -> Layer:
    """Sum over windows; arguments as for `AvgPool`."""
    return _pool(False, window_shape, strides, padding, False, batch_axis, channel_axis)


def _positions(ndim: int, batch_axis: int, channel_axis: int) -> list[int]:
    own = (batch_axis % ndim, channel_axis % ndim)
    return [i for i in range(ndim) if i not in own]


def _pool(
    is_mean: bool,
    window_shape: Sequence[int],
    strides: Sequence[int] | None,
    padding: Padding | str,
    normalize_edges: bool,
    batch_axis: int,
    channel_axis: int,
) -> Any:
    sizes = tuple(window_shape)
    steps = as_strides(strides, len(sizes))
    kind = as_padding(padding)

    def windows(shape: Sequence[int]) -> list[tuple[int, Window]]:
        positions = _positions(len(shape), batch_axis, channel_axis)
        if len(positions) != len(sizes):
            raise ValueError(
                f"`window_shape` must have one entry for each of {len(positions)} "
                f"position axes of inputs of shape {tuple(shape)}; got {sizes}. "
                "Add 1 for axes that are not pooled."
            )
        return [
            (axis, window(shape[axis], size, step, kind))
            for axis, size, step in zip(positions, sizes, steps, strict=True)
        ]

    def shape_fn(shape: Any) -> tuple[int, ...]:
        out = list(shape)
        for axis, w in windows(shape):
            out[axis] = w.out
        return tuple(out)

    def slide(x: Array, axis: int, w: Window, power: int = 1) -> Array:
        """Sum or average along one axis, divided `power` times."""
        length = x.shape[axis]
        x = window_sum(x, axis, w)
        if not is_mean:
            return x
        if not (normalize_edges and kind is Padding.SAME):
            return x / w.size**power
        count = window_sum(jnp.ones(length, x.dtype), 0, w)
        shape = [1] * x.ndim
        shape[axis] = w.out
        return x / count.reshape(shape) ** power

    def apply_fn(params: Any, inputs: Array, **unused: Any) -> Array:
        for axis, w in windows(inputs.shape):
            inputs = slide(inputs, axis, w)
        return inputs

    @requires(
        batch_axis=batch_axis,
        channel_axis=channel_axis,
        diagonal_spatial=Diagonal(input=Bool.MAYBE),
    )
    def kernel_fn(k: Kernel, **unused: Any) -> Kernel:
        axes = [w for _, w in windows(k.shape1)]

        def pool(x: Array, n_batch: int, *_: int) -> Array:
            for i, w in enumerate(axes):
                if k.diagonal_spatial:  # zero off the diagonal
                    x = slide(x, n_batch + i, w, power=2)
                else:
                    x = slide(x, n_batch + 2 * i, w)
                    x = slide(x, n_batch + 2 * i + 1, w)
            return x

        return k.linear(pool)

    def mask_fn(mask: Any, input_shape: Any) -> Array:
        mask = jnp.broadcast_to(mask, input_shape)
        for axis, w in windows(input_shape):
            mask = center(mask, axis, w)
        return mask

    return shaped(shape_fn), apply_fn, kernel_fn, mask_fn


@layer
@supports_masking(remask_kernel=False)
def GlobalSumPool(batch_axis: int = 0, channel_axis: int = -1) -> Layer:
    """Sum over all positions.

    Args:
        batch_axis: Batch axis of the inputs.
        channel_axis: Channel axis of the inputs.
    """
    return _global_pool(False, batch_axis, channel_axis)


@layer
@supports_masking(remask_kernel=False)
def GlobalAvgPool(batch_axis: int = 0, channel_axis: int = -1) -> Layer:
    """Mean over all positions that are not masked.

    Args:
        batch_axis: Batch axis of the inputs.
        channel_axis: Channel axis of the inputs.
    """
    return _global_pool(True, batch_axis, channel_axis)


def _global_pool(is_mean: bool, batch_axis: int, channel_axis: int) -> Any:
    def shape_fn(shape: Any) -> tuple[int, ...]:
        positions = _positions(len(shape), batch_axis, channel_axis)
        return tuple(n for i, n in enumerate(shape) if i not in positions)

    def apply_fn(params: Any, inputs: Array, *, mask: Any = None, **unused: Any) -> Any:
        positions = tuple(_positions(inputs.ndim, batch_axis, channel_axis))
        total = jnp.sum(inputs, positions)
        if not is_mean:
            return total
        if mask is None:
            return total / math.prod(inputs.shape[i] for i in positions)
        kept = jnp.broadcast_to(~mask, inputs.shape).astype(inputs.dtype)
        return total / jnp.maximum(jnp.sum(kept, positions), 1)

    @requires(
        batch_axis=batch_axis,
        channel_axis=channel_axis,
        diagonal_spatial=Diagonal(input=Bool.MAYBE, output=Bool.YES),
    )
    def kernel_fn(k: Kernel, **unused: Any) -> Kernel:
        counts = {1: _counts(k, k.mask1, k.shape1), 2: _counts(k, k.mask2, k.shape2)}

        def pool(x: Array, n_batch: int, i: int, j: int) -> Array:
            x = jnp.sum(x, axis=tuple(range(n_batch, x.ndim)))
            if not is_mean:
                return x
            left, right = counts[i], counts[j]
            if n_batch == 1:
                return x / (left * right)
            return x / (left[:, None] * right[None, :])

        batch, channel = (0, 1) if k.batch_axis < k.channel_axis else (1, 0)
        return k.linear(
            pool, batch_axis=batch, channel_axis=channel, diagonal_spatial=False
        )

    def mask_fn(mask: Any, input_shape: Any) -> Array:
        positions = tuple(_positions(len(input_shape), batch_axis, channel_axis))
        return jnp.all(jnp.broadcast_to(mask, input_shape), axis=positions)

    return shaped(shape_fn), apply_fn, kernel_fn, mask_fn


def _counts(k: Kernel, mask: Array | None, shape: tuple[int, ...]) -> Array:
    """Return the number of positions of each sample that are not masked."""
    kept = k.kept(mask, shape)
    dtype = k.nngp.dtype
    if kept is None:
        n = math.prod(shape[i] for i in k.spatial_axes)
        return jnp.full((shape[k.batch_axis],), n, dtype)
    return jnp.maximum(jnp.sum(kept, axis=tuple(range(1, kept.ndim)), dtype=dtype), 1)
