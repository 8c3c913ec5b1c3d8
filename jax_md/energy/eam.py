r"""The embedded-atom energy of one element, from its three functions.

.. math:: E = \sum_i F(\rho_i) + \frac12 \sum_i \sum_{j \ne i} \phi(r_{ij})

By default the density of an atom at its own position counts, as it does in JAX MD:
:math:`\rho_i = \sum_j \rho(r_{ij})` over all j, i included. Potential files mean the
sum without it, ``self_density=False``. For those, and for alloys, `embedded_atom_pair`
and `embedded_atom_neighbor_list` are the better choice.

Source:
    M. S. Daw, M. I. Baskes, Phys. Rev. B 29, 6443 (1984); Y. Mishin, D. Farkas, M. J.
    Mehl, D. A. Papaconstantopoulos, Phys. Rev. B 59, 3393 (1999) for aluminum.
"""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jax_md import interpolate, partition, smap, util
from jax_md.io import lammps
from jax_md.types import DisplacementOrMetricFn, EnergyFn

from .embedded_atom import NeighborSums


def load_lammps_eam_parameters(file: Any) -> tuple[Callable, Callable, Callable, Any]:
    """Read the functions of a single element from a setfl file.

    For alloys, and for the interpolation of LAMMPS, use `eam_from_file`.

    Args:
        file: An open text file, or a path.

    Returns:
        ``(charge_fn, embedding_fn, pairwise_fn, cutoff)``, the arguments of `eam` and
        of `eam_neighbor_list`; cubic splines through the tables.

    Raises:
        ValueError: If the file cannot be read or has several elements.
    """
    tables = lammps.read_eam(file)
    if len(tables.elements) != 1:
        raise ValueError(
            f"expected the potential of one element; got {', '.join(tables.elements)}. "
            "For alloys use `energy.eam_from_file`."
        )
    n_r = tables.pair.shape[-1]
    r = np.arange(n_r) * tables.d_r
    r[0] = 0.001  # the table holds r * phi(r), which says nothing of phi at zero
    charge_fn = interpolate.spline(tables.density[0, 0], tables.d_r)
    embedding_fn = interpolate.spline(tables.embedding[0], tables.d_rho)
    pairwise_fn = interpolate.spline(tables.pair[0, 0] / r, tables.d_r)
    return charge_fn, embedding_fn, pairwise_fn, tables.cutoff


def eam(
    displacement_or_metric: DisplacementOrMetricFn,
    charge_fn: Callable[[Array], Array],
    embedding_fn: Callable[[Array], Array],
    pairwise_fn: Callable[[Array], Array],
    axis: int | tuple[int, ...] | None = None,
    *,
    self_density: bool = True,
) -> EnergyFn:
    """Embedded-atom energy of one element over all pairs, from its three functions.

    Args:
        displacement_or_metric: Displacement or distance of two points.
        charge_fn: Density at a distance; takes arrays.
        embedding_fn: Energy of embedding in a density; takes arrays.
        pairwise_fn: Pair energy at a distance; takes arrays.
        axis: Axes of the ``[n]`` energies to sum over; ``()`` keeps them.
        self_density: Whether an atom's density at its own position counts, as it does
            in JAX MD. In the literature, and in potential files, it does not.

    Returns:
        ``energy(R, **kwargs)``.
    """
    sums = NeighborSums(displacement_or_metric, None)
    return _energy_of_functions(
        sums, charge_fn, embedding_fn, pairwise_fn, axis, self_density
    )


