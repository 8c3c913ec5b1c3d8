"""Fully connected layer."""

from typing import Any

import jax
import jax.numpy as jnp

from jax_md.wide.kernel import Kernel
from jax_md.wide.stax.affine import Affine
from jax_md.wide.stax.requirements import (
    Layer,
    layer,
    requires,
    shaped,
    supports_masking,
)


@layer
@supports_masking(remask_kernel=True)
def Dense(
    out_dim: int,
    W_std: float = 1.0,
    b_std: float | None = None,
    batch_axis: int = 0,
    channel_axis: int = -1,
    parameterization: str = "ntk",
    s: tuple[int, int] = (1, 1),
) -> Layer:
    r"""Affine map of the channels, the same for every sample and position.

    NTK parameterization: :math:`z = \sigma_w W^T x / \sqrt{n} + \sigma_b b`, all
    entries of `W` and `b` standard normal, `n` the number of channels in. Standard:
    :math:`z = W^T x / \sqrt{s_{in}} + b` with entries of `W` of variance
    :math:`\sigma_w^2 s_{in} / n` and of `b` of variance :math:`\sigma_b^2`.

    Args:
        out_dim: Channels out, for ``s = (1, 1)``.
        W_std: Standard deviation :math:`\sigma_w` of the weights.
        b_std: Standard deviation :math:`\sigma_b` of the biases; None for no biases.
        batch_axis: Batch axis of the inputs.
        channel_axis: Channel axis of the inputs.
        parameterization: ``"ntk"`` or ``"standard"``.
        s: Width multipliers in and out of the standard parameterization.

    Returns:
        ``(init_fn, apply_fn, kernel_fn)``; parameters ``(W, b)``.

    Source:
        J. Sohl-Dickstein et al., arXiv:2001.07301 (the standard parameterization).
    """
    affine = Affine.checked(W_std, b_std, parameterization, s)
    width = affine.width(out_dim)

    def shape_fn(shape: Any) -> tuple[int, ...]:
        axis = channel_axis % len(shape)
        return (*shape[:axis], width, *shape[axis + 1 :])

    def draw(rng: jax.Array, input_shape: Any) -> Any:
        fan_in = input_shape[channel_axis]
        bias_shape = [1] * len(input_shape)
        bias_shape[channel_axis] = width
        return affine.draw(rng, (fan_in, width), tuple(bias_shape), fan_in)

    def apply_fn(params: Any, inputs: Any, **unused: Any) -> Any:
        W, b = params
        axis = channel_axis % inputs.ndim
        z = jnp.moveaxis(jnp.tensordot(inputs, W, axes=(axis, 0)), -1, axis)
        return affine.scale(z, b, W.shape[0])

    @requires(batch_axis=batch_axis, channel_axis=channel_axis)
    def kernel_fn(k: Kernel, **unused: Any) -> Kernel:
        return affine.kernel(k, fan_in=k.shape1[k.channel_axis])

    def mask_fn(mask: Any, input_shape: Any) -> Any:
        return jnp.all(mask, axis=channel_axis, keepdims=True)

    return shaped(shape_fn, draw), apply_fn, kernel_fn, mask_fn
