"""Energies that are sums over bonds: groups of two particles."""

from collections.abc import Callable
from typing import Any

from jaxtyping import Array, Float, Int

from jax_md.types import DisplacementOrMetricFn

from .bonded import sum_over_groups


def bond(
    fn: Callable[..., Array],
    displacement_or_metric: DisplacementOrMetricFn,
    static_bonds: Int[Array, "bonds 2"] | None = None,
    static_bond_types: Int[Array, " bonds"] | None = None,
    ignore_unused_parameters: bool = False,
    **kwargs: Any,
) -> Callable[..., Float[Array, ""]]:
    """Promote a function of one bond to a sum over bonds.

    Args:
        fn: Bond function, ``fn(dr, **parameters)``, of all bonds at once: `dr` is
            ``[bonds]`` (length) for a metric and ``[bonds, d]`` for a displacement.
        displacement_or_metric: Displacement or distance of two points.
        static_bonds: Indices of bonded particles; columns beyond two are ignored.
        static_bond_types: A type for each bond, which makes ``[types]`` arrays of
            parameters.
        ignore_unused_parameters: Whether keywords at call time that were not declared
            here are withheld from `fn`.
        **kwargs: Parameters of `fn`: a scalar, one value a bond (or a type, where
            there are types), a `ParameterTree`, or ``(combinator, value)`` with one
            value a particle, combined over the two ends.

    Returns:
        ``mapped(R, bonds=None, bond_types=None, **kwargs)``, a scalar. Bonds given at
        call time add to the static ones.

    Raises:
        ValueError: If a parameter has a form that is none of these.
    """
    total = sum_over_groups(
        fn,
        displacement_or_metric,
        static_bonds,
        static_bond_types,
        ignore_unused_parameters,
        kwargs,
        ((0, 1),),
        "bond",
    )

    def mapped(
        R: Float[Array, "n d"],
        bonds: Int[Array, "bonds 2"] | None = None,
        bond_types: Int[Array, " bonds"] | None = None,
        **dynamic: Any,
    ) -> Float[Array, ""]:
        return total(R, bonds, bond_types, dynamic)

    return mapped
