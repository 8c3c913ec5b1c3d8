"""Periodic space of any cell: values, boxes at call time, shifts, dtypes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_md import space
from tests.space.boxes import BOXES, DEFORMED, FRACTIONS, as_matrix, energy

KINDS = list(BOXES)
MODES = pytest.mark.parametrize("fractional", [True, False], ids=["fraction", "real"])
RNG = np.random.default_rng(5)
A, B = RNG.uniform(-1.5, 2.5, size=(2, 30, 3))  # fractions, in the cell and out of it
MOVE = RNG.normal(scale=0.8, size=(30, 3))


def real(box, s):
    return s @ as_matrix(box).T


def fraction(box, R):
    return R @ np.linalg.inv(as_matrix(box)).T


def nearest(s):
    return s - np.floor(s + 0.5)


def tolerance(dtype):
    return 2e-5 if dtype == jnp.float32 else 1e-13


@MODES
@pytest.mark.parametrize("kind", KINDS)
def test_displacement(kind, fractional, dtype):
    box, other = BOXES[kind], DEFORMED[kind]
    displacement, _ = space.periodic_general(box, fractional)
    mapped = space.map_bond(displacement)
    expected = real(box, nearest(A - B))
    a, b = (A, B) if fractional else (real(box, A), real(box, B))
    a, b = jnp.asarray(a, dtype), jnp.asarray(b, dtype)
    out = mapped(a, b)
    assert out.dtype == dtype
    np.testing.assert_allclose(out, expected, atol=tolerance(dtype))
    # The same cell, given at call time.
    np.testing.assert_allclose(mapped(a, b, box=box), expected, atol=tolerance(dtype))
    # Another one: fixed fractions, or real positions wrapped in it.
    s = A - B if fractional else fraction(other, real(box, A - B))
    np.testing.assert_allclose(
        mapped(a, b, box=other), real(other, nearest(s)), atol=tolerance(dtype)
    )
    # The space deformed to it: fixed fractions in both representations.
    out = mapped(a, b, new_box=other)
    assert out.dtype == dtype
    np.testing.assert_allclose(out, real(other, nearest(A - B)), atol=tolerance(dtype))


@MODES
@pytest.mark.parametrize("wrapped", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_shift(kind, wrapped, fractional, dtype):
    box, other = BOXES[kind], DEFORMED[kind]
    _, shift = space.periodic_general(box, fractional, wrapped)
    start = jnp.asarray(A if fractional else real(box, A), dtype)
    move = jnp.asarray(MOVE, dtype)

    def ends(of, to):
        s = A if fractional else fraction(of, real(box, A))
        s = s + fraction(of, MOVE)
        s = s - np.floor(s) if wrapped else s
        return s if fractional else real(to, s)

    for kwargs, expected in (
        ({}, ends(box, box)),
        ({"box": other}, ends(other, other)),
        ({"new_box": other}, ends(box, other)),
        ({"box": other, "new_box": box}, ends(other, box)),
    ):
        out = shift(start, move, **kwargs)
        assert out.dtype == dtype
        np.testing.assert_allclose(out, expected, atol=tolerance(dtype))


@pytest.mark.parametrize("kind", ["scalar", "vector"])
def test_agrees_with_periodic(kind):
    box = BOXES[kind]
    general, shift_general = space.periodic_general(box, fractional_coordinates=False)
    plain, shift_plain = space.periodic(box)
    np.testing.assert_allclose(
        space.map_bond(general)(A, B), space.map_bond(plain)(A, B), atol=1e-13
    )
    np.testing.assert_allclose(shift_general(A, B), shift_plain(A, B), atol=1e-13)


@pytest.mark.parametrize("kind", KINDS)
def test_fractional_and_real_positions_agree(kind):
    """``E_frac(R_f, box=B) == E_real(R, new_box=B)``, its gradients and its shift."""
    box, other = jnp.asarray(BOXES[kind]), jnp.asarray(DEFORMED[kind])
    displacement_f, shift_f = space.periodic_general(box)
    displacement_r, shift_r = space.periodic_general(box, False)
    energy_f, energy_r = (
        jax.jit(energy(displacement_f)),
        jax.jit(energy(displacement_r)),
    )
    s = jnp.asarray(FRACTIONS)
    R = space.raw_transform(box, s)
    for f, r in (({}, {}), ({"box": other}, {"new_box": other})):
        value_f, force_f = jax.value_and_grad(energy_f)(s, **f)
        value_r, force_r = jax.value_and_grad(energy_r)(R, **r)
        np.testing.assert_allclose(value_f, value_r, rtol=1e-13)
        np.testing.assert_allclose(force_f, force_r, atol=1e-13)
        np.testing.assert_allclose(
            space.transform(r.get("new_box", box), shift_f(s, force_f)),
            shift_r(R, force_r, **r),
            atol=1e-13,
        )
    # And of the box the space is deformed to.
    np.testing.assert_allclose(
        jax.grad(lambda b: energy_f(s, box=b))(other),
        jax.grad(lambda b: energy_r(R, new_box=b))(other),
        atol=1e-12,
    )


@MODES
def test_perturbation_comes_last(fractional, dtype):
    displacement, _ = space.periodic_general(BOXES["triangular"], fractional)
    a, b = jnp.asarray(A[0], dtype), jnp.asarray(B[0], dtype)
    strain = np.eye(3) + 0.1 * np.arange(9).reshape(3, 3)
    for kwargs in ({}, {"new_box": 3 * jnp.eye(3)}):
        out = displacement(a, b, perturbation=strain, **kwargs)
        expected = strain @ displacement(a, b, **kwargs)
        np.testing.assert_allclose(out, expected, rtol=1e-4)
        assert out.dtype == dtype


@MODES
@pytest.mark.parametrize("pbc", [(True, True, False), (False, True, False), False])
def test_free_directions(pbc, fractional):
    box = BOXES["triangular"]
    mask = np.broadcast_to(pbc, 3)
    displacement, shift = space.periodic_general(box, fractional, pbc=pbc)
    s = np.where(mask, nearest(A - B), A - B)
    a, b = (A, B) if fractional else (real(box, A), real(box, B))
    np.testing.assert_allclose(
        space.map_bond(displacement)(a, b), real(box, s), atol=1e-12
    )
    s = A + fraction(box, MOVE)
    s = np.where(mask, s - np.floor(s), s)
    expected = s if fractional else real(box, s)
    np.testing.assert_allclose(shift(jnp.asarray(a), MOVE), expected, atol=1e-12)


def test_unwrapped_real_shift_is_exact():
    _, shift = space.periodic_general(BOXES["triangular"], False, wrapped=False)
    R = jnp.asarray(100 * A, jnp.float32)
    dR = jnp.asarray(MOVE, jnp.float32)
    np.testing.assert_array_equal(shift(R, dR), R + dR)


@MODES
def test_wrapped_shift_keeps_a_trajectory_through_the_faces(fractional):
    box = BOXES["general"]
    displacement, shift = space.periodic_general(box, fractional)
    R = jnp.asarray(A % 1 if fractional else real(box, A % 1))
    moved = shift(R, MOVE)
    s = moved if fractional else fraction(box, moved)
    assert np.all((s >= -1e-14) & (s < 1))
    # Moved back, they are where they were.
    np.testing.assert_allclose(
        space.map_bond(displacement)(shift(moved, -MOVE), R), 0, atol=1e-13
    )


@pytest.mark.parametrize("box", [3, 3.0, [3.0, 2.0], [[3.0, 1.0], [0.0, 2.0]]], ids=str)
@MODES
def test_boxes_of_plain_python(box, fractional, dtype):
    displacement, shift = space.periodic_general(box, fractional)
    a, b = jnp.array([0.1, 0.2], dtype), jnp.array([0.9, 0.3], dtype)
    array = jnp.asarray(box, dtype)
    reference, _ = space.periodic_general(array, fractional)
    for kwargs in ({}, {"box": box}, {"new_box": box}):
        out = displacement(a, b, **kwargs)
        np.testing.assert_allclose(out, reference(a, b), rtol=1e-6)
        assert out.dtype == shift(a, b, **kwargs).dtype == dtype


@MODES
def test_under_transformations(fractional):
    displacement, shift = space.periodic_general(BOXES["triangular"], fractional)
    boxes = jnp.stack([BOXES["triangular"], DEFORMED["triangular"]])

    def both(R, dR, box):
        total = energy(displacement)
        return total(R, box=box), shift(R, dR, box=box, new_box=1.1 * box)

    R, dR = jnp.asarray(A[:5]), jnp.asarray(MOVE[:5])
    batch = jax.jit(jax.vmap(both, (None, None, 0)))(R, dR, boxes)
    for i, box in enumerate(boxes):
        for one, many in zip(both(R, dR, box), batch, strict=True):
            np.testing.assert_allclose(many[i], one, rtol=1e-12)
    traced = jax.jit(lambda box: space.periodic_general(box, fractional)[0](A[0], B[0]))
    np.testing.assert_allclose(traced(boxes[0]), displacement(A[0], B[0]), rtol=1e-12)


def test_unknown_keywords_are_ignored():
    displacement, shift = space.periodic_general(2.0)
    for fn in (displacement, shift):
        np.testing.assert_array_equal(fn(A[0], B[0], t=0, kT=1), fn(A[0], B[0]))
