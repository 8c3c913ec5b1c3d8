r"""Integers multiplied by a factor, with the bits kept that this loses.

The magnitude :math:`m` of a number is replaced by :math:`m - \lfloor a m + 1/2\rfloor`,
where :math:`a = 1 - e^{-x} < 1/2` is a fraction of 32 bits. No more than two
magnitudes end up at one, and they are neighbors: one bit says which it was. It is kept
where there are two, on a stack beside each number. Division is the inverse, and takes
bits off the stack. A number loses about :math:`2 a` bits in a multiplication, so
that 128 bits last for :math:`64 / a` of them.

A stack is one long integer, in words of 32 bits. Zeros above its highest bit are not
stored, so that an empty stack gives zeros without end; only a one that leaves at the
top is lost.

Source:
    D. Maclaurin, D. Duvenaud, R. P. Adams, Proc. ICML 37, 2113 (2015), section 3.1, for
    momenta that decay and the bits they lose.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int32, UInt32

from .rounding import apart

# Of a 32-bit word; typed, as it is beyond the integers of JAX without 64-bit types.
_HALF = np.uint32(2**31)


class Scaled(NamedTuple):
    """Numbers after a multiplication, their stacks, and whether no bit was lost."""

    value: Int32[Array, "..."]
    bits: UInt32[Array, "w ..."]
    kept: Bool[Array, ""]
    good: Bool[Array, ""]


def no_bits(words: int, shape: tuple[int, ...]) -> UInt32[Array, "w ..."]:
    """Empty stacks, of so many words each."""
    return jnp.zeros((words, *shape), jnp.uint32)


def scale(
    value: Int32[Array, "..."], bits: UInt32[Array, "w ..."], x: Float[Array, "..."]
) -> Scaled:
    """Multiply by ``exp(-x)``; doing so by ``exp(x)`` undoes it, bit for bit.

    Args:
        value: Numbers to multiply.
        bits: Their stacks.
        x: Logarithms of the factors, of a shape that broadcasts; below ``ln 2``.

    Returns:
        ``(value, bits, kept, good)``: `kept` is False where a bit fell off a stack, so
        that this cannot be undone; `good` where a factor was out of range.
    """
    x = apart(jax.lax.stop_gradient(x))
    a = -jnp.expm1(-jnp.abs(x))
    good = jnp.all(a < 0.5)  # False for NaN, too
    a = jnp.where(good, a, 0)
    fraction = jnp.minimum(
        jnp.round(apart(a) * jnp.asarray(2.0**32, a.dtype)), 2.0**31 - 128
    )
    fraction = fraction.astype(jnp.uint32)
    sign = jnp.where(value < 0, -1, 1).astype(jnp.int32)
    m = jnp.abs(value).astype(jnp.uint32)
    # The two do not meet: the one is the identity where the other is not.
    zero = jnp.zeros_like(fraction)
    m, bits, kept = _multiply(m, bits, jnp.where(x > 0, fraction, zero))
    m, bits = _divide(m, bits, jnp.where(x < 0, fraction, zero))
    good = good & jnp.all(m < _HALF)
    return Scaled(sign * m.astype(jnp.int32), bits, kept, good)


def _product(m: Array, fraction: Array) -> tuple[Array, Array]:
    """The nearest integer of a product with a fraction; and the low 32 bits."""
    mask = jnp.uint32(0xFFFF)
    m0, m1 = m & mask, m >> 16
    f0, f1 = fraction & mask, fraction >> 16
    a, b = m1 * f0, m0 * f1
    carry = ((m0 * f0) >> 16) + (a & mask) + (b & mask)
    high = m1 * f1 + (a >> 16) + (b >> 16) + (carry >> 16)
    low = m * fraction
    return high + (low >> 31), low + _HALF


def _multiply(m: Array, bits: Array, fraction: Array) -> tuple[Array, Array, Array]:
    lost, low = _product(m, fraction)
    above = low < fraction  # m - 1 ends up at the same number
    below = low > ~fraction  # m + 1 does
    bits, kept = _push(bits, above, above | below)
    return m - lost, bits, kept


def _divide(m: Array, bits: Array, fraction: Array) -> tuple[Array, Array]:
    # The least number that `_multiply` takes to m: a fixed point, reached from below.
    def body(carry: tuple) -> tuple:
        found, _ = carry
        new = m + _product(found, fraction)[0]
        return new, jnp.any(new != found)

    found, _ = jax.lax.while_loop(lambda c: c[1], body, (m, jnp.asarray(True)))
    two = _product(found, fraction)[1] > ~fraction
    bit, bits = _pop(bits, two)
    return found + bit, bits


def _push(bits: Array, bit: Array, where: Array) -> tuple[Array, Array]:
    bit = bit.astype(jnp.uint32)[None]
    pushed = (bits << 1) | jnp.concatenate([bit, bits[:-1] >> 31])
    kept = ~jnp.any(where & (bits[-1] >> 31 != 0))
    return jnp.where(where, pushed, bits), kept


def _pop(bits: Array, where: Array) -> tuple[Array, Any]:
    above = jnp.concatenate([bits[1:] << 31, jnp.zeros_like(bits[:1])])
    popped = (bits >> 1) | above
    bit = jnp.where(where, bits[0] & 1, jnp.uint32(0))
    return bit, jnp.where(where, popped, bits)
