r"""Atom-centered symmetry functions of Behler and Parrinello.

.. math::
    G^{rad}_i &= \sum_j e^{-\eta r_{ij}^2} f_c(r_{ij}) \\
    G^{ang}_i &= \sum_{j, k} 2^{1 - \zeta} (1 + \lambda \cos \theta_{jik})^\zeta
        e^{-\eta (r_{ij}^2 + r_{ik}^2 + r_{jk}^2)}
        f_c(r_{ij}) f_c(r_{ik}) f_c(r_{jk})

They describe the surroundings of a particle and do not change under translation,
rotation, reflection and exchange of like particles. With species there is one block for
each type, or pair of types, of the neighbors.

Source:
    J. Behler, M. Parrinello, Phys. Rev. Lett. 98, 146401 (2007).
    N. Artrith, B. Hiller, J. Behler, Phys. Status Solidi B 250, 1191 (2013) (defaults).
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float

from jax_md import partition, space, util
from jax_md.types import DisplacementFn, DisplacementOrMetricFn

from .angular_sums import Shapes, angular_sums, one_triangle

BOHR = 0.529177  # Angstrom
RADIAL_ETAS = np.array([9e-4, 0.01, 0.02, 0.035, 0.06, 0.1, 0.2, 0.4]) / BOHR**2
_COUNTS = [4, 4, 2, 4, 4, 4]
ANGULAR_ETAS = np.repeat([1e-4, 0.003, 0.008, 0.015, 0.025, 0.045], _COUNTS) / BOHR**2
LAMBDAS = np.array([-1.0, 1.0] * 4 + [1.0] * 14)
ZETAS = np.array([1.0, 1, 2, 2] * 2 + [1, 2] + [1, 2, 4, 16] * 3)

# Closer than this, two particles count as one and the same.
COINCIDENT = 1e-7


def cosine_cutoff(dr: Array, cutoff_distance: Any) -> Array:
    r"""Half a cosine, :math:`f_c = (1 + \cos \pi r / r_c) / 2`; once differentiable.

    Args:
        dr: Distances, ``[*pairs]`` (length). Zero marks a masked pair.
        cutoff_distance: From where on it is zero (length).
    """
    out = (dr <= COINCIDENT) | (dr >= cutoff_distance)  # so that NaN stays visible
    r = jnp.where(out, 0.5 * cutoff_distance, dr)
    return jnp.where(out, 0, 0.5 * (jnp.cos(jnp.pi * r / cutoff_distance) + 1))


def quintic_cutoff(dr: Array, cutoff_distance: Any) -> Array:
    r"""A polynomial, :math:`1 - x^3 (10 - 15 x + 6 x^2)`; twice differentiable.

    For Hessians and gradients through trajectories. Here :math:`x = r / r_c`.

    Args:
        dr: Distances, ``[*pairs]`` (length). Zero marks a masked pair.
        cutoff_distance: From where on it is zero (length).
    """
    out = (dr <= COINCIDENT) | (dr >= cutoff_distance)
    x = jnp.where(out, 0.5 * cutoff_distance, dr) / cutoff_distance
    return jnp.where(out, 0, 1 - x * x * x * (10 - x * (15 - 6 * x)))


def radial_symmetry_functions(
    displacement_or_metric: DisplacementOrMetricFn,
    species: Any,
    etas: Sequence[float] | Array,
    cutoff_distance: float,
    *,
    types: Sequence[int] | None = None,
    cutoff_fn: Callable[..., Array] = cosine_cutoff,
) -> Callable[..., Array]:
    """Radial symmetry functions over all pairs.

    Args:
        displacement_or_metric: Displacement or distance of two points.
        species: Labels ``[n]``, or None for particles of one kind.
        etas: Inverse squared widths, ``[m]`` (1 / length squared).
        cutoff_distance: Distance beyond which nothing counts (length).
        types: Labels in the order of the blocks; those in `species`, sorted, by
            default. Needed where `species` is given at call time only.
        cutoff_fn: ``cutoff_fn(dr, cutoff_distance)``.

    Returns:
        ``f(R, **kwargs) -> [n, t * m]``. The keyword ``species=`` replaces the labels;
        the rest reaches the displacement.

    Raises:
        ValueError: If `etas` or `species` has no shape that fits.
    """
    f = _Radial(
        displacement_or_metric, species, etas, cutoff_distance, types, cutoff_fn
    )
    return lambda R, **kwargs: f(R, None, **kwargs)


def radial_symmetry_functions_neighbor_list(
    displacement_or_metric: DisplacementOrMetricFn,
    species: Any,
    etas: Sequence[float] | Array,
    cutoff_distance: float,
    *,
    types: Sequence[int] | None = None,
    cutoff_fn: Callable[..., Array] = cosine_cutoff,
) -> Callable[..., Array]:
    """Radial symmetry functions over a neighbor list of any format.

    Args:
        displacement_or_metric: Displacement or distance of two points.
        species: As in `radial_symmetry_functions`.
        etas: As there.
        cutoff_distance: As there; the list has to reach as far.
        types: As there.
        cutoff_fn: As there.

    Returns:
        ``f(R, neighbor, **kwargs) -> [n, t * m]``, as there.
    """
    return _Radial(
        displacement_or_metric, species, etas, cutoff_distance, types, cutoff_fn
    )


def single_pair_angular_symmetry_function(
    dR12: Float[Array, " d"],
    dR13: Float[Array, " d"],
    eta: Any,
    lam: Any,
    zeta: Any,
    cutoff_distance: Any,
    cutoff_fn: Callable[..., Array] = cosine_cutoff,
) -> Float[Array, ""]:
    """The angular symmetry function of one pair of neighbors.

    Args:
        dR12: Displacement between the center and one neighbor (length).
        dR13: The same of the other.
        eta: Inverse squared width (1 / length squared).
        lam: Sign of the cosine, 1 or -1.
        zeta: Sharpness in the angle.
        cutoff_distance: Distance beyond which nothing counts (length).
        cutoff_fn: ``cutoff_fn(dr, cutoff_distance)``.
    """
    cutoff = partial(cutoff_fn, cutoff_distance=cutoff_distance)
    return one_triangle(dR12, dR13, eta, lam, zeta, cutoff)


def angular_symmetry_functions(
    displacement: DisplacementFn,
    species: Any,
    etas: Sequence[float] | Array,
    lambdas: Sequence[float] | Array,
    zetas: Sequence[float] | Array,
    cutoff_distance: float,
    *,
    types: Sequence[int] | None = None,
    cutoff_fn: Callable[..., Array] = cosine_cutoff,
) -> Callable[..., Array]:
    """Angular symmetry functions over all triplets.

    Args:
        displacement: Displacement of two points.
        species: Labels ``[n]``, or None for particles of one kind.
        etas: Inverse squared widths, ``[m]`` (1 / length squared).
        lambdas: Signs of the cosine, ``[m]``.
        zetas: Sharpness in the angle, ``[m]``.
        cutoff_distance: Distance beyond which nothing counts (length).
        types: As in `radial_symmetry_functions`.
        cutoff_fn: ``cutoff_fn(dr, cutoff_distance)``.

    Returns:
        ``f(R, **kwargs) -> [n, m * t * (t + 1) / 2]``, keywords as in
        `radial_symmetry_functions`. Neighbors of one type count in both orders, those
        of two types once.

    Raises:
        ValueError: If the parameters differ in length.
    """
    shapes = (etas, lambdas, zetas)
    f = _Angular(displacement, species, shapes, cutoff_distance, types, cutoff_fn)
    return lambda R, **kwargs: f(R, None, **kwargs)


def angular_symmetry_functions_neighbor_list(
    displacement: DisplacementFn,
    species: Any,
    etas: Sequence[float] | Array,
    lambdas: Sequence[float] | Array,
    zetas: Sequence[float] | Array,
    cutoff_distance: float,
    *,
    types: Sequence[int] | None = None,
    cutoff_fn: Callable[..., Array] = cosine_cutoff,
) -> Callable[..., Array]:
    """Angular symmetry functions over a neighbor list of any format.

    Memory grows as particles times neighbors, not times their square.

    Args:
        displacement: Displacement of two points.
        species: As in `angular_symmetry_functions`.
        etas: As there.
        lambdas: As there.
        zetas: As there.
        cutoff_distance: As there; the list has to reach as far.
        types: As there.
        cutoff_fn: As there.

    Returns:
        ``f(R, neighbor, **kwargs) -> [n, m * t * (t + 1) / 2]``, as there.
    """
    shapes = (etas, lambdas, zetas)
    return _Angular(displacement, species, shapes, cutoff_distance, types, cutoff_fn)


def behler_parrinello_symmetry_functions(
    displacement: DisplacementFn,
    species: Any = None,
    radial_etas: Any = None,
    angular_etas: Any = None,
    lambdas: Any = None,
    zetas: Any = None,
    cutoff_distance: float = 8.0,
    *,
    types: Sequence[int] | None = None,
    cutoff_fn: Callable[..., Array] = cosine_cutoff,
) -> Callable[..., Array]:
    """Radial and angular symmetry functions, side by side, over all pairs.

    Defaults are those of Artrith, Hiller and Behler, in Angstrom: 8 radial functions
    and 22 angular ones.

    Args:
        displacement: Displacement of two points.
        species: Labels ``[n]``, or None for particles of one kind.
        radial_etas: Of the radial functions (1 / length squared).
        angular_etas: Of the angular functions (1 / length squared).
        lambdas: Signs of the cosine.
        zetas: Sharpness in the angle.
        cutoff_distance: Distance beyond which nothing counts (length).
        types: As in `radial_symmetry_functions`.
        cutoff_fn: ``cutoff_fn(dr, cutoff_distance)``.

    Returns:
        ``f(R, **kwargs) -> [n, f]``, radial functions first.
    """
    parts = _both(displacement, species, radial_etas, (angular_etas, lambdas, zetas))(
        cutoff_distance, types, cutoff_fn
    )
    return lambda R, **kwargs: jnp.hstack([f(R, None, **kwargs) for f in parts])


def behler_parrinello_symmetry_functions_neighbor_list(
    displacement: DisplacementFn,
    species: Any = None,
    radial_etas: Any = None,
    angular_etas: Any = None,
    lambdas: Any = None,
    zetas: Any = None,
    cutoff_distance: float = 8.0,
    *,
    types: Sequence[int] | None = None,
    cutoff_fn: Callable[..., Array] = cosine_cutoff,
) -> Callable[..., Array]:
    """Radial and angular symmetry functions, side by side, over a neighbor list.

    Args:
        displacement: Displacement of two points.
        species: As in `behler_parrinello_symmetry_functions`.
        radial_etas: As there.
        angular_etas: As there.
        lambdas: As there.
        zetas: As there.
        cutoff_distance: As there; the list has to reach as far.
        types: As there.
        cutoff_fn: As there.

    Returns:
        ``f(R, neighbor, **kwargs) -> [n, f]``, as there.
    """
    parts = _both(displacement, species, radial_etas, (angular_etas, lambdas, zetas))(
        cutoff_distance, types, cutoff_fn
    )
    return lambda R, neighbor, **kwargs: jnp.hstack(
        [f(R, neighbor, **kwargs) for f in parts]
    )


def _both(displacement: Any, species: Any, radial: Any, angular: tuple) -> Callable:
    radial = RADIAL_ETAS if radial is None else radial
    defaults = (ANGULAR_ETAS, LAMBDAS, ZETAS)
    angular = tuple(
        d if x is None else x for d, x in zip(defaults, angular, strict=True)
    )

    def make(*options: Any) -> tuple[Callable, Callable]:
        return (
            _Radial(displacement, species, radial, *options),
            _Angular(displacement, species, angular, *options),
        )

    return make


class _Kinds:
    """Which neighbors belong to which block."""

    def __init__(self, species: Any, types: Sequence[int] | None):
        if species is not None and np.ndim(species) != 1:
            raise ValueError(
                "`species` must be None or integer labels [n]; got shape "
                f"{np.shape(species)}."
            )
        self.species = species
        if types is None and species is not None:
            if isinstance(species, Tracer):
                raise ValueError(
                    "`species` is traced, so that the number of its labels is not "
                    "known. Name them: `types=(0, 1)`."
                )
            types = np.unique(np.asarray(species)).tolist()
        self.types = None if types is None else tuple(types)

    def __call__(self, species: Any, n: int, dtype: Any) -> Float[Array, "n t"]:
        labels = self.species if species is None else species
        if self.types is None or len(self.types) == 1 and labels is None:
            if labels is not None:
                raise ValueError(
                    "`species` is given at call time, but the symmetry functions were "
                    "made without. Name the labels there: `types=(0, 1)`."
                )
            return jnp.ones((n, 1), dtype)
        if labels is None or np.shape(labels) != (n,):
            got = "None" if labels is None else f"shape {np.shape(labels)}"
            raise ValueError(
                f"`species` must hold a label for each of the {n} particles; got {got}."
            )
        same = jnp.asarray(labels)[:, None] == jnp.asarray(self.types)
        return same.astype(dtype)


def _vector(name: str, value: Any) -> Any:
    value = value if util.is_array(value) else np.asarray(value)
    if value.ndim != 1 or len(value) == 0:
        raise ValueError(
            f"`{name}` must be a vector with one entry for each function; got shape "
            f"{value.shape}."
        )
    return value


class _Radial:
    def __init__(self, displacement, species, etas, cutoff_distance, types, cutoff_fn):
        self.metric = space.canonicalize_displacement_or_metric(displacement)
        self.kinds = _Kinds(species, types)
        self.etas = _vector("etas", etas)
        self.cutoff = partial(cutoff_fn, cutoff_distance=cutoff_distance)

    def __call__(self, R, neighbor, *, species=None, **kwargs) -> Array:
        n = R.shape[0]
        kinds = self.kinds(species, n, R.dtype)
        etas = jnp.asarray(self.etas, R.dtype)
        metric = partial(self.metric, **kwargs)

        def of_pair(dr: Array, etas: Array) -> Array:
            dr = jnp.asarray(dr, R.dtype)
            return jnp.exp(-etas * (dr * dr)[..., None]) * self.cutoff(dr)[..., None]

        if isinstance(neighbor, partition.NeighborList):

            def add(x: Any, y: Any, etas: Array) -> Array:
                return y[1][:, None] * of_pair(metric(x[0], y[0]), etas)

            out = partition.neighbor_sum(add, (R, kinds), etas, neighbor)
        else:
            others = _others(n)
            dr = space.map_neighbor(metric)(R, R[others])
            out = jnp.einsum("nkt,nkm->ntm", kinds[others], of_pair(dr, etas))
        return out.reshape(n, -1)


class _Angular:
    def __init__(
        self, displacement, species, shapes, cutoff_distance, types, cutoff_fn
    ):
        self.displacement = displacement
        self.kinds = _Kinds(species, types)
        names = ("etas", "lambdas", "zetas")
        shapes = Shapes(*(_vector(a, x) for a, x in zip(names, shapes, strict=True)))
        if len({len(x) for x in shapes}) > 1:
            raise ValueError(
                "`etas`, `lambdas` and `zetas` vary together and must be of one "
                f"length; got {[len(x) for x in shapes]}."
            )
        self.shapes = shapes
        self.cutoff_distance = cutoff_distance
        self.cutoff = partial(cutoff_fn, cutoff_distance=cutoff_distance)

    def __call__(self, R, neighbor, *, species=None, **kwargs) -> Array:
        n = R.shape[0]
        kinds = self.kinds(species, n, R.dtype)
        d = partial(self.displacement, **kwargs)
        if isinstance(neighbor, partition.NeighborList):
            rows = _rows(neighbor)
            valid = rows < n
            # An empty slot shows the particle to itself, which is masked below.
            rows = jnp.where(valid, rows, jnp.arange(n, dtype=rows.dtype)[:, None])
        else:
            rows = _others(n)
            valid = np.ones(rows.shape, bool)
        dR = jnp.asarray(space.map_neighbor(d)(R, R[rows]), R.dtype)
        if dR.ndim != 3:
            raise ValueError(
                "angular symmetry functions need a displacement [d] of two points; the "
                "function given returns a distance."
            )
        dR = jnp.where(valid[..., None], dR, self.cutoff_distance)
        dR, kinds = jnp.swapaxes(dR, 0, 1), kinds[rows.T]
        return angular_sums(dR, kinds, self.shapes, self.cutoff)


def _others(n: int) -> np.ndarray:
    """All particles but itself, for each, ``[n, n - 1]``."""
    return np.arange(n - 1) + (np.arange(n - 1) >= np.arange(n)[:, None])


def _rows(neighbor: partition.NeighborList) -> Array:
    """Rows ``[n, k]`` without self pairs, masked and edited entries respected."""
    if neighbor.rows is not None:
        return neighbor.dense_idx
    if neighbor.is_ordered:
        raise ValueError(
            "a masked or edited list of format OrderedSparse holds each pair once and "
            "has no neighbors per particle; use format Dense or Sparse."
        )
    i, j, valid = neighbor.pairs
    n = neighbor.n
    if valid.ndim == 2:
        return jnp.where(valid, j, n)
    i = jnp.where(valid, i, n)
    order = jnp.argsort(i, stable=True)
    i, j = i[order], j[order]
    place = jnp.arange(len(i)) - jnp.searchsorted(i, i)
    width = neighbor.rows_.slots.shape[0]
    return jnp.full((n, width), n, j.dtype).at[i, place].set(j, mode="drop")
