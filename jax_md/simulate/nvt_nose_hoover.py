"""Constant temperature, deterministic: velocity Verlet and a Nosé-Hoover chain."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from jax_md import dataclasses, quantity
from jax_md.types import EnergyFn, ForceFn, Position, ShiftFn, Simulator

from . import operators
from ._keywords import refuse_lookalikes, refuse_unknown
from .momenta import start
from .nose_hoover import NoseHooverChain, chain_energy, nose_hoover_chain
from .operators import kinetic_energy, velocity_verlet


@dataclasses.dataclass
class NVTNoseHooverState:
    """State of a thermostatted system; `force` is that at `position`."""

    position: Position
    momentum: Position
    force: Position
    mass: Any
    chain: NoseHooverChain

    @property
    def velocity(self) -> Position:
        """Momentum over mass."""
        return operators.velocity(self)


def nvt_nose_hoover(
    energy_or_force_fn: EnergyFn | ForceFn,
    shift_fn: ShiftFn,
    dt: Any,
    kT: Any,
    chain_length: int = 5,
    chain_steps: int = 2,
    sy_steps: int = 3,
    tau: Any = None,
    **sim_kwargs: Any,
) -> Simulator:
    """Sample the canonical ensemble with a chain of Nosé-Hoover thermostats.

    A step is half a step of the chain, a step of velocity Verlet, and half a step of
    the chain. `nvt_nose_hoover_invariant` is conserved.

    Args:
        energy_or_force_fn: Energy or force of the positions.
        shift_fn: Shift function of the space.
        dt: Time step.
        kT: Temperature (energy).
        chain_length: Links of the chain.
        chain_steps: Parts into which a half step of the chain is cut.
        sy_steps: Suzuki-Yoshida substeps of each part: 1, 3, 5 or 7.
        tau: Period of the thermostat, an absolute time; 100 `dt` by default.
        **sim_kwargs: Must be empty.

    Returns:
        ``(init, step)``:

        - ``init(key, R, mass=1.0, momenta=None, *, kT, **kwargs)``;
        - ``step(state, *, dt, kT, **kwargs)``, which evaluates the force once. All
          degrees of freedom count, those of the center of mass included.

        Keywords go to the energy and the shift.

    Raises:
        ValueError: If an option of the chain is out of range.
        TypeError: For an option that does not exist; from ``init`` and ``step``, for a
            keyword that looks like a misspelt parameter.

    Source:
        G. J. Martyna, M. L. Klein, M. Tuckerman, J. Chem. Phys. 97, 2635 (1992).
    """
    refuse_unknown("nvt_nose_hoover", sim_kwargs)
    force_fn = quantity.canonicalize_force(energy_or_force_fn)
    tau = 100 * dt if tau is None else tau
    chain_fns = nose_hoover_chain(dt, chain_length, chain_steps, sy_steps, tau)

    def init(
        key: Array,
        R: Position,
        mass: Any = 1.0,
        momenta: Any = None,
        *,
        kT: Any = kT,
        **kwargs: Any,
    ) -> NVTNoseHooverState:
        refuse_lookalikes(kwargs, "kT", fns=(energy_or_force_fn,))
        R = operators.as_arrays(R)
        later: Any = None
        F = force_fn(R, **kwargs)
        state: Any = NVTNoseHooverState(R, later, F, mass, later)
        state = start(state, key, kT, momenta)
        dof = quantity.count_dof(R)
        return state.set(chain=chain_fns.initialize(dof, kinetic_energy(state), kT))

    def step(
        state: NVTNoseHooverState, *, dt: Any = dt, kT: Any = kT, **kwargs: Any
    ) -> NVTNoseHooverState:
        refuse_lookalikes(kwargs, "dt", "kT", fns=(energy_or_force_fn, shift_fn))
        chain = chain_fns.update_mass(state.chain, kT)
        momentum, chain = chain_fns.half_step(state.momentum, chain, kT, dt)
        state = dataclasses.replace(state, momentum=momentum)
        state = velocity_verlet(force_fn, shift_fn, dt, state, **kwargs)
        chain = dataclasses.replace(chain, kinetic_energy=kinetic_energy(state))
        momentum, chain = chain_fns.half_step(state.momentum, chain, kT, dt)
        return dataclasses.replace(state, momentum=momentum, chain=chain)

    return Simulator(jax.jit(init), jax.jit(step))


def nvt_nose_hoover_invariant(
    energy_fn: EnergyFn, state: NVTNoseHooverState, kT: Any, **kwargs: Any
) -> Array:
    """Energy of system and thermostats together, which the dynamics conserves.

    Args:
        energy_fn: Energy of the positions.
        state: State of the simulation.
        kT: Temperature it is held at (energy).
        **kwargs: Passed to `energy_fn`.
    """
    U = jnp.asarray(energy_fn(state.position, **kwargs))
    return U + kinetic_energy(state) + chain_energy(state.chain, kT)
