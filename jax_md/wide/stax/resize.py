"""Interpolation of images to another size."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jax_md.wide.kernel import Kernel
from jax_md.wide.stax.diagonal import Bool, Diagonal
from jax_md.wide.stax.requirements import (
    LayerAndMask,
    layer,
    requires,
    shaped,
    supports_masking,
)

Array = jax.Array
_LINEAR = ("linear", "bilinear", "trilinear", "triangle", "nearest")


@layer
@supports_masking(remask_kernel=True)
def ImageResize(
    shape: Sequence[int],
    method: str | jax.image.ResizeMethod,
    antialias: bool = True,
    precision: Any = lax.Precision.HIGHEST,
    batch_axis: int = 0,
    channel_axis: int = -1,
) -> LayerAndMask:
    """Resize as `jax.image.resize` does.

    The kernel is that of finite networks. neural-tangents 0.6.5 differs by some per
    cent after an odd number of convolutions, where it takes one axis for the other.

    Args:
        shape: Shape of the outputs; -1 keeps an axis. Samples and channels are kept.
        method: Interpolation; the kernel exists for ``"linear"`` and ``"nearest"``.
        antialias: See `jax.image.resize`.
        precision: See `jax.image.resize`.
        batch_axis: Batch axis of the inputs.
        channel_axis: Channel axis of the inputs.

    Raises:
        ValueError: If samples or channels would be resized.
        NotImplementedError: On a kernel with another `method`.
    """
    target = tuple(shape)
    kind = method if isinstance(method, str) else method.name.lower()

    def shape_fn(input_shape: Any) -> tuple[int, ...]:
        if len(target) != len(input_shape):
            raise ValueError(
                f"`shape` must have one entry for each of {len(input_shape)} axes; "
                f"got {target}. Put -1 for axes to keep."
            )
        out = tuple(
            n if m == -1 else m for n, m in zip(input_shape, target, strict=True)
        )
        for axis, name in ((batch_axis, "batch"), (channel_axis, "channel")):
            if out[axis] != input_shape[axis]:
                raise ValueError(
                    f"`shape` must keep the {name} axis {axis} of size "
                    f"{input_shape[axis]}; got {target}. Put -1 there."
                )
        return out

    def apply_fn(params: Any, inputs: Array, **unused: Any) -> Array:
        return jax.image.resize(
            inputs, shape_fn(inputs.shape), method, antialias, precision
        )

    def matrix(length: int, out: int) -> Array:
        """Return what one axis is multiplied with, ``[out, length]``."""
        eye = jnp.eye(length, dtype=jnp.result_type(float))
        return jax.image.resize(eye, (out, length), method, antialias, precision)

    keep = [i for i, m in enumerate(target) if m == -1]
    own = (batch_axis % len(target), channel_axis % len(target))
    moves = any(i not in keep and i not in own for i in range(len(target)))

    @requires(
        batch_axis=batch_axis,
        channel_axis=channel_axis,
        diagonal_spatial=Diagonal(input=Bool.NO if moves else Bool.YES),
    )
    def kernel_fn(k: Kernel, **unused: Any) -> Kernel:
        if kind not in _LINEAR:
            raise NotImplementedError(
                f"`ImageResize` has a kernel for `method` 'linear' and 'nearest'; got "
                f"{method!r}. Use one of the two."
            )
        out = shape_fn(k.shape1)

        def resize(x: Array, n_batch: int, *_: int) -> Array:
            for i, axis in enumerate(k.spatial_axes):
                if out[axis] == k.shape1[axis]:
                    continue
                A = matrix(k.shape1[axis], out[axis]).astype(x.dtype)
                for copy in range(2):
                    x = _along(A, x, n_batch + 2 * i + copy)
            return x

        return k.linear(resize)

    def mask_fn(mask: Any, input_shape: Any) -> Array:
        kept = jnp.broadcast_to(~mask, input_shape).astype(float)
        for axis, (n, m) in enumerate(
            zip(input_shape, shape_fn(input_shape), strict=True)
        ):
            if n != m:
                weights = (matrix(n, m) != 0).astype(kept.dtype)
                kept = _along(weights, kept, axis)
        return kept == 0

    return shaped(shape_fn), apply_fn, kernel_fn, mask_fn


def _along(A: Array, x: Array, axis: int) -> Array:
    y = jnp.tensordot(A, x, (1, axis), precision=lax.Precision.HIGHEST)
    return jnp.moveaxis(y, 0, axis)
