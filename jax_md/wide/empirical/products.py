"""Tangent kernel from products of it with vectors, without Jacobians.

The kernel times a vector is ``J1 (J2^T v)``: one reverse derivative, then one forward.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from .arguments import second_input, split_kwargs
from .axes import OutputAxes
from .problem import Problem


def empirical_ntk_vp_fn(
    f: Callable[..., Any], x1: Any, x2: Any, params: Any, **apply_fn_kwargs: Any
) -> Callable[[Any], Any]:
    """Return the product of the tangent kernel with a vector.

    Args:
        f: ``f(params, x, **kwargs)``.
        x1: First inputs.
        x2: Second inputs; None means `x1`.
        params: Parameters.
        **apply_fn_kwargs: Passed to `f`, split as by `empirical_ntk_fn`.

    Returns:
        ``vp_fn(v)``: `v` of the shape of ``f(params, x2)`` to a tree of the shape of
        ``f(params, x1)``. Nothing is averaged: no trace axes.
    """
    x2, same = second_input(x1, x2)
    kwargs1, kwargs2 = split_kwargs(apply_fn_kwargs, x1, x2, same)

    def vp_fn(v: Any) -> Any:
        _, pull = jax.vjp(lambda p: f(p, x2, **kwargs2), params)
        _, push = jax.jvp(lambda p: f(p, x1, **kwargs1), (params,), pull(v))
        return push

    return vp_fn


def ntk_vector_products(problem: Problem) -> list[jax.Array]:
    """Return the kernel of each output leaf."""
    if problem.samples is None:
        blocks = _all_products(
            problem.outputs(0), problem.outputs(1), problem.params, problem.shapes[1]
        )
        return [
            _reduced(axes, shape, block, axes.first, axes.second)
            for axes, shape, block in zip(
                problem.axes, problem.shapes[0], blocks, strict=True
            )
        ]
    return [_over_samples(problem, leaf) for leaf in range(len(problem.axes))]


def _all_products(
    first: Callable[[Any], list[Any]],
    second: Callable[[Any], list[Any]],
    params: Any,
    shapes: list[Any],
) -> list[jax.Array]:
    """The full kernel of each leaf, ``[*first, *second]``, one basis vector a time."""
    _, pull = jax.vjp(second, params)
    blocks = []
    for leaf, shape in enumerate(shapes):
        size = math.prod(shape.shape)

        def column(vector: jax.Array, leaf: int = leaf) -> jax.Array:
            cotangents = [jnp.zeros(s.shape, s.dtype) for s in shapes]
            cotangents[leaf] = vector
            _, pushed = jax.jvp(first, (params,), pull(cotangents))
            return pushed[leaf]

        basis = jnp.eye(size, dtype=shape.dtype).reshape(size, *shape.shape)
        columns = jax.vmap(column, out_axes=-1)(basis)
        blocks.append(columns.reshape(*columns.shape[:-1], *shape.shape))
    return blocks


def _over_samples(problem: Problem, leaf: int) -> jax.Array:
    """The kernel of one leaf, from pairs of samples."""
    one, two = problem.one_sample(0), problem.one_sample(1)
    axes, shape = problem.axes[leaf], problem.shapes[0][leaf]
    batch = one.output_axes[leaf]
    single = [
        jax.ShapeDtypeStruct(s.shape[:axis] + s.shape[axis + 1 :], s.dtype)
        for s, axis in zip(problem.shapes[1], two.output_axes, strict=True)
    ]

    def pair(sample1: list[Any], sample2: list[Any]) -> jax.Array:
        return _all_products(
            lambda p: one.fn(p, sample1),
            lambda p: two.fn(p, sample2),
            problem.params,
            single,
        )[leaf]

    labels1 = [label for i, label in enumerate(axes.first) if i != batch]
    labels2 = [label for i, label in enumerate(axes.second) if i != batch]
    if batch in axes.trace or batch in axes.diagonal:
        block = jax.vmap(pair, in_axes=(one.axes, two.axes))(one.leaves, two.leaves)
        labels1 = [axes.first[batch], *labels1]
    else:
        row = jax.vmap(pair, in_axes=(None, two.axes))
        block = jax.vmap(row, in_axes=(one.axes, None))(one.leaves, two.leaves)
        labels1 = [axes.first[batch], axes.second[batch], *labels1]
    return _reduced(axes, shape, block, labels1, labels2)


def _reduced(
    axes: OutputAxes, shape: Any, block: jax.Array, one: list[int], two: list[int]
) -> jax.Array:
    """Take the mean over trace axes and the diagonal over diagonal axes."""
    return jnp.einsum(block, one + two, axes.result) / axes.count(shape.shape)
