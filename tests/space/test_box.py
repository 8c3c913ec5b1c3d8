"""Boxes as maps, and the two identities that carry tangents between frames."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_md import space
from tests.space.boxes import BOXES, FRACTIONS, as_matrix, central

KINDS = list(BOXES)


@pytest.mark.parametrize("kind", KINDS)
def test_inverse(kind, dtype):
    box = jnp.asarray(BOXES[kind], dtype)
    out = space.inverse(box)
    assert out.dtype == dtype and out.shape == box.shape
    expected = np.linalg.inv(as_matrix(BOXES[kind]))
    np.testing.assert_allclose(as_matrix(out), expected, atol=1e-6)


@pytest.mark.parametrize("dim", [1, 2, 3, 4])
def test_inverse_of_matrices_of_any_size(dim):
    box = np.eye(dim) + 0.2 * np.random.default_rng(dim).normal(size=(dim, dim))
    np.testing.assert_allclose(space.inverse(box) @ box, np.eye(dim), atol=1e-14)


@pytest.mark.parametrize("shape", [(1, 2), (2, 2, 2), (3, 2)])
def test_what_is_no_box(shape):
    for call in (space.inverse, lambda b: space.raw_transform(b, jnp.ones((4, 2)))):
        with pytest.raises(ValueError, match=r"`box` must be a scalar, a vector") as e:
            call(jnp.ones(shape))
        assert str(shape) in str(e.value)
    with pytest.raises(ValueError, match="`box` must be"):
        space.periodic_general(jnp.ones(shape))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(3,), (5, 3), (2, 5, 3)])
def test_transform_applies_columns(kind, shape, dtype):
    R = np.random.default_rng(0).normal(size=shape)
    expected = R @ as_matrix(BOXES[kind]).T
    for transform in (space.raw_transform, space.transform):
        out = transform(jnp.asarray(BOXES[kind], dtype), jnp.asarray(R, dtype))
        assert out.dtype == dtype
        np.testing.assert_allclose(out, expected, atol=2e-6)


def test_a_box_of_one_element_is_a_scalar():
    out = space.raw_transform(jnp.array([2.0]), jnp.ones((4, 3)))
    np.testing.assert_array_equal(out, 2 * np.ones((4, 3)))


@pytest.mark.parametrize("box", [2, 2.0])
def test_python_scalars_are_weak(box, dtype):
    assert space.transform(box, jnp.ones(3, dtype)).dtype == dtype
    assert space.raw_transform(box, jnp.ones(3, dtype)).dtype == dtype


@pytest.mark.parametrize("kind", KINDS)
def test_tangents(kind):
    box, R = jnp.asarray(BOXES[kind]), jnp.asarray(FRACTIONS)
    t = jnp.asarray(np.random.default_rng(2).normal(size=R.shape))
    db = jnp.asarray(np.random.default_rng(3).normal(size=box.shape))
    matrix, change = as_matrix(box), as_matrix(db)
    expected = {
        space.raw_transform: t @ matrix.T + R @ change.T,
        space.transform: t + R @ change.T,
        space.lattice: t @ np.linalg.inv(matrix).T,
        space.cartesian: t @ matrix.T,
    }
    for op, tangent in expected.items():
        _, out = jax.jvp(op, (box, R), (db, t))
        np.testing.assert_allclose(out, tangent, atol=1e-13)
    value, out = space.transform_jvp((box, R), (db, t))
    np.testing.assert_allclose(value, R @ matrix.T)
    np.testing.assert_allclose(out, expected[space.transform], atol=1e-13)


@pytest.mark.parametrize("kind", KINDS)
def test_the_frames_are_inverse(kind):
    box, R = jnp.asarray(BOXES[kind]), jnp.asarray(FRACTIONS)
    t = jnp.ones_like(R)
    for there, back in (
        (space.lattice, space.cartesian),
        (space.cartesian, space.lattice),
    ):
        value, out = jax.jvp(lambda R: back(box, there(box, R)), (R,), (t,))
        np.testing.assert_array_equal(value, R)
        np.testing.assert_allclose(out, t, rtol=1e-13)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_of_transform(kind):
    box, R = jnp.asarray(BOXES[kind]), jnp.asarray(FRACTIONS)

    def energy(box, R):
        return jnp.sum(jnp.sin(space.transform(box, R)))

    # Real-space in R, true in the box.
    real = np.cos(R @ as_matrix(box).T)
    for derivative in (jax.grad, jax.jacfwd):
        np.testing.assert_allclose(derivative(energy, 1)(box, R), real, atol=1e-13)
        np.testing.assert_allclose(
            derivative(energy, 0)(box, R),
            central(lambda b: energy(jnp.asarray(b), R), box),
            atol=1e-8,
        )
