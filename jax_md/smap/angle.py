"""Energies that are sums over angles: groups of three particles."""

from collections.abc import Callable
from typing import Any

from jaxtyping import Array, Float, Int

from jax_md.types import DisplacementOrMetricFn

from .bonded import sum_over_groups


def angle(
    fn: Callable[..., Array],
    displacement_or_metric: DisplacementOrMetricFn,
    static_angles: Int[Array, "angles 3"] | None = None,
    static_angle_types: Int[Array, " angles"] | None = None,
    ignore_unused_parameters: bool = False,
    **kwargs: Any,
) -> Callable[..., Float[Array, ""]]:
    """Promote a function of one angle to a sum over angles.

    Args:
        fn: Angle function, ``fn(r_01, r_21, **parameters)``, of all angles at once;
            each ``r_ab`` is ``displacement(R_a, R_b)``, ``[angles, d]`` (length), and
            column 1 is the vertex.
        displacement_or_metric: Displacement of two points.
        static_angles: Indices of the particles; columns beyond three are ignored.
        static_angle_types: A type for each angle.
        ignore_unused_parameters: Whether keywords at call time that were not declared
            here are withheld from `fn`.
        **kwargs: Parameters of `fn`, in the forms of `bond`; combinators act on the
            values of three particles.

    Returns:
        ``mapped(R, angles=None, angle_types=None, **kwargs)``, a scalar.

    Raises:
        ValueError: If a parameter has a form that is none of these.
    """
    total = sum_over_groups(
        fn,
        displacement_or_metric,
        static_angles,
        static_angle_types,
        ignore_unused_parameters,
        kwargs,
        ((0, 1), (2, 1)),
        "angle",
    )

    def mapped(
        R: Float[Array, "n d"],
        angles: Int[Array, "angles 3"] | None = None,
        angle_types: Int[Array, " angles"] | None = None,
        **dynamic: Any,
    ) -> Float[Array, ""]:
        return total(R, angles, angle_types, dynamic)

    return mapped
