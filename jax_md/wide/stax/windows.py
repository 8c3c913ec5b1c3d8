"""Sums over sliding windows along the axes of a covariance.

A convolution with independent weights slides one window along both copies of a position
axis at once; pooling slides one along each. Sums of shifted slices compile to one pass
over the array.
"""

import math
from collections.abc import Sequence
from enum import Enum
from functools import reduce
from operator import add
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

Array = jax.Array
# Up to so many terms, a sum over several axes is cheaper in one pass than axis by axis,
# but not where the compiler ignores barriers, and sums anew in all that reads the sum.
ONE_PASS = 9 if jax.__version_info__ >= (0, 12) else 0


class Padding(Enum):
    """What lies beyond the border: the other side, zeros, or no window goes there."""

    CIRCULAR = "CIRCULAR"
    SAME = "SAME"
    VALID = "VALID"


class Window(NamedTuple):
    """A sliding window along one axis.

    Attributes:
        size: Entries in it.
        stride: Step from one to the next.
        low: Entries padded before the axis.
        high: Entries padded after it.
        out: Number of windows.
        wrap: Whether the padding is the other side of the axis, or zeros.
    """

    size: int
    stride: int
    low: int
    high: int
    out: int
    wrap: bool


def as_padding(padding: Padding | str) -> Padding:
    """Return the member of `Padding` of that name, in any case of letters."""
    if isinstance(padding, Padding):
        return padding
    try:
        return Padding(padding.upper())
    except (ValueError, AttributeError):
        raise ValueError(
            f'`padding` must be "CIRCULAR", "SAME" or "VALID"; got {padding!r}. '
            "Pass one of the three."
        ) from None


def as_strides(strides: Sequence[int] | None, n: int) -> tuple[int, ...]:
    """Return one stride for each of `n` axes, 1 by default."""
    strides = (1,) * n if strides is None else tuple(strides)
    if len(strides) != n:
        raise ValueError(
            f"`strides` must have one entry for each of {n} window axes; got {strides}."
            " Pass None for 1 everywhere."
        )
    return strides


