r"""Constant energy on an integer lattice, reversible to the last bit.

Positions are 32-bit integers, :math:`2^{32}` of them to a box edge, so that wraparound
of the integers is that of the box; momenta are 32-bit integers, too. Position Verlet,
A B A, adds to each a rounded function of the other: three shears, each undone by
subtracting the same integers. Floating-point positions and momenta are read off the
integers and carry the derivatives of the plain step, so that a gradient may walk the
trajectory back instead of storing it (`jax_md.adjoint.Reversible`).

Source:
    D. Levesque, L. Verlet, J. Stat. Phys. 72, 519 (1993); M. Tuckerman, B. J. Berne,
    G. J. Martyna, J. Chem. Phys. 97, 1990 (1992) for the splitting.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int32

from jax_md import adjoint, dataclasses, quantity, space
from jax_md.types import EnergyFn, ForceFn

from . import operators
from ._keywords import refuse_lookalikes
from .momenta import start

# Positions per box edge, exact in every floating-point type that is used.
_EDGE = 2.0**32
# The largest change of a 32-bit integer in one move that can still be told from none.
_LARGEST = 2.0**30
# Moves shorter than this, in positions of the lattice, are rounded by some percent.
_FINEST = 16


@dataclasses.dataclass
class NVEReversibleState:
    """State of reversible dynamics; the integers are what is moved.

    Attributes:
        position: Positions read off the lattice, ``[n, d]``.
        momentum: Momenta read off the lattice, ``[n, d]``; NaN after an overflow.
        mass: Masses, ``[]`` or ``[n, 1]``.
        lattice_position: Fractions of the box in units of ``2^-32``, ``[n, d]``.
        lattice_momentum: Momenta in units of ``momentum_range / 2^31``, ``[n, d]``.
        did_overflow: Whether a momentum, or a move in one step, was too large. Sticky.
        did_stall: Whether particles moved by so few lattice positions in a step that
            rounding changed the motion by percents. Sticky.
    """

    position: Float[Array, "n d"]
    momentum: Float[Array, "n d"]
    mass: Any
    lattice_position: Int32[Array, "n d"]
    lattice_momentum: Int32[Array, "n d"]
    did_overflow: Bool[Array, ""]
    did_stall: Bool[Array, ""]

    @property
    def velocity(self) -> Float[Array, "n d"]:
        """Momentum over mass."""
        return operators.velocity(self)

    def raise_if_failed(self) -> None:
        """Raise `FloatingPointError` if a flag is set; for hosts, not under `jit`."""
        if np.any(self.did_overflow):
            raise FloatingPointError(
                "a momentum or a move left the range of the integer lattice. Raise "
                "`momentum_range`, or lower `dt`."
            )
        if np.any(self.did_stall):
            raise FloatingPointError(
                f"particles moved by less than {_FINEST} positions of the lattice in "
                "half a step, where rounding changes the motion. Raise `dt`, or use "
                "`simulate.nve`."
            )


class ReversibleSimulator(NamedTuple):
    """A simulator and the inverse of its step; see `nve_reversible`."""

    init: Callable[..., NVEReversibleState]
    step: Callable[..., NVEReversibleState]
    inverse: Callable[..., NVEReversibleState]

    def for_adjoint(self, keywords: Callable[[Any], dict]) -> adjoint.ReversibleStep:
        """Return the step and its inverse as functions of parameters and a state.

        Args:
            keywords: ``keywords(params)``, the keywords of the step, such as
                ``lambda params: dict(sigma=params)``.
        """
        return adjoint.ReversibleStep(
            lambda params, state: self.step(state, **keywords(params)),
            lambda params, state: self.inverse(state, **keywords(params)),
        )


@jax.custom_jvp
def _exactly(value: Array, smooth: Array) -> Array:
    """`value`, with the derivatives of `smooth`."""
    return value


@_exactly.defjvp
def _exactly_rule(primals: Any, tangents: Any) -> tuple[Array, Array]:
    return primals[0], tangents[1]


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
    neighbor list given as a keyword has to serve the whole run as it is; one that the
    energy itself updates, each time from the same list, is rebuilt as needed.

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
    if not momentum_range > 0:
        raise ValueError(
            f"`momentum_range` must be a positive momentum; got {momentum_range}."
        )
    force_fn = quantity.canonicalize_force(energy_or_force_fn)
    _, shift_fn = space.periodic_general(box, fractional_coordinates)
    built = jax.lax.stop_gradient(jnp.asarray(box))
    back = space.inverse(built)
    # Powers of two, so that reading a momentum off the lattice rounds nothing else.
    unit = 2.0 ** (31 - np.ceil(np.log2(momentum_range)))

    def to_fraction(R: Array) -> Array:
        """Real-space vectors as fractions of the box."""
        return space.raw_transform(back.astype(R.dtype), R)

    def read_position(q: Array, dtype: Any) -> Array:
        s = q.astype(dtype) / jnp.asarray(_EDGE, dtype)
        s = s - jnp.floor(s)
        # Rounding may have made it one.
        s = jnp.where(s < 1, s, 0)
        if fractional_coordinates:
            return s
        return _apart(space.raw_transform(built.astype(dtype), _apart(s)))

    def read_momentum(p: Array, failed: Array, dtype: Any) -> Array:
        return jnp.where(failed, jnp.nan, p.astype(dtype) / jnp.asarray(unit, dtype))

    def rounded(x: Array, limit: float = _LARGEST) -> tuple[Array, Array]:
        """Nearest integers, and whether all of them are in range."""
        good = jnp.all(jnp.abs(x) < limit)  # False for NaN, too
        return jnp.where(good, jnp.round(x), 0).astype(jnp.int32), good

    def drift(state: Any, dt: Any, sign: int) -> NVEReversibleState:
        R = state.position
        step = operators.velocity(state) * jnp.asarray(dt, R.dtype)
        smooth = shift_fn(R, sign * step)
        fraction = jax.lax.stop_gradient(to_fraction(step))
        move, good = rounded(_apart(fraction * jnp.asarray(_EDGE, R.dtype)))
        q = state.lattice_position + sign * move
        square = jnp.mean(jnp.square(move.astype(R.dtype)))
        moving = jnp.any(state.lattice_momentum != 0)
        return state.set(
            position=_exactly(read_position(q, R.dtype), smooth),
            lattice_position=q,
            did_overflow=state.did_overflow | ~good,
            did_stall=state.did_stall | (moving & (square < _FINEST**2)),
        )

    def kick(state: Any, dt: Any, sign: int, **kwargs: Any) -> NVEReversibleState:
        P, old = state.momentum, state.lattice_momentum
        force = force_fn(_apart(state.position), **kwargs)
        impulse = force * jnp.asarray(dt, P.dtype)
        exact = jax.lax.stop_gradient(impulse) * jnp.asarray(unit, P.dtype)
        push, good = rounded(_apart(exact))
        new = old + sign * push
        # An addition of integers that wraps around comes out on the wrong side.
        up, down = sign * push > 0, sign * push < 0
        wrapped = jnp.any((up & (new <= old)) | (down & (new >= old)))
        failed = state.did_overflow | ~good | wrapped
        exact = read_momentum(new, failed, P.dtype)
        return state.set(
            momentum=_exactly(exact, P + sign * impulse),
            lattice_momentum=new,
            did_overflow=failed,
        )

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
        state: Any = NVEReversibleState(R, R, mass, R, R, no, no)  # shapes only
        state = start(state, key, kT, momenta)
        s = jax.lax.stop_gradient(R)
        s = s if fractional_coordinates else to_fraction(s)
        s = s - jnp.floor(s + 0.5)  # in [-1/2, 1/2), the range of the integers
        # The upper edge, where rounding reaches it, is the lower one.
        q = jnp.round(s * jnp.asarray(_EDGE, s.dtype))
        q = jnp.where(q >= _EDGE / 2, q - jnp.asarray(_EDGE, q.dtype), q)
        x = jax.lax.stop_gradient(state.momentum) * jnp.asarray(unit, R.dtype)
        p, good = rounded(x, 2.0**31 - 1)
        q, failed = q.astype(jnp.int32), ~good
        exact = read_momentum(p, failed, R.dtype)
        return state.set(
            position=_exactly(read_position(q, R.dtype), shift_fn(R, 0 * R)),
            momentum=_exactly(exact, state.momentum),
            lattice_position=q,
            lattice_momentum=p,
            did_overflow=failed,
        )

    def moved(state: Any, dt: Any, sign: int, **kwargs: Any) -> NVEReversibleState:
        refuse_lookalikes(kwargs, "dt", fns=(energy_or_force_fn,))
        state = drift(state, dt / 2, sign)  # A
        state = kick(state, dt, sign, **kwargs)  # B
        return drift(state, dt / 2, sign)  # A

    def step(
        state: NVEReversibleState, *, dt: Any = dt, **kwargs: Any
    ) -> NVEReversibleState:
        return moved(state, dt, 1, **kwargs)

    def inverse(
        state: NVEReversibleState, *, dt: Any = dt, **kwargs: Any
    ) -> NVEReversibleState:
        return moved(state, dt, -1, **kwargs)

    return ReversibleSimulator(jax.jit(init), jax.jit(step), jax.jit(inverse))


def _apart(x: Array) -> Array:
    """`x`, computed apart from what uses it.

    What is rounded has to come out the same in the step and in its inverse, so neither
    may be fused with the code around it.
    """
    return jax.lax.optimization_barrier(x)
