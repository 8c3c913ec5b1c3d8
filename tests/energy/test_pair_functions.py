"""Pair functions and cutoffs by themselves: values, limits and derivatives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_md import energy

FUNCTIONS = {
    "lennard_jones": (energy.lennard_jones, {"sigma": 1.1, "epsilon": 0.7}),
    "morse": (energy.morse, {"sigma": 1.1, "epsilon": 0.7, "alpha": 3.0}),
    "soft_sphere": (energy.soft_sphere, {"sigma": 1.6, "epsilon": 0.7, "alpha": 2.5}),
    "simple_spring": (
        energy.simple_spring,
        {"length": 1.1, "epsilon": 0.7, "alpha": 2.5},
    ),
}


def test_lennard_jones_values():
    f, r = energy.lennard_jones, 2 ** (1 / 6)
    np.testing.assert_allclose(f(1.3 * r, 1.3, 0.7), -0.7, rtol=1e-12)
    np.testing.assert_allclose(jax.grad(f)(1.3 * r, 1.3, 0.7), 0, atol=1e-12)
    np.testing.assert_allclose(f(1.3, 1.3, 0.7), 0, atol=1e-12)
    np.testing.assert_allclose(f(2.0), 4 * (2.0**-12 - 2.0**-6), rtol=1e-12)
    # Overlapping particles repel without limit, and not to NaN.
    assert f(jnp.float32(1e-8)) == jnp.inf


def test_morse_values():
    np.testing.assert_allclose(energy.morse(1.3, 1.3, 0.7, 4.0), -0.7, rtol=1e-12)
    slope, bend = (d(energy.morse)(1.3, 1.3, 0.7, 4.0) for d in (jax.grad, jax.hessian))
    np.testing.assert_allclose([slope, bend], [0, 2 * 0.7 * 16], rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(energy.morse(30.0, 1.3, 0.7, 4.0), 0, atol=1e-12)


@pytest.mark.parametrize("alpha", [2, 2.0, 2.5, 3.0])
def test_soft_sphere_values(alpha):
    f, slope = energy.soft_sphere, jax.grad(energy.soft_sphere)
    p = {"sigma": 1.3, "epsilon": 0.7, "alpha": alpha}
    np.testing.assert_allclose(f(0.0, **p), 0.7 / alpha, rtol=1e-12)
    np.testing.assert_allclose(f(0.65, **p), 0.7 / alpha * 0.5**alpha, rtol=1e-12)
    for r in (1.3, 2.6):
        assert f(r, **p) == 0 and slope(r, **p) == 0
    # A sphere without size touches nothing, and its derivatives are finite.
    assert jax.grad(lambda s: f(0.5, s, 0.7, alpha))(0.0) == 0


@pytest.mark.parametrize("alpha", [2, 2.0, 2.5, 3.0, 4])
def test_spring_values(alpha):
    f = energy.simple_spring
    p = {"length": 1.3, "epsilon": 0.7, "alpha": alpha}
    for x in (-0.4, 0.4):
        np.testing.assert_allclose(
            f(1.3 + x, **p), 0.7 / alpha * 0.4**alpha, rtol=1e-12
        )
    # At rest: force zero, stiffness epsilon for a parabola and zero above.
    for power in (alpha, jnp.asarray(float(alpha))):  # static and traced
        q = {**p, "alpha": power}
        assert jax.grad(f)(1.3, **q) == 0
        bend = jax.jit(lambda r: jax.hessian(f)(r, **q))(1.3)
        np.testing.assert_allclose(bend, 0.7 if alpha == 2 else 0, atol=1e-12)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_zero_distance_has_finite_derivatives(name):
    fn, p = FUNCTIONS[name]
    args = list(p.values())
    every = tuple(range(1 + len(args)))
    forms = [fn, jax.grad(fn, every), jax.hessian(fn, every)]
    values = jax.jit(lambda *x: [form(*x) for form in forms])(0.0, *args)
    assert all(np.all(np.isfinite(v)) for v in jax.tree.leaves(values))
    if name == "lennard_jones":
        assert not any(map(np.any, jax.tree.leaves(values)))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_derivatives_match_differences(name):
    """Both modes, in the distance and in every parameter."""
    fn, p = FUNCTIONS[name]
    x = jnp.array([1.35, *p.values()])
    flat = jax.jit(lambda x: fn(x[0], *x[1:]))
    reverse, forward = jax.grad(flat)(x), jax.jacfwd(flat)(x)
    np.testing.assert_allclose(reverse, forward, rtol=1e-12)
    h = 1e-5
    steps, slope = np.eye(len(x)) * h, jax.jit(jax.grad(flat))
    by_difference = [(flat(x + s) - flat(x - s)) / (2 * h) for s in steps]
    np.testing.assert_allclose(reverse, by_difference, rtol=1e-7, atol=1e-9)
    bends = [(slope(x + s) - slope(x - s)) / (2 * h) for s in steps]
    bend = jax.jit(jax.hessian(flat))(x)
    np.testing.assert_allclose(bend, bends, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_dtype_is_that_of_the_distances(name, dtype):
    fn, p = FUNCTIONS[name]
    assert fn(jnp.ones(3, dtype), **p).dtype == dtype
    cut = energy.smooth_cutoff(fn, 1.0, 2.0)
    assert cut(jnp.ones(3, dtype), **p).dtype == dtype


CUTOFFS = {
    energy.multiplicative_isotropic_cutoff: 1,
    energy.smooth_cutoff: 2,
    energy.sharp_cutoff: -1,
}


@pytest.mark.parametrize("cutoff", CUTOFFS)
def test_cutoffs_are_exact_outside_of_the_switch(cutoff):
    cut = cutoff(energy.morse, 1.5, 2.0)
    below, beyond = jnp.linspace(0, 1.4999, 50), jnp.array([2.0, 2.5, 1e3])
    np.testing.assert_array_equal(cut(below), energy.morse(below))
    np.testing.assert_array_equal(cut(beyond), 0)
    np.testing.assert_array_equal(jax.vmap(jax.grad(cut))(beyond), 0)


@pytest.mark.parametrize(("cutoff", "order"), CUTOFFS.items())
def test_cutoffs_are_as_smooth_as_they_say(cutoff, order):
    """Derivatives up to `order` agree across both ends, and the next does not."""
    cut = cutoff(lambda r: 1 + r, 1.5, 2.0)
    jumps, derivatives = [], [cut]
    for _ in range(order + 1):
        derivatives.append(jax.grad(derivatives[-1]))
    for derivative in derivatives:
        d = jax.jit(derivative)
        ends = (1.5, 2.0) if order > 0 else (2.0,)
        jumps.append([abs(d(end - 1e-9) - d(end + 1e-9)) for end in ends])
    smooth = [max(j) < 1e-5 for j in jumps[: order + 1]]
    assert all(smooth) and max(jumps[order + 1]) > 0.1


def test_polynomial_of_the_isotropic_cutoff():
    cut = energy.multiplicative_isotropic_cutoff(lambda r: jnp.ones_like(r), 1.0, 2.0)
    r = np.array([1.2, 1.5, 1.9])
    expected = (4 - r**2) ** 2 * (4 + 2 * r**2 - 3) / 27
    np.testing.assert_allclose(cut(jnp.asarray(r)), expected, rtol=1e-12)


@pytest.mark.parametrize("cutoff", CUTOFFS)
def test_an_empty_switch_is_a_truncation(cutoff):
    def at(r, end):
        return cutoff(energy.morse, end, end)(r)

    np.testing.assert_array_equal(at(1.9, 2.0), energy.morse(1.9))
    assert np.all(np.isfinite(jax.grad(at, (0, 1))(1.9, 2.0)))


def test_derivative_in_the_cutoff_itself():
    @jax.jit
    def at(limits):
        return energy.smooth_cutoff(energy.morse, limits[0], limits[1])(1.8)

    x, h = jnp.array([1.5, 2.0]), 1e-6
    by_difference = [(at(x + s) - at(x - s)) / (2 * h) for s in jnp.eye(2) * h]
    np.testing.assert_allclose(jax.grad(at)(x), by_difference, rtol=1e-7)


@pytest.mark.parametrize(
    "cutoff_fn",
    [
        energy.multiplicative_isotropic_cutoff,
        energy.smooth_cutoff,
        energy.sharp_cutoff,
    ],
)
def test_nan_is_not_hidden(cutoff_fn):
    """A comparison with NaN is false, and must not switch the pair off."""
    cut = cutoff_fn(energy.lennard_jones, 2.0, 2.5)
    dr = jnp.array([1.5, jnp.nan, 3.0])
    np.testing.assert_array_equal(jnp.isnan(cut(dr)), [False, True, False])
    soft = energy.soft_sphere(dr, sigma=2.0)
    np.testing.assert_array_equal(jnp.isnan(soft), [False, True, False])
