"""Floating-point numbers rounded to integers, with derivatives, and loud if too large.

What is rounded has to come out the same in a step and in its inverse, bit for bit, so
neither may be fused with the code around it: `apart` keeps it so.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int32

# The largest change of a 32-bit integer in one move that can still be told from none.
LARGEST = 2.0**30


def apart(x: Any) -> Any:
    """`x`, computed apart from what uses it."""
    return jax.lax.optimization_barrier(x)


@jax.custom_jvp
def exactly(value: Array, smooth: Array) -> Array:
    """`value`, with the derivatives of `smooth`."""
    return value


@exactly.defjvp
def _exactly_rule(primals: Any, tangents: Any) -> tuple[Array, Array]:
    return primals[0], tangents[1]


def rounded(x: Array, limit: float = LARGEST) -> tuple[Int32[Array, "..."], Array]:
    """Nearest integers, and whether all of them are in range.

    Args:
        x: Numbers in units of the lattice.
        limit: Bound of their size.

    Returns:
        The integers, all zero where one is out of range; and one Boolean.
    """
    good = jnp.all(jnp.abs(x) < limit)  # False for NaN, too
    return jnp.where(good, jnp.round(x), 0).astype(jnp.int32), good


def advance(
    old: Int32[Array, "..."], change: Array, unit: float
) -> tuple[Int32[Array, "..."], Bool[Array, ""]]:
    """Add a rounded change; adding its negative undoes it.

    Args:
        old: Integers.
        change: What to add, not in units of the lattice.
        unit: Integers to one.

    Returns:
        The integers, and whether all stayed in range.
    """
    exact = jax.lax.stop_gradient(change) * jnp.asarray(unit, change.dtype)
    push, good = rounded(apart(exact))
    new = old + push
    # An addition of integers that wraps around comes out on the wrong side.
    wrapped = ((push > 0) & (new <= old)) | ((push < 0) & (new >= old))
    return new, good & ~jnp.any(wrapped)
