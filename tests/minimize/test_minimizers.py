import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_md import minimize, quantity, space
from tests.soft_spheres import SPACES, pair_sum, soft_spheres

STIFF = jnp.array([1.0, 3.0])


def quadratic(R, k=1.0):
    return k * jnp.sum(STIFF.astype(R.dtype) * R**2) / 2


def kinds(state):
    return jax.tree.map(lambda x: (x.shape, x.dtype), state)


def advance(step, state, steps, **kwargs):
    return jax.lax.fori_loop(0, steps, lambda i, s: step(s, **kwargs), state)


MINIMIZERS = {
    "gradient_descent": lambda E, shift: minimize.gradient_descent(E, shift, 0.1),
    "fire_descent": minimize.fire_descent,
    "lbfgs": minimize.lbfgs,
}


@pytest.mark.parametrize("name", MINIMIZERS)
def test_a_quadratic_is_descended_in_the_dtype_of_the_positions(name, dtype):
    init, step = MINIMIZERS[name](quadratic, space.free()[1])
    state = init(jax.random.normal(jax.random.key(0), (10, 2), dtype), k=1.0)
    start = kinds(state)

    def energy(state):
        return quadratic(getattr(state, "position", state))

    for _ in range(5):
        before = energy(state)
        state = advance(step, state, 3, k=1.0)
        assert energy(state) < before or before == 0
    assert kinds(state) == start
    assert all(
        leaf.dtype in (dtype, jnp.int32)
        for leaf in jax.tree.leaves(state if name != "lbfgs" else state.position)
    )


def test_gradient_descent_is_a_step_along_the_force():
    R = jnp.array([[0.3, 0.8]])
    _, step = minimize.gradient_descent(quadratic, space.periodic(1.0)[1], 0.5)
    np.testing.assert_allclose(step(R), (R * (1 - 0.5 * STIFF)) % 1.0)
    np.testing.assert_allclose(step(R, step_size=0.1), R * (1 - 0.1 * STIFF))
    with pytest.raises(TypeError, match="`step_size`"):
        step(R, stepsize=0.1)


def fire_by_hand(R, steps, mass):
    """FIRE of the paper, on a quadratic, in plain numpy."""
    force = lambda R: -np.asarray(STIFF) * R  # noqa: E731
    R, P, dt, alpha, n = np.array(R), np.zeros_like(R), 0.1, 0.1, 0
    for _ in range(steps):
        P = P + dt / 2 * force(R)
        R = R + dt * P / mass
        F = force(R)
        P = P + dt / 2 * F
        power = np.sum(F * P)
        norms = np.linalg.norm(P) / np.linalg.norm(F)
        P = (1 - alpha) * P + alpha * F * norms
        if power < 0:
            P, dt, alpha, n = np.zeros_like(R), dt * 0.5, 0.1, 0
        else:
            n += 1
            if n > 5:
                dt, alpha = min(dt * 1.1, 0.15), alpha * 0.99
    return R, P, dt, alpha, n


@pytest.mark.parametrize("steps", [4, 30, 90])
def test_fire_follows_the_paper(steps):
    R = jax.random.normal(jax.random.key(1), (6, 2))
    mass = jnp.linspace(1.0, 2.0, 6)
    init, step = minimize.fire_descent(quadratic, space.free()[1], dt_max=0.15)
    state = advance(step, init(R, mass), steps)
    expected = fire_by_hand(R, steps, np.asarray(mass)[:, None])
    found = state.position, state.momentum, state.dt, state.alpha, state.n_pos
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-13)


def test_fire_on_trees_and_at_rest():
    R = {"a": jnp.ones((3, 2)), "b": jnp.zeros((2, 2))}

    def energy(R):
        return quadratic(R["a"]) + quadratic(R["b"])

    init, step = minimize.fire_descent(energy, space.free()[1])
    state = advance(step, init(R), 300)
    assert quantity.force(energy)(state.position)["a"].max() < 1e-6
    still = advance(step, init(jax.tree.map(jnp.zeros_like, R)), 3)
    assert all(jnp.all(leaf == 0) for leaf in jax.tree.leaves(still.position))


