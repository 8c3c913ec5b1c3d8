"""A minimizer run to the end, as one function of an energy and a start."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jax_md import quantity
from jax_md.simulate import operators
from jax_md.types import EnergyFn, Minimizer, Position, ShiftFn

Solver = Callable[[EnergyFn, Position], Position]


def until_converged(
    minimizer: Callable[[EnergyFn, ShiftFn], Minimizer],
    shift_fn: ShiftFn,
    tolerance: Any = None,
    max_steps: int = 100_000,
) -> Solver:
    """Make a function that minimizes until no force is larger than a tolerance.

    It is what `adjoint.minimum` takes for a solver, and works under `jax.jit` and
    `jax.vmap`, where each replica stops on its own.

    Args:
        minimizer: ``minimizer(energy_fn, shift_fn)``, such as `fire_descent`, `lbfgs`
            or a `functools.partial` of them.
        shift_fn: Shift function of the space, or a tree of them.
        tolerance: Largest entry of a force to end with (energy / length); a tenth of
            the square root of the precision by default.
        max_steps: Most steps; whether they were enough is for the caller to see.

    Returns:
        ``solver(energy_fn, R) -> R``.

    Example:
        >>> solver = until_converged(fire_descent, space.free()[1])
        >>> R = solver(lambda R: jnp.sum(R**2), jnp.ones((4, 2)))
    """

    def solver(energy_fn: EnergyFn, R: Position) -> Position:
        R = operators.as_arrays(R)
        dtype = jnp.result_type(*jax.tree.leaves(R))
        limit = 0.1 * jnp.finfo(dtype).eps ** 0.5 if tolerance is None else tolerance
        init, step = minimizer(energy_fn, shift_fn)

        def position(state: Any) -> Position:
            return getattr(state, "position", state)

        def largest_force(state: Any) -> Any:
            force = getattr(state, "force", None)
            if force is None:
                force = quantity.force(energy_fn)(position(state))
            entries = [jnp.max(jnp.abs(f)) for f in jax.tree.leaves(force)]
            return jnp.max(jnp.stack(entries))

        def go_on(carry: Any) -> Any:
            count, state = carry
            return (largest_force(state) > limit) & (count < max_steps)

        def advance(carry: Any) -> Any:
            count, state = carry
            return count + 1, step(state)

        _, state = jax.lax.while_loop(go_on, advance, (0, init(R)))
        return position(state)

    return solver
