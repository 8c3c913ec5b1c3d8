"""Energies that are sums over the pairs of a neighbor list.

Sums over both members of every pair run on the neighbor engine (`neighbor_total` and
`neighbor_sum` of `jax_md.partition`), whatever the format of the list. The plain form
(read the neighbors, evaluate all pairs at once, mask, sum) serves the rest: values per
slot, lists whose entries were masked or edited, and functions of displacements on lists
that hold each pair once.
"""

from collections.abc import Callable
from functools import partial, wraps
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.tree_util import tree_map
from jaxtyping import Array, Float, Int

from jax_md import partition, space, util
from jax_md.types import DisplacementOrMetricFn

from .pair import unit_where_masked
from .parameters import (
    Kind,
    PairParameters,
    mean,
    merge,
    reserved_by_others,
    resolve,
    split_combinators,
)


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
            axis ``[d]`` more for a displacement, which leads from the particle to its
            neighbor.
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
        point = jax.ShapeDtypeStruct(R.shape[1:], R.dtype)
        is_distance = jax.eval_shape(d, point, point).ndim == 0
        if _engine_serves(neighbor, axes_asked, is_distance):
            return _engine_sum(fn, d, is_distance, R, parameters, neighbor, axes_asked)
        i, j, mask = pairs_of(neighbor, R.shape[0])
        node_i = tree_map(lambda x: x[i], parameters.nodes)
        node_j = tree_map(lambda x: x[j], parameters.nodes)
        p = parameters.values(node_i, node_j, parameters.shared)
        if neighbor.format is partition.Dense:
            dr = space.map_neighbor(d)(R, R[j])
        else:
            dr = space.map_bond(d)(R[j], R[i])
        out = fn(unit_where_masked(dr.astype(R.dtype), mask), **p)
        feature_axes = (1,) * (out.ndim - mask.ndim)
        out = jnp.where(mask.reshape(mask.shape + feature_axes), out, 0)
        return _reduce(out, neighbor.format, i, R.shape[0], axes_asked)

    return _compiled(mapped)


def _compiled(mapped: Callable[..., Array]) -> Callable[..., Array]:
    """Compile a mapped function, once for each set of shapes, keywords apart.

    Keywords that are no arrays (functions, strings) are closed over; such a call is
    compiled by the caller or not at all.
    """
    compiled = jax.jit(lambda R, neighbor, arrays: mapped(R, neighbor, **arrays))

    @wraps(mapped)
    def call(R: Any, neighbor: Any, **dynamic: Any) -> Array:
        R = jnp.asarray(R)
        numeric = {k: v for k, v in dynamic.items() if not isinstance(v, int | float)}
        if all(map(util.is_array, jax.tree.leaves((neighbor, numeric)))):
            return compiled(R, neighbor, dynamic)
        return mapped(R, neighbor, **dynamic)

    return call


def _engine_serves(
    neighbor: Any, asked: tuple[int, ...] | None, distance: bool
) -> bool:
    if not isinstance(neighbor, partition.NeighborList) or neighbor.rows is None:
        return False
    if neighbor.is_ordered and not (distance and (asked is None or {0, 1} <= {*asked})):
        return False
    return asked is None or (1 in asked and min(asked) >= 0)


def _engine_sum(
    fn: Callable,
    d: Callable,
    is_distance: bool,
    R: Array,
    parameters: PairParameters,
    neighbor: Any,
    asked: tuple[int, ...] | None,
) -> Array:
    per_pair = {Kind.PARTICLE, Kind.PAIR, Kind.SPECIES}
    single = {name for name, kind, _ in parameters.rules if kind in per_pair}

    def of_pair(x: Any, y: Any, shared: Any) -> Array:
        # A pair function gets arrays of pairs: here, of one.
        dr = jnp.asarray(d(y["R"], x["R"]), R.dtype)[None]
        values = parameters.values(x["node"], y["node"], shared)
        for name in single & values.keys():
            values[name] = tree_map(lambda v: v[None], values[name])
        return fn(dr, **values)[0]

    nodes, shared = {"R": R, "node": parameters.nodes}, parameters.shared
    shape = jax.eval_shape(of_pair, *_entries(nodes), shared).shape
    symmetric = is_distance and _is_symmetric(parameters)
    whole = asked is None or (0 in asked and not shape)
    if symmetric and whole and not shape:
        return partition.neighbor_total(of_pair, nodes, shared, neighbor)
    out = partition.neighbor_sum(of_pair, nodes, shared, neighbor, symmetric=symmetric)
    if asked is None:
        return util.high_precision_sum(out) * 0.5
    axes = tuple({a % (out.ndim + 1) for a in asked} - {1})
    # Axis 1 of the pairs is gone; what comes after it has moved up.
    axes = tuple(a if a == 0 else a - 1 for a in axes)
    return (util.high_precision_sum(out, axis=axes) if axes else out) * 0.5


def _entries(nodes: Any) -> tuple[Any, Any]:
    entry = tree_map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), nodes)
    return entry, entry


def _is_symmetric(parameters: PairParameters) -> bool:
    """Whether the parameters of (i, j) are known to be those of (j, i)."""
    for name, kind, combinator in parameters.rules:
        if kind in (Kind.PAIR, Kind.SPECIES):
            leaves = jax.tree.leaves(parameters.shared[name])
            # A traced table may have any values.
            if any(isinstance(x, Tracer) for x in leaves):
                return False
            if not all(np.array_equal(x, np.swapaxes(x, 0, 1)) for x in leaves):
                return False
        elif kind is Kind.PARTICLE and combinator is not mean:
            tree = parameters.nodes["particle"][name]
            if not _commutes(combinator, tree):
                return False
    return True


def _commutes(combinator: Callable, tree: Any) -> bool:
    """Whether a combinator takes two particles in either order, tried on numbers."""
    rng = np.random.default_rng(0)
    leaves, structure = jax.tree.flatten(tree)

    def draw() -> Any:
        return structure.unflatten(
            [np.asarray(rng.uniform(0.5, 2.0, x.shape[1:]), x.dtype) for x in leaves]
        )

    a, b = draw(), draw()
    try:
        with jax.ensure_compile_time_eval():
            one, other = (
                jax.tree.leaves(tree_map(combinator, p, q)) for p, q in ((a, b), (b, a))
            )
            pairs = zip(one, other, strict=True)
            return all(np.allclose(x, y, rtol=1e-6) for x, y in pairs)
    except jax.errors.JAXTypeError:  # it closes over something traced
        return False


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
