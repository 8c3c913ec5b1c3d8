"""Temperature, in units of energy, and the friction of a sphere in a liquid."""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array

from .energy import count_dof, kinetic_energy


def temperature(
    *unused_args: Any, momentum: Any = None, velocity: Any = None, mass: Any = 1.0
) -> Array:
    r"""Instantaneous temperature :math:`k_B T = 2 K / N_\mathrm{dof}` (energy).

    All degrees of freedom count; those of the center of mass are not taken off.

    Args:
        *unused_args: Must be empty.
        momentum: Array ``[n, d]`` or a tree (mass * length / time).
        velocity: Array ``[n, d]`` or a tree (length / time).
        mass: Scalar, ``[n]``, ``[n, 1]`` or a tree of them.

    Raises:
        ValueError: If arguments are positional, or not exactly one of `momentum` and
            `velocity` is given.
    """
    K = kinetic_energy(*unused_args, momentum=momentum, velocity=velocity, mass=mass)
    return 2 * K / count_dof(velocity if momentum is None else momentum)


def gamma_from_stokes_law_3d(eta: Any, radii: Any, mass: Any) -> Any:
    r"""Friction rate of a sphere, :math:`\gamma = 6 \pi \eta r / m` (1 / time).

    Args:
        eta: Viscosity of the liquid (mass / length / time).
        radii: Radius of the sphere (length).
        mass: Mass of the sphere.
    """
    return 6 * jnp.pi * eta * radii / mass
