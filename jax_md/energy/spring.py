"""Springs: power laws about a rest length."""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jax_md import smap, space
from jax_md.smap import Parameter
from jax_md.types import DisplacementOrMetricFn, EnergyFn


def simple_spring(
    dr: Float[Array, "*pairs"],
    length: float | Array = 1,
    epsilon: float | Array = 1,
    alpha: float | Array = 2,
    **unused_kwargs: Any,
) -> Float[Array, "*pairs"]:
    r"""Spring energy, :math:`U(r) = \frac{\epsilon}{\alpha} |r - r_0|^\alpha`.

    Args:
        dr: Distances, ``[*pairs]`` (length).
        length: Rest length ``r_0`` (length), a scalar or ``[*pairs]``.
        epsilon: Stiffness (energy / length^alpha), a scalar or ``[*pairs]``.
        alpha: Exponent, larger than one, a scalar or ``[*pairs]``.
        **unused_kwargs: Ignored.

    Returns:
        Energies, ``[*pairs]``; derivatives are finite at the rest length.
    """
    x = dr - length
    if isinstance(alpha, int | float) and alpha > 0 and alpha % 2 == 0:
        return epsilon / alpha * x ** int(alpha)
    moved = x != 0
    power = jnp.abs(jnp.where(moved, x, 1)) ** alpha
    # At rest the power has no second derivative but for a parabola, which keeps its.
    at_rest = jnp.where(jnp.equal(alpha, 2), x * x, 0)
    return epsilon / alpha * jnp.where(moved, power, at_rest)


def simple_spring_bond(
    displacement_or_metric: DisplacementOrMetricFn,
    bond: Int[Array, "bonds 2"],
    bond_type: Int[Array, " bonds"] | None = None,
    length: Parameter = 1,
    epsilon: Parameter = 1,
    alpha: Parameter = 2,
) -> EnergyFn:
    """Energy of particles joined by springs.

    Args:
        displacement_or_metric: Displacement or distance of two points.
        bond: Indices of bonded particles.
        bond_type: A type for each bond, which makes ``[types]`` arrays of parameters.
        length: See `simple_spring`; a scalar, one a bond or one a type.
        epsilon: See `simple_spring`.
        alpha: See `simple_spring`.

    Returns:
        ``energy(R, bonds=None, bond_types=None, **kwargs)``, a scalar.
    """
    return smap.bond(
        simple_spring,
        space.canonicalize_displacement_or_metric(displacement_or_metric),
        static_bonds=bond,
        static_bond_types=bond_type,
        ignore_unused_parameters=True,
        length=length,
        epsilon=epsilon,
        alpha=alpha,
    )
