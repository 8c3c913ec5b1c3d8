"""Volume, pressure and stress: how an energy answers to a strain of its box.

Both are derivatives with respect to ``perturbation=``, an affine map that spaces apply
to displacements last. Positions and box stay as they are, so the result is the same for
fractional and real coordinates.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from jax_md.space import UnexpectedBoxException
from jax_md.types import Box, EnergyFn
from jax_md.util import high_precision_sum

from .energy import per_particle


def volume(dimension: int, box: Box) -> Any:
    """Volume of a box.

    Args:
        dimension: Spatial dimension, which says how many edges a scalar stands for.
        box: Scalar, ``[d]`` or ``[d, d]`` (length).

    Raises:
        ValueError: If `box` has more than two axes.
    """
    ndim = jnp.ndim(box)
    if ndim == 0 or jnp.size(box) == 1:
        return jnp.reshape(box, ()) ** dimension if ndim else box**dimension
    if ndim == 1:
        return jnp.prod(jnp.asarray(box))
    if ndim == 2:
        return jnp.linalg.det(jnp.asarray(box))
    raise ValueError(
        "`box` must be a scalar, a vector [d] or a matrix [d, d]; got shape "
        f"{jnp.shape(box)}."
    )


def _strained(energy_fn: EnergyFn, position: Any, box: Box, kwargs: dict) -> Callable:
    """Return the energy as a function of `perturbation`, with `box` if it takes one."""

    def with_box(perturbation: Any) -> Any:
        return energy_fn(position, box=box, perturbation=perturbation, **kwargs)

    def without_box(perturbation: Any) -> Any:
        return energy_fn(position, perturbation=perturbation, **kwargs)

    def gradient(perturbation: Any) -> Any:
        try:
            return jax.grad(with_box)(perturbation)
        except UnexpectedBoxException:
            return jax.grad(without_box)(perturbation)

    return gradient


def _leading(position: Any) -> tuple[int, Any]:
    leaf = jax.tree.leaves(position)[0]
    return jnp.shape(leaf)[-1], jnp.result_type(leaf)


def pressure(
    energy_fn: EnergyFn,
    position: Any,
    box: Box,
    kinetic_energy: Any = 0.0,
    **kwargs: Any,
) -> Array:
    r"""Pressure, :math:`P = (2K - \partial U / \partial \epsilon) / (d V)`.

    Here :math:`U(\epsilon)` is the energy with all displacements times
    :math:`1 + \epsilon`.

    Args:
        energy_fn: Energy that hands `perturbation` (and `box`) on to its displacement.
        position: Positions, ``[n, d]``.
        box: Box that holds them, scalar, ``[d]`` or ``[d, d]`` (length); in free space
            only its volume matters.
        kinetic_energy: Kinetic energy (energy); zero for the static pressure.
        **kwargs: Passed to `energy_fn`.

    Returns:
        A scalar (energy / volume), positive when the system pushes outwards.
    """
    dim, dtype = _leading(position)
    virial = _strained(energy_fn, position, box, kwargs)(jnp.ones((), dtype))
    K = jnp.asarray(kinetic_energy, dtype)
    return (2 * K - virial) / (dim * jnp.asarray(volume(dim, box), dtype))


def stress(
    energy_fn: EnergyFn,
    position: Any,
    box: Box,
    mass: Any = 1.0,
    velocity: Any = None,
    **kwargs: Any,
) -> Array:
    r"""Pressure tensor, :math:`(\sum_i m_i v_i v_i^T - \partial U / \partial F) / V`.

    Here :math:`U(F)` is the energy with the affine map ``F`` applied to all
    displacements, at ``F = 1``. The sign is that of a pressure: positive under
    compression. A third (``1/d``) of the trace is the pressure.

    Args:
        energy_fn: Energy that hands `perturbation` (and `box`) on to its displacement.
        position: Positions, ``[n, d]``.
        box: Box that holds them, scalar, ``[d]`` or ``[d, d]`` (length).
        mass: Scalar, ``[n]`` or ``[n, 1]``.
        velocity: Velocities, ``[n, d]``; None for the static stress.
        **kwargs: Passed to `energy_fn`.

    Returns:
        Tensor ``[d, d]`` (energy / volume).
    """
    dim, dtype = _leading(position)
    virial = _strained(energy_fn, position, box, kwargs)(jnp.eye(dim, dtype=dtype))
    total = -virial
    if velocity is not None:
        v = jnp.asarray(velocity, dtype)
        momentum = jnp.asarray(per_particle(mass, v), dtype) * v
        total = total + high_precision_sum(momentum[:, :, None] * v[:, None, :], axis=0)
    return total / jnp.asarray(volume(dim, box), dtype)


def bulk_modulus(elastic_tensor: Array) -> Array:
    r"""Bulk modulus of an elastic tensor, :math:`C_{iijj} / d^2`.

    Args:
        elastic_tensor: Elastic moduli, ``[d, d, d, d]`` (energy / volume).
    """
    return jnp.einsum("iijj->", elastic_tensor) / elastic_tensor.shape[0] ** 2
