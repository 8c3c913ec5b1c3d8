"""Orthorhombic periodic space with a fixed box."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_md import space
from tests.space.boxes import central

SIDE = np.array([1.5, 2.0, 4.0])
RNG = np.random.default_rng(0)
A, B = RNG.uniform(-3, 5, size=(2, 40, 3))


def images(R, side, pbc=(True, True, True)):
    """The shortest of all images within three cells, by search."""
    n = np.stack(np.meshgrid(*[np.arange(-3, 4) * p for p in pbc]), -1).reshape(-1, 3)
    candidates = R[:, None] + n * side
    nearest = np.argmin(np.sum(candidates**2, -1), axis=1)
    return candidates[np.arange(len(R)), nearest]


@pytest.mark.parametrize(
    "side", [2.0, SIDE, list(SIDE)], ids=["float", "numpy", "list"]
)
def test_displacement_is_the_nearest_image(side, dtype):
    displacement, _ = space.periodic(side)
    a, b = jnp.asarray(A, dtype), jnp.asarray(B, dtype)
    out = space.map_bond(displacement)(a, b)
    assert out.dtype == dtype
    tolerance = 1e-5 if dtype == jnp.float32 else 1e-13
    L = np.broadcast_to(side, 3)
    ours, nearest = np.asarray(out, float), images(images(A - B, L), L)
    np.testing.assert_allclose(ours, nearest, atol=tolerance)


def test_shift(dtype):
    a, b = jnp.asarray(A, dtype), jnp.asarray(B, dtype)
    _, shift = space.periodic(SIDE)
    out = shift(a, b)
    np.testing.assert_allclose(out, np.mod(A + B, SIDE), atol=3e-6)
    assert out.dtype == dtype
    assert bool(jnp.all((out >= 0) & (out < SIDE)))
    _, shift = space.periodic(SIDE, wrapped=False)
    np.testing.assert_array_equal(shift(a, b), a + b)


@pytest.mark.parametrize("pbc", [(True, True, False), (False, True, False), False])
def test_free_axes(pbc):
    displacement, shift = space.periodic(SIDE, pbc=pbc)
    mask = np.broadcast_to(pbc, 3)
    out = space.map_bond(displacement)(jnp.asarray(A), jnp.asarray(B))
    expected = images(images(A - B, SIDE, mask), SIDE, mask)
    np.testing.assert_allclose(out, expected, atol=1e-13)
    moved = shift(jnp.asarray(A), jnp.asarray(B))
    np.testing.assert_allclose(moved, np.where(mask, np.mod(A + B, SIDE), A + B))


def test_all_axes_periodic_is_the_default():
    for pbc in (True, (True, True, True), np.array([True] * 3)):
        displacement, _ = space.periodic(SIDE, pbc=pbc)
        np.testing.assert_array_equal(
            displacement(A[0], B[0]), space.periodic(SIDE)[0](A[0], B[0])
        )


def test_perturbation_comes_last(dtype):
    displacement, _ = space.periodic(SIDE)
    a, b = jnp.asarray(A[0], dtype), jnp.asarray(B[0], dtype)
    strain = np.eye(3) + 0.1 * np.arange(9).reshape(3, 3)
    out = displacement(a, b, perturbation=strain)
    np.testing.assert_allclose(out, strain @ displacement(a, b), rtol=1e-5)
    assert out.dtype == dtype


@pytest.mark.parametrize("box", [3.0, None])
def test_a_box_is_refused(box):
    for fn in space.periodic(SIDE):
        with pytest.raises(space.UnexpectedBoxException, match="periodic_general"):
            fn(A[0], B[0], box=box)
        fn(A[0], B[0], t=0, new_box=2.0)  # other keywords pass


def test_errors():
    with pytest.raises(ValueError, match=r"`side` .* got shape \(3, 3\)"):
        space.periodic(np.eye(3))
    for pbc in ((1, 1, 0), [[True]], "xy"):
        with pytest.raises(ValueError, match="`pbc` must be a boolean or one boolean"):
            space.periodic(SIDE, pbc=pbc)


def test_derivatives_in_the_side():
    R = jnp.asarray(A[:6])

    @jax.jit
    def energy(side):
        displacement, _ = space.periodic(side)
        dR = space.map_bond(displacement)(R[:3], R[3:])
        return jnp.sum(jnp.exp(-space.square_distance(dR)))

    for side in (2.0, SIDE):
        expected = central(energy, side)
        for derivative in (jax.grad, jax.jacfwd):
            np.testing.assert_allclose(derivative(energy)(side), expected, atol=1e-8)


def test_under_transformations():
    displacement, shift = space.periodic(SIDE)
    batched = jax.jit(jax.vmap(displacement))(A, B)
    one = [displacement(a, b) for a, b in zip(A, B, strict=True)]
    np.testing.assert_allclose(batched, np.stack(one), atol=1e-14)
    np.testing.assert_allclose(jax.jit(jax.vmap(shift))(A, B), shift(A, B), atol=1e-14)
