r"""Energies that are sums over triplets around a central particle.

.. math:: E = \frac12 \sum_i \sum_j \sum_k u(r_{ij}, r_{ik}; \theta)
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import tree_map
from jaxtyping import Array, Float, Int

from jax_md import space, util
from jax_md.types import DisplacementOrMetricFn

from .parameters import (
    _get_matrix_parameters,
    cast_floats,
    describe,
    mean,
    merge,
    rank,
    split_combinators,
)


def triplet(
    fn: Callable[..., Array],
    displacement_or_metric: DisplacementOrMetricFn,
    species: Int[Array, " n"] | None = None,
    reduce_axis: tuple[int, ...] | None = None,
    keepdims: bool = False,
    ignore_unused_parameters: bool = False,
    **kwargs: Any,
) -> Callable[..., Array]:
    """Promote a function of two displacements to a sum over triplets of a system.

    The sum runs over all central particles i and all ordered (j, k), those with j = k,
    j = i or k = i included: `fn` has to vanish, with finite derivatives, where they
    must not count. Work and memory grow as n cubed.

    Args:
        fn: Triplet function, ``fn(dR_ij, dR_ik, **parameters)``, of one triplet:
            displacements ``[d]`` (length) from the central particle, or scalar
            distances for a metric.
        displacement_or_metric: Displacement or distance of two points.
        species: Labels ``[n]``, which make tables ``[s, s, s]`` of parameters, looked
            up at (central, j, k).
        reduce_axis: Axes of ``[n, n, n, ...]`` to sum over; all by default.
        keepdims: Whether summed axes are kept with length one.
        ignore_unused_parameters: Whether keywords at call time that were not declared
            here are withheld from `fn`.
        **kwargs: Parameters of `fn`. Without species they take the forms of `pair` and
            every triplet gets them whole; with species, a scalar or a table.

    Returns:
        ``mapped(R, **kwargs)``.

    Raises:
        NotImplementedError: If `species` is a number: there are no dynamic species.
        ValueError: If `species` or a parameter has another form.
    """
    values, combinators = split_combinators(kwargs)
    if isinstance(species, int | np.integer) and not isinstance(species, bool):
        raise NotImplementedError(
            "`triplet` takes `species` as labels [n] known at construction; got a "
            "number of species."
        )
    labels = None
    if species is not None:
        if not (util.is_array(species) and np.ndim(species) == 1):
            raise ValueError(
                "`species` must be None or an integer array of labels [n]; got "
                f"{describe(species)}."
            )
        if not np.issubdtype(species.dtype, np.integer):
            raise ValueError(
                f"`species` must hold integer labels; got dtype {species.dtype}."
            )
        labels = jnp.asarray(species)

    def mapped(R: Float[Array, "n d"], **dynamic: Any) -> Array:
        merged = merge(fn, values, combinators, dynamic, ignore_unused_parameters)
        d = partial(displacement_or_metric, **dynamic)
        dR = space.map_product(d)(R, R)
        tables, whole = {}, {}
        for name, value in merged.items():
            if labels is None:
                p = _get_matrix_parameters(value, combinators.get(name, mean))
                whole[name] = tree_map(lambda x: cast_floats(x, R.dtype), p)
            elif rank(value) == 3:
                at = labels[:, None, None], labels[None, :, None], labels[None, None]
                tables[name] = cast_floats(value, R.dtype)[at]
            elif rank(value) == 0:
                whole[name] = cast_floats(value, R.dtype)
            else:
                raise ValueError(
                    f"`{name}` must be a scalar or a table [s, s, s] where `species` "
                    f"is given; got {describe(value)}."
                )

        def one(dR_ij: Any, dR_ik: Any, looked_up: dict) -> Array:
            return fn(dR_ij, dR_ik, **looked_up, **whole)

        over_k = jax.vmap(one, (None, 0, 0))
        over_jk = jax.vmap(over_k, (0, None, 0))
        out = jax.vmap(over_jk)(dR, dR, tables)
        return util.high_precision_sum(out, axis=reduce_axis, keepdims=keepdims) * 0.5

    return mapped
