"""Bracketed Newton iteration for functions of one scalar."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

MAX_STEPS = 200


def bracketed_root(
    fn: Callable[[jax.Array], jax.Array],
    slope_fn: Callable[[jax.Array], jax.Array],
    low: jax.Array,
    high: jax.Array,
) -> jax.Array:
    """Return a root between `low`, where `fn` is positive, and `high`, where it is not.

    A Newton step that leaves the bracket, or that fails to halve it over two steps, is
    replaced by a bisection: near criticality both the function and its slope vanish,
    and Newton alone wanders off.
    """
    eps = jnp.finfo(low.dtype).eps

    def unfinished(state: tuple) -> jax.Array:
        low, high, x, last, k = state
        return (
            (jnp.abs(high - low) > 2 * eps * jnp.abs(x))
            & (k < MAX_STEPS)
            & (last > eps * jnp.abs(x))
        )

    def step(state: tuple) -> tuple:
        low, high, x, last, k = state
        value, slope = fn(x), slope_fn(x)
        low = jnp.where(value > 0, x, low)
        high = jnp.where(value > 0, high, x)
        newton = x - value / jnp.where(slope == 0, 1.0, slope)
        inside = (newton - low) * (newton - high) < 0
        keep = inside & (slope != 0) & ((jnp.abs(newton - x) < 0.5 * last) | (k < 2))
        new = jnp.where(keep, newton, (low + high) / 2)
        new = jnp.where(value == 0, x, new)
        return low, high, new, jnp.abs(new - x), k + 1

    start = (low + high) / 2
    state = (low, high, start, jnp.abs(high - low), jnp.zeros((), jnp.int32))
    return jax.lax.while_loop(unfinished, step, state)[2]


def scan_until(
    keep_going: Callable[[jax.Array], jax.Array], start: jax.Array, factor: float
) -> jax.Array:
    """Multiply `start` by `factor` while `keep_going`, at most `MAX_STEPS` times."""

    def unfinished(state: tuple) -> jax.Array:
        return keep_going(state[0]) & (state[1] < MAX_STEPS)

    def step(state: tuple) -> tuple:
        return state[0] * factor, state[1] + 1

    return jax.lax.while_loop(unfinished, step, (start, jnp.zeros((), jnp.int32)))[0]
