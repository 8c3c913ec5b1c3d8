r"""Energies that are sums over all pairs of particles.

.. math:: E = \frac12 \sum_i \sum_{j \ne i} u(r_{ij}; \theta_{ij})
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.tree_util import tree_map
from jaxtyping import Array, Float, Int

from jax_md import space, util
from jax_md.types import DisplacementOrMetricFn

from .parameters import merge, reserved_by_others, resolve, split_combinators


def pair(
    fn: Callable[..., Array],
    displacement_or_metric: DisplacementOrMetricFn,
    species: Int[Array, " n"] | int | None = None,
    reduce_axis: tuple[int, ...] | None = None,
    keepdims: bool = False,
    ignore_unused_parameters: bool = False,
    **kwargs: Any,
) -> Callable[..., Array]:
    """Promote a function of one pair to a sum over all pairs of a system.

    A particle and itself are no pair: they are told apart by index, and `fn` never
    sees their distance, so it may diverge at zero. Derivatives in positions and
    parameters stay finite.

    Args:
        fn: Pair function, ``fn(dr, **parameters)``. It gets all pairs at once: `dr` is
            ``[n, n]`` (length) for a metric and ``[n, n, d]`` for a displacement, from
            the first particle to the second; parameters broadcast with ``[n, n]``.
        displacement_or_metric: Displacement or distance of two points.
        species: None; labels ``[n]``, which make tables ``[s, s]`` of parameters; or
            the number of species, for labels given as the second argument of each call
            (a label outside of it marks a particle that takes part in no pair).
        reduce_axis: Axes to sum over; all by default. ``(1,)`` gives one value a
            particle, each pair being shared in halves.
        keepdims: Whether summed axes are kept with length one.
        ignore_unused_parameters: Whether keywords at call time that were not declared
            here are withheld from `fn` instead of handed over.
        **kwargs: Parameters of `fn`: a scalar, ``[n]``, ``[n, n]``, ``[s, s]`` with
            species, or a `ParameterTree`. A callable is the combinator of a parameter
            ``[n]`` given at call time, a tuple ``(combinator, value)`` is both.

    Returns:
        ``mapped(R, **kwargs)``, or ``mapped(R, species, **kwargs)`` if `species` is a
        number. Keywords override parameters and reach the displacement function.

    Raises:
        ValueError: If `species` or a parameter has a form that is none of these.

    Example:
        >>> displacement_fn, _ = space.periodic(5.0)
        >>> metric_fn = space.metric(displacement_fn)
        >>> energy_fn = pair(lambda dr, k: k * dr**-6, metric_fn, k=1.0)
    """
    values, combinators = split_combinators(kwargs)
    raw = reserved_by_others(fn, values, combinators)
    if species is not None and combinators:
        raise ValueError(
            f"combinators ({', '.join(combinators)}) act on values of two particles "
            "and have no meaning where `species` is given; pass tables [s, s]."
        )

    count: Any = species

    def total(R: Any, labels: Any, dynamic: dict) -> Array:
        merged = merge(fn, values, combinators, dynamic, ignore_unused_parameters)
        parameters = resolve(merged, combinators, R, labels, False, raw)
        rows = tree_map(lambda x: x[:, None], parameters.nodes)
        columns = tree_map(lambda x: x[None], parameters.nodes)
        if "species" in rows and not isinstance(count, int | np.integer):
            # An unordered pair of species is looked up once, above the diagonal.
            a, b = rows["species"], columns["species"]
            rows["species"], columns["species"] = jnp.minimum(a, b), jnp.maximum(a, b)
        p = parameters.values(rows, columns, parameters.shared, all_pairs=True)
        dr = _all_pairs(partial(displacement_or_metric, **dynamic), R)
        return _diagonal_mask(fn(dr, **p))

    def reduce(out: Array) -> Array:
        return util.high_precision_sum(out, axis=reduce_axis, keepdims=keepdims) * 0.5

    if species is None:

        def mapped(R: Float[Array, "n d"], **dynamic: Any) -> Array:
            return reduce(total(R, None, dynamic))

        return mapped

    if util.is_array(count) and np.ndim(count) == 1:
        if count.dtype not in (np.dtype("int32"), np.dtype("int64")):
            raise ValueError(
                "`species` must be an array of int32 or int64 labels; got dtype "
                f"{count.dtype}."
            )
        labels = jnp.asarray(count)

        def mapped_static(R: Float[Array, "n d"], **dynamic: Any) -> Array:
            _check_labels(labels, R)
            return reduce(total(R, labels, dynamic))

        return mapped_static

    if isinstance(species, int | np.integer) and not isinstance(species, bool):

        def mapped_dynamic(
            R: Float[Array, "n d"], species: Int[Array, " n"], **dynamic: Any
        ) -> Array:
            labels = jnp.asarray(species)
            _check_labels(labels, R)
            out = total(R, labels, dynamic)
            known = (labels >= 0) & (labels < count)
            both = known[:, None] & known[None]
            both = both.reshape(both.shape + (1,) * (out.ndim - 2))
            return reduce(jnp.where(both, out, 0))

        return mapped_dynamic

    raise ValueError(
        "`species` must be None, an integer array of labels [n] or the number of "
        f"species; got {type(species).__name__}."
    )


def _check_labels(labels: Array, R: Array) -> None:
    if labels.shape != R.shape[:1]:
        raise ValueError(
            f"`species` must hold one label a particle, shape {R.shape[:1]}; got "
            f"{labels.shape}."
        )


def _all_pairs(displacement_or_metric: Callable, R: Array) -> Array:
    """Displacements or distances of all pairs, with a harmless one on the diagonal.

    The partner of i in the pair (i, i) is replaced by another particle before the
    displacement is evaluated, and the result by a unit length, so that neither the
    square root of a user's metric nor the pair function meets a zero.
    """
    n = R.shape[0]
    itself = jnp.eye(n, dtype=bool)
    partner = jnp.where(itself[..., None], jnp.roll(R, -1, 0)[:, None], R[None])
    dr = space.map_neighbor(displacement_or_metric)(R, partner)
    return unit_where_masked(dr.astype(R.dtype), ~itself)


def unit_where_masked(dr: Array, mask: Array) -> Array:
    """Replace masked distances by one, masked displacements by a unit vector."""
    if dr.ndim == mask.ndim:
        return jnp.where(mask, dr, 1)
    unit = jnp.zeros(dr.shape[-1], dr.dtype).at[0].set(1)
    return jnp.where(mask[..., None], dr, unit)


def _diagonal_mask(X: Array) -> Array:
    """Zero the diagonal of ``[n, n]`` or ``[n, n, m]``; everything else stays.

    Raises:
        ValueError: If `X` has another shape.
    """
    if X.ndim not in (2, 3) or X.shape[0] != X.shape[1]:
        raise ValueError(
            "a pair function of all pairs must return [n, n] or [n, n, m]; got shape "
            f"{X.shape}."
        )
    itself = jnp.eye(X.shape[0], dtype=bool)
    return jnp.where(itself if X.ndim == 2 else itself[..., None], 0, X)
