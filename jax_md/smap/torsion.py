"""Energies that are sums over torsions: groups of four particles."""

from collections.abc import Callable
from typing import Any

from jaxtyping import Array, Float, Int

from jax_md.types import DisplacementOrMetricFn

from .bonded import sum_over_groups


def torsion(
    fn: Callable[..., Array],
    displacement_or_metric: DisplacementOrMetricFn,
    static_torsions: Int[Array, "torsions 4"] | None = None,
    static_torsion_types: Int[Array, " torsions"] | None = None,
    ignore_unused_parameters: bool = False,
    **kwargs: Any,
) -> Callable[..., Float[Array, ""]]:
    """Promote a function of one torsion to a sum over torsions.

    Args:
        fn: Torsion function, ``fn(b0, b1, b2, **parameters)``, of all torsions at
            once: the displacements from particle 0 to 1, 1 to 2 and 2 to 3 of each,
            ``[torsions, d]`` (length).
        displacement_or_metric: Displacement of two points.
        static_torsions: Indices of the particles; columns beyond four are ignored.
        static_torsion_types: A type for each torsion.
        ignore_unused_parameters: Whether keywords at call time that were not declared
            here are withheld from `fn`.
        **kwargs: Parameters of `fn`, in the forms of `bond`; combinators act on the
            values of four particles.

    Returns:
        ``mapped(R, torsions=None, torsion_types=None, **kwargs)``, a scalar.

    Raises:
        ValueError: If a parameter has a form that is none of these.
    """
    total = sum_over_groups(
        fn,
        displacement_or_metric,
        static_torsions,
        static_torsion_types,
        ignore_unused_parameters,
        kwargs,
        ((1, 0), (2, 1), (3, 2)),
        "torsion",
    )

    def mapped(
        R: Float[Array, "n d"],
        torsions: Int[Array, "torsions 4"] | None = None,
        torsion_types: Int[Array, " torsions"] | None = None,
        **dynamic: Any,
    ) -> Float[Array, ""]:
        return total(R, torsions, torsion_types, dynamic)

    return mapped
