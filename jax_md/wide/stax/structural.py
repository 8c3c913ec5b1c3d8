"""Layers that only move entries about, or switch some off: no weights."""

from typing import Any

import jax
import jax.numpy as jnp

from jax_md.wide import layout
from jax_md.wide.kernel import Kernel
from jax_md.wide.stax.diagonal import Bool, Diagonal
from jax_md.wide.stax.requirements import (
    Layer,
    layer,
    requires,
    shaped,
    supports_masking,
)

Array = jax.Array


@layer
@supports_masking(remask_kernel=False)
def Identity() -> Layer:
    """Pass everything on."""

    def apply_fn(params: Any, inputs: Any, **unused: Any) -> Any:
        return inputs

    def kernel_fn(k: Kernel, **unused: Any) -> Kernel:
        return k

    return shaped(lambda shape: shape), apply_fn, kernel_fn


@layer
@supports_masking(remask_kernel=False)
def Flatten(batch_axis: int = 0, batch_axis_out: int = 0) -> Layer:
    """Make channels of all axes but the batch axis.

    The kernel is averaged over equal positions. An affine layer must come before the
    next nonlinearity.

    Args:
        batch_axis: Batch axis of the inputs.
        batch_axis_out: Batch axis of the outputs, 0 or 1 (or negative).
    """
    if batch_axis_out not in (0, 1, -1, -2):
        raise ValueError(
            "`batch_axis_out` must be one of the two axes left, 0 or 1; got "
            f"{batch_axis_out}. Pass 0 for samples first."
        )
    out_axis = batch_axis_out % 2

    def shape_fn(shape: Any) -> tuple[int, int]:
        axis = batch_axis % len(shape)
        size = 1
        for i, n in enumerate(shape):
            if i != axis:
                size *= n
        return (shape[axis], size) if out_axis == 0 else (size, shape[axis])

    def flatten(x: Array) -> Array:
        x = jnp.moveaxis(x, batch_axis, 0)
        x = x.reshape(x.shape[0], -1)
        return x if out_axis == 0 else x.T

    def apply_fn(params: Any, inputs: Any, **unused: Any) -> Array:
        return flatten(inputs)

    @requires(batch_axis=batch_axis, diagonal_spatial=Diagonal(Bool.YES, Bool.YES))
    def kernel_fn(k: Kernel, **unused: Any) -> Kernel:
        def mean(x: Array, n_batch: int, *_: int) -> Array:
            if not k.diagonal_spatial:
                x = layout.spatial_diagonal(x, n_batch)
            return jnp.mean(x, axis=tuple(range(n_batch, x.ndim)))

        return k.linear(
            mean,
            is_gaussian=False,
            diagonal_spatial=False,
            batch_axis=out_axis,
            channel_axis=1 - out_axis,
        )

    def mask_fn(mask: Any, input_shape: Any) -> Array:
        return flatten(jnp.broadcast_to(mask, input_shape))

    return shaped(shape_fn), apply_fn, kernel_fn, mask_fn


class _Slice:
    """Written as ``Slice[1:3, :, ::2]``, the index itself."""

    def __getitem__(self, idx: Any) -> Any:
        return idx


Slice = _Slice()


@layer
@supports_masking(remask_kernel=False)
def Index(idx: Any, batch_axis: int = 0, channel_axis: int = -1) -> Layer:
    """Take ``inputs[idx]``.

    Args:
        idx: Integers, slices and an ellipsis; write `Slice[...]`. Channels must be left
            whole and the batch axis kept for the kernel to exist.
        batch_axis: Batch axis of the inputs.
        channel_axis: Channel axis of the inputs.
    """

    def shape_fn(shape: Any) -> tuple[int, ...]:
        # An unknown size passes for one sample, and is put back below.
        known = tuple(1 if n < 0 else n for n in shape)
        out = jax.eval_shape(lambda x: x[idx], jnp.broadcast_to(0.0, known)).shape
        if -1 in shape and len(out) == len(shape):
            return tuple(-1 if n < 0 else m for n, m in zip(shape, out, strict=True))
        return out

    def apply_fn(params: Any, inputs: Any, **unused: Any) -> Any:
        return inputs[idx]

    @requires(batch_axis=batch_axis, channel_axis=channel_axis)
    def kernel_fn(k: Kernel, **unused: Any) -> Kernel:
        return k[idx]

    def mask_fn(mask: Any, input_shape: Any) -> Array:
        return jnp.broadcast_to(mask, input_shape)[idx]

    return shaped(shape_fn), apply_fn, kernel_fn, mask_fn


@layer
@supports_masking(remask_kernel=False)
def Dropout(rate: float, mode: str = "train") -> Layer:
    """Set entries to zero at random, and divide the others by `rate`.

    Args:
        rate: Probability to keep an entry, in (0, 1].
        mode: ``"train"``, or ``"test"`` for the identity. In training `apply_fn` takes
            a random key, ``rng``.

    Raises:
        ValueError: If `rate` or `mode` is out of range.

    Source:
        S. Schoenholz et al., ICLR 2017 (arXiv:1611.01232), section 5.
    """
    if not 0 < rate <= 1:
        raise ValueError(
            f"`rate`, the probability to keep an entry, must be in (0, 1]; got {rate}."
            " Pass 1 to keep all."
        )
    if mode not in ("train", "test"):
        raise ValueError(f'`mode` must be "train" or "test"; got {mode!r}. Pass one.')

    def apply_fn(params: Any, inputs: Array, *, rng: Any = None, **unused: Any) -> Any:
        if mode == "test":
            return inputs
        if rng is None:
            raise ValueError(
                "`Dropout` in training needs a random key; got none. Call "
                "`apply_fn(params, inputs, rng=key)`."
            )
        keep = jax.random.bernoulli(rng, rate, inputs.shape)
        return jnp.where(keep, inputs / rate, jnp.zeros((), inputs.dtype))

    def kernel_fn(k: Kernel, **unused: Any) -> Kernel:
        if mode == "test":
            return k

        def scale(x: Array, n_batch: int, same: Any) -> Array:
            return x + x * (_same_entry(x, k, n_batch) * same * (1 / rate - 1))

        n_self = k.n_batch_self
        same = k.x1_is_x2.astype(k.nngp.dtype)
        return k.replace(
            nngp=scale(k.nngp, 2, same),
            ntk=scale(k.ntk, 2, same) if k.has_ntk else k.ntk,
            cov1=scale(k.cov1, n_self, 1.0),
            cov2=None if k.cov2 is None else scale(k.cov2, n_self, 1.0),
            is_gaussian=False,
        )

    return shaped(lambda shape: shape), apply_fn, kernel_fn


def _same_entry(x: Array, k: Kernel, n_batch: int) -> Array:
    """Return 1 where a covariance is between one entry and itself, else 0."""
    same = jnp.ones((1,) * x.ndim, x.dtype)
    pairs = [(0, 1)] if n_batch == 2 else []
    if not k.diagonal_spatial:
        pairs += [(i, i + 1) for i in range(n_batch, x.ndim, 2)]
    for i, j in pairs:
        shape = [1] * x.ndim
        shape[i], shape[j] = x.shape[i], x.shape[j]
        same = same * jnp.eye(shape[i], shape[j], dtype=x.dtype).reshape(shape)
    return same
