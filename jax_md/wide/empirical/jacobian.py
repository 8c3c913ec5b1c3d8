"""Tangent kernel from whole Jacobians, contracted over parameters."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from .axes import TOP_LABEL, OutputAxes
from .problem import Problem


def jacobian_contraction(problem: Problem) -> list[jax.Array]:
    """Return the kernel of each output leaf."""
    first = _jacobians(problem, 0)
    second = first if problem.same else _jacobians(problem, 1)
    kernels = []
    for axes, shape, one, two in zip(
        problem.axes, problem.shapes[0], first, second, strict=True
    ):
        pairs = zip(jax.tree.leaves(one), jax.tree.leaves(two), strict=True)
        total = sum(contract(axes, a, b) for a, b in pairs)
        kernels.append(total / axes.count(shape.shape))
    return kernels


def contract(axes: OutputAxes, one: jax.Array, two: jax.Array) -> jax.Array:
    """Sum the product of two Jacobians over the parameter axes, which come last."""
    parameter = [TOP_LABEL - i for i in range(one.ndim - axes.ndim)]
    return jnp.einsum(
        one, axes.first + parameter, two, axes.second + parameter, axes.result
    )


def differentiate(
    fn: Callable[..., Any], variables: Any, outputs: Any, forward: bool | None
) -> Callable[..., Any]:
    """Return the Jacobian of `fn` in its first argument, the cheaper way by default."""
    if forward is None:
        n_in = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(variables))
        n_out = sum(math.prod(leaf.shape) for leaf in outputs)
        forward = n_in < n_out
    return (jax.jacfwd if forward else jax.jacrev)(fn, has_aux=True)


def _jacobians(problem: Problem, side: int) -> list[Any]:
    """For each output leaf a tree like the parameters, ``[*output, *parameter]``."""
    shapes = problem.shapes[side]
    if problem.samples is None:
        fn = problem.outputs(side)
        jacobian = differentiate(
            lambda p: (fn(p), None), problem.params, shapes, problem.forward
        )
        return jacobian(problem.params)[0]
    one = problem.one_sample(side)
    singles = [
        jax.ShapeDtypeStruct(s.shape[:axis] + s.shape[axis + 1 :], s.dtype)
        for s, axis in zip(shapes, one.output_axes, strict=True)
    ]
    jacobian = differentiate(
        lambda p, sample: (one.fn(p, sample), None),
        problem.params,
        singles,
        problem.forward,
    )
    mapped = jax.vmap(
        lambda sample: jacobian(problem.params, sample)[0],
        in_axes=(one.axes,),
        out_axes=list(one.output_axes),
    )
    return mapped(one.leaves)
