r"""Constant energy on an integer lattice, reversible to the last bit.

Position Verlet, A B A, is three shears of the lattice, each undone by subtracting the
same integers, so that a gradient may walk the trajectory back instead of storing it
(`jax_md.adjoint.Reversible`).

Source:
    D. Levesque, L. Verlet, J. Stat. Phys. 72, 519 (1993); M. Tuckerman, B. J. Berne,
    G. J. Martyna, J. Chem. Phys. 97, 1990 (1992) for the splitting.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int32

from jax_md import dataclasses, quantity
from jax_md.types import EnergyFn, ForceFn

from .. import operators
from .._keywords import refuse_lookalikes
from ..momenta import start
from .lattice import Lattice, force_at, raise_if_failed
from .simulator import ReversibleSimulator


@dataclasses.dataclass
class NVEReversibleState:
    """State of reversible dynamics; the integers are what is moved.

    Attributes:
        position: Positions read off the lattice, ``[n, d]``.
        momentum: Momenta read off the lattice, ``[n, d]``; NaN after an overflow.
        mass: Masses, ``[]`` or ``[n, 1]``.
        lattice_position: Fractions of the box in units of ``2^-32``, ``[n, d]``.
        lattice_momentum: Momenta in units of ``momentum_range / 2^31``, ``[n, d]``.
        did_overflow: Whether a momentum, a move in one step or a neighbor list was too
            large. Sticky.
        did_stall: Whether particles moved by so few lattice positions in a step that
            rounding changed the motion by percents. Sticky.
        did_exceed_list: Whether it was a neighbor list that overflowed. Sticky.
    """

    position: Float[Array, "n d"]
    momentum: Float[Array, "n d"]
    mass: Any
    lattice_position: Int32[Array, "n d"]
    lattice_momentum: Int32[Array, "n d"]
    did_overflow: Bool[Array, ""]
    did_stall: Bool[Array, ""]
    did_exceed_list: Bool[Array, ""]

    @property
    def velocity(self) -> Float[Array, "n d"]:
        """Momentum over mass."""
        return operators.velocity(self)

    def raise_if_failed(self) -> None:
        """Raise `FloatingPointError` if a flag is set; for hosts, not under `jit`."""
        raise_if_failed(self)


def nve_reversible(
    energy_or_force_fn: EnergyFn | ForceFn,
    box: Any,
    dt: Any = 1e-3,
    *,
    fractional_coordinates: bool = False,
    momentum_range: float = 64.0,
) -> ReversibleSimulator:
    """Integrate Newton's equations at constant energy, reversibly to the last bit.

    The force has to be a function of the positions and of what does not change. A
    neighbor list given as the keyword ``neighbor`` is brought up to date inside the
    step, always from the list that is given.

    Args:
        energy_or_force_fn: Energy or force of positions in the box.
        box: The periodic box, fixed: scalar, ``[d]`` or ``[d, d]`` (length).
        dt: Time step.
        fractional_coordinates: Whether positions are fractions of the box, as in
            `space.periodic_general`.
        momentum_range: Largest component of a momentum that can be represented, rounded
            up to a power of two; the resolution is ``2^-31`` of it.

    Returns:
        ``(init, step, inverse)``:

        - ``init(key, R, kT, mass=1.0, momenta=None, **kwargs)`` draws momenta at `kT`
          (energy) or takes those given, and rounds to the lattice;
        - ``step(state, *, dt, **kwargs)`` takes one step; the force is evaluated once;
        - ``inverse(state, *, dt, **kwargs)`` undoes it.

        Keywords go to the energy.

    Raises:
        ValueError: If `momentum_range` is not positive.
        TypeError: From ``init`` and ``step``, for a keyword that looks like a misspelt
            parameter.

    Example:
        >>> init, step, inverse = nve_reversible(lambda R: (R**2).sum(), 4.0, dt=1e-2)
        >>> state = init(jax.random.key(0), jax.numpy.ones((4, 3)), kT=1.0)
        >>> state = inverse(step(state))
    """
    lattice = Lattice(box, fractional_coordinates, momentum_range)
    force_fn = quantity.canonicalize_force(energy_or_force_fn)

    def init(
        key: Array,
        R: Array,
        kT: Any,
        mass: Any = 1.0,
        momenta: Any = None,
        **kwargs: Any,
    ) -> NVEReversibleState:
        refuse_lookalikes(kwargs, "kT", fns=(energy_or_force_fn,))
        R = jnp.asarray(R)
        no = jnp.asarray(False)
        # Shapes only, where the lattice comes later.
        state: Any = NVEReversibleState(R, R, mass, R, R, no, no, no)
        return lattice.settle(start(state, key, kT, momenta))

    def moved(state: Any, dt: Any, kwargs: dict) -> tuple[NVEReversibleState, Any]:
        refuse_lookalikes(kwargs, "dt", fns=(energy_or_force_fn,))
        state = lattice.drift(state, dt / 2)  # A
        force, state, neighbors = force_at(force_fn, state, kwargs)
        state = lattice.kick(state, force, dt)  # B
        return lattice.drift(state, dt / 2), neighbors  # A

    def step(
        state: NVEReversibleState, *, dt: Any = dt, **kwargs: Any
    ) -> NVEReversibleState:
        return moved(state, dt, kwargs)[0]

    def undo(
        state: NVEReversibleState, *, dt: Any = dt, **kwargs: Any
    ) -> tuple[NVEReversibleState, Any]:
        return moved(state, -dt, kwargs)

    return ReversibleSimulator(
        jax.jit(init), jax.jit(step), jax.jit(undo), jax.jit(lattice.settle)
    )
