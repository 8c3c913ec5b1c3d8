"""Derivatives of minima: packings, clusters and boxes, against central differences."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_md import adjoint, energy, minimize, space

N, SIDE = 10, 2.45
DIAMETER = np.where(np.arange(N) < N // 2, 1.0, 0.7)
# Central differences: of minima found to TIGHT, over 2 H times a stiffness of 0.01, and
# an error of H^2 times third derivatives of order 100.
H, TIGHT, DIFFERENCES = 1e-5, 1e-13, 1e-6

displacement_fn, shift_fn = space.periodic(SIDE)
discs = energy.soft_sphere_pair(displacement_fn, alpha=2.5)


def energy_fn(diameter, R):
    return discs(R, sigma=(diameter[:, None] + diameter) / 2)


def fire(tolerance=None, shift=shift_fn):
    return minimize.until_converged(minimize.fire_descent, shift, tolerance)


def stay(energy_fn, R):
    return R


@cache
def packing():
    """Diameters and positions of a jammed packing, to the last bits."""
    R = SIDE * np.random.default_rng(0).random((N, 2))
    found = jax.jit(
        lambda d: adjoint.minimum(energy_fn, d, R, fire(TIGHT), tolerance=1e-12)
    )(jnp.asarray(DIAMETER))
    found.raise_if_unconverged()
    assert energy_fn(DIAMETER, found.position) > 1e-3
    return jnp.asarray(DIAMETER), found.position


def loss(diameter, found):
    """Positions and the energy, apart; periodic, but not unchanged by a shift."""
    wave = jnp.arange(N)[:, None] * jnp.sin(2 * jnp.pi * found.position / SIDE + 1)
    return jnp.sum(wave), energy_fn(diameter, found.position)


def central_differences(fn, x, h=H):
    """Rows ``d fn / d x_i`` of a function of a vector."""
    fn = jax.jit(fn)
    rows = []
    for i in range(x.size):
        step = h * jnp.zeros(x.size).at[i].set(1).reshape(x.shape)
        up, down = fn(x + step), fn(x - step)
        rows.append((jnp.asarray(up) - jnp.asarray(down)) / (2 * h))
    return jnp.stack(rows, -1)


def test_implicit_equals_unrolled_equals_differences():
    diameter, R = packing()
    off = 0.01 * jax.random.normal(jax.random.key(0), R.shape)
    near = R + off - jnp.mean(off, axis=0)  # the middle stays where it is
    init, step = minimize.fire_descent(energy_fn_of_sigma, shift_fn)

    def implicit(diameter):
        return loss(diameter, adjoint.minimum(energy_fn, diameter, near, fire(1e-11)))

    def unrolled(diameter):
        start = init(near, diameter=diameter)
        end, _ = adjoint.rollout(
            lambda d, state: step(state, diameter=d), diameter, start, 1000
        )
        return loss(diameter, end)

    def again(diameter):
        return loss(diameter, adjoint.minimum(energy_fn, diameter, R, fire(TIGHT)))

    reverse = jnp.stack(jax.jit(jax.jacrev(implicit))(diameter))
    forward = jnp.stack(jax.jit(jax.jacfwd(implicit))(diameter))
    through = jnp.stack(jax.jit(jax.jacrev(unrolled))(diameter))
    size = np.abs(reverse).max(axis=1, keepdims=True)
    assert np.all(size > [[1], [0.01]])
    np.testing.assert_allclose(forward / size, reverse / size, atol=1e-10)
    np.testing.assert_allclose(through / size, reverse / size, atol=DIFFERENCES)
    differences = central_differences(again, diameter)
    np.testing.assert_allclose(differences / size, reverse / size, atol=DIFFERENCES)
    # The envelope theorem: the energy at the minimum does not see the minimum move.
    envelope = jax.grad(energy_fn)(diameter, R)
    np.testing.assert_allclose(reverse[1], envelope, rtol=1e-9, atol=1e-12)


def energy_fn_of_sigma(R, diameter):
    return energy_fn(diameter, R)


@pytest.mark.slow
def test_second_derivatives_of_a_packing():
    diameter, R = packing()

    @jax.jit
    def slope(diameter):
        def total(diameter):
            found = adjoint.minimum(energy_fn, diameter, R, fire(TIGHT))
            return loss(diameter, found)[0]

        return jax.grad(total)(diameter)

    v = jnp.asarray(np.random.default_rng(1).normal(size=N))
    reverse = jax.jit(jax.grad(lambda d: jnp.vdot(slope(d), v)))(diameter)
    forward = jax.jit(lambda d: jax.jvp(slope, (d,), (v,))[1])(diameter)
    along = central_differences(lambda t: slope(diameter + t * v), jnp.zeros(1), 1e-6)
    size = np.abs(reverse).max()
    np.testing.assert_allclose(forward / size, reverse / size, atol=1e-9)
    np.testing.assert_allclose(along[:, 0] / size, reverse / size, atol=1e-5)


@pytest.mark.slow
def test_single_precision_loses_what_the_stiffness_takes():
    diameter, R = packing()

    def total(diameter, R):
        found = adjoint.minimum(energy_fn, diameter, R, fire())
        assert found.position.dtype == found.residual.dtype == diameter.dtype
        return loss(diameter, found)[0]

    exact = jax.jit(jax.grad(total))(diameter, R)
    single = jax.jit(jax.grad(total))(*(x.astype(jnp.float32) for x in (diameter, R)))
    assert single.dtype == jnp.float32
    # Forces are zero to 1e-5 or so, and the packing yields as 1 to 0.01.
    np.testing.assert_allclose(single, exact, atol=3e-3 * np.abs(exact).max())


def test_a_rattler_does_no_harm():
    diameter, R = packing()
    grid = np.stack(np.meshgrid(*[np.linspace(0, SIDE, 60)] * 2), -1).reshape(-1, 2)
    distance = space.map_product(space.metric(displacement_fn))(R, jnp.asarray(grid))
    room = jnp.min(distance - diameter / 2, axis=1)
    hole = jnp.argmax(room)
    small = 1.8 * room[hole]
    assert small > 0.1

    def total(diameter, R, free=0.0):
        found = adjoint.minimum(energy_fn, diameter, R, fire(1e-12))
        wave = jnp.arange(N)[:, None] * jnp.sin(found.position[:N])
        return jnp.sum(wave) + free * jnp.sum(found.position[N:] ** 2)

    more = jnp.append(diameter, small), jnp.vstack([R, grid[hole]])
    expected = jax.jit(jax.grad(total))(diameter, R)
    slope = jax.jit(jax.grad(total, argnums=(0, 1, 2)))
    found, start, square = slope(*more, 0.0)
    np.testing.assert_allclose(found[:N], expected, rtol=1e-9)
    assert found[N] == 0 and jnp.all(start == 0) and square > 0
    # Where a rattler stays is not up to the diameters.
    np.testing.assert_allclose(slope(*more, 1.0)[0], found, rtol=1e-9, atol=1e-12)
    forward = jax.jit(jax.jacfwd(total))(*more, 1.0)
    np.testing.assert_allclose(forward, found, rtol=1e-9, atol=1e-12)


@pytest.mark.slow
def test_replicas_in_one_batch():
    diameter, R = packing()
    starts = R + 0.01 * jax.random.normal(jax.random.key(3), (3, N, 2))

    def slope(scale, R):
        def total(scale):
            found = adjoint.minimum(energy_fn, scale * diameter, R, fire(1e-10))
            return jnp.sum(loss(scale * diameter, found)[0])

        return jax.value_and_grad(total)(scale)

    scales = jnp.array([0.99, 1.0, 1.02])
    values, slopes = jax.jit(jax.vmap(slope))(scales, starts)
    for i in (0, 2):
        value, expected = jax.jit(slope)(scales[i], starts[i])
        np.testing.assert_allclose(values[i], value, rtol=1e-7)
        np.testing.assert_allclose(slopes[i], expected, rtol=1e-6)


@pytest.mark.slow
def test_an_energy_with_a_neighbor_list():
    diameter, R = packing()
    neighbor_fn, list_energy = energy.soft_sphere_neighbor_list(
        displacement_fn, SIDE, sigma=1.0, alpha=2.5, dr_threshold=0.2
    )
    neighbors = neighbor_fn.allocate(R)

    def with_list(sigma, R):
        return list_energy(R, neighbor=neighbors, sigma=sigma)

    def total(energy_fn):
        def fn(sigma):
            found = adjoint.minimum(energy_fn, sigma, R, fire(1e-11))
            return loss(diameter, found)[0]

        return fn

    sigma = (diameter[:, None] + diameter) / 2
    expected = jax.jit(jax.grad(total(lambda sigma, R: discs(R, sigma=sigma))))(sigma)
    found = jax.jit(jax.grad(total(with_list)))(sigma)
    np.testing.assert_allclose(found, expected, atol=1e-8 * np.abs(expected).max())


def cluster_energy(params, R):
    """A Morse cluster in free space, with bonds of two kinds."""
    dR = R[:, None] - R
    r = jnp.sqrt(jnp.sum(dR**2, -1) + jnp.eye(len(R)))
    sigma = params["sigma"] * jnp.where(jnp.arange(len(R)) < 2, 1.1, 1.0)
    u = (1 - jnp.exp(-params["alpha"] * (r - (sigma[:, None] + sigma) / 2))) ** 2 - 1
    return jnp.sum(jnp.where(jnp.eye(len(R), dtype=bool), 0, u)) / 2


PARAMS = {"sigma": jnp.array(1.0), "alpha": jnp.array(2.0)}


@pytest.mark.parametrize("clusters", [2, pytest.param(1, marks=pytest.mark.slow)])
def test_clusters_that_move_and_turn(clusters):
    # One cluster moves as a whole. Of two that do not feel each other each does so, by
    # motions that only least squares can tell.
    R = np.random.default_rng(4).normal(size=(5, 3))
    R = np.concatenate([R + 40 * i for i in range(clusters)])
    R = fire(TIGHT, space.free()[1])(lambda R: cluster_energy(PARAMS, R), R)

    def total(params, pinned):
        solver = fire(TIGHT, space.free()[1])
        found = adjoint.minimum(cluster_energy, params, R, solver).position[:5]
        shape = jnp.sqrt(jnp.sum((found[:, None] - found) ** 2, -1) + jnp.eye(5))
        # Where the cluster is and how it is turned is not up to the parameters.
        where = jnp.mean(found, 0) @ jnp.arange(1.0, 4.0)
        return jnp.sum(jnp.arange(25.0).reshape(5, 5) * shape) + pinned * where

    def of_vector(x):
        return total({"sigma": x[0], "alpha": x[1]}, 0.0)

    differences = central_differences(of_vector, jnp.array([1.0, 2.0]))
    for pinned in (0.0, 1.0):
        found = jax.jit(jax.grad(total))(PARAMS, pinned)
        found = found["sigma"], found["alpha"]
        np.testing.assert_allclose(found, differences, rtol=1e-6)
    if clusters == 1:
        forward = jax.jit(jax.jacfwd(total))(PARAMS, 0.0)
        forward = forward["sigma"], forward["alpha"]
        np.testing.assert_allclose(forward, differences, rtol=1e-6)


@pytest.mark.parametrize(
    "shape",
    [
        pytest.param((), id="side"),
        pytest.param((2, 2), id="cell", marks=pytest.mark.slow),
    ],
)
def test_relaxation_of_the_box(shape):
    # A cell also turns with what is in it; all that is asked for is its area.
    diameter, R = packing()
    displacement, shift = space.periodic_general(SIDE)
    fractional = energy.soft_sphere_pair(displacement, alpha=2.5)

    def area(box):
        return box**2 if box.ndim == 0 else jnp.linalg.det(box)

    def enthalpy(params, variables):
        s, box = variables
        sigma = (diameter[:, None] + diameter) / 2 * params["scale"]
        E = fractional(s, box=box, sigma=sigma)
        return E + params["pressure"] * area(box)

    solver = fire(TIGHT, (shift, space.free()[1]))
    box = SIDE * (jnp.eye(2) if shape else jnp.array(1.0))
    start = R / SIDE, box
    params = {"scale": jnp.array(1.0), "pressure": jnp.array(0.05)}
    start = jax.jit(lambda p: adjoint.minimum(enthalpy, p, start, solver).position)(
        params
    )

    def total(params):
        found = adjoint.minimum(enthalpy, params, start, solver)
        s, box = found.position
        bond = displacement(s[0], s[1], box=box)
        return area(box) + jnp.sum(bond**2), found

    def of_vector(x):
        return total({"scale": x[0], "pressure": x[1]})[0]

    found, at = jax.jit(jax.grad(total, has_aux=True))(params)
    at.raise_if_unconverged()
    forward, _ = jax.jit(jax.jacfwd(total, has_aux=True))(params)
    differences = central_differences(of_vector, jnp.array([1.0, 0.05]))
    assert np.all(np.abs(differences) > 0.1)
    for slope in (found, forward):
        slope = slope["scale"], slope["pressure"]
        np.testing.assert_allclose(slope, differences, rtol=DIFFERENCES)
