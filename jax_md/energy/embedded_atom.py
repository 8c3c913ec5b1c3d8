r"""Embedded-atom potentials: pair energies and the energy of embedding in a density.

.. math::
    E = \sum_i F_i(\rho_i) + \frac12 \sum_i \sum_{j \ne i} \phi_{ij}(r_{ij}),
    \quad \rho_i = \sum_{j \ne i} \rho_{ji}(r_{ij})

The functions are tabulated, for any number of elements, and interpolated as LAMMPS
does. For the functions of a single element see `jax_md.energy.eam`.

Source:
    M. S. Daw, M. I. Baskes, Phys. Rev. B 29, 6443 (1984).
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jax_md import dataclasses, partition, smap, space, util
from jax_md.io import lammps
from jax_md.smap import ParameterTree, ParameterTreeMapping
from jax_md.types import DisplacementOrMetricFn, EnergyFn


@dataclasses.dataclass
class EmbeddedAtom:
    """An embedded-atom potential of ``s`` elements as coefficients of cubic pieces.

    Attributes:
        embedding: Coefficients of the embedding energy, ``[s, n_rho, 4]`` (energy).
        density: Those of the density that an atom of the first element brings to one
            of the second, ``[s, s, n_r, 4]``.
        pair: Those of distance times pair energy, ``[s, s, n_r, 4]``.
        d_rho: Spacing of the embedding table (density).
        d_r: Spacing of the radial tables (length).
        cutoff: Distance beyond which atoms do not interact (length).
        elements: Chemical symbols; the position of one is its species.
    """

    embedding: Array
    density: Array
    pair: Array
    d_rho: float = dataclasses.static_field()
    d_r: float = dataclasses.static_field()
    cutoff: float = dataclasses.static_field()
    elements: tuple[str, ...] = dataclasses.static_field()


def eam_from_file(file: Any, elements: Sequence[str] | None = None) -> EmbeddedAtom:
    """Read a potential file (funcfl, setfl or its ``.fs`` variant).

    Args:
        file: A path, or an open text file.
        elements: Which elements to keep, in the order of their species; all of the
            file by default.

    Returns:
        The potential, for `embedded_atom_pair` and `embedded_atom_neighbor_list`.

    Raises:
        ValueError: If the file cannot be read or lacks an element.
    """
    tables = lammps.read_eam(file)
    elements = tables.elements if elements is None else tuple(elements)
    missing = [e for e in elements if e not in tables.elements]
    if missing:
        raise ValueError(
            f"`elements` asks for {', '.join(missing)}; the file has "
            f"{', '.join(tables.elements)}."
        )
    rows = np.array([tables.elements.index(e) for e in elements])
    return EmbeddedAtom(
        embedding=cubic_pieces(tables.embedding[rows]),
        density=cubic_pieces(tables.density[np.ix_(rows, rows)]),
        pair=cubic_pieces(tables.pair[np.ix_(rows, rows)]),
        d_rho=tables.d_rho,
        d_r=tables.d_r,
        cutoff=tables.cutoff,
        elements=elements,
    )


def cubic_pieces(values: Any) -> Array:
    """Coefficients of the cubic through a table with centered five-point slopes.

    Values and slopes are met at every knot, so that the first derivative is continuous.
    The choice of slopes is that of LAMMPS, whose energies and forces are reproduced to
    round-off.

    Args:
        values: Values at equally spaced knots, ``[..., n]`` with n of at least five.

    Returns:
        ``[..., n, 4]``: value, slope, quadratic and cubic coefficient of the piece that
        begins at each knot, in units of the spacing.
    """
    f = values if util.is_array(values) else np.asarray(values)
    xp = np if isinstance(f, np.ndarray) else jnp
    inner = (f[..., :-4] - f[..., 4:] + 8 * (f[..., 3:-1] - f[..., 1:-3])) / 12
    first = f[..., 1:2] - f[..., :1]
    last = f[..., -1:] - f[..., -2:-1]
    second = (f[..., 2:3] - f[..., :1]) / 2
    before_last = (f[..., -1:] - f[..., -3:-2]) / 2
    slope = xp.concatenate([first, second, inner, before_last, last], -1)
    rise = f[..., 1:] - f[..., :-1]
    a, b = slope[..., :-1], slope[..., 1:]
    zero = xp.zeros_like(last)
    quadratic = xp.concatenate([3 * rise - 2 * a - b, zero], -1)
    cubic = xp.concatenate([a + b - 2 * rise, zero], -1)
    return jnp.stack([jnp.asarray(c) for c in (f, slope, quadratic, cubic)], -1)


def evaluate_pieces(pieces: Any, x: Any, row: Any = None) -> Array:
    """Evaluate `cubic_pieces` at `x`, a position in units of the spacing.

    Beyond the last knot the function goes on along its tangent.

    Args:
        pieces: ``[n, 4]``, or ``[rows, n, 4]`` where `row` is given.
        x: Positions, ``[*pairs]``.
        row: Which table each position is looked up in, ``[*pairs]``.
    """
    n = pieces.shape[-2]
    knot = jnp.clip(jnp.floor(x), 0, n - 2).astype(jnp.int32)
    at = pieces[knot] if row is None else pieces[row, knot]
    c0, c1, c2, c3 = (at[..., k] for k in range(4))
    p = x - knot.astype(x.dtype)
    q = jnp.minimum(p, 1)
    value = c0 + q * (c1 + q * (c2 + q * c3))
    return value + (p - q) * (c1 + q * (2 * c2 + q * (3 * c3)))


def embedded_atom_pair(
    displacement_or_metric: DisplacementOrMetricFn,
    potential: EmbeddedAtom | Any,
    species: Int[Array, " n"] | None = None,
    per_particle: bool = False,
) -> EnergyFn:
    """Embedded-atom energy over all pairs.

    Args:
        displacement_or_metric: Displacement or distance of two points.
        potential: An `EmbeddedAtom`, or what `eam_from_file` reads.
        species: Positions in ``potential.elements``, ``[n]``; all zero by default.
        per_particle: Whether to return ``[n]`` energies instead of their sum.

    Returns:
        ``energy(R, **kwargs)``; ``species=`` and ``potential=`` can be given again.
    """
    return _energy_of(
        potential,
        species,
        per_particle,
        NeighborSums(displacement_or_metric, None),
    )


def embedded_atom_neighbor_list(
    displacement_or_metric: DisplacementOrMetricFn,
    box_size: Any,
    potential: EmbeddedAtom | Any,
    species: Int[Array, " n"] | None = None,
    dr_threshold: float = 0.5,
    per_particle: bool = False,
    fractional_coordinates: bool = False,
    format: partition.NeighborListFormat = partition.Dense,
    neighbor_list_fn: Callable[..., Any] = partition.neighbor_list,
    pair_neighbor_list_fn: Callable[..., Any] = smap.pair_neighbor_list,
    **neighbor_kwargs: Any,
) -> tuple[Any, EnergyFn]:
    """Embedded-atom energy over a neighbor list.

    Args:
        displacement_or_metric: Displacement or distance of two points.
        box_size: Box of the list: a scalar, ``[d]`` or ``[d, d]`` (length).
        potential: An `EmbeddedAtom`, or what `eam_from_file` reads.
        species: Positions in ``potential.elements``, ``[n]``; all zero by default.
        dr_threshold: Skin of the neighbor list (length).
        per_particle: Whether to return ``[n]`` energies instead of their sum.
        fractional_coordinates: Whether positions live in the unit cube.
        format: Format of the neighbor list.
        neighbor_list_fn: Makes the neighbor list.
        pair_neighbor_list_fn: Sums pair functions over the list.
        **neighbor_kwargs: Passed to `neighbor_list_fn`.

    Returns:
        ``(neighbor_fn, energy_fn)`` with ``energy_fn(R, neighbor, **kwargs)``;
        ``species=`` and ``potential=`` can be given again.

    """
    potential = _canonical(potential)
    neighbor_fn = neighbor_list_fn(
        displacement_or_metric,
        box_size,
        potential.cutoff,
        dr_threshold,
        fractional_coordinates=fractional_coordinates,
        format=format,
        **neighbor_kwargs,
    )
    sums = NeighborSums(displacement_or_metric, pair_neighbor_list_fn)
    return neighbor_fn, _energy_of(potential, species, per_particle, sums)


class NeighborSums:
    """Sums of a pair function over the partners of each particle, in either form."""

    def __init__(self, displacement_or_metric: Callable, list_fn: Callable | None):
        self.metric = space.canonicalize_displacement_or_metric(displacement_or_metric)
        self.list_fn = list_fn

    def __call__(
        self, fn: Callable, R: Any, species: Any, neighbor: Any, kwargs: dict, **p: Any
    ) -> Array:
        """Return ``[n]``, the sum of ``fn(dr, **p)`` over the partners of each."""
        options = {"reduce_axis": (1,), "ignore_unused_parameters": True, **p}
        kwargs = {k: v for k, v in kwargs.items() if k != "species"}
        if self.list_fn is None:
            if species is None:
                halves = smap.pair(fn, self.metric, **options)(R, **kwargs)
            else:
                # Labels of each call: then (i, j) and (j, i) may differ.
                count = np.iinfo(np.int32).max
                total = smap.pair(fn, self.metric, species=count, **options)
                halves = total(R, species, **kwargs)
        else:
            if getattr(neighbor, "rows", None) is not None and neighbor.is_ordered:
                # Under a format that shows each pair once it holds both.
                neighbor = neighbor.set(format=partition.Dense)
            total = self.list_fn(fn, self.metric, species=species, **options)
            halves = total(R, neighbor, **kwargs)
        return 2 * halves


def _energy_of(
    potential: Any, species: Any, per_particle: bool, sums: NeighborSums
) -> Callable[..., Array]:
    default, default_species = _canonical(potential), species

    def energy_fn(
        R: Float[Array, "n d"],
        neighbor: Any = None,
        *,
        species: Any = None,
        potential: EmbeddedAtom | None = None,
        **kwargs: Any,
    ) -> Array:
        model = default if potential is None else potential
        labels = default_species if species is None else species
        labels = None if labels is None else jnp.asarray(labels)
        s = model.embedding.shape[0]
        parameters = {}
        row = 0
        if labels is not None:
            # (i, j) -> row of the table of what j brings to i.
            table = np.arange(s * s, dtype=np.int32).reshape(s, s).T
            parameters["block"] = ParameterTree(table, ParameterTreeMapping.PerSpecies)
            row = labels

        def within(dr: Array, pieces: Array, block: Any = 0) -> tuple[Array, Array]:
            near = dr < model.cutoff
            r = jnp.where(near, dr, 0.5 * model.cutoff)
            return near, evaluate_pieces(pieces, r / model.d_r, block)

        def brought(dr: Array, pieces: Array, block: Any = 0) -> Array:
            near, value = within(dr, pieces, block)
            return jnp.where(near, value, 0)

        def repulsion(dr: Array, pieces: Array, block: Any = 0) -> Array:
            near, value = within(dr, pieces, block)
            return jnp.where(near, value / jnp.where(near, dr, 1), 0)

        def total(fn: Callable, pieces: Array) -> Array:
            flat = pieces.reshape(s * s, *pieces.shape[2:])
            tree = ParameterTree(flat, ParameterTreeMapping.Global)
            return sums(fn, R, labels, neighbor, kwargs, pieces=tree, **parameters)

        rho = total(brought, model.density)
        pieces = model.embedding.astype(rho.dtype)
        embedded = evaluate_pieces(pieces, rho / model.d_rho, row)
        energy = embedded + 0.5 * total(repulsion, model.pair)
        return energy if per_particle else util.high_precision_sum(energy)

    return energy_fn


def _canonical(potential: Any) -> EmbeddedAtom:
    is_model = isinstance(potential, EmbeddedAtom)
    return potential if is_model else eam_from_file(potential)
