"""Integers times a factor, and back."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_md.simulate.reversible.multiply import no_bits, scale

VALUES = np.concatenate(
    [
        np.arange(-40, 41),
        np.random.default_rng(0).integers(-(2**30), 2**30, 200),
        [2**30, -(2**30)],
    ]
)


@pytest.mark.parametrize("x", [0.6931, 0.3, 5e-3, 1e-9, 1e-12])
def test_every_number_comes_back(x, dtype):
    value, bits = jnp.asarray(VALUES, jnp.int32), no_bits(1, VALUES.shape)
    x = jnp.asarray(x, dtype)
    small = scale(value, bits, x)
    assert small.kept and small.good
    # 2^-32 is the last digit of a factor, half a unit the rounding.
    expected = VALUES * np.exp(-float(x))
    error = np.abs(np.asarray(small.value) - expected)
    eps = float(jnp.finfo(dtype).eps) * float(x) + 2.0**-32
    assert np.all(error <= 0.5 + np.abs(VALUES) * eps)
    again = scale(small.value, small.bits, -x)
    assert jnp.all(again.value == value) and jnp.all(again.bits == bits)
    # Numbers that end up alike differ in the bit that is kept.
    rows = np.stack([small.value, small.bits[0]], -1)
    assert len(np.unique(rows, axis=0)) == len(np.unique(VALUES))


def test_up_and_down_at_random(dtype):
    rng = np.random.default_rng(1)
    factors = jnp.asarray(rng.normal(0, 0.1, 300), dtype)
    start = jnp.asarray(VALUES, jnp.int32) // 2**4, no_bits(4, VALUES.shape)

    def move(carry, x):
        value, bits, fine = carry
        new = scale(value, bits, x)
        return (new.value, new.bits, fine & new.kept & new.good), None

    walk = jax.jit(lambda *carry: jax.lax.scan(move, carry[:3], carry[3])[0])
    *end, fine = walk(*start, True, factors)
    assert fine
    expected = np.asarray(start[0]) * np.exp(-np.sum(np.asarray(factors, float)))
    # Rounding to whole numbers, again and again, stops the small ones.
    np.testing.assert_allclose(end[0], expected, rtol=1e-5, atol=100)
    *again, fine = walk(*end, True, -factors[::-1])
    assert fine
    for a, b in zip(again, start, strict=True):
        assert jnp.all(a == b)


def test_loss_of_a_bit_is_told():
    value, bits = jnp.arange(1000, 1100), no_bits(1, (100,))
    kept, fn = [], jax.jit(scale)
    for _ in range(45):
        value, bits, fine, good = fn(jnp.int32(value) + 500, bits, jnp.float64(0.6))
        assert good
        kept.append(bool(fine))
    assert all(kept[:30]) and not all(kept)


@pytest.mark.parametrize("x", [0.7, np.nan, np.inf])
def test_factors_out_of_range_are_told(x):
    assert not scale(jnp.int32([5]), no_bits(1, (1,)), jnp.float64(x)).good


def test_growth_out_of_range_is_told():
    assert not scale(
        jnp.int32([2**30 + 2**29]), no_bits(1, (1,)), jnp.float64(-0.6)
    ).good
