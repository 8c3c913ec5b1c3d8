r"""The kernel of the inputs: :math:`K(x, x') = x \cdot x' / C` over `C` channels."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as onp

from jax_md.wide import layout
from jax_md.wide.kernel import Kernel
from jax_md.wide.stax.diagonal import Bool
from jax_md.wide.stax.masking import MaskedArray, as_masked

Array = jax.Array

# Batches that differ by less of each entry count as equal: in `Dropout`, and
# in the values of a nonlinearity between a sample and itself.
EQUAL_INPUTS = 1e-12


def is_array_like(x: Any) -> bool:
    """Whether `x` is one array, and not a list or tuple of them."""
    return isinstance(x, jax.Array | onp.ndarray | MaskedArray) or hasattr(x, "aval")


def input_kernel(
    x1: Any,
    x2: Any,
    requirement: Any,
    *,
    with_ntk: bool,
    mask_constant: float | None = None,
    diagonal_batch: bool | None = None,
    diagonal_spatial: bool | None = None,
) -> Any:
    """Compute the kernel of one pair of inputs, or of each in a list or tuple.

    Args:
        x1: Inputs, an array with a batch and a channel axis at least, or nested lists.
        x2: The same, or None for `x1`.
        requirement: What the network needs, a `Requirement` or one for each input.
        with_ntk: Whether a neural tangent kernel is wanted.
        mask_constant: Entries equal to this are masked.
        diagonal_batch: See `Kernel`; None for whatever the network allows.
        diagonal_spatial: See `Kernel`; None for whatever the network allows.
    """
    options = {
        "with_ntk": with_ntk,
        "mask_constant": mask_constant,
        "diagonal_batch": diagonal_batch,
        "diagonal_spatial": diagonal_spatial,
    }
    if isinstance(x1, list | tuple):
        seconds = [None] * len(x1) if x2 is None else x2
        if len(seconds) != len(x1):
            raise ValueError(
                f"`x1` and `x2` must have as many inputs each; got {len(x1)} and "
                f"{len(seconds)}. Pass one of each for every input of the network."
            )
        single = hasattr(requirement, "batch_axis")
        requirements = [requirement] * len(x1) if single else requirement
        if len(requirements) != len(x1):
            raise ValueError(
                f"the network has {len(requirements)} inputs; got {len(x1)}. "
                "Pass a list with one array for each."
            )
        return type(x1)(
            input_kernel(a, b, r, **options)
            for a, b, r in zip(x1, seconds, requirements, strict=True)
        )
    if not hasattr(requirement, "batch_axis"):
        raise ValueError(
            f"the network has {len(requirement)} inputs; got one array. Pass a list "
            "with one array for each."
        )
    same = x2 is None or x2 is x1
    first = _prepare(x1, mask_constant)
    second = first if same else _prepare(x2, mask_constant)
    return _kernel(first, second, same, x2 is None, requirement, **options)


def _prepare(x: Any, mask_constant: float | None) -> MaskedArray:
    masked = as_masked(x, mask_constant)
    # The recursion loses digits in every layer: use the widest type that is enabled.
    return masked.astype(jnp.result_type(float))


def _kernel(
    first: MaskedArray,
    second: MaskedArray,
    same: bool,
    only_one: bool,
    requirement: Any,
    *,
    with_ntk: bool,
    mask_constant: float | None,
    diagonal_batch: bool | None,
    diagonal_spatial: bool | None,
) -> Kernel:
    del mask_constant
    shape1, shape2 = first.shape, second.shape
    if len(shape1) < 2 or len(shape1) != len(shape2):
        raise ValueError(
            "inputs must have a batch axis and a channel axis at least, and as many "
            f"axes each; got shapes {shape1} and {shape2}. Add an axis to vectors: "
            "`x[:, None]`."
        )
    batch_axis = (requirement.batch_axis or 0) % len(shape1)
    channel = requirement.channel_axis
    channel_axis = (-1 if channel is None else channel) % len(shape1)
    if batch_axis == channel_axis:
        raise ValueError(
            f"`batch_axis` and `channel_axis` must differ; both are {batch_axis} for "
            f"inputs of shape {shape1}. Correct them in the first layer."
        )
    differ = [
        i for i in range(len(shape1)) if i != batch_axis and shape1[i] != shape2[i]
    ]
    if differ:
        raise ValueError(
            f"`x1` and `x2` must agree in all but the batch axis {batch_axis}; got "
            f"shapes {shape1} and {shape2}. Crop or mask them to one size."
        )
    allowed = requirement.diagonal_spatial
    if diagonal_spatial and allowed.input < Bool.YES:
        raise ValueError(
            "`diagonal_spatial=True` keeps equal positions only, but a layer of this "
            "network (pooling, attention, ...) mixes positions. Pass "
            "`diagonal_spatial=None` or False."
        )
    if diagonal_spatial is None:
        diagonal_spatial = bool(allowed)
    if diagonal_batch is None:
        diagonal_batch = bool(requirement.diagonal_batch.input == Bool.YES)

    spatial = [i for i in range(len(shape1)) if i not in (batch_axis, channel_axis)]
    order = (batch_axis, *spatial, channel_axis)
    a = first.filled().transpose(order)
    b = a if same else second.filled().transpose(order)
    mask1, mask2 = (_channel_mask(m, channel_axis) for m in (first, second))
    return Kernel(
        nngp=_inner(a, b, False, diagonal_spatial),
        ntk=jnp.zeros((), a.dtype) if with_ntk else None,
        cov1=_inner(a, a, diagonal_batch, diagonal_spatial),
        cov2=None if only_one else _inner(b, b, diagonal_batch, diagonal_spatial),
        x1_is_x2=_equal(a, b, same),
        is_gaussian=False,
        diagonal_batch=diagonal_batch,
        diagonal_spatial=diagonal_spatial,
        shape1=shape1,
        shape2=shape2,
        batch_axis=batch_axis,
        channel_axis=channel_axis,
        mask1=mask1,
        mask2=mask2,
    )


def _inner(a: Array, b: Array, diagonal_batch: bool, diagonal_spatial: bool) -> Array:
    """Average ``a b`` over the last axis for all samples and positions."""
    n = a.ndim - 2
    channels = a.shape[-1]
    if diagonal_spatial or n == 0:
        shared = tuple(range(1, n + 1))
    else:
        shared = ()
    if diagonal_batch and len(shared) == n:
        return jnp.sum(a * b, axis=-1) / channels
    if diagonal_batch:
        shared = (0,)
    product = jax.lax.dot_general(
        a,
        b,
        (((a.ndim - 1,), (a.ndim - 1,)), (shared, shared)),
        precision=jax.lax.Precision.HIGHEST,
    )
    product = product / channels
    if diagonal_batch:  # [N, *positions, *positions]
        return layout.interleave(product, 1)
    if shared:  # [*positions, N1, N2]
        return jnp.moveaxis(product, (-2, -1), (0, 1))
    # [N1, *positions, N2, *positions]
    return layout.interleave(jnp.moveaxis(product, 1 + n, 1), 2)


def _equal(a: Array, b: Array, same: bool) -> Array:
    if same:
        return jnp.ones((), bool)
    if a.shape != b.shape:
        return jnp.zeros((), bool)
    return jnp.all(jnp.abs(a - b) <= EQUAL_INPUTS * jnp.abs(a))


def _channel_mask(x: MaskedArray, channel_axis: int) -> Array | None:
    """Masks differ between samples and positions, not between channels."""
    if x.mask is None:
        return None
    mask = jnp.broadcast_to(x.mask, x.shape)
    return jnp.all(mask, axis=channel_axis, keepdims=True)
