r"""Langevin dynamics on an integer lattice, reversible to the last bit: B A O A B.

Kicks and drifts are shears. The exchange with the bath,
:math:`p \leftarrow e^{-\gamma dt} p + \text{noise}`, is a multiplication that keeps the
bits it loses (`multiply`), and an addition of noise that is a function of the key and
of the number of the step: on the way back it is drawn again and subtracted.

Source:
    B. Leimkuhler, C. Matthews, Appl. Math. Res. Express 2013, 34 (2013) for the
    splitting; D. Levesque, L. Verlet, J. Stat. Phys. 72, 519 (1993); D. Maclaurin, D.
    Duvenaud, R. P. Adams, Proc. ICML 37, 2113 (2015) for the lost bits.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int32, UInt32

from jax_md import dataclasses, quantity
from jax_md.types import EnergyFn, ForceFn

from .. import operators
from .._keywords import refuse_lookalikes
from ..momenta import start
from .lattice import Lattice, force_at, raise_if_failed
from .multiply import no_bits, scale
from .rounding import advance, apart
from .simulator import ReversibleSimulator


@dataclasses.dataclass
class NVTLangevinReversibleState:
    """State of reversible Langevin dynamics; the integers are what is moved.

    Attributes:
        position: Positions read off the lattice, ``[n, d]``.
        momentum: Momenta read off the lattice, ``[n, d]``; NaN after an overflow.
        force: Force at the positions, ``[n, d]``.
        mass: Masses, ``[]`` or ``[n, 1]``.
        rng: Random key, the same throughout.
        count: Number of the step, which noise is drawn by.
        first_force: Force that the run began with, ``[n, d]``.
        first_count: Number of the step that it began with.
        lattice_position: Fractions of the box in units of ``2^-32``, ``[n, d]``.
        lattice_momentum: Momenta in units of ``momentum_range / 2^31``, ``[n, d]``.
        lost_bits: What the friction rounded off, ``[words, n, d]``.
        did_overflow: Whether a momentum, a move in one step or a neighbor list was too
            large, or ``gamma dt`` above ``ln 2``. Sticky.
        did_stall: Whether particles moved by so few lattice positions in a step that
            rounding changed the motion by percents. Sticky.
        did_exceed_list: Whether it was a neighbor list that overflowed. Sticky.
        did_forget: Whether `lost_bits` had no room: the run goes on rightly, but cannot
            be undone. Sticky.
    """

    position: Float[Array, "n d"]
    momentum: Float[Array, "n d"]
    force: Float[Array, "n d"]
    mass: Any
    rng: Array
    count: Int32[Array, ""]
    first_force: Float[Array, "n d"]
    first_count: Int32[Array, ""]
    lattice_position: Int32[Array, "n d"]
    lattice_momentum: Int32[Array, "n d"]
    lost_bits: UInt32[Array, "w n d"]
    did_overflow: Bool[Array, ""]
    did_stall: Bool[Array, ""]
    did_exceed_list: Bool[Array, ""]
    did_forget: Bool[Array, ""]

    @property
    def velocity(self) -> Float[Array, "n d"]:
        """Momentum over mass."""
        return operators.velocity(self)

    def raise_if_failed(self) -> None:
        """Raise `FloatingPointError` if a flag is set; for hosts, not under `jit`."""
        raise_if_failed(self)


def nvt_langevin_reversible(
    energy_or_force_fn: EnergyFn | ForceFn,
    box: Any,
    dt: Any,
    kT: Any,
    gamma: Any = 0.1,
    *,
    fractional_coordinates: bool = False,
    momentum_range: float = 64.0,
    words: int = 4,
    center_velocity: bool = True,
) -> ReversibleSimulator:
    r"""Integrate Langevin's equation at a temperature, reversibly to the last bit.

    .. math:: dp = F\,dt - \gamma p\,dt + \sqrt{2 m \gamma k_B T}\,dW

    The friction loses about :math:`2 \gamma dt` bits of each component of a momentum in
    a step. They are kept, in `words` times four bytes a component, which last for
    about ``16 words / (gamma dt)`` steps.

    Args:
        energy_or_force_fn: Energy or force of positions in the box. A neighbor list
            given as ``neighbor`` is brought up to date inside the step.
        box: The periodic box, fixed: scalar, ``[d]`` or ``[d, d]`` (length).
        dt: Time step.
        kT: Temperature (energy).
        gamma: Friction rate (1 / time), scalar or ``[n, 1]``; ``gamma dt < ln 2``.
        fractional_coordinates: Whether positions are fractions of the box.
        momentum_range: Largest component of a momentum that can be represented, rounded
            up to a power of two; the resolution is ``2^-31`` of it.
        words: Room for the lost bits, in words of 32 bits for each component.
        center_velocity: Whether momenta drawn by ``init`` have their mean taken off.

    Returns:
        ``(init, step, inverse)``, and ``refresh`` as an attribute:

        - ``init(key, R, mass=1.0, momenta=None, *, kT, **kwargs)``;
        - ``step(state, *, dt, kT, gamma, **kwargs)`` evaluates the force once;
        - ``inverse(state, *, dt, kT, gamma, **kwargs)`` undoes it;
        - ``refresh(state, **kwargs)`` evaluates the force at the positions.

        Keywords go to the energy. All of them have to be those of the force that the
        state holds, or the first step cannot be undone: call ``refresh`` after a
        change. `adjoint.rollout` does so at its start.

    Raises:
        ValueError: If `momentum_range` is not positive, or `words` less than one.
        TypeError: From ``init`` and ``step``, for a keyword that looks like a misspelt
            parameter.
    """
    if words < 1:
        raise ValueError(f"`words` must be at least 1; got {words}.")
    lattice = Lattice(box, fractional_coordinates, momentum_range)
    force_fn = quantity.canonicalize_force(energy_or_force_fn)

    def evaluate(state: Any, kwargs: dict) -> tuple[NVTLangevinReversibleState, Any]:
        force, state, neighbors = force_at(force_fn, state, kwargs)
        return state.set(force=force), neighbors

    def refresh(
        state: NVTLangevinReversibleState, **kwargs: Any
    ) -> NVTLangevinReversibleState:
        # Parameters of the step may come along; they are none of the energy's.
        names = ("dt", "kT", "gamma")
        kwargs = {key: x for key, x in kwargs.items() if key not in names}
        state, _ = evaluate(state, kwargs)
        first = jax.lax.stop_gradient(state.force)
        return dataclasses.replace(state, first_force=first, first_count=state.count)

    def init(
        key: Array,
        R: Array,
        mass: Any = 1.0,
        momenta: Any = None,
        *,
        kT: Any = kT,
        **kwargs: Any,
    ) -> NVTLangevinReversibleState:
        refuse_lookalikes(kwargs, "kT", fns=(energy_or_force_fn,))
        rng, draw = jax.random.split(key)
        R = jnp.asarray(R)
        no, count = jnp.asarray(False), jnp.int32(0)
        bits = no_bits(words, R.shape)
        # Shapes only, where the lattice comes later.
        state: Any = NVTLangevinReversibleState(
            R, R, R, mass, rng, count, R, count, R, R, bits, no, no, no, no
        )
        state = lattice.settle(start(state, draw, kT, momenta, center=center_velocity))
        return refresh(state, **kwargs)

    def bath(state: Any, dt: Any, kT: Any, gamma: Any) -> tuple[Array, Array, Array]:
        """Logarithm of the damping; noise; the momenta after both."""
        p = state.momentum
        m, T, rate = (jnp.asarray(y, p.dtype) for y in (state.mass, kT, gamma))
        x = apart(rate * jnp.asarray(dt, p.dtype))
        width = operators.safe_sqrt(-m * T * jnp.expm1(-2 * x))
        key = jax.random.fold_in(state.rng, state.count)
        push = apart(width * operators.noise(key, p))
        return x, push, jnp.exp(-x) * p + push

    def damped(state: Any, x: Array) -> tuple[Any, Array]:
        p, bits, kept, good = scale(state.lattice_momentum, state.lost_bits, x)
        state = state.set(
            lattice_momentum=p, lost_bits=bits, did_forget=state.did_forget | ~kept
        )
        return state, good

    def thermalize(state: Any, *parameters: Any) -> NVTLangevinReversibleState:
        x, push, smooth = bath(state, *parameters)
        state, good = damped(state, x)
        p, fine = advance(state.lattice_momentum, push, lattice.unit)
        state = lattice.set_momentum(state, p, smooth, good & fine)
        return state.set(count=state.count + 1)

    def unthermalize(state: Any, *parameters: Any) -> NVTLangevinReversibleState:
        state = state.set(count=state.count - 1)
        x, push, _ = bath(state, *parameters)
        p, fine = advance(state.lattice_momentum, -push, lattice.unit)
        state, good = damped(state.set(lattice_momentum=p), -x)
        p = state.lattice_momentum
        return lattice.set_momentum(state, p, state.momentum, good & fine)

    def step(
        state: NVTLangevinReversibleState,
        *,
        dt: Any = dt,
        kT: Any = kT,
        gamma: Any = gamma,
        **kwargs: Any,
    ) -> NVTLangevinReversibleState:
        refuse_lookalikes(kwargs, "dt", "kT", "gamma", fns=(energy_or_force_fn,))
        state = lattice.kick(state, state.force, dt / 2)  # B
        state = lattice.drift(state, dt / 2)  # A
        state = thermalize(state, dt, kT, gamma)  # O
        state = lattice.drift(state, dt / 2)  # A
        state, _ = evaluate(state, kwargs)
        return lattice.kick(state, state.force, dt / 2)  # B

    def undo(
        state: NVTLangevinReversibleState,
        *,
        dt: Any = dt,
        kT: Any = kT,
        gamma: Any = gamma,
        **kwargs: Any,
    ) -> tuple[NVTLangevinReversibleState, Any]:
        refuse_lookalikes(kwargs, "dt", "kT", "gamma", fns=(energy_or_force_fn,))
        # The way back from here is not known: say so.
        state = dataclasses.replace(
            state, did_overflow=state.did_overflow | state.did_forget
        )
        state = lattice.kick(state, state.force, -dt / 2)  # B
        state = lattice.drift(state, -dt / 2)  # A
        state = unthermalize(state, dt, kT, gamma)  # O
        state = lattice.drift(state, -dt / 2)  # A
        state, neighbors = evaluate(state, kwargs)
        # The first force was computed by another program, whose last bits may differ.
        first = state.count == state.first_count
        state = dataclasses.replace(
            state, force=jnp.where(first, state.first_force, state.force)
        )
        return lattice.kick(state, state.force, -dt / 2), neighbors  # B

    return ReversibleSimulator(
        jax.jit(init),
        jax.jit(step),
        jax.jit(undo),
        jax.jit(lattice.settle),
        jax.jit(refresh),
    )
