"""Where branches part and meet: copies, sums, products, concatenations."""

from collections.abc import Sequence
from functools import reduce
from typing import Any

import jax
import jax.numpy as jnp

from jax_md.wide.kernel import Kernel
from jax_md.wide.stax.requirements import Layer, layer, shaped, supports_masking

Array = jax.Array


@layer
@supports_masking(remask_kernel=False)
def FanOut(num: int) -> Layer:
    """Feed `num` branches with the same input.

    Args:
        num: Number of copies.
    """

    def copies(x: Any, *unused: Any, **kwargs: Any) -> list[Any]:
        return [x] * num

    def apply_fn(params: Any, inputs: Any, **unused: Any) -> list[Any]:
        return [inputs] * num

    return shaped(copies), apply_fn, copies, copies


@layer
@supports_masking(remask_kernel=False)
def FanInSum() -> Layer:
    """Add the branches.

    They are taken to be independent, which they are if no two share weights; each must
    end in an affine layer.
    """

    def apply_fn(params: Any, inputs: Sequence[Array], **unused: Any) -> Array:
        return reduce(jnp.add, inputs)

    def kernel_fn(ks: Sequence[Kernel], **unused: Any) -> Kernel:
        _check(ks, "FanInSum", gaussian=True)
        return _combine(ks, _sum, _sum([k.ntk for k in ks]), is_gaussian=True)

    return shaped(_shared_shape), apply_fn, kernel_fn, _union


@layer
@supports_masking(remask_kernel=False)
def FanInProd() -> Layer:
    r"""Multiply the branches, entry by entry.

    They are taken to be independent: :math:`K' = \prod_i K_i`,
    :math:`\Theta' = \sum_i \Theta_i \prod_{j \neq i} K_j`.
    """

    def apply_fn(params: Any, inputs: Sequence[Array], **unused: Any) -> Array:
        return reduce(jnp.multiply, inputs)

    def kernel_fn(ks: Sequence[Kernel], **unused: Any) -> Kernel:
        _check(ks, "FanInProd", gaussian=False)
        terms = [
            None
            if k.ntk is None
            else reduce(
                jnp.multiply, [o.nngp for j, o in enumerate(ks) if j != i], k.ntk
            )
            for i, k in enumerate(ks)
        ]
        return _combine(
            ks, lambda xs: reduce(jnp.multiply, xs), _sum(terms), is_gaussian=False
        )

    return shaped(_shared_shape), apply_fn, kernel_fn, _union


@layer
@supports_masking(remask_kernel=False)
def FanInConcat(axis: int = -1) -> Layer:
    """Put the branches one after another along an axis.

    Along channels, kernels are averaged with the numbers of channels as weights. Along
    samples or positions, branches are taken to be independent, and each must end in an
    affine layer: covariances between entries of different branches are zero.

    Args:
        axis: Axis of the activations.
    """

    def shape_fn(shapes: Sequence[Any]) -> tuple[int, ...]:
        first = tuple(shapes[0])
        along = axis % len(first)
        for shape in shapes[1:]:
            rest = tuple(shape)
            if len(rest) != len(first) or any(
                a != b
                for i, (a, b) in enumerate(zip(first, rest, strict=True))
                if i != along
            ):
                raise ValueError(
                    f"`FanInConcat` needs branches of equal shapes but for axis {axis};"
                    f" got {[tuple(s) for s in shapes]}. Give the branches the same "
                    "widths and strides."
                )
        sizes = [s[along] for s in shapes]
        total = -1 if -1 in sizes else sum(sizes)
        return (*first[:along], total, *first[along + 1 :])

    def apply_fn(params: Any, inputs: Sequence[Array], **unused: Any) -> Array:
        return jnp.concatenate(inputs, axis)

    def kernel_fn(ks: Sequence[Kernel], **unused: Any) -> Kernel:
        k = ks[0]
        along = axis % len(k.shape1)
        on_channels = along == k.channel_axis
        _check(ks, "FanInConcat", gaussian=not on_channels, shapes=False)
        if on_channels:
            return _concat_channels(ks)
        if along == k.batch_axis:
            return _concat_batch(ks)
        return _concat_space(ks, k.spatial_axes.index(along))

    def mask_fn(mask: Sequence[Any], shapes: Sequence[Any]) -> Array | None:
        if all(m is None for m in mask):
            return None
        full = [
            jnp.zeros(s, bool) if m is None else jnp.broadcast_to(m, s)
            for m, s in zip(mask, shapes, strict=True)
        ]
        return jnp.concatenate(full, axis)

    return shaped(shape_fn), apply_fn, kernel_fn, mask_fn


def _shared_shape(shapes: Sequence[Any]) -> Any:
    if any(tuple(s) != tuple(shapes[0]) for s in shapes):
        raise ValueError(
            "branches that meet entry by entry must have equal shapes; got "
            f"{[tuple(s) for s in shapes]}. Give them the same widths and strides."
        )
    return tuple(shapes[0])


