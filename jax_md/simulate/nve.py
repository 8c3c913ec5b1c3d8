"""Constant energy: velocity Verlet, B A B."""

from typing import Any

import jax
from jaxtyping import Array

from jax_md import dataclasses, quantity
from jax_md.types import EnergyFn, ForceFn, Position, ShiftFn, Simulator

from . import operators
from ._keywords import refuse_lookalikes, refuse_unknown
from .momenta import start
from .operators import velocity_verlet


@dataclasses.dataclass
class NVEState:
    """State of dynamics at constant energy; `force` is that at `position`."""

    position: Position
    momentum: Position
    force: Position
    mass: Any

    @property
    def velocity(self) -> Position:
        """Momentum over mass."""
        return operators.velocity(self)


def nve(
    energy_or_force_fn: EnergyFn | ForceFn,
    shift_fn: ShiftFn,
    dt: Any = 1e-3,
    **sim_kwargs: Any,
) -> Simulator:
    """Integrate Newton's equations at constant energy.

    Args:
        energy_or_force_fn: Energy or force of the positions.
        shift_fn: Shift function of the space.
        dt: Time step.
        **sim_kwargs: Must be empty.

    Returns:
        ``(init, step)``:

        - ``init(key, R, kT, mass=1.0, momenta=None, **kwargs)`` draws momenta at `kT`
          (energy), or takes those given as they are.
        - ``step(state, *, dt, **kwargs)`` takes one step; the force is evaluated once.

        Keywords go to the energy and the shift.

    Raises:
        TypeError: For an option that does not exist; from ``init`` and ``step``, for a
            keyword that looks like a misspelt parameter.

    Example:
        >>> from jax_md import space
        >>> displacement_fn, shift_fn = space.free()
        >>> init, step = nve(lambda R: (R**2).sum(), shift_fn, dt=1e-2)
        >>> state = step(init(jax.random.key(0), jax.numpy.ones((4, 3)), kT=1.0))

    Source:
        W. C. Swope, H. C. Andersen, P. H. Berens, K. R. Wilson, J. Chem. Phys. 76, 637
        (1982).
    """
    refuse_unknown("nve", sim_kwargs)
    force_fn = quantity.canonicalize_force(energy_or_force_fn)

    def init(
        key: Array,
        R: Position,
        kT: Any,
        mass: Any = 1.0,
        momenta: Any = None,
        **kwargs: Any,
    ) -> NVEState:
        refuse_lookalikes(kwargs, "kT", fns=(energy_or_force_fn,))
        R = operators.as_arrays(R)
        state = NVEState(R, None, force_fn(R, **kwargs), mass)
        return start(state, key, kT, momenta)

    def step(state: NVEState, *, dt: Any = dt, **kwargs: Any) -> NVEState:
        refuse_lookalikes(kwargs, "dt", fns=(energy_or_force_fn, shift_fn))
        return velocity_verlet(force_fn, shift_fn, dt, state, **kwargs)

    return Simulator(jax.jit(init), jax.jit(step))