def window(length: int, size: int, stride: int, padding: Padding) -> Window:
    """Return the window along an axis of `length` entries."""
    if padding is Padding.VALID:
        out = (length - size) // stride + 1
        if out < 1:
            raise ValueError(
                f"a window of {size} does not fit into an axis of {length} with "
                '`padding="VALID"`. Use a smaller window or `padding="SAME"`.'
            )
        return Window(size, stride, 0, 0, out, False)
    out = -(-length // stride)
    total = max((out - 1) * stride + size - length, 0)
    low = total // 2
    return Window(size, stride, low, total - low, out, padding is Padding.CIRCULAR)


def pad(x: Array, axis: int, w: Window) -> Array:
    """Pad `x` along `axis` with zeros or with its other side."""
    if not (w.low or w.high):
        return x
    widths = [(0, 0)] * x.ndim
    widths[axis] = (w.low, w.high)
    return jnp.pad(x, widths, mode="wrap" if w.wrap else "constant")


def window_sum(x: Array, axis: int, w: Window, paired: bool = False) -> Array:
    """Sum over windows.

    Args:
        x: Any array.
        axis: The axis along which the window slides.
        w: The window.
        paired: Let it slide along `axis` and `axis + 1`, entry by entry: each entry of
            the result is a sum of ``w.size`` entries ``x[i + d, j + d]``.
    """
    axes = (axis, axis + 1) if paired else (axis,)
    for a in axes:
        x = pad(x, a, w)
    x = lax.optimization_barrier(x)  # else each shift evaluates what `x` came from
    return _sum_of_shifts(x, axes, w)


def window_sums(
    x: Array, axes: Sequence[int], windows: Sequence[Window], paired: bool = False
) -> Array:
    """Sum over windows along several axes, as `window_sum` does along each."""
    if paired or math.prod(w.size for w in windows) > ONE_PASS:
        for axis, w in zip(axes, windows, strict=True):
            x = window_sum(x, axis, w, paired)
        return x
    for axis, w in zip(axes, windows, strict=True):
        x = pad(x, axis, w)
    x = lax.optimization_barrier(x)  # as above
    for axis, w in zip(axes, windows, strict=True):
        x = _sum_of_shifts(x, (axis,), w)
    return x


def _sum_of_shifts(x: Array, axes: tuple[int, ...], w: Window) -> Array:
    def shifted(shift: int) -> Array:
        starts, limits, strides = [0] * x.ndim, list(x.shape), [1] * x.ndim
        for a in axes:
            starts[a] = shift
            limits[a] = shift + (w.out - 1) * w.stride + 1
            strides[a] = w.stride
        return lax.slice(x, starts, limits, strides)

    return reduce(add, map(shifted, range(w.size)))


def center(x: Array, axis: int, w: Window) -> Array:
    """Return the entries at the centers of the windows."""
    start = (w.size - 1) // 2 - w.low
    stop = start + (w.out - 1) * w.stride + 1
    return lax.slice_in_dim(x, start, stop, w.stride, axis)


class Spread(NamedTuple):
    """The transpose of a sliding window: each entry goes to `size` entries of a result.

    Attributes:
        size: Entries that each goes to.
        stride: Step between those of one entry and of the next.
        low: Entries of the full result cut off before its start.
        out: Length of the result.
        wrap: Whether what is cut off comes in at the other side.
    """

    size: int
    stride: int
    low: int
    out: int
    wrap: bool

    def padding(self, length: int) -> tuple[int, int]:
        """Return the padding of a dilated axis that makes the result a window sum."""
        low, out = (0, self.full(length)) if self.wrap else (self.low, self.out)
        before = self.size - 1 - low
        return before, out + self.size - 1 - ((length - 1) * self.stride + 1) - before

    def full(self, length: int) -> int:
        """Return the length of the result with nothing cut off, at least `out`."""
        return max((length - 1) * self.stride + self.size, self.out)


def spread(length: int, size: int, stride: int, padding: Padding) -> Spread:
    """Return the transposed window along an axis of `length` entries."""
    excess = max(size - stride, 0)
    if padding is Padding.VALID:
        return Spread(size, stride, 0, length * stride + excess, False)
    wrap = padding is Padding.CIRCULAR
    return Spread(size, stride, excess // 2, length * stride, wrap)


def spread_sum(x: Array, axis: int, s: Spread, paired: bool = False) -> Array:
    """Apply the transpose of `window_sum`; arguments as there."""
    axes = (axis, axis + 1) if paired else (axis,)
    length = x.shape[axis]
    before, after = s.padding(length)
    config = [(0, 0, 0)] * x.ndim
    for a in axes:
        config[a] = (before, after, s.stride - 1)
    x = lax.pad(x, jnp.zeros((), x.dtype), config)
    out = x.shape[axis] - s.size + 1
    x = _sum_of_shifts(x, axes, Window(s.size, 1, 0, 0, out, False))
    return fold(x, axes, s) if s.wrap else x


def spread_sums(
    x: Array, axes: Sequence[int], spreads: Sequence[Spread], paired: bool = False
) -> Array:
    """Apply the transpose of `window_sums`; arguments as there."""
    for axis, s in zip(axes, spreads, strict=True):
        x = spread_sum(x, axis, s, paired)
    return x


def fold(x: Array, axes: tuple[int, ...], s: Spread) -> Array:
    """Add what stands beyond `out` entries to the other side of the axis."""
    for a in axes:
        turns = -(-x.shape[a] // s.out)
        widths = [(0, 0)] * x.ndim
        widths[a] = (0, turns * s.out - x.shape[a])
        x = jnp.pad(x, widths)
        x = x.reshape(x.shape[:a] + (turns, s.out) + x.shape[a + 1 :]).sum(a)
        x = jnp.roll(x, -s.low, axis=a)
    return x
