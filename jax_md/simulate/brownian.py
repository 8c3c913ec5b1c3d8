"""Overdamped motion at constant temperature: Brownian dynamics, Euler-Maruyama."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from jax_md import dataclasses, quantity
from jax_md.types import EnergyFn, ForceFn, Position, ShiftFn, Simulator

from . import operators
from ._keywords import refuse_lookalikes, refuse_unknown
from .operators import canonicalize_mass, noise, safe_sqrt, spread


@dataclasses.dataclass
class BrownianState:
    """State of Brownian dynamics; there are no momenta."""

    position: Position
    mass: Any
    rng: Array


def diffuse(
    state: Any,
    shift_fn: ShiftFn,
    force: Position,
    dt: Any,
    kT: Any,
    gamma: Any,
    **kwargs: Any,
) -> Any:
    r"""Move by a force and by noise, ``R <- shift(R, dt nu F + sqrt(2 kT dt nu) xi)``.

    Both in one shift: in single precision the drift of a short step can be less than
    half a unit in the last place of a position, and on its own would be lost. On top of
    the noise, which is much larger, it is rounded without a bias.

    Args:
        state: State to move; its key is split.
        shift_fn: Shift function of the space, or a tree of them.
        force: Forces at the positions.
        dt: Time step.
        kT: Temperature (energy).
        gamma: Friction rate (1 / time), or a tree of them.
        **kwargs: Passed to `shift_fn`.
    """
    R = state.position
    rng, draw = jax.random.split(state.rng)
    leaves, structure = jax.tree.flatten(R)
    keys = jax.tree.unflatten(structure, list(jax.random.split(draw, len(leaves))))

    def moved(shift: Any, R: Array, F: Array, m: Any, rate: Any, key: Array) -> Array:
        m, rate, time, T = (jnp.asarray(x, R.dtype) for x in (m, rate, dt, kT))
        reach = time / (m * rate)  # dt nu
        dR = reach * F.astype(R.dtype) + safe_sqrt(2 * T * reach) * noise(key, R)
        return shift(R, dR, **kwargs).astype(R.dtype)

    shift, mass, rate = (spread(x, R) for x in (shift_fn, state.mass, gamma))
    return state.set(
        position=jax.tree.map(moved, shift, R, force, mass, rate, keys), rng=rng
    )


def brownian(
    energy_or_force: EnergyFn | ForceFn,
    shift: ShiftFn,
    dt: Any,
    kT: Any,
    gamma: Any = 0.1,
    **sim_kwargs: Any,
) -> Simulator:
    r"""Integrate the overdamped Langevin equation at a temperature.

    .. math::
        R \leftarrow R + \nu F\,dt + \sqrt{2 k_B T \nu\,dt}\;\xi,
        \qquad \nu = \frac{1}{m \gamma}

    with :math:`\xi` standard normal. Averages carry an error of first order in the time
    step; a free particle diffuses with the constant :math:`k_B T \nu` at any.

    Args:
        energy_or_force: Energy or force of the positions.
        shift: Shift function of the space, or a tree of them that is a prefix of the
            positions.
        dt: Time step.
        kT: Temperature (energy), scalar or ``[n, 1]``.
        gamma: Friction rate (1 / time), scalar or ``[n, 1]``, or a tree of them that
            is a prefix of the positions.
        **sim_kwargs: Must be empty.

    Returns:
        ``(init, step)``:

        - ``init(key, R, mass=1.0, **kwargs)``, whose keywords change nothing: they are
          taken so that one call serves this simulator and others;
        - ``step(state, *, dt, kT, gamma, **kwargs)``, which evaluates the force once
          and passes its keywords to the energy and the shift.

    Raises:
        TypeError: For an option that does not exist; from ``init`` and ``step``, for a
            keyword that looks like a misspelt parameter.

    Example:
        >>> from jax_md import space
        >>> displacement_fn, shift_fn = space.free()
        >>> init, step = brownian(lambda R: (R**2).sum(), shift_fn, dt=1e-3, kT=1.0)
        >>> state = step(init(jax.random.key(0), jax.numpy.ones((4, 3))))

    Source:
        D. L. Ermak, J. A. McCammon, J. Chem. Phys. 69, 1352 (1978), without
        hydrodynamic interactions.
    """
    refuse_unknown("brownian", sim_kwargs)
    force_fn = quantity.canonicalize_force(energy_or_force)

    def init(
        key: Array, R: Position, mass: Any = 1.0, *, kT: Any = kT, **kwargs: Any
    ) -> BrownianState:
        refuse_lookalikes(kwargs, "kT", fns=(energy_or_force,))
        return canonicalize_mass(BrownianState(operators.as_arrays(R), mass, key))

    def step(
        state: BrownianState,
        *,
        dt: Any = dt,
        kT: Any = kT,
        gamma: Any = gamma,
        **kwargs: Any,
    ) -> BrownianState:
        refuse_lookalikes(kwargs, "dt", "kT", "gamma", fns=(energy_or_force, shift))
        force = force_fn(state.position, **kwargs)
        return diffuse(state, shift, force, dt, kT, gamma, **kwargs)

    return Simulator(jax.jit(init), jax.jit(step))
