"""Derivatives of energies in any cell, held against central differences.

The tangent ``t`` of fractional positions ``s`` stands for ``b ds``, so a difference in
``s`` is divided by the box it is read in before the two are compared.
"""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_md import space
from tests.space.boxes import BOXES, DEFORMED, FRACTIONS, as_matrix, central, energy

KINDS = list(BOXES)
MODES = pytest.mark.parametrize("fractional", [True, False], ids=["fraction", "real"])
ATOL = 1e-8  # of central differences with a step of 1e-5


@cache
def system(kind, fractional):
    """Energy of positions and box, positions, and a box off that of construction."""
    displacement, _ = space.periodic_general(BOXES[kind], fractional)
    energy_fn = jax.jit(lambda R, box: energy(displacement)(R, box=box))
    box = jnp.asarray(DEFORMED[kind])
    s = jnp.asarray(FRACTIONS)
    return energy_fn, s if fractional else space.raw_transform(box, s), box


def in_frame(difference, box, fractional):
    """A difference in positions ``[..., n, d]`` as the derivative by convention."""
    return difference @ np.linalg.inv(as_matrix(box)) if fractional else difference


@MODES
@pytest.mark.parametrize("kind", KINDS)
def test_first_derivatives(kind, fractional):
    energy_fn, R, box = system(kind, fractional)
    in_R = in_frame(central(lambda R: energy_fn(R, box), R), box, fractional)
    in_box = central(lambda box: energy_fn(R, box), box)
    for derivative in (jax.grad, jax.jacfwd):
        gradients = jax.jit(derivative(energy_fn, (0, 1)))(R, box)
        np.testing.assert_allclose(gradients[0], in_R, atol=ATOL)
        np.testing.assert_allclose(gradients[1], in_box, atol=ATOL)


@MODES
@pytest.mark.parametrize("kind", ["scalar", "vector", "general"])
def test_second_derivatives(kind, fractional):
    energy_fn, R, box = system(kind, fractional)
    gradient = jax.jit(jax.grad(energy_fn, (0, 1)))
    for first in (0, 1):
        expected = (
            in_frame(central(lambda R: gradient(R, box)[first], R), box, fractional),
            central(lambda box: gradient(R, box)[first], box),
        )
        for outer in (jax.jacfwd, jax.jacrev):
            ours = jax.jit(outer(jax.grad(energy_fn, first), (0, 1)))(R, box)
            for out, reference in zip(ours, expected, strict=True):
                np.testing.assert_allclose(out, reference, atol=ATOL)


@pytest.mark.parametrize("kind", KINDS)
def test_real_positions_in_a_deformed_space(kind):
    """Derivatives in both boxes of ``E(R, box=b, new_box=c)``, and in positions.

    A tangent of positions is read in ``c``: it stands for a move of ``b c^-1 t``.
    """
    displacement, _ = space.periodic_general(1.0, False)

    @jax.jit
    def energy_fn(R, box, new_box):
        return energy(displacement)(R, box=box, new_box=new_box)

    box, new_box = jnp.asarray(BOXES[kind]), jnp.asarray(DEFORMED[kind])
    R = space.raw_transform(box, jnp.asarray(FRACTIONS))
    gradients = jax.jit(jax.grad(energy_fn, (0, 1, 2)))(R, box, new_box)
    read = as_matrix(box) @ np.linalg.inv(as_matrix(new_box))
    expected = (
        central(lambda R: energy_fn(R, box, new_box), R) @ read,
        central(lambda box: energy_fn(R, box, new_box), box),
        central(lambda new_box: energy_fn(R, box, new_box), new_box),
    )
    for ours, reference in zip(gradients, expected, strict=True):
        np.testing.assert_allclose(ours, reference, atol=ATOL)


@MODES
def test_strain_commutes_with_positions(fractional):
    """``d2E / dR dperturbation`` is one number, whichever derivative comes first."""
    displacement, _ = space.periodic_general(BOXES["triangular"], fractional)

    def energy_fn(R, strain):
        return energy(displacement)(R, perturbation=jnp.eye(3) + strain)

    R = jnp.asarray(FRACTIONS)
    R = R if fractional else space.raw_transform(BOXES["triangular"], R)
    zero = jnp.zeros((3, 3))
    one = jax.jit(jax.jacfwd(jax.grad(energy_fn, 0), 1))(R, zero)
    other = jax.jit(jax.jacrev(jax.grad(energy_fn, 1), 0))(R, zero)
    assert jnp.max(jnp.abs(one)) > 0.1
    np.testing.assert_allclose(one, jnp.transpose(other, (2, 3, 0, 1)), atol=1e-12)


