"""A network as a map over single samples.

With `vmap_axes` the caller promises that samples do not see each other, so derivatives
are taken one sample at a time and the zero blocks between samples are never computed.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp


class SampleAxes(NamedTuple):
    """Where samples lie in the inputs, the outputs and the keyword arguments."""

    inputs: Any
    outputs: Any
    kwargs: dict[str, Any]


def sample_axes(vmap_axes: Any) -> SampleAxes | None:
    """Return the axes that `vmap_axes` means.

    Raises:
        ValueError: If it is neither None, an integer nor a triple.
    """
    if vmap_axes is None:
        return None
    if isinstance(vmap_axes, int):
        return SampleAxes(vmap_axes, vmap_axes, {})
    if isinstance(vmap_axes, tuple) and len(vmap_axes) == 3:
        inputs, outputs, kwargs = vmap_axes
        return SampleAxes(inputs, outputs, kwargs or {})
    raise ValueError(
        "`vmap_axes` must be None, an integer, or a triple of input axes, output axes "
        f"and a dictionary of keyword axes; got {vmap_axes!r}."
    )


def broadcast_axes(axes: Any, tree: Any) -> list[int | None]:
    """Return the axis of each leaf of `tree`."""

    def is_none(value: Any) -> bool:
        return value is None

    return jax.tree.leaves(
        jax.tree.broadcast(axes, tree, is_leaf=is_none), is_leaf=is_none
    )


class Samples(NamedTuple):
    """A network of one sample, and the samples to map it over.

    Attributes:
        fn: ``fn(params, sample)``: flat outputs without the sample axis, for the leaves
            of one sample.
        leaves: What holds samples, of the input and the keyword arguments.
        axes: The sample axis of each of `leaves`.
        output_axes: The sample axis of each output.
    """

    fn: Callable[[Any, list[Any]], list[Any]]
    leaves: list[Any]
    axes: list[int]
    output_axes: list[int]


def samples(
    f: Callable[..., Any], params: Any, x: Any, kwargs: dict[str, Any], axes: SampleAxes
) -> Samples:
    """Return the network of one sample, and the samples it maps."""
    kwarg_axes = {name: axes.kwargs.get(name) for name in kwargs}
    leaves, structure = jax.tree.flatten((x, kwargs))
    every_axis = [
        *broadcast_axes(axes.inputs, x),
        *(
            axis
            for name in sorted(kwargs)  # the order of a flattened dictionary
            for axis in broadcast_axes(kwarg_axes[name], kwargs[name])
        ),
    ]
    shapes = jax.eval_shape(lambda p: f(p, x, **kwargs), params)
    output_axes = [
        axis % leaf.ndim
        for axis, leaf in zip(
            broadcast_axes(axes.outputs, shapes), jax.tree.leaves(shapes), strict=True
        )
    ]

    def fn(params: Any, sample: list[Any]) -> list[Any]:
        supply = iter(sample)
        whole = [
            leaf if axis is None else jnp.expand_dims(next(supply), axis)
            for leaf, axis in zip(leaves, every_axis, strict=True)
        ]
        x, kwargs = jax.tree.unflatten(structure, whole)
        outputs = jax.tree.leaves(f(params, x, **kwargs))
        return [
            jnp.squeeze(leaf, axis)
            for leaf, axis in zip(outputs, output_axes, strict=True)
        ]

    mapped = [
        (leaf, axis)
        for leaf, axis in zip(leaves, every_axis, strict=True)
        if axis is not None
    ]
    return Samples(
        fn, [leaf for leaf, _ in mapped], [axis for _, axis in mapped], output_axes
    )
