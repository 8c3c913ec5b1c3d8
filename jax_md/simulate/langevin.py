"""Constant temperature by friction and noise: Langevin dynamics, B A O A B."""

from typing import Any

import jax
from jaxtyping import Array

from jax_md import dataclasses, quantity
from jax_md.types import EnergyFn, ForceFn, Position, ShiftFn, Simulator

from . import operators
from ._keywords import refuse_lookalikes, refuse_unknown
from .momenta import start
from .operators import drift, kick, refresh, thermalize


@dataclasses.dataclass
class NVTLangevinState:
    """State of Langevin dynamics; `force` is that at `position`."""

    position: Position
    momentum: Position
    force: Position
    mass: Any
    rng: Array

    @property
    def velocity(self) -> Position:
        """Momentum over mass."""
        return operators.velocity(self)


def nvt_langevin(
    energy_or_force_fn: EnergyFn | ForceFn,
    shift_fn: ShiftFn,
    dt: Any,
    kT: Any,
    gamma: Any = 0.1,
    center_velocity: bool = True,
    **sim_kwargs: Any,
) -> Simulator:
    r"""Integrate Langevin's equation at a temperature.

    .. math:: dp = F\,dt - \gamma p\,dt + \sqrt{2 m \gamma k_B T}\,dW

    The splitting B A O A B samples positions of a harmonic well without an error in
    the time step.

    Args:
        energy_or_force_fn: Energy or force of the positions.
        shift_fn: Shift function of the space.
        dt: Time step.
        kT: Temperature (energy).
        gamma: Friction rate (1 / time), scalar or ``[n, 1]``, or a tree of them that
            is a prefix of the positions.
        center_velocity: Whether momenta drawn by ``init`` have their mean taken off.
            Later, the noise moves the center of mass, as it should: nothing is taken
            off by a step, and given momenta are left alone.
        **sim_kwargs: Must be empty.

    Returns:
        ``(init, step)``:

        - ``init(key, R, mass=1.0, momenta=None, *, kT, **kwargs)``;
        - ``step(state, *, dt, kT, gamma, **kwargs)``, which evaluates the force once.

        Keywords go to the energy and the shift.

    Raises:
        TypeError: For an option that does not exist; from ``init`` and ``step``, for a
            keyword that looks like a misspelt parameter.

    Source:
        B. Leimkuhler, C. Matthews, Appl. Math. Res. Express 2013, 34 (2013);
        R. L. Davidchack, T. E. Ouldridge, M. V. Tretyakov, J. Chem. Phys. 142, 144114
        (2015).
    """
    refuse_unknown("nvt_langevin", sim_kwargs)
    force_fn = quantity.canonicalize_force(energy_or_force_fn)

    def init(
        key: Array,
        R: Position,
        mass: Any = 1.0,
        momenta: Any = None,
        *,
        kT: Any = kT,
        **kwargs: Any,
    ) -> NVTLangevinState:
        refuse_lookalikes(kwargs, "kT", fns=(energy_or_force_fn,))
        rng, draw = jax.random.split(key)
        R = operators.as_arrays(R)
        state = NVTLangevinState(R, None, force_fn(R, **kwargs), mass, rng)
        return start(state, draw, kT, momenta, center=center_velocity)

    def step(
        state: NVTLangevinState,
        *,
        dt: Any = dt,
        kT: Any = kT,
        gamma: Any = gamma,
        **kwargs: Any,
    ) -> NVTLangevinState:
        fns = (energy_or_force_fn, shift_fn)
        refuse_lookalikes(kwargs, "dt", "kT", "gamma", fns=fns)
        state = kick(state, dt / 2)  # B
        state = drift(state, shift_fn, dt / 2, **kwargs)  # A
        state = thermalize(state, dt, kT, gamma)  # O
        state = drift(state, shift_fn, dt / 2, **kwargs)  # A
        state = refresh(state, force_fn, **kwargs)
        return kick(state, dt / 2)  # B

    return Simulator(jax.jit(init), jax.jit(step))
