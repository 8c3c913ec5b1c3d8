"""Elementary displacements, distances and shifts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_md import space

SIDE = np.array([1.5, 2.0, 4.0])


def test_pairwise_displacement(dtype):
    a, b = jnp.array([1, 2, 3], dtype), jnp.array([3, 2, 0], dtype)
    out = space.pairwise_displacement(a, b)
    np.testing.assert_array_equal(out, [-2, 0, 3])
    assert out.dtype == dtype


@pytest.mark.parametrize(
    "shapes", [((2, 3), (2, 3)), ((3,), (2,)), ((), ()), ((3,), (1, 3))]
)
def test_pairwise_displacement_takes_points(shapes):
    with pytest.raises(ValueError, match="two points of one shape") as error:
        space.pairwise_displacement(*map(jnp.ones, shapes))
    assert "map_product" in str(error.value)


@pytest.mark.parametrize("side", [1.7, SIDE], ids=["scalar", "vector"])
def test_periodic_displacement(side, dtype):
    dR = jnp.asarray(np.random.default_rng(0).normal(scale=4, size=(200, 3)), dtype)
    L = side if isinstance(side, float) else jnp.asarray(side, dtype)
    out = space.periodic_displacement(L, dR)
    assert out.dtype == dtype and out.shape == dR.shape
    exact = np.asarray(dR, float)
    expected = np.mod(exact + side / 2, side) - side / 2
    np.testing.assert_allclose(out, expected, atol=3e-6)
    assert bool(jnp.all(jnp.abs(out) <= L / 2))
    whole = (exact - np.asarray(out, float)) / side
    np.testing.assert_allclose(whole, np.round(whole), atol=1e-5)


def test_periodic_displacement_of_half_a_side():
    assert space.periodic_displacement(2.0, jnp.array([1.0, -1.0])).tolist() == [-1, -1]


def test_periodic_shift(dtype):
    rng = np.random.default_rng(0)
    R = jnp.asarray(rng.uniform(size=(200, 3)) * SIDE, dtype)
    dR = jnp.asarray(rng.normal(scale=3, size=(200, 3)), dtype)
    L = jnp.asarray(SIDE, dtype)
    out = space.periodic_shift(L, R, dR)
    assert out.dtype == dtype
    np.testing.assert_allclose(
        out, np.mod(np.asarray(R, float) + np.asarray(dR, float), SIDE), atol=3e-6
    )
    assert bool(jnp.all((out >= 0) & (out < L)))


def test_distance(dtype):
    dR = jnp.array([[3, 4, 0], [0, 0, 0]], dtype)
    assert space.distance(dR).tolist() == [5, 0]
    assert space.square_distance(dR).tolist() == [25, 0]
    assert space.distance(dR).dtype == space.square_distance(dR).dtype == dtype


@pytest.mark.parametrize("outer", [jax.jacfwd, jax.jacrev])
@pytest.mark.parametrize("inner", [jax.jacfwd, jax.jacrev])
def test_distance_at_zero_has_zero_derivatives(outer, inner, dtype):
    origin = jnp.zeros(3, dtype)
    np.testing.assert_array_equal(inner(space.distance)(origin), np.zeros(3))
    np.testing.assert_array_equal(
        outer(inner(space.distance))(origin), np.zeros((3, 3))
    )


def test_derivatives_of_distance():
    dR = jnp.array([1.0, -2.0, 0.5])
    unit = dR / jnp.linalg.norm(dR)
    np.testing.assert_allclose(jax.grad(space.distance)(dR), unit, rtol=1e-14)
    expected = (np.eye(3) - np.outer(unit, unit)) / jnp.linalg.norm(dR)
    np.testing.assert_allclose(jax.hessian(space.distance)(dR), expected, atol=1e-14)


def test_the_smallest_distances(dtype):
    # Squares underflow below this; a distance of zero is then still no NaN.
    tiny = jnp.full(3, jnp.finfo(dtype).tiny, dtype)
    assert space.distance(tiny) == 0
    assert bool(jnp.all(jnp.isfinite(jax.grad(space.distance)(tiny))))


def test_distance_of_nan_is_nan():
    d = space.distance(jnp.array([[jnp.nan, 0.0], [3.0, 4.0], [0.0, 0.0]]))
    np.testing.assert_array_equal(d, [np.nan, 5, 0])
