"""Taylor expansions of a network in its parameters.

Source:
    J. Lee, L. Xiao, S. S. Schoenholz et al., "Wide neural networks of any depth evolve
    as linear models under gradient descent", NeurIPS 2019, arXiv:1902.06720.
"""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np


def linearize(f: Callable[..., Any], params: Any) -> Callable[..., Any]:
    """Return `f` to first order in its parameters.

    Args:
        f: ``f(params, *args, **kwargs)``, an array or a tree of arrays.
        params: Where to expand.

    Returns:
        ``f_lin(p, *args, **kwargs)``: the outputs at `params` plus their derivative
        along ``p - params``.

    Example:
        >>> f_lin = linearize(lambda p, x: p**2 * x, 3.0)
        >>> float(f_lin(4.0, 1.0))
        15.0
    """
    return taylor_expand(f, params, 1)


def taylor_expand(
    f: Callable[..., Any], params: Any, degree: int
) -> Callable[..., Any]:
    """Return the Taylor polynomial of `f` in its parameters.

    Args:
        f: ``f(params, *args, **kwargs)``, an array or a tree of arrays.
        params: Where to expand.
        degree: Highest order kept; 0 freezes the network.

    Returns:
        ``f_expanded(p, *args, **kwargs)``, with the outputs of `f`.

    Raises:
        ValueError: If `degree` is negative or no integer.
    """
    if not isinstance(degree, int | float | np.number) or degree % 1 or degree < 0:
        raise ValueError(f"`degree` must be an integer of at least 0; got {degree!r}.")

    degree = int(degree)

    def f_expanded(p: Any, *args: Any, **kwargs: Any) -> Any:
        direction = jax.tree.map(lambda new, old: new - old, p, params)

        def along(order: int) -> Callable[[Any], Any]:
            """The derivative of this order along `direction`."""
            if order == 0:
                return lambda at: f(at, *args, **kwargs)
            lower = along(order - 1)
            return lambda at: jax.jvp(lower, (at,), (direction,))[1]

        if degree == 0:
            return f(params, *args, **kwargs)
        total, term = jax.jvp(along(0), (params,), (direction,))
        scale = 1.0
        for order in range(1, degree + 1):
            if order > 1:
                term = along(order)(params)
                scale /= order
            total = jax.tree.map(
                lambda sum_, t, scale=scale: sum_ + scale * t, total, term
            )
        return total

    return f_expanded
