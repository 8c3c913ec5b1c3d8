"""Steepest descent with a fixed step."""

from typing import Any

import jax
import jax.numpy as jnp

from jax_md import quantity
from jax_md.simulate import _keywords, operators
from jax_md.types import EnergyFn, ForceFn, Minimizer, Position, ShiftFn


def gradient_descent(
    energy_or_force: EnergyFn | ForceFn, shift_fn: ShiftFn, step_size: Any
) -> Minimizer:
    """Move positions along the forces, ``R <- shift(R, step_size * F)``.

    Args:
        energy_or_force: Energy or force of the positions.
        shift_fn: Shift function of the space, or a tree of them.
        step_size: Displacement per force (length^2 / energy).

    Returns:
        ``(init, step)``; the state is the positions. ``init(R, **kwargs) -> R`` and
        ``step(R, *, step_size, **kwargs) -> R``. Keywords go to the energy and the
        shift.

    Raises:
        TypeError: From ``step``, for a keyword that looks like a misspelt `step_size`.
    """
    force_fn = quantity.canonicalize_force(energy_or_force)

    def init(R: Position, **unused: Any) -> Position:
        return operators.as_arrays(R)

    def step(R: Position, *, step_size: Any = step_size, **kwargs: Any) -> Position:
        fns = energy_or_force, shift_fn
        _keywords.refuse_lookalikes(kwargs, "step_size", fns=fns)
        R = operators.as_arrays(R)

        def moved(shift: Any, R: Any, F: Any) -> Any:
            dR = jnp.asarray(step_size, R.dtype) * F
            return shift(R, dR, **kwargs).astype(R.dtype)

        shift = operators.spread(shift_fn, R)
        return jax.tree.map(moved, shift, R, force_fn(R, **kwargs))

    return Minimizer(jax.jit(init), jax.jit(step))
