"""Outputs as columns, kernels as matrices.

A kernel of outputs with shapes ``(N1, a, ..)`` and ``(N2, b, ..)`` interleaves their
axes, ``(N1, N2, a, b, ..)``, and leaves out the *trace axes*, along which it is a
multiple of the identity. Here outputs become ``[rows, columns]`` with the trace axes in
the columns, so that a kernel is a plain ``[rows1, rows2]`` matrix that acts on them.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float


class Layout(NamedTuple):
    """The shape of an output and which of its axes the kernel leaves out."""

    shape: tuple[int, ...]
    trace_axes: tuple[int, ...]

    @property
    def kept_axes(self) -> tuple[int, ...]:
        """Axes that the kernel has, in order."""
        return tuple(i for i in range(len(self.shape)) if i not in self.trace_axes)

    @property
    def kept_shape(self) -> tuple[int, ...]:
        """Sizes along `kept_axes`."""
        return tuple(self.shape[i] for i in self.kept_axes)

    @property
    def rows(self) -> int:
        """Dimension of the kernel matrix."""
        return math.prod(self.kept_shape)

    @property
    def columns(self) -> int:
        """Number of outputs that share the kernel."""
        return math.prod(self.shape[i] for i in self.trace_axes)

    def flatten(self, outputs: ArrayLike) -> Float[Array, "rows columns"]:
        """Return outputs, or a scalar in place of them, as a matrix."""
        outputs = jnp.broadcast_to(outputs, self.shape)
        order = (*self.kept_axes, *self.trace_axes)
        return outputs.transpose(order).reshape(self.rows, self.columns)

    def unflatten(self, matrix: Float[Array, "*t rows columns"]) -> Array:
        """Undo `flatten`; leading axes stay."""
        lead = matrix.shape[:-2]
        order = (*self.kept_axes, *self.trace_axes)
        matrix = matrix.reshape((*lead, *(self.shape[i] for i in order)))
        back = [len(lead) + order.index(i) for i in range(len(self.shape))]
        return matrix.transpose((*range(len(lead)), *back))


def output_layout(shape: Sequence[int], trace_axes: Sequence[int]) -> Layout:
    """Return the layout of outputs with this shape.

    Raises:
        ValueError: If a trace axis is not an axis of the output, or repeats.
    """
    ndim = len(shape)
    axes = tuple(trace_axes)
    if any(not -ndim <= axis < ndim for axis in axes):
        raise ValueError(
            f"`trace_axes` must be axes of the outputs, which have shape "
            f"{tuple(shape)}; got {axes}."
        )
    axes = tuple(sorted(axis % ndim for axis in axes))
    if len(set(axes)) != len(axes):
        raise ValueError(f"`trace_axes` must not repeat an axis; got {trace_axes}.")
    return Layout(tuple(shape), axes)


def test_layout(kernel: Array, train: Layout, name: str = "k_test_train") -> Layout:
    """Return the layout of the outputs whose kernel with the training set is given.

    Raises:
        ValueError: If the kernel does not pair with the training outputs.
    """
    kept = len(train.kept_axes)
    if kernel.ndim != 2 * kept or kernel.shape[1::2] != train.kept_shape:
        expected = ", ".join(f"?, {size}" for size in train.kept_shape)
        raise ValueError(
            f"`{name}` must have shape ({expected}), the axes of test and training "
            f"outputs in turn without `trace_axes`; got {kernel.shape} for `y_train` "
            f"of shape {train.shape} and trace axes {train.trace_axes}."
        )
    shape = list(train.shape)
    for axis, size in zip(train.kept_axes, kernel.shape[::2], strict=True):
        shape[axis] = size
    return Layout(tuple(shape), train.trace_axes)


def kernel_matrix(
    kernel: Array, left: Layout, right: Layout, name: str
) -> Float[Array, "rows1 rows2"]:
    """Return the kernel of two outputs as a matrix.

    Raises:
        ValueError: If its shape is not the one the two layouts ask for.
    """
    expected = tuple(
        size
        for pair in zip(left.kept_shape, right.kept_shape, strict=True)
        for size in pair
    )
    if kernel.shape != expected:
        raise ValueError(
            f"`{name}` must have shape {expected}, the axes of both outputs in turn "
            f"without `trace_axes`; got {kernel.shape}. The outputs have shapes "
            f"{left.shape} and {right.shape}, the trace axes are {left.trace_axes}."
        )
    order = (*range(0, kernel.ndim, 2), *range(1, kernel.ndim, 2))
    return kernel.transpose(order).reshape(left.rows, right.rows)


def interleaved(
    matrix: Float[Array, "*t rows1 rows2"], left: Layout, right: Layout
) -> Array:
    """Undo `kernel_matrix`; leading axes stay."""
    lead = matrix.ndim - 2
    kept = len(left.kept_shape)
    matrix = matrix.reshape((*matrix.shape[:-2], *left.kept_shape, *right.kept_shape))
    order = [lead + i + j * kept for i in range(kept) for j in range(2)]
    return matrix.transpose((*range(lead), *order))
