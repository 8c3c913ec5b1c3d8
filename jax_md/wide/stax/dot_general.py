r"""Multiplication with a constant tensor, over any position axes.

A linear map `A` of positions takes a covariance to :math:`A K A^T`, one factor for each
copy of the axes.
"""

import string
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

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
DotNumbers = tuple[
    tuple[Sequence[int], Sequence[int]], tuple[Sequence[int], Sequence[int]]
]


class _Labels(NamedTuple):
    """One letter for each axis of the inputs, the constant and the outputs."""

    inputs: list[str]
    constant: list[str]
    outputs: list[str]
    batch: str
    channel: str

    @property
    def spatial_in(self) -> list[str]:
        return [c for c in self.inputs if c not in (self.batch, self.channel)]

    @property
    def spatial_out(self) -> list[str]:
        return [c for c in self.outputs if c not in (self.batch, self.channel)]


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
) -> Layer:
    """Multiply with a constant as `jax.lax.dot_general` does.

    Args:
        lhs: The constant, if it stands on the left: ``dot_general(lhs, inputs)``.
        rhs: The constant, if it stands on the right: ``dot_general(inputs, rhs)``. A
            scalar scales the inputs.
        dimension_numbers: Axes contracted and shared, see `jax.lax.dot_general`.
        precision: See `jax.lax.dot_general`.
        batch_axis: Batch axis of the inputs; neither contracted nor shared.
        channel_axis: Channel axis of the inputs; neither contracted nor shared.

    Raises:
        ValueError: If both `lhs` and `rhs` are given, or channels or samples are
            contracted.
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
    own, other = (1, 0) if is_lhs else (0, 1)

    def labels(ndim: int) -> _Labels:
        letters = iter(string.ascii_lowercase)
        inputs = [next(letters) for _ in range(ndim)]
        const = [""] * len(shape_c)
        used = []
        for pair in (contract, share):
            for i, j in zip(pair[own], pair[other], strict=True):
                const[j] = inputs[i]
                used.append(i % ndim)
        for axis, name in ((batch_axis, "batch"), (channel_axis, "channel")):
            if axis % ndim in used:
                raise ValueError(
                    f"`dimension_numbers` must leave the {name} axis {axis} of the "
                    f"inputs alone; got {dimension_numbers}. Use `Dense` to mix "
                    "channels."
                )
        const = [c or next(letters) for c in const]
        shared = [inputs[i] for i in share[own]]
        free = [c for c in inputs if c not in const]
        new = [c for c in const if c not in inputs]
        outputs = shared + (new + free if is_lhs else free + new)
        return _Labels(inputs, const, outputs, inputs[batch_axis], inputs[channel_axis])

    def dot(x: Array) -> Array:
        c = jnp.asarray(constant, x.dtype)
        args = (c, x) if is_lhs else (x, c)
        return lax.dot_general(*args, dimension_numbers, precision=precision)

    def shape_fn(shape: Any) -> tuple[int, ...]:
        known = tuple(1 if n < 0 else n for n in shape)
        out = jax.eval_shape(dot, jax.ShapeDtypeStruct(known, jnp.result_type(float)))
        names = labels(len(shape))
        at = names.outputs.index(names.batch)
        return (*out.shape[:at], shape[batch_axis], *out.shape[at + 1 :])

    def apply_fn(params: Any, inputs: Array, **unused: Any) -> Array:
        labels(inputs.ndim)
        return dot(inputs)

    mixes = Diagonal(input=Bool.NO) if contract[own] else Diagonal()

    @requires(batch_axis=batch_axis, channel_axis=channel_axis, diagonal_spatial=mixes)
    def kernel_fn(k: Kernel, **unused: Any) -> Kernel:
        names = labels(len(k.shape1))
        c = jnp.asarray(constant, k.nngp.dtype)

        def transform(x: Array, n_batch: int, *_: int) -> Array:
            # Lower case for the first copy of an axis, upper for the second.
            def copies(spatial: list[str]) -> str:
                if k.diagonal_spatial:
                    return "".join(spatial)
                return "".join(a + a.upper() for a in spatial)

            batch = "yz"[:n_batch]
            first = "".join(names.constant)
            second = first if k.diagonal_spatial else first.upper()
            return jnp.einsum(
                f"{first},{batch}{copies(names.spatial_in)},{second}"
                f"->{batch}{copies(names.spatial_out)}",
                c,
                x,
                c,
                precision=lax.Precision.HIGHEST if precision is None else precision,
            )

        return k.linear(
            transform,
            batch_axis=names.outputs.index(names.batch),
            channel_axis=names.outputs.index(names.channel),
        )

    def mask_fn(mask: Any, input_shape: Any) -> Array:
        kept = jnp.broadcast_to(~mask, input_shape).astype(float)
        ones = jnp.ones(shape_c, kept.dtype)
        args = (ones, kept) if is_lhs else (kept, ones)
        return lax.dot_general(*args, dimension_numbers) == 0

    return shaped(shape_fn), apply_fn, kernel_fn, mask_fn
