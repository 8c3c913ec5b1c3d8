"""Infinite space."""

import jax.numpy as jnp
import numpy as np

from jax_md import space
from jax_md.types import Space


def test_values(dtype):
    pair = space.free()
    assert isinstance(pair, Space)
    displacement, shift = pair
    a, b = jnp.array([1, 2, 3], dtype), jnp.array([5, 1, -3], dtype)
    np.testing.assert_array_equal(displacement(a, b), [-4, 1, 6])
    np.testing.assert_array_equal(shift(a, b), [6, 3, 0])
    assert displacement(a, b).dtype == shift(a, b).dtype == dtype


def test_perturbation_comes_last(dtype):
    displacement, _ = space.free()
    a, b = jnp.array([1, 2], dtype), jnp.array([5, 1], dtype)
    strain = np.array([[1.0, 0.5], [0.0, 2.0]])
    out = displacement(a, b, perturbation=strain)
    np.testing.assert_array_equal(out, strain @ [-4, 1])
    assert out.dtype == dtype
    np.testing.assert_array_equal(displacement(a, b, perturbation=1.5), [-6, 1.5])


def test_unknown_keywords_are_ignored():
    displacement, shift = space.free()
    a = jnp.ones(2)
    kwargs = {"box": 3.0, "t": 0, "new_box": 2.0, "species": 1}
    np.testing.assert_array_equal(displacement(a, -a, **kwargs), [2, 2])
    np.testing.assert_array_equal(shift(a, a, **kwargs), [2, 2])