def eam_neighbor_list(
    displacement_or_metric: DisplacementOrMetricFn,
    box_size: Any,
    charge_fn: Callable[[Array], Array],
    embedding_fn: Callable[[Array], Array],
    pairwise_fn: Callable[[Array], Array],
    cutoff: float,
    dr_threshold: float = 0.5,
    axis: int | tuple[int, ...] | None = None,
    fractional_coordinates: bool = True,
    format: partition.NeighborListFormat = partition.Sparse,
    neighbor_list_fn: Callable[..., Any] = partition.neighbor_list,
    *,
    self_density: bool = True,
    **neighbor_kwargs: Any,
) -> tuple[Any, EnergyFn]:
    """Embedded-atom energy of one element over a neighbor list.

    Args:
        displacement_or_metric: Displacement or distance of two points.
        box_size: Box of the list: a scalar, ``[d]`` or ``[d, d]`` (length).
        charge_fn: Density at a distance; takes arrays.
        embedding_fn: Energy of embedding in a density; takes arrays.
        pairwise_fn: Pair energy at a distance; takes arrays.
        cutoff: Distance beyond which pairs do not count (length).
        dr_threshold: Skin of the neighbor list (length).
        axis: Axes of the ``[n]`` energies to sum over; ``()`` keeps them.
        fractional_coordinates: Whether positions live in the unit cube.
        format: Format of the neighbor list.
        neighbor_list_fn: Makes the neighbor list.
        self_density: See `eam`.
        **neighbor_kwargs: Passed to `neighbor_list_fn`.

    Returns:
        ``(neighbor_fn, energy_fn)`` with ``energy_fn(R, neighbor, **kwargs)``.

    """
    neighbor_fn = neighbor_list_fn(
        displacement_or_metric,
        box_size,
        cutoff,
        dr_threshold,
        fractional_coordinates=fractional_coordinates,
        format=format,
        **neighbor_kwargs,
    )
    sums = NeighborSums(displacement_or_metric, smap.pair_neighbor_list)
    return neighbor_fn, _energy_of_functions(
        sums, charge_fn, embedding_fn, pairwise_fn, axis, self_density, cutoff
    )


def _energy_of_functions(
    sums: NeighborSums,
    charge_fn: Callable,
    embedding_fn: Callable,
    pairwise_fn: Callable,
    axis: Any,
    self_density: bool,
    cutoff: float | None = None,
) -> Callable[..., Array]:
    def within(fn: Callable) -> Callable:
        if cutoff is None:
            return lambda dr: fn(dr)
        return lambda dr: jnp.where(dr < cutoff, fn(dr), 0)

    def energy_fn(R: Float[Array, "n d"], neighbor: Any = None, **kwargs: Any) -> Array:
        rho = sums(within(charge_fn), R, None, neighbor, kwargs)
        if self_density:
            rho = rho + charge_fn(jnp.zeros((), R.dtype))
        pairs = sums(within(pairwise_fn), R, None, neighbor, kwargs)
        return util.high_precision_sum(embedding_fn(rho) + 0.5 * pairs, axis=axis)

    return energy_fn


def eam_from_lammps_parameters(
    displacement: DisplacementOrMetricFn, f: Any, *, self_density: bool = True
) -> EnergyFn:
    """`eam` of the functions that `load_lammps_eam_parameters` reads from `f`.

    Args:
        displacement: Displacement or distance of two points.
        f: An open setfl file, or a path.
        self_density: See `eam`.

    Returns:
        ``energy(R, **kwargs)``.
    """
    functions = load_lammps_eam_parameters(f)[:-1]
    return eam(displacement, *functions, self_density=self_density)


def eam_from_lammps_parameters_neighbor_list(
    displacement: DisplacementOrMetricFn,
    box_size: Any,
    f: Any,
    axis: int | tuple[int, ...] | None = None,
    dr_threshold: float = 0.5,
    fractional_coordinates: bool = True,
    neighbor_list_fn: Callable[..., Any] = partition.neighbor_list,
    *,
    self_density: bool = True,
    **neighbor_kwargs: Any,
) -> tuple[Any, EnergyFn]:
    """`eam_neighbor_list` of the functions read from `f`.

    Args:
        displacement: Displacement or distance of two points.
        box_size: Box of the list: a scalar, ``[d]`` or ``[d, d]`` (length).
        f: An open setfl file, or a path.
        axis: Axes of the ``[n]`` energies to sum over; ``()`` keeps them.
        dr_threshold: Skin of the neighbor list (length).
        fractional_coordinates: Whether positions live in the unit cube.
        neighbor_list_fn: Makes the neighbor list.
        self_density: See `eam`.
        **neighbor_kwargs: Passed to `neighbor_list_fn`.

    Returns:
        ``(neighbor_fn, energy_fn)``.
    """
    return eam_neighbor_list(
        displacement,
        box_size,
        *load_lammps_eam_parameters(f),
        dr_threshold=dr_threshold,
        axis=axis,
        fractional_coordinates=fractional_coordinates,
        neighbor_list_fn=neighbor_list_fn,
        self_density=self_density,
        **neighbor_kwargs,
    )
