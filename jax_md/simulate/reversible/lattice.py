"""The integer lattice of positions and momenta, and the moves on it.

Positions are 32-bit integers, :math:`2^{32}` of them to a box edge, so that wraparound
of the integers is that of the box; momenta are 32-bit integers, too. A move adds to
each a rounded function of the other, and is undone by subtracting the same integers.
Floating-point positions and momenta are read off the integers and carry the derivatives
of the plain moves.
"""

from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from jax_md import space
from jax_md.types import ForceFn

from .. import operators
from .rounding import advance, apart, exactly, rounded

T = TypeVar("T", bound=Any)  # a state of reversible dynamics

# Positions per box edge, exact in every floating-point type that is used.
EDGE = 2.0**32
# Moves shorter than this, in positions of the lattice, are rounded by some percent.
FINEST = 16


class Lattice:
    """A periodic box with integers for positions and momenta.

    Args:
        box: The box, fixed: scalar, ``[d]`` or ``[d, d]`` (length).
        fractional_coordinates: Whether positions are fractions of the box.
        momentum_range: Largest component of a momentum, rounded up to a power of two.

    Raises:
        ValueError: If `momentum_range` is not positive.
    """

    def __init__(self, box: Any, fractional_coordinates: bool, momentum_range: float):
        if not momentum_range > 0:
            raise ValueError(
                f"`momentum_range` must be a positive momentum; got {momentum_range}."
            )
        _, self._shift = space.periodic_general(box, fractional_coordinates)
        self._box = jax.lax.stop_gradient(jnp.asarray(box))
        self._back = space.inverse(self._box)
        self._fractional = fractional_coordinates
        # A power of two, so that reading a momentum off rounds nothing else.
        self.unit = float(2.0 ** (31 - np.ceil(np.log2(momentum_range))))

    def _to_fraction(self, R: Array) -> Array:
        """Real-space vectors as fractions of the box."""
        return space.raw_transform(self._back.astype(R.dtype), R)

    def read_position(self, q: Array, dtype: Any) -> Array:
        """Positions at integers."""
        s = q.astype(dtype) / jnp.asarray(EDGE, dtype)
        s = s - jnp.floor(s)
        # Rounding may have made it one.
        s = jnp.where(s < 1, s, 0)
        if self._fractional:
            return s
        return apart(space.raw_transform(self._box.astype(dtype), apart(s)))

    def read_momentum(self, p: Array, failed: Array, dtype: Any) -> Array:
        """Momenta at integers; NaN after a failure."""
        exact = p.astype(dtype) / jnp.asarray(self.unit, dtype)
        return jnp.where(failed, jnp.nan, exact)

    def settle(self, state: T) -> T:
        """Round the positions and momenta of a state to the lattice."""
        R, P = state.position, state.momentum
        s = jax.lax.stop_gradient(R)
        s = s if self._fractional else self._to_fraction(s)
        s = s - jnp.floor(s + 0.5)  # in [-1/2, 1/2), the range of the integers
        # The upper edge, where rounding reaches it, is the lower one.
        q = jnp.round(s * jnp.asarray(EDGE, s.dtype))
        q = jnp.where(q >= EDGE / 2, q - jnp.asarray(EDGE, q.dtype), q)
        x = jax.lax.stop_gradient(P) * jnp.asarray(self.unit, R.dtype)
        p, good = rounded(x, 2.0**31 - 1)
        q, failed = q.astype(jnp.int32), ~good
        state = state.set(
            position=exactly(self.read_position(q, R.dtype), self._shift(R, 0 * R)),
            lattice_position=q,
            did_overflow=failed,
        )
        return self.set_momentum(state, p, P, good)

    def drift(self, state: T, dt: Any) -> T:
        """Move along the velocities (A); undone by ``-dt``."""
        R = state.position
        step = operators.velocity(state) * jnp.asarray(dt, R.dtype)
        smooth = self._shift(R, step)
        fraction = jax.lax.stop_gradient(self._to_fraction(step))
        move, good = rounded(apart(fraction * jnp.asarray(EDGE, R.dtype)))
        q = state.lattice_position + move
        square = jnp.mean(jnp.square(move.astype(R.dtype)))
        moving = jnp.any(state.lattice_momentum != 0)
        return state.set(
            position=exactly(self.read_position(q, R.dtype), smooth),
            lattice_position=q,
            did_overflow=state.did_overflow | ~good,
            did_stall=state.did_stall | (moving & (square < FINEST**2)),
        )

    def kick(self, state: T, force: Array, dt: Any) -> T:
        """Add the impulse of a force (B); undone by ``-dt``."""
        P = state.momentum
        impulse = force * jnp.asarray(dt, P.dtype)
        p, good = advance(state.lattice_momentum, impulse, self.unit)
        return self.set_momentum(state, p, P + impulse, good)

    def set_momentum(self, state: T, p: Array, smooth: Array, good: Array) -> T:
        """Set the momenta to integers, with the derivatives of `smooth`."""
        failed = state.did_overflow | ~good
        exact = self.read_momentum(p, failed, smooth.dtype)
        smooth = smooth * jnp.where(failed, jnp.nan, 1)  # for derivatives, too
        return state.set(
            momentum=exactly(exact, smooth), lattice_momentum=p, did_overflow=failed
        )


def force_at(force_fn: ForceFn, state: T, kwargs: dict) -> tuple[Array, T, Any]:
    """The force at the positions of a state, as a function of them alone.

    A neighbor list among the keywords is brought up to date first, always from the same
    list: what comes out does not depend on the way to these positions.

    Returns:
        The force; the state with the flag of a list that overflowed; and the list.
    """
    R = apart(state.position)
    neighbors = kwargs.get("neighbor")
    if neighbors is not None and hasattr(neighbors, "update_fn"):
        neighbors = neighbors.update(R)
        kwargs = {**kwargs, "neighbor": neighbors}
        failed = jnp.asarray(neighbors.error.code != 0)
        state = state.set(did_exceed_list=state.did_exceed_list | failed)
        state = state.set(did_overflow=state.did_overflow | failed)
    return apart(force_fn(R, **kwargs)), state, neighbors


def raise_if_failed(state: Any) -> None:
    """Raise `FloatingPointError` if a flag of a state is set; for hosts."""
    if np.any(state.did_exceed_list):
        raise FloatingPointError(
            "the neighbor list given as `neighbor` was too small for positions on the "
            "way. Allocate it with more room, `neighbor_fn.allocate(R, "
            "extra_capacity=...)`, and run again from the start."
        )
    if np.any(state.did_overflow):
        raise FloatingPointError(
            "a momentum or a move left the range of the integer lattice. Raise "
            "`momentum_range`, or lower `dt`; with friction, `gamma * dt` has to be "
            "below ln 2."
        )
    if np.any(state.did_stall):
        raise FloatingPointError(
            f"particles moved by less than {FINEST} positions of the lattice in "
            "half a step, where rounding changes the motion. Raise `dt`, or use "
            "a simulator that is not reversible."
        )
    if np.any(getattr(state, "did_forget", False)):
        raise FloatingPointError(
            "the momenta lost more bits than could be kept, so that the run cannot be "
            "undone; as a run it is right. Raise `words`."
        )
