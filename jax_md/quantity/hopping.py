r"""Hops of particles between cages, seen in their recent trajectory.

Split a window of the trajectory into halves ``A`` and ``B``. Then

.. math::
    p_\mathrm{hop}^2 = \left\langle (x_A(t) - \bar{x}_B)^2
        (x_B(t) - \bar{x}_A)^2 \right\rangle_t

is large where the halves are apart. As in the reference code the average is one of the
products, frame by frame, over time and components.

Source:
    R. Candelier, O. Dauchot, G. Biroli, Phys. Rev. Lett. 102, 088001 (2009);
    A. Smessaert, J. Rottler, Phys. Rev. E 88, 022314 (2013).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from jax_md import dataclasses, space
from jax_md.types import DisplacementFn


@dataclasses.dataclass
class PHopState:
    """Recent positions, unwrapped, and the indicator found from them."""

    position_buffer: Float[Array, "window n d"]
    phop: Float[Array, " n"]


class PHopCalculator(NamedTuple):
    """``init(position) -> state`` and ``update(state, position) -> state``."""

    init: Callable[[Any], PHopState]
    update: Callable[[PHopState, Any], PHopState]


def phop(displacement: DisplacementFn, window_size: int) -> PHopCalculator:
    """Follow the hop indicator of each particle.

    Args:
        displacement: Displacement of two points, by which positions are unwrapped.
        window_size: Frames in the window, an even number.

    Returns:
        ``(init_fn, update_fn)``. An update finds the indicator of the window as it
        stands, then pushes the new positions onto it.

    Raises:
        ValueError: If `window_size` is not even and positive.
    """
    if window_size < 2 or window_size % 2:
        raise ValueError(
            f"`window_size` must be even and at least 2, to have two halves; got "
            f"{window_size}."
        )
    half = window_size // 2
    moved = space.map_bond(displacement)

    def init_fn(position: Float[Array, "n d"]) -> PHopState:
        position = jnp.asarray(position)
        buffer = jnp.repeat(position[None], window_size, axis=0)
        return PHopState(buffer, jnp.zeros(position.shape[0], position.dtype))

    def update_fn(state: PHopState, position: Float[Array, "n d"]) -> PHopState:
        buffer = state.position_buffer
        a, b = buffer[:half], buffer[half:]
        from_b = jnp.square(a - jnp.mean(b, axis=0, keepdims=True))
        from_a = jnp.square(b - jnp.mean(a, axis=0, keepdims=True))
        square = jnp.mean(from_b * from_a, axis=(0, 2))
        hopped = jnp.where(square > 0, jnp.sqrt(jnp.where(square > 0, square, 1)), 0)
        newest = buffer[-1] + moved(position, buffer[-1]).astype(buffer.dtype)
        return PHopState(jnp.concatenate([buffer[1:], newest[None]]), hopped)

    return PHopCalculator(init_fn, update_fn)
