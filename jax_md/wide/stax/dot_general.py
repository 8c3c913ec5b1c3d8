r"""Multiplication with a constant tensor, over any position axes.

A linear map `A` of positions takes a covariance to :math:`A K A^T`, one factor for each
copy of the axes.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jax_md.wide.contraction import DotNumbers, label
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


@layer
@supports_masking(remask_kernel=False)
def DotGeneral(
    *,
    lhs: Array | float | None = None,
    rhs: Array | float | None = None,
    dimension_numbers: DotNumbers = (((), ()), ((), ())),
    precision: Any = None,
    batch_axis: int = 0,
    channel_axis: int = -1,
) -> LayerAndMask:
    """Multiply with a constant as `jax.lax.dot_general` does.

    Args:
        lhs: The constant, if it stands on the left: ``dot_general(lhs, inputs)``.
        rhs: The constant, if it stands on the right: ``dot_general(inputs, rhs)``. A
            scalar scales the inputs.
        dimension_numbers: Axes contracted and shared, see `jax.lax.dot_general`.
        precision: See `jax.lax.dot_general`.
        batch_axis: Batch axis of the inputs.
        channel_axis: Channel axis of the inputs.

    Raises:
        ValueError: If both `lhs` and `rhs` are given; from the kernel, if samples are
            contracted, or channels contracted or shared.
    """
    if lhs is not None and rhs is not None:
        raise ValueError(
            "`DotGeneral` takes one constant, `lhs` or `rhs`; got both. Chain two "
            "layers."
        )
    is_lhs = lhs is not None
    constant = lhs if is_lhs else (1.0 if rhs is None else rhs)
    shape_c = jnp.shape(constant)
    contract, share = dimension_numbers
    own = 1 if is_lhs else 0

    def dot(x: Array) -> Array:
        c = jnp.asarray(constant, x.dtype)
        args = (c, x) if is_lhs else (x, c)
        return lax.dot_general(*args, dimension_numbers, precision=precision)

    def shape_fn(shape: Any) -> tuple[int, ...]:
        ndim = len(shape)
        # An unknown number of samples passes for one, or for that of the constant.
        known = [1 if n < 0 else n for n in shape]
        for i, j in zip(share[own], share[1 - own], strict=True):
            known[i] = shape_c[j] if shape[i] < 0 else shape[i]
        struct = jax.ShapeDtypeStruct(tuple(known), jnp.result_type(float))
        out = jax.eval_shape(dot, struct).shape
        names = label(
            ndim, len(shape_c), is_lhs, dimension_numbers, batch_axis, channel_axis
        )
        if -1 in shape and names.batch in names.outputs:
            at = names.batch_axis
            return (*out[:at], shape[batch_axis], *out[at + 1 :])
        return out

    def apply_fn(params: Any, inputs: Array, **unused: Any) -> Array:
        return dot(inputs)

    mixes = Diagonal(input=Bool.NO) if contract[own] else Diagonal()

    @requires(batch_axis=batch_axis, channel_axis=channel_axis, diagonal_spatial=mixes)
    def kernel_fn(k: Kernel, **unused: Any) -> Kernel:
        how = lax.Precision.HIGHEST if precision is None else precision
        return k.dot_general(constant, constant, is_lhs, dimension_numbers, how)

    def mask_fn(mask: Any, input_shape: Any) -> Array:
        kept = jnp.broadcast_to(~mask, input_shape).astype(float)
        ones = jnp.ones(shape_c, kept.dtype)
        args = (ones, kept) if is_lhs else (kept, ones)
        return lax.dot_general(*args, dimension_numbers) == 0

    return shaped(shape_fn), apply_fn, kernel_fn, mask_fn
