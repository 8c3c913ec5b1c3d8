"""Estimators on the paths of one particle in a harmonic well, where all is known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_md import adjoint, simulate, space

DT, GAMMA, MASS, STEPS, PATHS = 0.1, 0.8, 1.5, 12, 4_000
PARAMS = {"k": jnp.array(1.3), "push": jnp.array(0.6), "kT": jnp.array(0.7)}
SHIFT = space.free()[1]
SIGMAS = 4


def energy_fn(params, R):
    return params["k"] * jnp.sum(R**2) / 2 - params["push"] * jnp.sum(R)


def brownian_path(params, key):
    init, step = simulate.brownian(
        lambda R: energy_fn(params, R), SHIFT, DT, params["kT"], GAMMA
    )
    state = init(key, jnp.full((1, 1), 0.4), MASS)
    _, R = jax.lax.scan(lambda s, _: (step(s),) * 2, state, None, length=STEPS)
    return jnp.concatenate([state.position[None], R.position])


def langevin_path(params, key):
    init, step = simulate.nvt_langevin(
        lambda R: energy_fn(params, R), SHIFT, DT, params["kT"], GAMMA
    )
    state = init(key, jnp.full((1, 1), 0.4), MASS, jnp.full((1, 1), 0.2))
    _, after = jax.lax.scan(lambda s, _: (step(s),) * 2, state, None, length=STEPS)
    R = jnp.concatenate([state.position[None], after.position])
    return R, state.momentum


def brownian_moments(params):
    """Mean and variance of the position after each step."""
    reach = DT / (MASS * GAMMA)
    mean, var, found = 0.4, 0.0, []
    for _ in range(STEPS):
        mean = mean + reach * (params["push"] - params["k"] * mean)
        var = (1 - reach * params["k"]) ** 2 * var + 2 * params["kT"] * reach
        found.append((mean, var))
    return found


def langevin_moments(params):
    k, c = params["k"], jnp.exp(-GAMMA * DT)
    kick = jnp.array([[1.0, 0.0], [0.0, 1.0]])
    kick = kick + jnp.array([[0.0, 0.0], [1.0, 0.0]]) * (-k * DT / 2)
    push = jnp.array([0.0, 1.0]) * params["push"] * DT / 2
    drift = jnp.array([[1.0, DT / (2 * MASS)], [0.0, 1.0]])
    bath = jnp.array([[1.0, 0.0], [0.0, 1.0]]) * jnp.stack([jnp.array(1.0), c])
    noise = jnp.array([[0.0, 0.0], [0.0, 1.0]]) * MASS * params["kT"] * (1 - c**2)
    after = kick @ drift
    mean, cov, found = jnp.array([0.4, 0.2]), jnp.zeros((2, 2)), []
    for _ in range(STEPS):
        move = bath @ drift @ kick
        mean = after @ (move @ mean + bath @ drift @ push) + push
        cov = after @ (move @ cov @ move.T + noise) @ after.T
        found.append((mean[0], cov[0, 0]))
    return found


def at_the_end(params, path):
    R = path[0] if isinstance(path, tuple) else path
    return jnp.sum(R[-1] ** 2)


def costs(params, path):
    """The potential energy in time: it depends on the parameters itself, too."""
    R = path[0] if isinstance(path, tuple) else path
    return DT * jax.vmap(lambda R: energy_fn(params, R))(R[1:])


def expected(moments, loss):
    def fn(params):
        found = moments(params)
        if loss is at_the_end:
            mean, var = found[-1]
            return mean**2 + var
        k, push = params["k"], params["push"]
        return DT * sum(k * (m**2 + v) / 2 - push * m for m, v in found)

    return fn


KINDS = {
    "brownian": (brownian_path, brownian_moments, adjoint.brownian_log_prob),
    "langevin": (langevin_path, langevin_moments, adjoint.langevin_log_prob),
}


def log_prob_of(kind):
    log_prob = KINDS[kind][2](energy_fn, DT, None, GAMMA, MASS)
    return lambda params, path: log_prob(params, path, kT=params["kT"])


@pytest.fixture(scope="module")
def sampled():
    keys = jax.random.split(jax.random.key(0), PATHS)
    return {
        kind: jax.jit(jax.vmap(fns[0], (None, 0)))(PARAMS, keys)
        for kind, fns in KINDS.items()
    }


@pytest.mark.parametrize("loss", [at_the_end, costs])
@pytest.mark.parametrize("kind", KINDS)
def test_score_and_pathwise_gradients_are_those_of_the_expectation(kind, loss, sampled):
    path, moments, _ = KINDS[kind]
    value, slope = jax.value_and_grad(expected(moments, loss))(PARAMS)
    score = jax.jit(
        lambda paths: adjoint.score_gradient(log_prob_of(kind), loss, PARAMS, paths)
    )(sampled[kind])
    keys = jax.random.split(jax.random.key(1), PATHS // 4)
    pathwise = jax.jit(
        lambda keys: adjoint.pathwise_gradient(path, loss, PARAMS, keys)
    )(keys)
    for found, gradient in (score, pathwise):
        assert abs(found.value - value) < SIGMAS * found.error < 0.2
        for name in PARAMS:
            error = gradient.error[name]
            off = abs(gradient.value[name] - slope[name])
            assert off < SIGMAS * error + 1e-12, name
            assert error < 0.12, name


@pytest.mark.parametrize("kind", KINDS)
def test_baselines_and_causality_take_variance_away(kind, sampled):
    log_prob = log_prob_of(kind)

    def of(loss, baseline):
        _, gradient = jax.jit(
            lambda paths: adjoint.score_gradient(
                log_prob, loss, PARAMS, paths, baseline
            )
        )(sampled[kind])
        return {name: error**2 for name, error in gradient.error.items()}

    plain, alone = of(at_the_end, None), of(at_the_end, "leave_one_out")
    level = jnp.mean(jax.vmap(at_the_end, (None, 0))(PARAMS, sampled[kind]))
    given = of(at_the_end, level)
    causal = of(costs, "leave_one_out")
    summed = of(lambda params, path: jnp.sum(costs(params, path)), "leave_one_out")
    for name in PARAMS:
        assert alone[name] < 0.85 * plain[name], name
        np.testing.assert_allclose(given[name], alone[name], rtol=0.01)
        assert causal[name] < 0.98 * summed[name], name


@pytest.mark.parametrize("kind", KINDS)
def test_the_density_of_paths_is_normalized(kind, sampled):
    """Ratios of the densities at two parameters average to one."""
    log_prob = jax.vmap(log_prob_of(kind), (None, 0))
    other = {"k": 1.5, "push": 0.5, "kT": 0.72}
    both = [jnp.sum(log_prob(p, sampled[kind]), axis=1) for p in (PARAMS, other)]
    ratio = jnp.exp(both[1] - both[0])
    error = float(jnp.std(ratio)) / np.sqrt(PATHS)
    assert abs(jnp.mean(ratio) - 1) < SIGMAS * error < 0.1
    R = sampled[kind][0] if kind == "langevin" else sampled[kind]
    found = jnp.mean(ratio * R[:, -1, 0, 0] ** 2)
    mean, var = KINDS[kind][1](other)[-1]
    error = float(jnp.std(ratio * R[:, -1, 0, 0] ** 2)) / np.sqrt(PATHS)
    assert abs(found - mean**2 - var) < SIGMAS * error < 0.2


def test_the_noise_is_that_of_the_simulator(dtype):
    """Paths of several particles in a periodic box, mass and friction by particle."""
    side, n, gamma = 1.2, 3, jnp.array([[0.5], [1.0], [2.0]])
    mass = jnp.array([1.0, 2.0, 3.0])
    displacement_fn, shift_fn = space.periodic(side)

    def wave(params, R, **kwargs):
        phase = kwargs.get("phase", 0.0)
        return params * jnp.sum(jnp.cos(2 * jnp.pi * R / side + phase))

    phase = jnp.linspace(0.0, 1.0, STEPS)
    params = jnp.asarray(0.3, dtype)
    R = jnp.full((n, 2), 0.01, dtype)  # next to an edge
    init, step = simulate.brownian(
        lambda R, **kw: wave(params, R, **kw), shift_fn, 0.01, 0.4, gamma
    )

    def body(state, phase):
        state = step(state, phase=phase)
        return state, state.position

    _, after = jax.lax.scan(body, init(jax.random.key(3), R, mass), phase)
    path = jnp.concatenate([R[None], after])
    log_prob = adjoint.brownian_log_prob(wave, 0.01, 0.4, gamma, mass, displacement_fn)
    found = jax.jit(log_prob)(params, path, phase=phase)
    assert found.dtype == dtype and found.shape == (STEPS,)
    # The same from the definition.
    reach = 0.01 / np.asarray(mass[:, None] * gamma)
    width = np.sqrt(2 * 0.4 * reach)
    wavenumber = 2 * np.pi / side
    angle = wavenumber * np.asarray(path[:-1]) + np.asarray(phase)[:, None, None]
    dR = np.asarray(path[1:] - path[:-1], np.float64)
    dR = dR - side * np.round(dR / side)
    noise = (dR - reach * 0.3 * wavenumber * np.sin(angle)) / width
    log = -(noise**2) / 2 - np.log(width) - np.log(2 * np.pi) / 2
    np.testing.assert_allclose(found, np.sum(log, (1, 2)), rtol=1e-4, atol=1e-4)
    assert np.max(np.abs(noise)) < 5 and np.any(np.abs(np.diff(path, axis=0)) > 0.9)


def test_the_noise_of_langevin_steps_is_found():
    n, dt, kT, gamma = 3, 0.05, 0.4, jnp.array([[0.5], [1.0], [2.0]])
    mass = jnp.array([[1.0], [2.0], [3.0]])

    def well(a, R):
        return a * jnp.sum(R**4) + jnp.sum(R[0] * R[1])

    init, step = simulate.nvt_langevin(lambda R: well(0.3, R), SHIFT, dt, kT, gamma)
    start = init(jax.random.key(3), jnp.ones((n, 2)), mass)

    def body(state, _):
        # What a bath adds to particles at rest is noise alone.
        still = state.set(momentum=jnp.zeros((n, 2)))
        noise = simulate.stochastic_step(still, dt, kT, gamma).momentum
        state = step(state)
        return state, (state.position, noise)

    _, (after, kicks) = jax.lax.scan(body, start, None, length=STEPS)
    R = jnp.concatenate([start.position[None], after])
    width = np.sqrt(mass * kT * (1 - np.exp(-2 * gamma * dt)))
    log = jax.scipy.stats.norm.logpdf(kicks / width) - np.log(dt / (2 * mass) * width)
    log_prob = adjoint.langevin_log_prob(well, dt, kT, gamma, mass)
    found = jax.jit(log_prob)(0.3, (R, start.momentum))
    np.testing.assert_allclose(found, jnp.sum(log, (1, 2)), rtol=1e-9)


def test_second_derivatives_of_the_average(sampled):
    fn = adjoint.score_loss(log_prob_of("brownian"), costs)

    def of(push, paths):
        return fn(PARAMS | {"push": push}, paths)

    paths = sampled["brownian"].reshape(20, -1, *sampled["brownian"].shape[1:])
    curvature = jax.vmap(jax.grad(jax.grad(of)), (None, 0))
    found = jax.jit(curvature)(PARAMS["push"], paths)
    exact = expected(brownian_moments, costs)
    truth = jax.grad(jax.grad(lambda push: exact(PARAMS | {"push": push})))(0.6)
    error = float(jnp.std(found, ddof=1)) / np.sqrt(len(found))
    assert abs(jnp.mean(found) - truth) < SIGMAS * error < 0.5 * abs(truth)
    np.testing.assert_allclose(
        of(0.6, sampled["brownian"]),
        jnp.mean(jnp.sum(jax.vmap(costs, (None, 0))(PARAMS, sampled["brownian"]), 1)),
    )


def test_each_cost_is_held_against_the_other_paths_and_weighted_with_its_past():
    paths = jnp.array([[1.0, 2.0], [3.0, 5.0], [-1.0, 4.0]])
    slopes = np.cumsum(paths, axis=1)  # of log_prob, summed over the past
    cost = np.asarray(paths) ** 2
    others = (np.sum(cost, axis=0) - cost) / 2
    fn = adjoint.score_loss(lambda k, path: k * path, lambda k, path: path**2)
    slope = jax.grad(fn)(0.7, paths)
    expected = np.mean(np.sum((cost - others) * slopes, axis=1))
    np.testing.assert_allclose(slope, expected, rtol=1e-12)


def test_batches_change_nothing(sampled):
    paths = sampled["brownian"][:50]
    log_prob = log_prob_of("brownian")
    whole, parts = jax.jit(
        lambda paths: [
            adjoint.score_gradient(log_prob, costs, PARAMS, paths, batch_size=size)
            for size in (None, 16)
        ]
    )(paths)
    for a, b in zip(jax.tree.leaves(whole), jax.tree.leaves(parts), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)


def test_refusals(sampled):
    log_prob, paths = log_prob_of("brownian"), sampled["brownian"]
    with pytest.raises(ValueError, match="two paths at least"):
        adjoint.score_gradient(log_prob, costs, PARAMS, paths[:1])
    with pytest.raises(ValueError, match='"leave_one_out", an array or None'):
        adjoint.score_gradient(log_prob, costs, PARAMS, paths, "mean")
    with pytest.raises(ValueError, match="must be a scalar or have the shape"):
        adjoint.score_gradient(log_prob, costs, PARAMS, paths, jnp.zeros(3))
    with pytest.raises(ValueError, match="`loss` must return a scalar"):
        adjoint.score_gradient(log_prob, lambda p, R: R[2:, 0, 0], PARAMS, paths)
    with pytest.raises(ValueError, match="`log_prob` must return one number a step"):
        adjoint.score_gradient(lambda p, R: jnp.sum(R), costs, PARAMS, paths)
    with pytest.raises(ValueError, match="positions before and after each step"):
        log_prob(PARAMS, paths[0, 0])
    with pytest.raises(ValueError, match="one leading axis in common"):
        adjoint.score_gradient(log_prob, costs, PARAMS, (paths, paths[:5]))
