r"""Pair correlations, smooth in the positions.

The pair correlation of one particle is a sum of Gaussians over its partners,

.. math::
    g_i(r) = \frac{1}{(r + \epsilon)^{d-1}}
        \sum_{j \ne i} \exp\left(-\frac{(r_{ij} - r)^2}{2 \sigma^2}\right)

so that it can be differentiated. It carries neither density nor the norm of the
Gaussian: only its shape has a meaning.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jax_md import partition, space
from jax_md.types import Box, DisplacementOrMetricFn

from .packing import is_integer

# Beyond so many widths a Gaussian is below 2e-8 of its height.
_GAUSSIAN_REACH = 6


def _canonical_species(species: Any) -> np.ndarray | None:
    if species is None:
        return None
    if not hasattr(species, "dtype") or not is_integer(species):
        raise TypeError(
            "`species` must be an array of integers [n]; got "
            f"{getattr(species, 'dtype', type(species).__name__)}."
        )
    return np.asarray(species)  # the labels decide how many results there are


def average_pair_correlation_results(gofr: Any, species: Any = None) -> Array:
    """Average pair correlations of particles over all of them, or over each species.

    Args:
        gofr: Result of a pair correlation function: ``[n, r]``, or with species a list
            of such arrays, one for each species of partners.
        species: Labels ``[n]``, as given to that function.

    Returns:
        ``[r]``; with species ``[s, s, r]``, whose entry ``[a][b]`` is the mean over
        particles of species ``b`` of their correlation with partners of species ``a``.
    """
    species = _canonical_species(species)
    if species is None:
        return jnp.mean(gofr, axis=0)
    members = [np.flatnonzero(species == label) for label in np.unique(species)]
    return jnp.array([[jnp.mean(g[m], axis=0) for m in members] for g in gofr])


def _correlations(
    dr: Array,
    masks: list[Array],
    reduce: Callable[[Array], Array],
    radii: Any,
    sigma: Any,
    shells: Callable[[Array], Array],
) -> list[Array]:
    """Sum Gaussians over the pairs in each mask, one result ``[n, r]`` for each.

    One radius at a time: memory holds one number a pair, not one a pair and radius.
    """
    radii, sigma = jnp.asarray(radii, dr.dtype), jnp.asarray(sigma, dr.dtype)

    def at(radius: Array) -> list[Array]:
        height = jnp.exp(-jnp.square((dr - radius) / sigma) / 2)
        return [reduce(jnp.where(mask, height, 0)) for mask in masks]

    return [g.T / shells(radii)[None, :] for g in jax.lax.map(at, radii)]


def pair_correlation(
    displacement_or_metric: DisplacementOrMetricFn,
    radii: Float[Array, " r"],
    sigma: Any,
    species: Any = None,
    eps: float = 1e-7,
    compute_average: bool = False,
) -> Callable:
    """Return a function that finds the smooth pair correlation of each particle.

    Args:
        displacement_or_metric: Displacement or metric of two points.
        radii: Radii at which to find it, ``[r]`` (length).
        sigma: Width of the Gaussians (length).
        species: Labels of the particles, concrete integers ``[n]``, or None.
        eps: Added to the radii, so that radius zero is no division by zero (length).
        compute_average: Whether to average over particles.

    Returns:
        ``g(R, **kwargs)`` with the value ``[n, r]``. With species a list over the
        sorted labels, each restricted to partners of that label. With
        `compute_average` see `average_pair_correlation_results`.

    Raises:
        TypeError: If `species` is not an array of integers.
    """
    metric = space.canonicalize_displacement_or_metric(displacement_or_metric)
    species = _canonical_species(species)

    def g_fn(R: Float[Array, "n d"], **kwargs: Any) -> Any:
        count, dim = R.shape
        dr = space.map_product(metric)(R, R, **kwargs)
        others = ~jnp.eye(count, dtype=bool)
        masks = [others]
        if species is not None:
            masks = [others & (species == s)[None, :] for s in np.unique(species)]
        g = _correlations(
            dr,
            masks,
            lambda x: jnp.sum(x, axis=1),
            radii,
            sigma,
            lambda r: (r + eps) ** (dim - 1),
        )
        g = g[0] if species is None else g
        return average_pair_correlation_results(g, species) if compute_average else g

    return g_fn


def pair_correlation_neighbor_list(
    displacement_or_metric: DisplacementOrMetricFn,
    box_size: Box,
    radii: Float[Array, " r"],
    sigma: Any,
    species: Any = None,
    dr_threshold: float = 0.5,
    eps: float = 1e-7,
    fractional_coordinates: bool = False,
    format: partition.NeighborListFormat = partition.Dense,
    compute_average: bool = False,
) -> tuple[partition.NeighborListFns, Callable]:
    """Return a neighbor list, and the pair correlation function that uses it.

    The list reaches six widths of the Gaussians beyond the largest radius.

    Args:
        displacement_or_metric: Displacement or metric of two points.
        box_size: Box, scalar, ``[d]`` or ``[d, d]`` (length).
        radii: Radii at which to find it, ``[r]``, concrete (length).
        sigma: Width of the Gaussians, concrete (length).
        species: Labels of the particles, concrete integers ``[n]``, or None.
        dr_threshold: Skin of the list (length).
        eps: Added to the radii (length).
        fractional_coordinates: Whether positions are fractions of the box.
        format: Any format of a neighbor list.
        compute_average: Whether to average over particles.

    Returns:
        ``(neighbor_fn, g)`` with ``g(R, neighbor, **kwargs)`` as in `pair_correlation`.

    Raises:
        TypeError: If `species` is not an array of integers.
    """
    metric = space.canonicalize_displacement_or_metric(displacement_or_metric)
    species = _canonical_species(species)
    neighbor_fn = partition.neighbor_list(
        displacement_or_metric,
        box_size,
        float(np.max(radii)) + _GAUSSIAN_REACH * float(sigma),
        dr_threshold,
        fractional_coordinates=fractional_coordinates,
        format=format,
    )

    def g_fn(R: Float[Array, "n d"], neighbor: Any, **kwargs: Any) -> Any:
        count, dim = R.shape
        i, j, dr, reduce = _pairs(metric, R, neighbor, kwargs)
        real = (j < count) & (i != j)
        masks = [real]
        if species is not None:
            partner = jnp.asarray(species)[jnp.minimum(j, count - 1)]
            masks = [real & (partner == s) for s in np.unique(species)]
        g = _correlations(
            dr, masks, reduce, radii, sigma, lambda r: (r + eps) ** (dim - 1)
        )
        g = g[0] if species is None else g
        return average_pair_correlation_results(g, species) if compute_average else g

    return neighbor_fn, g_fn


def _pairs(metric: Callable, R: Array, neighbor: Any, kwargs: dict) -> tuple:
    """Particles and partners of a list, their distances, and the sum over partners."""
    idx, count = neighbor.idx, len(R)
    if not partition.is_sparse(neighbor.format):
        i = jnp.arange(count)[:, None]
        dr = space.map_neighbor(metric)(R, R[idx], **kwargs)
        return i, idx, dr, lambda x: jnp.sum(x, axis=1)
    i, j = idx
    if neighbor.format is partition.OrderedSparse:  # each pair stands there once
        i, j = jnp.concatenate([i, j]), jnp.concatenate([j, i])
    dr = space.map_bond(metric)(R[i], R[j], **kwargs)
    return i, j, dr, lambda x: jax.ops.segment_sum(x, i, count)
