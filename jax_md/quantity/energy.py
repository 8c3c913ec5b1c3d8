"""Kinetic energy, and the degrees of freedom that share it."""

from functools import singledispatch
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from jax_md.util import check_custom_simulation_type, high_precision_sum


@singledispatch
def count_dof(position: Any) -> int:
    """Count the degrees of freedom: the scalars that positions are made of.

    A single-dispatch function; position types whose scalars are not independent (unit
    quaternions) register a count of their own.

    Args:
        position: An array ``[n, d]`` or a tree of arrays.

    Raises:
        ValueError: For a registered position type that has no count of its own.
    """
    check_custom_simulation_type(position)
    return sum(jnp.size(leaf) for leaf in jax.tree.leaves(position))


def per_particle(mass: Any, like: Any) -> Any:
    """Shape a mass ``[n]`` as ``[n, 1]`` next to an array ``[n, d]``."""
    if jnp.ndim(mass) == 1 and jnp.ndim(like) == 2:
        if jnp.shape(mass)[0] == jnp.shape(like)[0]:
            return jnp.reshape(mass, (-1, 1))
    return mass


def kinetic_energy(
    *unused_args: Any, momentum: Any = None, velocity: Any = None, mass: Any = 1.0
) -> Array:
    r"""Kinetic energy, :math:`\sum_i p_i^2 / 2 m_i` or :math:`\sum_i m_i v_i^2 / 2`.

    Args:
        *unused_args: Must be empty: momentum and velocity are told apart by name.
        momentum: Array ``[n, d]`` or a tree (mass * length / time).
        velocity: Array ``[n, d]`` or a tree (length / time).
        mass: Scalar, ``[n]``, ``[n, 1]`` or a tree of them, which may be a prefix of
            the other tree.

    Returns:
        A scalar in the dtype of the momenta or velocities.

    Raises:
        ValueError: If arguments are positional, or not exactly one of `momentum` and
            `velocity` is given.
    """
    if unused_args:
        raise ValueError(
            "`kinetic_energy` takes keywords only, `momentum=` or `velocity=`; got "
            f"{len(unused_args)} positional argument(s)."
        )
    if (momentum is None) == (velocity is None):
        given = "neither" if momentum is None else "both"
        raise ValueError(
            f"give either `momentum=` or `velocity=` to find a kinetic energy; got "
            f"{given}."
        )
    motion = velocity if momentum is None else momentum
    check_custom_simulation_type(motion)

    def twice(m: Any, x: Any) -> Array:
        x = jnp.asarray(x)
        m = jnp.asarray(per_particle(m, x), x.dtype)
        return high_precision_sum(x * x * m if momentum is None else x * x / m)

    # The mass may be one number for a whole tree.
    parts = jax.tree.map(
        lambda m, branch: sum(twice(m, x) for x in jax.tree.leaves(branch)),
        mass,
        motion,
    )
    return 0.5 * jax.tree.reduce(jnp.add, parts)
