"""The empirical NNGP kernel: products of the outputs of a finite network."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from .arguments import same_kwargs, second_input, split_kwargs
from .axes import output_axes


def empirical_nngp_fn(
    f: Callable[..., Any], trace_axes: Any = (-1,), diagonal_axes: Any = ()
) -> Callable[..., Any]:
    """Return the kernel of output products, averaged over some output axes.

    Args:
        f: ``f(params, x, **kwargs)``, outputs with a batch axis; trees are allowed.
        trace_axes: Output axes to average over.
        diagonal_axes: Output axes to keep once, for equal entries.

    Returns:
        ``nngp_fn(x1, x2, params, **kwargs)``; `x2` None means `x1`. The axes of both
        outputs come in turn, ``[n1, n2, ..]``. One kernel for each output leaf. Of the
        keyword arguments a tuple of two is split between the inputs, a single ``rng``
        gives unequal inputs different keys, and all else goes to both.

    Raises:
        ValueError: From ``nngp_fn``, if the axes do not fit the outputs.

    Example:
        >>> import jax.numpy as jnp
        >>> nngp_fn = empirical_nngp_fn(lambda params, x: x @ params)
        >>> nngp_fn(jnp.eye(2), None, jnp.eye(2)).shape
        (2, 2)
    """

    def nngp_fn(x1: Any, x2: Any, params: Any, **kwargs: Any) -> Any:
        x2, same = second_input(x1, x2)
        kwargs1, kwargs2 = split_kwargs(kwargs, x1, x2, same)
        first = f(params, x1, **kwargs1)
        same = same and same_kwargs(kwargs1, kwargs2)
        second = first if same else f(params, x2, **kwargs2)
        leaves, structure = jax.tree.flatten(first)
        kernels = [
            jnp.einsum(one, axes.first, two, axes.second, axes.result)
            / axes.count(one.shape)
            for one, two, axes in zip(
                leaves,
                jax.tree.leaves(second),
                output_axes(first, second, trace_axes, diagonal_axes),
                strict=True,
            )
        ]
        return jax.tree.unflatten(structure, kernels)

    return nngp_fn