def relaxed(energy_fn, shift_fn):
    """Steps of descent in a box that grows and shears, changed only by `shift_fn`."""

    def final(R, rate, box):
        strain = jnp.array([[1.0, 0.4, 0.0], [0.0, -0.5, 0.2], [0.0, 0.0, 0.7]])
        growth = jnp.ones(box.shape) if box.ndim < 2 else strain @ box

        def step(carry, _):
            R, box = carry
            new = box + rate * growth
            R = shift_fn(R, jnp.zeros_like(R), box=box, new_box=new)
            R = shift_fn(R, -0.05 * jax.grad(energy_fn)(R, box=new), box=new)
            return (R, new), None

        (R, box), _ = jax.lax.scan(step, (R, box), length=3)
        return energy_fn(R, box=box)

    return jax.jit(final)


@pytest.mark.parametrize(
    "kind", [pytest.param("vector", marks=pytest.mark.slow), "triangular"]
)
def test_gradients_through_changes_of_the_box(kind):
    start, rate = jnp.asarray(BOXES[kind]), 0.03
    s = jnp.asarray(FRACTIONS)
    outcome = {}
    for fractional in (True, False):
        displacement, shift = space.periodic_general(start, fractional)
        final = relaxed(energy(displacement), shift)
        R = s if fractional else space.raw_transform(start, s)
        reverse = jax.jit(jax.grad(final, (0, 1)))(R, rate, start)
        forward = jax.jit(jax.jacfwd(final, (0, 1)))(R, rate, start)
        in_R = in_frame(central(lambda R: final(R, rate, start), R), start, fractional)
        in_rate = central(lambda rate: final(R, rate, start), rate)
        for ours in (reverse, forward):
            np.testing.assert_allclose(ours[0], in_R, atol=ATOL)
            np.testing.assert_allclose(ours[1], in_rate, atol=ATOL)
        outcome[fractional] = final(R, rate, start), *reverse
    for of_fractions, of_real in zip(outcome[True], outcome[False], strict=True):
        np.testing.assert_allclose(of_fractions, of_real, atol=1e-12)


def test_the_curvature_of_a_path_through_boxes():
    start, rate = jnp.asarray(BOXES["vector"]), 0.03
    displacement, shift = space.periodic_general(start)
    final = relaxed(energy(displacement), shift)
    s = jnp.asarray(FRACTIONS)
    slope = jax.jit(jax.grad(final, 1))
    expected = central(lambda rate: slope(s, rate, start), rate)
    for outer in (jax.jacfwd, jax.grad):
        ours = jax.jit(outer(jax.grad(final, 1), 1))(s, rate, start)
        np.testing.assert_allclose(ours, expected, atol=ATOL)


@pytest.mark.parametrize("op", ["lattice", "cartesian", "transform"])
def test_tangent_rules_hold_inside_a_loop(op):
    """Second derivatives through a scan, where a rule could be lost (JAX 0.10.1)."""
    apply = getattr(space, op)
    R, box = jnp.array([0.3, 0.7, 0.2]), jnp.array([1.2, 1.5, 1.1])

    def step(carry, rate):
        R, box = carry
        return apply(box + rate, R) + rate * R, box + rate

    def scanned(rate):
        carry = jax.lax.fori_loop(0, 3, lambda _, c: step(c, rate), (R, box))
        return jnp.sum(jnp.sin(carry[0]))

    def unrolled(rate):
        carry = R, box
        for _ in range(3):
            carry = step(carry, rate)
        return jnp.sum(jnp.sin(carry[0]))

    for outer in (jax.jacfwd, jax.grad):
        np.testing.assert_allclose(
            jax.jit(outer(jax.grad(scanned)))(0.3),
            jax.jit(outer(jax.grad(unrolled)))(0.3),
            rtol=1e-12,
        )


@MODES
def test_shift_in_a_tangent_of_its_frame(fractional):
    """What an ensemble probes for: with twice the box a tangent doubles."""
    _, shift = space.periodic_general(jnp.eye(3), fractional)
    R, t = jnp.full((1, 3), 0.3), jnp.array([[0.1, -0.2, 0.3]])
    _, out = jax.jvp(
        lambda R: shift(R, 0 * R, box=jnp.eye(3), new_box=2 * jnp.eye(3)), (R,), (t,)
    )
    np.testing.assert_allclose(out, 2 * t, rtol=1e-14)


@pytest.mark.parametrize("kind", KINDS)
def test_single_precision_derivatives(kind):
    energy_fn, R, box = system(kind, True)
    exact = jax.jit(jax.grad(energy_fn, (0, 1)))(R, box)
    single = jax.jit(jax.grad(energy_fn, (0, 1)))(
        R.astype(jnp.float32), box.astype(jnp.float32)
    )
    for out, reference in zip(single, exact, strict=True):
        assert out.dtype == jnp.float32
        np.testing.assert_allclose(out, reference, atol=2e-5)
