"""From functions of two points to functions of arrays of points.

Where the points are particles, displacements of `map_product` and `map_neighbor` lead
from the particle of the row to its partner: ``dR[i, j]`` is ``d(R[j], R[i])``.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from .displacement import distance


def metric(displacement: Callable) -> Callable:
    """Turn a displacement function into the distance it measures."""

    def metric_fn(Ra: Any, Rb: Any, **kwargs: Any):
        return distance(displacement(Ra, Rb, **kwargs))

    return metric_fn


def map_product(metric_or_displacement: Callable) -> Callable:
    """Map over all pairs: ``(Ra [n, d], Rb [m, d]) -> [m, n, ...]``.

    The entry ``[i, j]`` is ``f(Ra[j], Rb[i])``.
    """

    def mapped(Ra: Any, Rb: Any, **kwargs: Any):
        f = partial(metric_or_displacement, **kwargs)
        return jax.vmap(jax.vmap(f, (0, None)), (None, 0))(Ra, Rb)

    return mapped


def map_bond(metric_or_displacement: Callable) -> Callable:
    """Map over aligned pairs: ``(Ra [p, ...], Rb [p, ...]) -> [p, ...]``."""

    def mapped(Ra: Any, Rb: Any, **kwargs: Any):
        return jax.vmap(partial(metric_or_displacement, **kwargs))(Ra, Rb)

    return mapped


def map_neighbor(metric_or_displacement: Callable) -> Callable:
    """Map over rows of neighbors: ``(Ra [n, d], Rb [n, k, d]) -> [n, k, ...]``.

    The entry ``[i, k]`` is ``f(Rb[i, k], Ra[i])``.
    """

    def mapped(Ra: Any, Rb: Any, **kwargs: Any):
        f = partial(metric_or_displacement, **kwargs)
        return jax.vmap(jax.vmap(f, (0, None)))(Rb, Ra)

    return mapped


def canonicalize_displacement_or_metric(displacement_or_metric: Callable) -> Callable:
    """Return a metric, whichever of the two kinds of function is given.

    The function is traced on points of 1, 2 and 3 dimensions until one is accepted.

    Raises:
        ValueError: If it accepts none of them, naming what it raised.
    """
    refusals = []
    for dim in (1, 2, 3):
        point = jax.ShapeDtypeStruct((dim,), jnp.float32)
        try:
            out = jax.eval_shape(
                lambda a, b: displacement_or_metric(a, b, t=0), point, point
            )
        except (TypeError, ValueError) as error:
            refusals.append(f"d = {dim}: {error}")
            continue
        return (
            displacement_or_metric if out.ndim == 0 else metric(displacement_or_metric)
        )
    raise ValueError(
        "expected a displacement `f(Ra, Rb, **kwargs) -> [d]` or a metric "
        "`f(Ra, Rb, **kwargs) -> []`; it accepted points of no dimension. "
        + " | ".join(refusals)
    )
