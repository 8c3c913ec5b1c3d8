r"""Convolutions: with shared weights, transposed, and with weights of their own.

With `k` entries in the filter, independent weights of variance
:math:`\sigma_w^2 / (C k)` make of the covariance between positions `a` and `b`

.. math:: (A K)(a, b) = \frac{1}{k} \sum_\delta K(a + \delta, b + \delta) ,

separately along each axis of the filter.

Source:
    R. Novak et al., ICLR 2019 (arXiv:1810.05148); A. Garriga-Alonso et al., ICLR 2019;
    S. Arora et al., NeurIPS 2019 (the tangent kernel).
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jax_md.wide import layout
from jax_md.wide.kernel import Kernel
from jax_md.wide.stax.affine import Affine
from jax_md.wide.stax.conv_axes import Axes, DimensionNumbers
from jax_md.wide.stax.diagonal import Bool, Diagonal
from jax_md.wide.stax.requirements import (
    LayerAndMask,
    layer,
    requires,
    shaped,
    supports_masking,
)
from jax_md.wide.stax.windows import (
    Padding,
    Spread,
    Window,
    as_padding,
    as_strides,
    center,
    fold,
    pad,
    spread,
    spread_sum,
    spread_sums,
    window,
    window_sums,
)

Array = jax.Array


class _Conv(NamedTuple):
    """What the three layers have in common."""

    affine: Affine
    axes: Axes
    sizes: tuple[int, ...]
    strides: tuple[int, ...]
    padding: Padding
    width: int

    @classmethod
    def of(
        cls,
        out_chan: int,
        filter_shape: Sequence[int],
        strides: Sequence[int] | None,
        padding: Padding | str,
        W_std: Any,
        b_std: Any,
        dimension_numbers: DimensionNumbers | None,
        parameterization: str,
        s: tuple[int, int],
    ) -> "_Conv":
        sizes = tuple(filter_shape)
        affine = Affine.checked(W_std, b_std, parameterization, s)
        return cls(
            affine,
            Axes.checked(dimension_numbers, len(sizes)),
            sizes,
            as_strides(strides, len(sizes)),
            as_padding(padding),
            affine.width(out_chan),
        )

    def windows(self, shape: Sequence[int]) -> list[Window]:
        steps = zip(self.axes.lengths(shape), self.sizes, self.strides, strict=True)
        return [window(*step, self.padding) for step in steps]

    def spreads(self, shape: Sequence[int]) -> list[Spread]:
        steps = zip(self.axes.lengths(shape), self.sizes, self.strides, strict=True)
        return [spread(*step, self.padding) for step in steps]

    def out_shape(self, shape: Sequence[int], lengths: Sequence[int]) -> Any:
        return self.axes.out_shape(shape[self.axes.lhs.index("N")], lengths, self.width)

    def fan_in(self, shape: Sequence[int]) -> int:
        return shape[self.axes.lhs.index("C")] * math.prod(self.sizes)

    def draw(self, rng: Array, shape: Sequence[int]) -> Any:
        channels = shape[self.axes.lhs.index("C")]
        W_shape = self.axes.weight_shape(self.sizes, channels, self.width)
        b_shape = tuple(self.width if c == "C" else 1 for c in self.axes.out)
        return self.affine.draw(rng, W_shape, b_shape, self.fan_in(shape))

    def padded(self, x: Array, windows: Sequence[Window]) -> Array:
        for name, w in zip(self.axes.names, windows, strict=True):
            x = pad(x, self.axes.lhs.index(name), w)
        return x

    def kernel(self, k: Kernel, steps: Sequence[Any], slide: Any) -> Kernel:
        """Apply the kernel rule of shared weights.

        ``slide(x, axes, steps, paired)`` sums over what a filter sees along axes, or
        along both copies of each at once.
        """

        def average(x: Array, n_batch: int, *_: int) -> Array:
            copies = 1 if k.diagonal_spatial else 2
            axes = [n_batch + copies * position for position in self.axes.in_kernel()]
            return slide(x, axes, steps, copies == 2) / math.prod(self.sizes)

        k = self.affine.kernel(k, self.fan_in(k.shape1), average)
        return self.axes.reordered(k)

    def centers(self, mask: Any, shape: Any) -> Array:
        """Mask what has its center on a masked entry."""
        windows = self.windows(shape)
        return self.axes.mask(
            mask, shape, lambda x, axis, i: center(x, axis, windows[i])
        )

    def requires(self, diagonal_spatial: Diagonal) -> Any:
        lhs = self.axes.lhs
        return requires(
            batch_axis=lhs.index("N"),
            channel_axis=lhs.index("C"),
            diagonal_spatial=diagonal_spatial,
        )


@layer
@supports_masking(remask_kernel=True)
def Conv(
    out_chan: int,
    filter_shape: Sequence[int],
    strides: Sequence[int] | None = None,
    padding: str = Padding.VALID.name,
    W_std: float = 1.0,
    b_std: float | None = None,
    dimension_numbers: DimensionNumbers | None = None,
    parameterization: str = "ntk",
    s: tuple[int, int] = (1, 1),
) -> LayerAndMask:
    """Convolution over any number of axes.

    Args:
        out_chan: Channels out, for ``s = (1, 1)``.
        filter_shape: Size of the filter along each axis.
        strides: Step of the filter along each axis; None for 1.
        padding: ``"VALID"``, ``"SAME"`` (zeros) or ``"CIRCULAR"``.
        W_std: Standard deviation of the weights.
        b_std: Standard deviation of the biases; None for no biases.
        dimension_numbers: Axes of inputs, filter and outputs; None for
            ``("NHWC", "HWIO", "NHWC")`` and alike. Sizes and strides go by the filter.
        parameterization: ``"ntk"`` or ``"standard"``, see `Dense`.
        s: Width multipliers of the standard parameterization.
    """
    conv = _Conv.of(
        out_chan, filter_shape, strides, padding, W_std, b_std, dimension_numbers,
        parameterization, s,
    )  # fmt: skip

    def shape_fn(shape: Any) -> Any:
        return conv.out_shape(shape, [w.out for w in conv.windows(shape)])

    def apply_fn(params: Any, inputs: Array, **unused: Any) -> Array:
        W, b = params
        z = lax.conv_general_dilated(
            conv.padded(inputs, conv.windows(inputs.shape)),
            W.astype(inputs.dtype),
            conv.strides,
            "VALID",
            dimension_numbers=conv.axes.numbers,
        )
        return conv.affine.scale(z, b, conv.fan_in(inputs.shape))

    @conv.requires(Diagonal())
    def kernel_fn(k: Kernel, **unused: Any) -> Kernel:
        return conv.kernel(k, conv.windows(k.shape1), window_sums)

    return shaped(shape_fn, conv.draw), apply_fn, kernel_fn, conv.centers


@layer
@supports_masking(remask_kernel=True)
def ConvTranspose(
    out_chan: int,
    filter_shape: Sequence[int],
    strides: Sequence[int] | None = None,
    padding: str = Padding.VALID.name,
    W_std: float = 1.0,
    b_std: float | None = None,
    dimension_numbers: DimensionNumbers | None = None,
    parameterization: str = "ntk",
    s: tuple[int, int] = (1, 1),
) -> LayerAndMask:
    """Transposed convolution: every entry in goes to a window of entries out.

    Shapes are those of `jax.lax.conv_transpose`; with ``"CIRCULAR"`` padding the axes
    are closed to rings, and the layer is the transpose of the circular `Conv`.
    Arguments as for `Conv`.
    """
    conv = _Conv.of(
        out_chan, filter_shape, strides, padding, W_std, b_std, dimension_numbers,
        parameterization, s,
    )  # fmt: skip

    def shape_fn(shape: Any) -> Any:
        return conv.out_shape(shape, [one.out for one in conv.spreads(shape)])

    def apply_fn(params: Any, inputs: Array, **unused: Any) -> Array:
        W, b = params
        spreads = conv.spreads(inputs.shape)
        lengths = conv.axes.lengths(inputs.shape)
        z = lax.conv_general_dilated(
            inputs,
            W.astype(inputs.dtype),
            (1,) * len(conv.sizes),
            [one.padding(n) for one, n in zip(spreads, lengths, strict=True)],
            lhs_dilation=conv.strides,
            dimension_numbers=conv.axes.numbers,
        )
        for name, one in zip(conv.axes.names, spreads, strict=True):
            if one.wrap:
                z = fold(z, (conv.axes.out.index(name),), one)
        return conv.affine.scale(z, b, conv.fan_in(inputs.shape))

    @conv.requires(Diagonal())
    def kernel_fn(k: Kernel, **unused: Any) -> Kernel:
        return conv.kernel(k, conv.spreads(k.shape1), spread_sums)

    def mask_fn(mask: Any, input_shape: Any) -> Array:
        # What a masked entry would go to is not known, and is masked.
        def reach(x: Array, axis: int, i: int) -> Array:
            to = spreads[i]._replace(wrap=False)
            return spread_sum(x.astype(float), axis, to) > 0

        spreads = conv.spreads(input_shape)
        return conv.axes.mask(mask, input_shape, reach)

    return shaped(shape_fn, conv.draw), apply_fn, kernel_fn, mask_fn


@layer
@supports_masking(remask_kernel=True)
def ConvLocal(
    out_chan: int,
    filter_shape: Sequence[int],
    strides: Sequence[int] | None = None,
    padding: str = Padding.VALID.name,
    W_std: float = 1.0,
    b_std: float | None = None,
    dimension_numbers: DimensionNumbers | None = None,
    parameterization: str = "ntk",
    s: tuple[int, int] = (1, 1),
) -> LayerAndMask:
    """Convolution with a filter and a bias of its own at every position.

    Different positions are independent in its kernel. Arguments as for `Conv`.
    """
    conv = _Conv.of(
        out_chan, filter_shape, strides, padding, W_std, b_std, dimension_numbers,
        parameterization, s,
    )  # fmt: skip

    def shape_fn(shape: Any) -> Any:
        return conv.out_shape(shape, [w.out for w in conv.windows(shape)])

    def draw(rng: Array, shape: Any) -> Any:
        fan_in = conv.fan_in(shape)
        lengths = [w.out for w in conv.windows(shape)]
        W_shape = conv.axes.weight_shape(lengths, fan_in, conv.width)
        b_shape = conv.axes.out_shape(1, lengths, conv.width)
        return conv.affine.draw(rng, W_shape, b_shape, fan_in)

    def apply_fn(params: Any, inputs: Array, **unused: Any) -> Array:
        W, b = params
        z = lax.conv_general_dilated_local(
            conv.padded(inputs, conv.windows(inputs.shape)),
            W.astype(inputs.dtype),
            conv.strides,
            "VALID",
            conv.sizes,
            dimension_numbers=conv.axes.numbers,
        )
        return conv.affine.scale(z, b, conv.fan_in(inputs.shape))

    # Between different positions nothing is left, so that a diagonal is all there is.
    @conv.requires(Diagonal(output=Bool.MAYBE))
    def kernel_fn(k: Kernel, **unused: Any) -> Kernel:
        windows = conv.windows(k.shape1)

        def average(x: Array, n_batch: int, *_: int) -> Array:
            if not k.diagonal_spatial:
                x = layout.spatial_diagonal(x, n_batch)
            axes = [n_batch + position for position in conv.axes.in_kernel()]
            x = window_sums(x, axes, windows) / math.prod(conv.sizes)
            return x if k.diagonal_spatial else layout.from_spatial_diagonal(x, n_batch)

        def bias(x: Array, n_batch: int) -> Array:
            if k.diagonal_spatial:
                return jnp.ones((1,) * x.ndim, x.dtype)
            shape = (1,) * n_batch + tuple(x.shape[n_batch::2])
            return layout.from_spatial_diagonal(jnp.ones(shape, x.dtype), n_batch)

        k = conv.affine.kernel(k, conv.fan_in(k.shape1), average, bias)
        return conv.axes.reordered(k)

    return shaped(shape_fn, draw), apply_fn, kernel_fn, conv.centers
