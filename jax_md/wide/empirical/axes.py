"""How output axes enter a kernel: in pairs, once, or not at all.

The kernel of outputs ``(n1, a, ..)`` and ``(n2, b, ..)`` pairs their axes,
``(n1, n2, a, b, ..)``. A *trace* axis is averaged over equal entries and disappears, a
*diagonal* axis is kept once, for equal entries only.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax

# Labels for `jnp.einsum`: parameters and intermediate values count down from the top,
# so that they never meet those of the output axes.
TOP_LABEL = 51


class OutputAxes(NamedTuple):
    """What happens to each axis of one output."""

    ndim: int
    trace: tuple[int, ...]
    diagonal: tuple[int, ...]

    @property
    def first(self) -> list[int]:
        """Labels of the axes of the first output."""
        return [2 * i for i in range(self.ndim)]

    @property
    def second(self) -> list[int]:
        """Labels of the axes of the second: equal where only equal entries count."""
        shared = {*self.trace, *self.diagonal}
        return [2 * i if i in shared else 2 * i + 1 for i in range(self.ndim)]

    @property
    def result(self) -> list[int]:
        """Labels of the axes of the kernel."""
        labels = []
        for i in range(self.ndim):
            if i in self.diagonal:
                labels.append(2 * i)
            elif i not in self.trace:
                labels.extend([2 * i, 2 * i + 1])
        return labels

    def count(self, shape: Sequence[int]) -> int:
        """Return the number of entries averaged over."""
        return math.prod(shape[i] for i in self.trace)


def output_axes(
    first: Any, second: Any, trace_axes: Any, diagonal_axes: Any
) -> list[OutputAxes]:
    """Return what happens to the axes of each output leaf.

    Args:
        first: Outputs of the first input, or their shapes.
        second: Outputs of the second input.
        trace_axes: Axes to average over: integers for every leaf, or a tree of them.
        diagonal_axes: Axes to keep once, likewise.

    Raises:
        ValueError: If an axis does not exist, is asked for twice, or differs in size.
    """
    leaves, structure = jax.tree.flatten(first)
    others = jax.tree.leaves(second)
    traces = _per_leaf(trace_axes, structure)
    diagonals = _per_leaf(diagonal_axes, structure)
    found = []
    for one, two, trace, diagonal in zip(
        leaves, others, traces, diagonals, strict=True
    ):
        axes = OutputAxes(
            one.ndim,
            _canonical(trace, one.shape, "trace_axes"),
            _canonical(diagonal, one.shape, "diagonal_axes"),
        )
        both = set(axes.trace) & set(axes.diagonal)
        if both:
            raise ValueError(
                "an axis is either in `trace_axes` or in `diagonal_axes`; got "
                f"{sorted(both)} in both, for outputs of shape {one.shape}."
            )
        for axis in (*axes.trace, *axes.diagonal):
            if one.shape[axis] != two.shape[axis]:
                raise ValueError(
                    "outputs must agree in size along `trace_axes` and "
                    f"`diagonal_axes`; axis {axis} has sizes {one.shape[axis]} and "
                    f"{two.shape[axis]}."
                )
        found.append(axes)
    return found


def _per_leaf(axes: Any, structure: Any) -> list[tuple[int, ...]]:
    if isinstance(axes, int):
        axes = (axes,)
    if isinstance(axes, Sequence) and all(isinstance(axis, int) for axis in axes):
        return [tuple(axes)] * structure.num_leaves
    per_leaf = structure.flatten_up_to(axes)
    return [(a,) if isinstance(a, int) else tuple(a) for a in per_leaf]


def _canonical(
    axes: Sequence[int], shape: tuple[int, ...], name: str
) -> tuple[int, ...]:
    ndim = len(shape)
    if any(not -ndim <= axis < ndim for axis in axes):
        raise ValueError(
            f"`{name}` must be axes of the outputs, which have shape {shape}; got "
            f"{tuple(axes)}."
        )
    canonical = tuple(sorted(axis % ndim for axis in axes))
    if len(set(canonical)) != len(canonical):
        raise ValueError(f"`{name}` must not repeat an axis; got {tuple(axes)}.")
    return canonical