def jammed(dtype):
    """An overlapping packing, whose minimum bears load."""
    n = 32
    side = quantity.box_size_at_volume_fraction(1.0, 0.5, 2, n)
    displacement, shift = space.periodic_general(
        jnp.array([[side, 0.0], [0.0, side]], dtype)
    )
    R = jax.random.uniform(jax.random.key(0), (n, 2), dtype)
    return pair_sum(displacement), shift, R


def test_a_jammed_packing_comes_to_rest(dtype):
    energy, shift, R = jammed(dtype)
    init, step = minimize.fire_descent(energy, shift)

    @jax.jit
    def relax(state):
        limit = 1e-10 if dtype == jnp.float64 else 1e-5
        go_on = lambda s: jnp.max(jnp.abs(s.force)) > limit  # noqa: E731
        return jax.lax.while_loop(go_on, step, state)

    state = relax(init(R))
    assert 1e-3 < energy(state.position) < 0.1 * energy(R)
    assert state.position.dtype == state.dt.dtype == dtype


@pytest.mark.parametrize("max_move", [None, 0.05])
def test_lbfgs_finds_the_minimum_that_fire_finds(max_move):
    energy, shift, R = jammed(jnp.float64)
    init, step = minimize.fire_descent(energy, shift)
    near = advance(step, init(R), 400).position  # in the basin of one minimum
    fire = advance(step, init(near), 4_000)
    init, step = minimize.lbfgs(energy, shift, max_move=max_move)
    state = advance(step, init(near), 150)
    np.testing.assert_allclose(energy(state.position), energy(fire.position), rtol=1e-8)
    assert jnp.max(jnp.abs(state.force)) < 1e-8
    np.testing.assert_allclose(state.value, energy(state.position), rtol=1e-12)
    F = quantity.force(energy)(state.position)
    np.testing.assert_allclose(state.force, F, atol=1e-12)


@pytest.mark.parametrize(
    ("kind", "dtype"),
    [*((kind, jnp.float64) for kind in SPACES), ("fractional", jnp.float32)],
)
def test_lbfgs_moves_through_the_shift_of_each_space(kind, dtype):
    system = soft_spheres(kind, dtype=dtype)
    init, step = minimize.lbfgs(system.energy_fn, system.shift_fn)
    state = init(system.position, sigma=0.9)
    F = quantity.force(system.energy_fn)(system.position, sigma=0.9)
    np.testing.assert_allclose(state.force, F, rtol=1e-4, atol=1e-6)
    start = kinds(state)
    state = jax.jit(lambda s: advance(step, s, 30, sigma=0.9))(state)
    assert kinds(state) == start and state.position.dtype == dtype
    end = system.energy_fn(state.position, sigma=0.9)
    assert end < 1e-3 * system.energy_fn(system.position, sigma=0.9)
    moved = system.shift_fn(system.position, state.displacement)
    np.testing.assert_allclose(state.position, moved, atol=1e-6)


def test_lbfgs_keeps_within_its_bound_and_stays_at_a_minimum():
    init, step = minimize.lbfgs(quadratic, space.free()[1], max_move=0.01)
    state = init(jnp.ones((4, 2)))
    for _ in range(4):
        new = step(state)
        move = jnp.linalg.norm(new.displacement - state.displacement, axis=1)
        assert 0 < jnp.max(move) <= 0.01 * (1 + 1e-12)
        state = new
    still = init(jnp.zeros((4, 2)))
    for a, b in zip(jax.tree.leaves(step(still)), jax.tree.leaves(still), strict=True):
        np.testing.assert_array_equal(a, b)


def test_lbfgs_is_quick_on_a_quadratic_and_refuses_forces():
    init, step = minimize.lbfgs(quadratic, space.free()[1])
    state = advance(step, init(jnp.ones((4, 2))), 8)
    assert jnp.max(jnp.abs(state.position)) < 1e-8
    init, _ = minimize.lbfgs(lambda R: -R, space.free()[1])
    with pytest.raises(ValueError, match="`energy_fn`"):
        init(jnp.ones((4, 2)))
