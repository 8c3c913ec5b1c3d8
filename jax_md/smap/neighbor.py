"""Energies that are sums over the pairs of a neighbor list.

The plain form: read the neighbors, evaluate all pairs at once, mask, sum. It serves
every format and every kind of pair function.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.tree_util import tree_map
from jaxtyping import Array, Float, Int

from jax_md import partition, space, util
from jax_md.types import DisplacementOrMetricFn

from .pair import unit_where_masked
from .parameters import merge, reserved_by_others, resolve, split_combinators


def pair_neighbor_list(
    fn: Callable[..., Array],
    displacement_or_metric: DisplacementOrMetricFn,
    species: Int[Array, " n"] | int | None = None,
    reduce_axis: tuple[int, ...] | None = None,
    ignore_unused_parameters: bool = False,
    **kwargs: Any,
) -> Callable[..., Array]:
    """Promote a function of one pair to a sum over the pairs of a neighbor list.

    The result equals that of `pair` if `fn` vanishes beyond the reach of the list, in
    every format. Empty slots add exactly zero to the value and to all derivatives,
    even where `fn` diverges.

    Args:
        fn: Pair function, ``fn(dr, **parameters)``, of all pairs at once: `dr` is
            ``[n, k]`` for a Dense list and ``[p]`` for a sparse one (length), with an
            axis ``[d]`` more for a displacement.
        displacement_or_metric: Displacement or distance of two points.
        species: Labels ``[n]``, which make tables ``[s, s]`` of parameters, or None. A
            number says that labels will be given as ``species=`` at each call.
        reduce_axis: Axes to sum over, 0 being particles, 1 neighbors and higher ones
            those of `fn`; all by default. ``(1,)`` gives one value a particle, each
            pair being shared in halves; ``()`` keeps one value a slot.
        ignore_unused_parameters: Whether keywords at call time that were not declared
            here are withheld from `fn`.
        **kwargs: Parameters of `fn`, in the forms of `pair`. Arrays ``[n]`` are
            combined over the two particles even where there are species.

    Returns:
        ``mapped(R, neighbor, **kwargs)``. Keywords override parameters and `species`,
        and reach the displacement function.

    Raises:
        ValueError: If a parameter has a form that is none of these, or `reduce_axis`
            asks for what the format does not hold.
    """
    values, combinators = split_combinators(kwargs)
    raw = reserved_by_others(fn, values, combinators)
    axes_asked = (reduce_axis,) if isinstance(reduce_axis, int) else reduce_axis
    declared_labels = species if util.is_array(species) else None

    def mapped(R: Float[Array, "n d"], neighbor: Any, **dynamic: Any) -> Array:
        merged = merge(fn, values, combinators, dynamic, ignore_unused_parameters)
        labels = dynamic.get("species")
        labels = declared_labels if labels is None else labels
        parameters = resolve(merged, combinators, R, labels, raw=raw)
        d = partial(displacement_or_metric, **dynamic)
        i, j, mask = pairs_of(neighbor, R.shape[0])
        node_i = tree_map(lambda x: x[i], parameters.nodes)
        node_j = tree_map(lambda x: x[j], parameters.nodes)
        p = parameters.values(node_i, node_j, parameters.shared)
        if neighbor.format is partition.Dense:
            dr = space.map_neighbor(d)(R, R[j])
        else:
            dr = space.map_bond(d)(R[i], R[j])
        out = fn(unit_where_masked(dr.astype(R.dtype), mask), **p)
        feature_axes = (1,) * (out.ndim - mask.ndim)
        out = jnp.where(mask.reshape(mask.shape + feature_axes), out, 0)
        return _reduce(out, neighbor.format, i, R.shape[0], axes_asked)

    return mapped


def pairs_of(neighbor: Any, n: int) -> tuple[Array, Array, Array]:
    """Particles and mask of the slots of a list: ``i, j, mask``.

    ``i`` is ``[n, 1]`` for a Dense list, to broadcast with ``j`` and ``mask``. An empty
    slot reads two particles that differ, so that no displacement is evaluated at zero.
    """
    idx = neighbor.idx
    if neighbor.format is partition.Dense:
        i = jnp.arange(n, dtype=idx.dtype)[:, None]
        mask = idx < n
        return i, jnp.where(mask, idx, (i + 1) % n), mask
    mask = idx[0] < n
    return jnp.where(mask, idx[0], 0), jnp.where(mask, idx[1], min(1, n - 1)), mask


def _reduce(
    out: Array, format: Any, i: Array, n: int, asked: tuple[int, ...] | None
) -> Array:
    ordered = format is partition.OrderedSparse
    scale = 1.0 if ordered else 0.5
    if asked is None:
        return util.high_precision_sum(out) * scale
    sparse = format is not partition.Dense
    rank = out.ndim + sparse  # a sparse list holds particles and neighbors in one axis
    axes = {axis % rank for axis in asked}
    if 0 in axes and 1 not in axes:
        raise ValueError(
            "`reduce_axis` sums over particles (0) but not over neighbors (1), which a "
            f"neighbor list cannot do; got {asked}. Use (1,) or (0, 1)."
        )
    if ordered and 1 in axes and 0 not in axes:
        raise ValueError(
            "an OrderedSparse list holds each pair once and gives no values of single "
            f"particles; got `reduce_axis` = {asked}. Use a Dense or a Sparse list."
        )
    if not sparse:
        return util.high_precision_sum(out, axis=tuple(axes)) * scale
    features = tuple(axis - 1 for axis in axes if axis > 1)
    if 0 in axes:
        return util.high_precision_sum(out, axis=(0, *features)) * scale
    out = util.high_precision_sum(out, axis=features) if features else out
    if 1 in axes:
        wide = out.astype("float64") if util.x64_enabled() else out
        out = jax.ops.segment_sum(wide, i, n).astype(out.dtype)
    return out * scale
