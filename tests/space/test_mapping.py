"""Functions of two points lifted to arrays of points."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_md import space

RNG = np.random.default_rng(0)
A, B = jnp.asarray(RNG.normal(size=(4, 3))), jnp.asarray(RNG.normal(size=(6, 3)))
ROWS = jnp.asarray(RNG.normal(size=(4, 5, 3)))
DISPLACEMENT, _ = space.periodic_general(2 * np.eye(3), fractional_coordinates=False)


def f(a, b, **kwargs):
    return np.asarray(DISPLACEMENT(a, b, **kwargs))


@pytest.mark.parametrize("kwargs", [{}, {"box": 1.5 * jnp.eye(3)}])
def test_maps(kwargs):
    product = space.map_product(DISPLACEMENT)(A, B, **kwargs)
    assert product.shape == (6, 4, 3)
    np.testing.assert_allclose(product[5, 2], f(A[2], B[5], **kwargs), atol=1e-14)
    np.testing.assert_allclose(product[0, 3], f(A[3], B[0], **kwargs), atol=1e-14)
    bond = space.map_bond(DISPLACEMENT)(A, B[:4], **kwargs)
    assert bond.shape == (4, 3)
    np.testing.assert_allclose(bond[3], f(A[3], B[3], **kwargs), atol=1e-14)
    rows = space.map_neighbor(DISPLACEMENT)(A, ROWS, **kwargs)
    assert rows.shape == (4, 5, 3)
    np.testing.assert_allclose(rows[1, 4], f(ROWS[1, 4], A[1], **kwargs), atol=1e-14)


def test_metric():
    metric = space.metric(DISPLACEMENT)
    np.testing.assert_allclose(metric(A[0], B[0]), np.linalg.norm(f(A[0], B[0])))
    assert space.map_product(metric)(A, B).shape == (6, 4)
    box = 1.5 * jnp.eye(3)
    np.testing.assert_allclose(
        metric(A[0], B[0], box=box), np.linalg.norm(f(A[0], B[0], box=box))
    )
    # A particle and itself: no NaN in the gradient of all distances.
    total = jax.grad(lambda R: jnp.sum(space.map_product(metric)(R, R)))(A)
    assert bool(jnp.all(jnp.isfinite(total)))


def test_maps_take_any_function_of_two_arguments():
    i, j = jnp.arange(3), jnp.array([5, 1, 0])
    np.testing.assert_array_equal(
        space.map_bond(lambda a, b: a * 10 + b)(i, j), [5, 11, 20]
    )


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_canonicalize(dim):
    point = jnp.zeros(dim), jnp.ones(dim)
    side = jnp.full(dim, 4.0)
    displacement, _ = space.periodic(side)
    metric = space.canonicalize_displacement_or_metric(displacement)
    np.testing.assert_allclose(metric(*point), dim**0.5)
    assert space.canonicalize_displacement_or_metric(metric) is metric


def test_canonicalize_passes_keywords():
    displacement, _ = space.periodic_general(jnp.eye(2))
    metric = space.canonicalize_displacement_or_metric(displacement)
    a, b = jnp.array([0.1, 0.1]), jnp.array([0.9, 0.1])
    np.testing.assert_allclose(metric(a, b), 0.2)
    np.testing.assert_allclose(metric(a, b, box=3 * jnp.eye(2)), 0.6)


def test_canonicalize_errors():
    def broken(Ra, Rb):  # takes no keywords
        return Ra - Rb

    with pytest.raises(ValueError, match="expected a displacement") as error:
        space.canonicalize_displacement_or_metric(broken)
    assert "d = 1" in str(error.value) and "unexpected keyword" in str(error.value)
