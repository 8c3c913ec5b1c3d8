"""What a minimum does where there is no derivative, and what it refuses."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_md import adjoint, energy, minimize, space


def well(k, x):
    """Two numbers in a well around ``(1 / k, 0)``; a third that nothing holds."""
    return k * x[0] ** 2 / 2 - x[0] + jnp.cosh(x[1]) * k


def newton(energy_of_x, x):
    for _ in range(8):
        pinv = jnp.linalg.pinv(jax.hessian(energy_of_x)(x))
        x = x - pinv @ jax.grad(energy_of_x)(x)
    return x


START = jnp.array([0.3, 0.1, 5.0])


def place(k):
    return adjoint.minimum(well, k, START.astype(k.dtype), newton).position


EXPECTED = np.array([[0.5, 0, 5], [-0.25, 0, 0], [0.25, 0, 0]])  # derivatives of 1 / k


@pytest.mark.parametrize(
    ("outer", "inner", "dtype"),
    [
        (jax.jacrev, jax.jacfwd, jnp.float32),
        pytest.param(jax.jacfwd, jax.jacrev, jnp.float64, marks=pytest.mark.slow),
        pytest.param(jax.jacrev, jax.jacrev, jnp.float64, marks=pytest.mark.slow),
    ],
)
def test_derivatives_of_a_well(outer, inner, dtype):
    @jax.jit
    def orders(k):
        return place(k), inner(place)(k), outer(inner(place))(k)

    got = orders(jnp.asarray(2.0, dtype))
    assert all(x.dtype == dtype for x in got)
    tolerance = 1e-9 if dtype == jnp.float64 else 1e-5
    np.testing.assert_allclose(got, EXPECTED, atol=tolerance)


@pytest.mark.slow
def test_the_third_derivative_of_a_well():
    third = jax.jit(jax.jacrev(jax.jacfwd(jax.jacrev(place))))
    np.testing.assert_allclose(third(jnp.array(2.0)), [-0.375, 0, 0], atol=1e-9)


def test_closed_over_values_are_parameters():
    def place(k, depth):
        scaled = jnp.cosh(depth)  # traced, and closed over

        def energy_fn(k, x):
            return well(k, x) - scaled * x[0]

        def solver(energy_of_x, x):
            assert jnp.ndim(scaled) == 0
            return newton(energy_of_x, x) + 0 * scaled  # so does the solver

        return adjoint.minimum(energy_fn, k, START, solver).position[0]

    k, depth = 2.0, jnp.array([0.3, 0.6])
    expected = -(1 + np.cosh(depth)) / 4, np.sinh(depth) / 2
    got = jax.jit(jax.vmap(jax.grad(place, argnums=(0, 1)), (None, 0)))(k, depth)
    np.testing.assert_allclose(got, expected, rtol=1e-9)
    _, slope = jax.jvp(jax.jit(lambda depth: place(k, depth)), (0.3,), (1.0,))
    np.testing.assert_allclose(slope, expected[1][0], rtol=1e-9)


def test_any_tree_and_a_solver_in_plain_python():
    def energy_fn(params, x):
        return jnp.sum((x["a"] - params["k"]) ** 2) + (x["b"] - params["n"]) ** 2

    def solver(energy_of_x, x):
        while float(energy_of_x(x)) > 1e-20:  # not traceable
            slope = jax.grad(energy_of_x)(x)
            x = jax.tree.map(lambda x, g: x - g / 2, x, slope)
        return x

    def total(k):
        params = {"k": k, "n": 3, "key": jax.random.key(0)}
        found = adjoint.minimum(energy_fn, params, {"a": np.zeros(2), "b": 0.0}, solver)
        return jnp.sum(found.position["a"] ** 3) + found.position["b"]

    np.testing.assert_allclose(jax.grad(total)(2.0), 24.0, rtol=1e-12)
    np.testing.assert_allclose(total(2.0), 19.0, rtol=1e-12)


def test_short_of_the_minimum_derivatives_are_nan():
    def place(k, tolerance=None):
        def stay(energy_of_x, x):
            return x

        start = jnp.array([0.5 + 1e-3, 0.0, 5.0])
        return adjoint.minimum(well, k, start, stay, tolerance=tolerance)

    def first(k):
        return place(k).position[0]

    for derivative in (jax.grad(first), jax.jit(jax.grad(first)), jax.jacfwd(first)):
        assert jnp.isnan(derivative(2.0))
    found = jax.jit(place)(2.0)
    np.testing.assert_allclose(found.residual, 2e-3, rtol=1e-9)
    assert not found.converged and found.position[0] == 0.501
    with pytest.raises(RuntimeError, match="0.002"):
        found.raise_if_unconverged()
    many = jax.vmap(place)(jnp.array([2.0, 1 / 0.501]))
    assert list(many.converged) == [False, True]
    with pytest.raises(RuntimeError, match="`tolerance`"):
        many.raise_if_unconverged()
    place(2.0, 0.1).raise_if_unconverged()
    assert jnp.isfinite(jax.jit(jax.grad(lambda k: place(k, 0.1).position[0]))(2.0))


@pytest.mark.parametrize(
    ("tilted", "modes"),
    [
        (lambda k, x: well(2.0, x) + k * x[2], (jax.grad, jax.jacfwd)),
        (lambda k, x: well(2.0, x) + x[2] ** 4 - k * x[2], (jax.grad, jax.jacfwd)),
        # Only a sum is held, so that a difference is free. What a cotangent does along
        # it cannot be told from the moves of a rattler.
        (lambda k, x: (x[0] - 0.5 + x[1]) ** 2 + x[2] ** 2 + k * x[0], (jax.jacfwd,)),
    ],
    ids=["rattler", "quartic", "combination"],
)
def test_a_parameter_that_tilts_a_flat_direction(tilted, modes):
    def place(k):
        start = jnp.array([0.5, 0.0, 0.0])
        found = adjoint.minimum(tilted, k, start, lambda energy_of_x, x: x)
        return found.position[0], found.converged

    for mode in modes:
        slope, converged = jax.jit(mode(place, has_aux=True))(0.0)
        assert converged and jnp.isnan(slope)


def test_a_small_tilt_beside_a_stiff_parameter(dtype):
    stiffness = dtype(1e3 / jnp.finfo(dtype).eps ** 0.75)

    def tilted(params, x):
        return stiffness * (x[0] - params["place"]) ** 2 / 2 + params["tilt"] * x[1]

    def place(tilt, at):
        params = {"place": at, "tilt": tilt}
        start = jnp.stack([at, dtype(3.0)])
        return adjoint.minimum(tilted, params, start, lambda e, x: x).position[1]

    slopes = jax.jit(jax.jacfwd(place, (0, 1)))(dtype(0.0), dtype(0.5))
    assert np.all(np.isnan(slopes))
    assert jax.jit(jax.jacfwd(place, 1))(dtype(0.0), dtype(0.5)) == 0


def test_forces_that_cancel_are_no_tilt(dtype):
    """Atoms of a crystal stay where they are, whatever their size."""
    displacement_fn, _ = space.periodic(4.0)
    s = np.stack(np.meshgrid(*[np.arange(4)] * 2, indexing="ij"), -1).reshape(-1, 2)
    R = jnp.asarray(s + 0.3, dtype)
    pair_fn = energy.soft_sphere_pair(displacement_fn)
    own = np.random.default_rng(0).normal(size=s.shape)

    def place(sigma):
        def crystal(sigma, R):
            return pair_fn(R, sigma=sigma)

        found = adjoint.minimum(crystal, sigma, R, lambda e, x: x, tolerance=1e-3)
        return jnp.sum(found.position * own)

    assert abs(jax.jit(jax.grad(place))(dtype(1.6))) < 1e-3


def test_a_linear_system_that_is_not_solved():
    stiffness = 10.0 ** jnp.linspace(-6, 0, 40)

    def place(k, steps=None):
        def energy_fn(k, x):
            return jnp.sum(stiffness * (x - k) ** 2)

        found = adjoint.minimum(
            energy_fn, k, k * jnp.ones(40), lambda e, x: x, linear_steps=steps
        )
        return jnp.sum(found.position)

    np.testing.assert_allclose(jax.jit(jax.grad(place))(1.0), 40.0, rtol=1e-8)
    assert jnp.isnan(jax.jit(jax.grad(lambda k: place(k, 2)))(1.0))


def test_refusals():
    def call(energy_fn=well, start=START, solver=newton, **options):
        return adjoint.minimum(energy_fn, 2.0, start, solver, **options)

    with pytest.raises(TypeError, match=r"`solver` must be a function"):
        call(solver=3)
    with pytest.raises(TypeError, match=r"`start`.*int64"):
        call(start=jnp.arange(3))
    with pytest.raises(ValueError, match=r"real scalar.*float64\[3\]"):
        call(energy_fn=lambda k, x: k * x)
    with pytest.raises(ValueError, match="`tolerance` must be positive"):
        call(tolerance=0.0)
    with pytest.raises(TypeError, match="`linear_steps`"):
        call(linear_steps=2.0)
    with pytest.raises(TypeError, match="state.position"):
        call(solver=lambda e, x: {"position": x})
    with pytest.raises(ValueError, match=r"`solver`.*\(2,\) for \(3,\)"):
        call(solver=lambda e, x: x[:2])
    with pytest.raises(TypeError, match="`solver`.*float32 for float64"):
        call(solver=lambda e, x: x.astype(jnp.float32))
    with pytest.raises(ValueError, match="`energy_of_R` must be called"):
        call(solver=lambda e, x: e(x[:2]))


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        ("fire_descent", jnp.float32),
        ("lbfgs", jnp.float64),
        ("gradient_descent", jnp.float64),
    ],
)
def test_minimizers_as_solvers(name, dtype):
    factories = {
        "fire_descent": minimize.fire_descent,
        "lbfgs": minimize.lbfgs,
        "gradient_descent": lambda e, s: minimize.gradient_descent(e, s, 0.1),
    }
    solver = minimize.until_converged(factories[name], space.free()[1])

    def energy_fn(k, R):
        return jnp.sum((R - k) ** 2 * jnp.array([1, 2, 3], dtype))

    def place(k):
        start = jnp.ones((4, 3), dtype)
        found = adjoint.minimum(energy_fn, k, start, solver)
        return found.position[0, 0], found

    slope, found = jax.jit(jax.grad(place, has_aux=True))(jnp.asarray(2.0, dtype))
    assert found.position.dtype == dtype and found.converged
    assert found.residual <= jnp.finfo(dtype).eps ** 0.5 / 10
    np.testing.assert_allclose(slope, 1.0, rtol=1e-5)
    short = minimize.until_converged(factories[name], space.free()[1], max_steps=1)
    moved = short(lambda R: energy_fn(2.0, R), jnp.ones((4, 3), dtype))
    assert 0 < jnp.max(jnp.abs(moved - 1)) < 1
