"""Forces: from energies, bounded, or recognized in what the user passes."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jax_md.types import EnergyFn, ForceFn
from jax_md.util import safe_mask


def force(energy_fn: EnergyFn) -> ForceFn:
    """Return the force function of an energy, ``-dE/dR``.

    Args:
        energy_fn: Scalar energy of positions, ``(R, *args, **kwargs) -> []``.

    Returns:
        A function of the same arguments whose value has the structure of ``R``.
    """

    def force_fn(R: Any, *args: Any, **kwargs: Any) -> Any:
        gradient = jax.grad(energy_fn)(R, *args, **kwargs)
        return jax.tree.map(jnp.negative, gradient)

    return force_fn


def clipped_force(energy_fn: EnergyFn, max_force: Any) -> ForceFn:
    """Return a force function in which no particle feels more than `max_force`.

    Forces that are too large keep their direction. Such a force is not the gradient of
    an energy; it serves to pull overlapping particles apart.

    Args:
        energy_fn: Scalar energy of positions.
        max_force: Largest norm of a particle's force (energy / length).
    """
    force_fn = force(energy_fn)

    def clip(f: Any) -> Any:
        square = jnp.sum(jnp.square(f), axis=-1, keepdims=True)
        norm = safe_mask(square > 0, jnp.sqrt, square)
        limit = jnp.asarray(max_force, f.dtype)
        large = norm > limit
        return jnp.where(large, f * (limit / jnp.where(large, norm, 1)), f)

    def clipped(R: Any, *args: Any, **kwargs: Any) -> Any:
        return jax.tree.map(clip, force_fn(R, *args, **kwargs))

    return clipped


def canonicalize_force(energy_or_force_fn: EnergyFn | ForceFn) -> ForceFn:
    """Return a force function, whether an energy or a force is given.

    The function is traced once, on the first call, and told apart by what it returns: a
    scalar is an energy, a tree with the shapes of ``R`` is a force. Forces are returned
    in the dtype of the positions.

    Args:
        energy_or_force_fn: Either function, ``(R, **kwargs)``; keywords are passed on
            as they come, so that a function without keywords works, too.

    Raises:
        ValueError: On the first call, if the value is neither.
    """
    resolved: list[Callable] = []

    def resolve(R: Any, kwargs: dict) -> Callable:
        out = jax.eval_shape(lambda R: energy_or_force_fn(R, **kwargs), R)
        shapes = [jnp.shape(leaf) for leaf in jax.tree.leaves(out)]
        if getattr(out, "shape", None) == ():
            return force(energy_or_force_fn)
        expected = [jnp.shape(leaf) for leaf in jax.tree.leaves(R)]
        if shapes == expected:
            return energy_or_force_fn
        raise ValueError(
            "`energy_or_force_fn` must return a scalar (an energy) or a force of the "
            f"shape of the positions, {expected}; got shapes {shapes}. An energy of "
            "each particle has to be summed."
        )

    def force_fn(R: Any, **kwargs: Any) -> Any:
        if not resolved:
            resolved.append(resolve(R, kwargs))
        leaves, structure = jax.tree.flatten(R)
        out = jax.tree.leaves(resolved[0](R, **kwargs))
        cast = [
            jnp.asarray(f, jnp.result_type(r)) for f, r in zip(out, leaves, strict=True)
        ]
        return jax.tree.unflatten(structure, cast)

    return force_fn
