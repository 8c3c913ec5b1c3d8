r"""Embedded-atom potentials: pair energies and the energy of embedding in a density.

.. math::
    E = \sum_i F_i(\rho_i) + \frac12 \sum_i \sum_{j \ne i} \phi_{ij}(r_{ij}),
    \quad \rho_i = \sum_{j \ne i} \rho_{ji}(r_{ij})

`embedded_atom_pair` and `embedded_atom_neighbor_list` evaluate tabulated potentials of
any number of elements, as LAMMPS does. `eam` and its relatives take the three functions
of a single element; by default they add the density of an atom at its own position.

Source:
    M. S. Daw, M. I. Baskes, Phys. Rev. B 29, 6443 (1984).
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jax_md import dataclasses, interpolate, partition, smap, space, util
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
        _Sums(displacement_or_metric, None),
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
        format: Format of the neighbor list, Dense or Sparse.
        neighbor_list_fn: Makes the neighbor list.
        pair_neighbor_list_fn: Sums pair functions over the list.
        **neighbor_kwargs: Passed to `neighbor_list_fn`.

    Returns:
        ``(neighbor_fn, energy_fn)`` with ``energy_fn(R, neighbor, **kwargs)``;
        ``species=`` and ``potential=`` can be given again.

    Raises:
        NotImplementedError: If `format` is OrderedSparse.
    """
    _refuse_ordered(format)
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
    sums = _Sums(displacement_or_metric, pair_neighbor_list_fn)
    return neighbor_fn, _energy_of(potential, species, per_particle, sums)


class _Sums:
    """Sums of a pair function over the partners of each particle, in either form."""

    def __init__(self, displacement_or_metric: Callable, list_fn: Callable | None):
        self.metric = space.canonicalize_displacement_or_metric(displacement_or_metric)
        self.list_fn = list_fn

    def __call__(
        self, fn: Callable, R: Any, species: Any, neighbor: Any, kwargs: dict, **p: Any
    ) -> Array:
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
            total = self.list_fn(fn, self.metric, species=species, **options)
            halves = total(R, neighbor, **kwargs)
        return 2 * halves


def _energy_of(
    potential: Any, species: Any, per_particle: bool, sums: _Sums
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


def _refuse_ordered(format: Any) -> None:
    if format is partition.OrderedSparse:
        raise NotImplementedError(
            "an embedded-atom energy needs all neighbors of every atom, and an "
            "OrderedSparse list holds each pair once. Use `format=partition.Dense` or "
            "`partition.Sparse`."
        )


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
    sums = _Sums(displacement_or_metric, None)
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
        format: Format of the neighbor list, Dense or Sparse.
        neighbor_list_fn: Makes the neighbor list.
        self_density: See `eam`.
        **neighbor_kwargs: Passed to `neighbor_list_fn`.

    Returns:
        ``(neighbor_fn, energy_fn)`` with ``energy_fn(R, neighbor, **kwargs)``.

    Raises:
        NotImplementedError: If `format` is OrderedSparse.
    """
    _refuse_ordered(format)
    neighbor_fn = neighbor_list_fn(
        displacement_or_metric,
        box_size,
        cutoff,
        dr_threshold,
        fractional_coordinates=fractional_coordinates,
        format=format,
        **neighbor_kwargs,
    )
    sums = _Sums(displacement_or_metric, smap.pair_neighbor_list)
    return neighbor_fn, _energy_of_functions(
        sums, charge_fn, embedding_fn, pairwise_fn, axis, self_density, cutoff
    )


def _energy_of_functions(
    sums: _Sums,
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