def _union(mask: Sequence[Any], shapes: Sequence[Any]) -> Array | None:
    known = [m for m in mask if m is not None]
    return reduce(jnp.logical_or, known) if known else None


def _check(
    ks: Sequence[Kernel], name: str, *, gaussian: bool, shapes: bool = True
) -> None:
    if not isinstance(ks, list | tuple):
        raise ValueError(
            f"`{name}` takes a list or tuple of kernels; got one. Put `FanOut` and "
            "`parallel` before it."
        )
    if gaussian and not all(k.is_gaussian for k in ks):
        raise NotImplementedError(
            f"`{name}` needs every branch to end in an affine layer, so that its "
            "outputs are Gaussian and independent of the others; got "
            f"is_gaussian = {[k.is_gaussian for k in ks]}. Put `Dense` or `Conv` last "
            "in each."
        )
    if shapes:
        _shared_shape([k.shape1 for k in ks])
        _shared_shape([k.shape2 for k in ks])
    for field in ("diagonal_batch", "diagonal_spatial", "batch_axis", "channel_axis"):
        values = [getattr(k, field) for k in ks]
        if len(set(values)) > 1:
            raise ValueError(
                f"`{name}` needs kernels with one `{field}`; got {values}. Compute "
                "the branches with the same options and axes."
            )


def _sum(xs: Sequence[Array | None]) -> Array | None:
    known = [x for x in xs if x is not None]
    return reduce(jnp.add, known) if known else None


def _combine(
    ks: Sequence[Kernel], fn: Any, ntk: Array | None, is_gaussian: bool
) -> Kernel:
    first = ks[0]
    return first.replace(
        nngp=fn([k.nngp for k in ks]),
        ntk=ntk,
        cov1=fn([k.cov1 for k in ks]),
        cov2=None if first.cov2 is None else fn([k.cov2 for k in ks]),
        x1_is_x2=reduce(jnp.logical_and, [k.x1_is_x2 for k in ks]),
        is_gaussian=is_gaussian,
    )


def _concat_channels(ks: Sequence[Kernel]) -> Kernel:
    widths = [k.shape1[k.channel_axis] for k in ks]
    total = sum(widths)

    def mean(xs: Sequence[Array]) -> Array:
        terms = (x * (w / total) for x, w in zip(xs, widths, strict=True))
        return reduce(jnp.add, terms)

    ntk = None if ks[0].ntk is None else mean([k.ntk for k in ks])
    return _combine(ks, mean, ntk, is_gaussian=False)


def _full_ntks(ks: Sequence[Kernel]) -> list[Array] | None:
    """Return tangent kernels as arrays, or None if there is nothing to concatenate."""
    if not any(k.has_ntk for k in ks):
        return None
    return [k.ntk if k.has_ntk else jnp.zeros_like(k.nngp) for k in ks]


def _block_diagonal(xs: Sequence[Array], axes: tuple[int, int]) -> Array:
    """Place arrays along the diagonal of two axes, with zeros elsewhere."""
    rows, columns = (sum(x.shape[axis] for x in xs) for axis in axes)
    padded, row, column = [], 0, 0
    for x in xs:
        widths = [(0, 0)] * x.ndim
        after = row + x.shape[axes[0]], column + x.shape[axes[1]]
        widths[axes[0]] = (row, rows - after[0])
        widths[axes[1]] = (column, columns - after[1])
        padded.append(jnp.pad(x, widths))
        row, column = after
    return reduce(jnp.add, padded)


def _concat_batch(ks: Sequence[Kernel]) -> Kernel:
    first = ks[0]

    def joint(xs: Sequence[Array]) -> Array:
        return _block_diagonal(xs, (0, 1))

    def own(xs: Sequence[Array]) -> Array:
        return jnp.concatenate(xs, 0) if first.diagonal_batch else joint(xs)

    ntks = _full_ntks(ks)
    return _replace_all(ks, joint, own, first.ntk if ntks is None else joint(ntks))


def _concat_space(ks: Sequence[Kernel], position: int) -> Kernel:
    first = ks[0]

    def join(xs: Sequence[Array], n_batch: int) -> Array:
        if first.diagonal_spatial:
            return jnp.concatenate(xs, n_batch + position)
        axis = n_batch + 2 * position
        return _block_diagonal(xs, (axis, axis + 1))

    ntks = _full_ntks(ks)
    return _replace_all(
        ks,
        lambda xs: join(xs, 2),
        lambda xs: join(xs, first.n_batch_self),
        first.ntk if ntks is None else join(ntks, 2),
    )


def _replace_all(ks: Sequence[Kernel], joint: Any, own: Any, ntk: Any) -> Kernel:
    first = ks[0]
    return first.replace(
        nngp=joint([k.nngp for k in ks]),
        ntk=ntk,
        cov1=own([k.cov1 for k in ks]),
        cov2=None if first.cov2 is None else own([k.cov2 for k in ks]),
        x1_is_x2=reduce(jnp.logical_and, [k.x1_is_x2 for k in ks]),
        is_gaussian=True,
    )
