"""FIRE: molecular dynamics that is steered downhill and stopped when it climbs."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jax_md import dataclasses, quantity
from jax_md.simulate import operators
from jax_md.types import EnergyFn, ForceFn, Minimizer, Position, ShiftFn


@dataclasses.dataclass
class FireDescentState:
    """State of FIRE; `force` is that at `position`, so it tells of convergence."""

    position: Position
    momentum: Position
    force: Position
    mass: Any
    dt: Float[Array, ""]
    alpha: Float[Array, ""]
    n_pos: Int[Array, ""]


def _dot(a: Any, b: Any) -> Array:
    products = jax.tree.map(lambda x, y: jnp.sum(x * y), a, b)
    return jax.tree.reduce(jnp.add, products)


def fire_descent(
    energy_or_force: EnergyFn | ForceFn,
    shift_fn: ShiftFn,
    dt_start: Any = 0.1,
    dt_max: Any = 0.4,
    n_min: int = 5,
    f_inc: Any = 1.1,
    f_dec: Any = 0.5,
    alpha_start: Any = 0.1,
    f_alpha: Any = 0.99,
) -> Minimizer:
    r"""Minimize by the fast inertial relaxation engine.

    After each step of velocity Verlet momenta are turned towards the forces,
    :math:`p \leftarrow (1 - \alpha) p + \alpha |p| F / |F|`. While they point downhill
    (:math:`F \cdot p > 0`, for more than `n_min` steps) the time step grows and
    :math:`\alpha` shrinks; once they point uphill the motion is stopped. The state
    keeps the dtype of the positions.

    Args:
        energy_or_force: Energy or force of the positions.
        shift_fn: Shift function of the space, or a tree of them.
        dt_start: First time step.
        dt_max: Largest time step.
        n_min: Downhill steps before the time step grows.
        f_inc: Factor by which the time step grows.
        f_dec: Factor by which it shrinks after a stop.
        alpha_start: First weight of the forces.
        f_alpha: Factor by which that weight shrinks.

    Returns:
        ``(init, step)``: ``init(R, mass=1.0, **kwargs)`` and ``step(state, **kwargs)``,
        which evaluates the force once. Keywords go to the energy and the shift.

    Source:
        E. Bitzek, P. Koskinen, F. Gähler, M. Moseler, P. Gumbsch, Phys. Rev. Lett. 97,
        170201 (2006).
    """
    force_fn = quantity.canonicalize_force(energy_or_force)

    def init(R: Position, mass: Any = 1.0, **kwargs: Any) -> FireDescentState:
        R = operators.as_arrays(R)
        dtype = jnp.result_type(*jax.tree.leaves(R))
        state = FireDescentState(
            position=R,
            momentum=jax.tree.map(jnp.zeros_like, R),
            force=force_fn(R, **kwargs),
            mass=mass,
            dt=jnp.asarray(dt_start, dtype),
            alpha=jnp.asarray(alpha_start, dtype),
            n_pos=jnp.zeros((), jnp.int32),
        )
        return operators.canonicalize_mass(state)

    def step(state: FireDescentState, **kwargs: Any) -> FireDescentState:
        dt, alpha, n_pos = state.dt, state.alpha, state.n_pos
        state = operators.velocity_verlet(force_fn, shift_fn, dt, state, **kwargs)
        P, F = state.momentum, state.force
        power = _dot(F, P)
        F_norm, P_norm = (operators.safe_sqrt(_dot(x, x)) for x in (F, P))
        ratio = P_norm / jnp.where(F_norm > 0, F_norm, 1)

        uphill, downhill = power < 0, power > 0
        faster = downhill & (n_pos + 1 > n_min)
        new_dt = jnp.where(faster, jnp.minimum(dt * f_inc, dt_max), dt)
        new_dt = jnp.where(uphill, dt * f_dec, new_dt)
        new_alpha = jnp.where(faster, alpha * f_alpha, alpha)
        new_alpha = jnp.where(uphill, alpha_start, new_alpha)

        def steered(p: Array, f: Array) -> Array:
            turned = p + (alpha * (f * ratio - p)).astype(p.dtype)
            return jnp.where(uphill, 0, turned)

        return dataclasses.replace(
            state,
            momentum=jax.tree.map(steered, P, F),
            dt=new_dt.astype(dt.dtype),
            alpha=new_alpha.astype(alpha.dtype),
            n_pos=jnp.where(uphill, 0, n_pos + 1),
        )

    return Minimizer(jax.jit(init), jax.jit(step))
