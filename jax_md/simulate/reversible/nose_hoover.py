r"""A Nosé-Hoover chain on an integer lattice, reversible to the last bit: N A B A N.

The links are moved in the units of their own equilibrium,
:math:`u_k = \tau \dot\xi_k`, in which no mass is left:

.. math::
    \tau \dot u_0 = \frac{2K}{N_\mathrm{dof} kT} - 1 - u_0 u_1, \quad
    \tau \dot u_1 = N_\mathrm{dof} u_0^2 - 1 - u_1 u_2, \quad
    \tau \dot u_k = u_{k-1}^2 - 1 - u_k u_{k+1}

A move N sweeps down the chain, scales the momenta by :math:`e^{-dt\,u_0/2\tau}`, and
sweeps up. Pulls are shears; the products :math:`u_k u_{k+1}` and the momenta are
multiplications that keep the bits they lose (`multiply`). Everything is odd in the time
step, and the order a palindrome: the inverse is the step of ``-dt``.

Source:
    G. J. Martyna, M. L. Klein, M. Tuckerman, J. Chem. Phys. 97, 2635 (1992);
    G. J. Martyna, M. E. Tuckerman, D. J. Tobias, M. L. Klein, Mol. Phys. 87, 1117
    (1996); D. Levesque, L. Verlet, J. Stat. Phys. 72, 519 (1993).
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int32, UInt32

from jax_md import dataclasses, quantity
from jax_md.types import EnergyFn, ForceFn

from .. import operators
from .._keywords import refuse_lookalikes
from ..momenta import start
from .lattice import Lattice, force_at, raise_if_failed
from .multiply import no_bits, scale
from .rounding import advance, apart, exactly
from .simulator import ReversibleSimulator

# Integers to one, for velocities of links: numbers of order one, up to 64.
_LINK = 2.0**25


@dataclasses.dataclass
class LatticeChain:
    """A chain of thermostats; the integers are what is moved.

    Attributes:
        velocity: ``u_k``, velocities times `tau`, ``[c]``.
        heat: What the bath took up so far, over ``kT``: ``N xi_0 + xi_1 + ..``.
        tau: Period (time).
        lattice_velocity: Velocities in units of ``2^-25``, ``[c]``.
        lattice_heat: Heat as an integer.
        lost_bits: What products of velocities rounded off, ``[words, c]``.
        degrees_of_freedom: Those that are thermostatted.
    """

    velocity: Float[Array, " c"]
    heat: Float[Array, ""]
    tau: Float[Array, ""]
    lattice_velocity: Int32[Array, " c"]
    lattice_heat: Int32[Array, ""]
    lost_bits: UInt32[Array, "w c"]
    degrees_of_freedom: int = dataclasses.static_field()


@dataclasses.dataclass
class NVTNoseHooverReversibleState:
    """State of a thermostatted system; the integers are what is moved.

    Attributes:
        position: Positions read off the lattice, ``[n, d]``.
        momentum: Momenta read off the lattice, ``[n, d]``; NaN after an overflow.
        mass: Masses, ``[]`` or ``[n, 1]``.
        chain: The thermostats.
        lattice_position: Fractions of the box in units of ``2^-32``, ``[n, d]``.
        lattice_momentum: Momenta in units of ``momentum_range / 2^31``, ``[n, d]``.
        lost_bits: What the scaling of momenta rounded off, ``[words, n, d]``.
        did_overflow: Whether a momentum, a move in one step, a link of the chain or a
            neighbor list was too large. Sticky.
        did_stall: Whether particles moved by so few lattice positions in a step that
            rounding changed the motion by percents. Sticky.
        did_exceed_list: Whether it was a neighbor list that overflowed. Sticky.
        did_forget: Whether lost bits had no room: the run goes on rightly, but cannot
            be undone. Sticky.
    """

    position: Float[Array, "n d"]
    momentum: Float[Array, "n d"]
    mass: Any
    chain: LatticeChain
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


def nvt_nose_hoover_reversible(
    energy_or_force_fn: EnergyFn | ForceFn,
    box: Any,
    dt: Any,
    kT: Any,
    chain_length: int = 3,
    chain_steps: int = 1,
    tau: Any = None,
    *,
    fractional_coordinates: bool = False,
    momentum_range: float = 64.0,
    words: int = 4,
) -> ReversibleSimulator:
    """Sample the canonical ensemble with a chain, reversibly to the last bit.

    `nvt_nose_hoover_reversible_invariant` is conserved. Momenta lose about
    ``2 dt |u_0| / tau`` bits in a step in which they are slowed down, and take half as
    many back in one in which they are sped up; `words` times four bytes for each
    component keep them. With ``u_0`` of about ``N^-1/2`` they last for 100,000 steps
    and more.

    Args:
        energy_or_force_fn: Energy or force of positions in the box. A neighbor list
            given as ``neighbor`` is brought up to date inside the step.
        box: The periodic box, fixed: scalar, ``[d]`` or ``[d, d]`` (length).
        dt: Time step.
        kT: Temperature (energy).
        chain_length: Links of the chain.
        chain_steps: Parts into which a half step of the chain is cut.
        tau: Period of the thermostat, an absolute time; 100 `dt` by default.
        fractional_coordinates: Whether positions are fractions of the box.
        momentum_range: Largest component of a momentum that can be represented, rounded
            up to a power of two; the resolution is ``2^-31`` of it.
        words: Room for the lost bits, in words of 32 bits for each component.

    Returns:
        ``(init, step, inverse)``:

        - ``init(key, R, mass=1.0, momenta=None, *, kT, **kwargs)``;
        - ``step(state, *, dt, kT, **kwargs)`` evaluates the force once. All degrees of
          freedom count, those of the center of mass included. The links keep
          their velocities, not their momenta, when `kT` changes;
        - ``inverse(state, *, dt, kT, **kwargs)`` undoes it.

        Keywords go to the energy.

    Raises:
        ValueError: If a count is less than one, or `momentum_range` not positive.
        TypeError: From ``init`` and ``step``, for a keyword that looks like a misspelt
            parameter.
    """
    counts = {"chain_length": chain_length, "chain_steps": chain_steps, "words": words}
    for name, count in counts.items():
        if count < 1:
            raise ValueError(f"`{name}` must be at least 1; got {count}.")
    lattice = Lattice(box, fractional_coordinates, momentum_range)
    force_fn = quantity.canonicalize_force(energy_or_force_fn)
    tau = 100 * dt if tau is None else tau

    def init(
        key: Array,
        R: Array,
        mass: Any = 1.0,
        momenta: Any = None,
        *,
        kT: Any = kT,
        **kwargs: Any,
    ) -> NVTNoseHooverReversibleState:
        refuse_lookalikes(kwargs, "kT", fns=(energy_or_force_fn,))
        R = jnp.asarray(R)
        no, zero = jnp.asarray(False), jnp.zeros((), R.dtype)
        chain = LatticeChain(
            velocity=jnp.zeros(chain_length, R.dtype),
            heat=zero,
            tau=jnp.asarray(tau, R.dtype),
            lattice_velocity=jnp.zeros(chain_length, jnp.int32),
            lattice_heat=jnp.int32(0),
            lost_bits=no_bits(words, (chain_length,)),
            degrees_of_freedom=int(quantity.count_dof(R)),
        )
        bits = no_bits(words, R.shape)
        # Shapes only, where the lattice comes later.
        state: Any = NVTNoseHooverReversibleState(
            R, R, mass, chain, R, R, bits, no, no, no, no
        )
        return lattice.settle(start(state, key, kT, momenta))

    def rescale(state: Any, dt: Any) -> NVTNoseHooverReversibleState:
        """Scale the momenta, and count the heat that goes with it."""
        chain, p = state.chain, state.momentum
        time = jnp.asarray(dt, p.dtype) / chain.tau
        u, dof = chain.velocity, chain.degrees_of_freedom
        flow = time * (dof * u[0] + jnp.sum(u[1:]))
        unit = _heat_unit(dof)
        heat, fine = advance(chain.lattice_heat, apart(flow), unit)
        chain = chain.set(
            lattice_heat=heat,
            heat=exactly(heat.astype(p.dtype) / unit, chain.heat + flow),
        )
        x = time * u[0]
        value, bits, kept, good = scale(state.lattice_momentum, state.lost_bits, x)
        state = state.set(
            chain=chain, lost_bits=bits, did_forget=state.did_forget | ~kept
        )
        return lattice.set_momentum(state, value, jnp.exp(-x) * p, good & fine)

    def half_step(state: Any, dt: Any, kT: Any) -> NVTNoseHooverReversibleState:
        for _ in range(chain_steps):
            state = _sweep(state, dt / chain_steps / 2, kT, down=True)
            state = rescale(state, dt / chain_steps)
            state = _sweep(state, dt / chain_steps / 2, kT, down=False)
        return state

    def moved(
        state: Any, dt: Any, kT: Any, kwargs: dict
    ) -> tuple[NVTNoseHooverReversibleState, Any]:
        refuse_lookalikes(kwargs, "dt", "kT", fns=(energy_or_force_fn,))
        state = half_step(state, dt / 2, kT)  # N
        state = lattice.drift(state, dt / 2)  # A
        force, state, neighbors = force_at(force_fn, state, kwargs)
        state = lattice.kick(state, force, dt)  # B
        state = lattice.drift(state, dt / 2)  # A
        return half_step(state, dt / 2, kT), neighbors  # N

    def step(
        state: NVTNoseHooverReversibleState,
        *,
        dt: Any = dt,
        kT: Any = kT,
        **kwargs: Any,
    ) -> NVTNoseHooverReversibleState:
        return moved(state, dt, kT, kwargs)[0]

    def undo(
        state: NVTNoseHooverReversibleState,
        *,
        dt: Any = dt,
        kT: Any = kT,
        **kwargs: Any,
    ) -> tuple[NVTNoseHooverReversibleState, Any]:
        # The way back from a state that forgot is not known: say so.
        state = dataclasses.replace(
            state, did_overflow=state.did_overflow | state.did_forget
        )
        return moved(state, -dt, kT, kwargs)

    return ReversibleSimulator(
        jax.jit(init), jax.jit(step), jax.jit(undo), jax.jit(lattice.settle)
    )


def nvt_nose_hoover_reversible_invariant(
    energy_fn: EnergyFn, state: NVTNoseHooverReversibleState, kT: Any, **kwargs: Any
) -> Array:
    """Energy of system and thermostats together, which the dynamics conserves.

    Args:
        energy_fn: Energy of the positions.
        state: State of the simulation.
        kT: Temperature it is held at (energy).
        **kwargs: Passed to `energy_fn`.
    """
    chain = state.chain
    square = jnp.square(chain.velocity)
    kinetic = (chain.degrees_of_freedom * square[0] + jnp.sum(square[1:])) / 2
    bath = jnp.asarray(kT, square.dtype) * (kinetic + chain.heat)
    U = jnp.asarray(energy_fn(state.position, **kwargs))
    return U + operators.kinetic_energy(state) + bath


def _heat_unit(dof: int) -> float:
    """Integers to one ``kT``: up to 64 of them for each degree of freedom."""
    return float(2.0 ** (25 - np.ceil(np.log2(dof))))


def _sweep(state: Any, dt: Any, kT: Any, down: bool) -> Any:
    """Move each link after the other, down the chain or up."""
    chain = state.chain
    dof, length = chain.degrees_of_freedom, len(chain.velocity)
    dtype = chain.velocity.dtype
    time = jnp.asarray(dt, dtype) / chain.tau
    energy = apart(operators.kinetic_energy(state))
    first = 2 * energy / (dof * jnp.asarray(kT, dtype)) - 1

    def move(carry: tuple, m: Array) -> tuple[tuple, None]:
        chain, kept, good = carry
        u = jnp.concatenate([chain.velocity, jnp.zeros(1, dtype)])
        before = jnp.where(m == 1, dof, 1) * jnp.square(u[m - 1]) - 1
        pull = apart(time * jnp.where(m == 0, first, before))
        x = time * u[m + 1]
        n, bits, smooth = chain.lattice_velocity[m], chain.lost_bits[:, m], u[m]
        # A palindrome: what comes first on the way down comes last on the way up.
        for kind in "scale kick".split() if down else "kick scale".split():
            if kind == "kick":
                n, fine = advance(n, pull, _LINK)
                smooth = smooth + pull
            else:
                n, bits, all_kept, fine = scale(n, bits, x)
                kept = kept & all_kept
                smooth = jnp.exp(-x) * smooth
            good = good & fine
        value = exactly(n.astype(dtype) / jnp.asarray(_LINK, dtype), smooth)
        chain = chain.set(
            velocity=chain.velocity.at[m].set(value),
            lattice_velocity=chain.lattice_velocity.at[m].set(n),
            lost_bits=chain.lost_bits.at[:, m].set(bits),
        )
        return (chain, kept, good), None

    # A loop, not an unrolled program, which would take longer to compile.
    links = jnp.arange(length)
    yes = jnp.asarray(True)
    order = links[::-1] if down else links
    (chain, kept, good), _ = jax.lax.scan(move, (chain, yes, yes), order)
    return state.set(
        chain=chain,
        did_forget=state.did_forget | ~kept,
        did_overflow=state.did_overflow | ~good,
    )
