"""Cotangents bounded and damped on their way back, step by step.

In a chaotic system the cotangent of the state grows exponentially on its way back. A
bound or a decay trades exactness for a gradient of finite variance.
"""

from typing import Any

import jax
import jax.numpy as jnp

from .flat import Leaves, differentiable, merge, split


def temper(x: Leaves, clip: float | None, decay: float) -> Leaves:
    """Return `x`; its cotangent is damped, then scaled down to a bounded norm.

    Args:
        x: The leaves of a state.
        clip: Largest norm of the cotangent over all leaves; None for no bound.
        decay: Factor on the cotangent.
    """
    mask = differentiable(x)
    if (clip is None and decay == 1) or not any(mask):
        return x

    @jax.custom_vjp
    def identity(x: Leaves) -> Leaves:
        return x

    def forward(x: Leaves) -> tuple[Leaves, None]:
        return x, None

    def backward(_: None, bars: Leaves) -> tuple[Leaves]:
        bars = [decay * b for b in bars]
        if clip is None:
            return (bars,)
        square: Any = sum(jnp.sum(jnp.square(jnp.abs(b))) for b in bars)
        large = square > clip**2
        norm = jnp.sqrt(jnp.where(large, square, 1))
        scale = jnp.where(large, clip / norm, 1)
        return ([(b * scale).astype(b.dtype) for b in bars],)

    identity.defvjp(forward, backward)
    inside, rest = split(mask, x)
    return merge(mask, identity(inside), rest)
