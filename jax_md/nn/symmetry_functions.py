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
from jaxtyping import Array, Float

from jax_md.types import DisplacementFn, DisplacementOrMetricFn

from .angular_sums import one_triangle
from .cutoff import cosine_cutoff
from .symmetry_terms import Angular, Radial

BOHR = 0.529177  # Angstrom
RADIAL_ETAS = np.array([9e-4, 0.01, 0.02, 0.035, 0.06, 0.1, 0.2, 0.4]) / BOHR**2
_COUNTS = [4, 4, 2, 4, 4, 4]
ANGULAR_ETAS = np.repeat([1e-4, 0.003, 0.008, 0.015, 0.025, 0.045], _COUNTS) / BOHR**2
LAMBDAS = np.array([-1.0, 1.0] * 4 + [1.0] * 14)
ZETAS = np.array([1.0, 1, 2, 2] * 2 + [1, 2] + [1, 2, 4, 16] * 3)


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
    f = Radial(displacement_or_metric, species, etas, cutoff_distance, types, cutoff_fn)
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
    return Radial(
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
    f = Angular(displacement, species, shapes, cutoff_distance, types, cutoff_fn)
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
    return Angular(displacement, species, shapes, cutoff_distance, types, cutoff_fn)


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
            Radial(displacement, species, radial, *options),
            Angular(displacement, species, angular, *options),
        )

    return make
