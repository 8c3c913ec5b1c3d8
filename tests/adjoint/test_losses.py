"""Losses against quadrature, and fits that find what made the data."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_md import adjoint
from tests.adjoint.anharmonic import (
    GRID,
    KT,
    PARAMS,
    draw,
    energy_fn,
    exact,
    free_energy,
)

COUNT, SIGMAS = 20_000, 3
MODEL = {"a": jnp.array(1.4), "b": jnp.array(0.3), "c": jnp.array([0.2])}
loss = adjoint.relative_entropy(energy_fn, KT)
reweighting = adjoint.reweight(energy_fn, KT)


def force(params, R):
    return -jax.grad(energy_fn, 1)(params, R)


@pytest.fixture(scope="module")
def data():
    return draw(PARAMS, COUNT, 0)


@pytest.fixture(scope="module")
def model():
    return reweighting.collect(MODEL, draw(MODEL, COUNT, 1))


def divergence(params):
    """Relative entropy of the distribution at PARAMS with respect to that at params."""
    log = [
        jax.nn.log_softmax(-jax.vmap(lambda R: energy_fn(p, R))(GRID[:, None]) / KT)  # noqa: B023
        for p in (PARAMS, params)
    ]
    return jnp.sum(jnp.exp(log[0]) * (log[0] - log[1]))


@pytest.mark.parametrize("at", [MODEL, PARAMS | {"b": jnp.array(0.33)}])
def test_relative_entropy_and_its_gradient_are_those_of_quadrature(at, data, model):
    found = loss(at, (data, model)) - loss(MODEL, (data, model))
    expected = divergence(at) - divergence(MODEL)
    np.testing.assert_allclose(found, expected, atol=0.005)
    slope = jax.jit(jax.grad(loss))(at, (data, model))
    truth = jax.grad(divergence)(at)
    # Means over the data and over the model, each with its error.
    dU = jax.grad(energy_fn)
    weights = reweighting.weights(at, model)
    means = []
    for R, w in ((data, None), (model.snapshots, weights)):
        each = jax.vmap(dU, (None, 0))(at, R)
        w = jnp.full(COUNT, 1 / COUNT) if w is None else w
        means.append(
            jax.tree.map(
                lambda x: (
                    jnp.tensordot(w, x, 1),  # noqa: B023
                    jnp.sqrt(jnp.tensordot(w**2, (x - jnp.mean(x, 0)) ** 2, 1)),  # noqa: B023
                ),
                each,
            )
        )
    for name in PARAMS:
        (d, d_error), (m, m_error) = (x[name] for x in means)
        np.testing.assert_allclose(slope[name], (d - m) / KT, rtol=1e-9, atol=1e-12)
        error = np.sqrt(d_error**2 + m_error**2) / KT
        assert np.all(np.abs(slope[name] - truth[name]) < SIGMAS * error), name
        assert np.all(error < 0.1)


def test_relative_entropy_is_least_where_the_data_come_from(data, model):
    params, step = MODEL, jax.jit(jax.value_and_grad(loss))
    hessian = jax.jit(jax.hessian(divergence))(MODEL)
    names = list(PARAMS)
    H = np.array([[np.ravel(hessian[a][b])[0] for b in names] for a in names])
    for _ in range(12):
        _, slope = step(params, (data, model))
        move = np.linalg.solve(H, [np.ravel(slope[name])[0] for name in names])
        params = {k: params[k] - m for k, m in zip(names, move, strict=True)}
    for fn in (
        lambda p, R: R[0] ** 2,
        lambda p, R: R[0] ** 4,
        lambda p, R: R[0],
    ):
        found = reweighting.average(params, model, fn)
        np.testing.assert_allclose(found, jnp.mean(jax.vmap(fn, (None, 0))(0, data)))
    for name, tolerance in {"a": 0.15, "b": 0.05, "c": 0.05}.items():
        np.testing.assert_allclose(params[name], PARAMS[name], atol=tolerance)


def test_free_energy_and_average_of_the_slope(model):
    """The gradient of the part of the model is the mean of the slope of its energy."""

    def part(params):  # at the origin the energy of the data is zero
        return loss(params, (jnp.zeros((1, 1)), model))

    # Where the model is the one that was sampled, its free energy is the level.
    expected = -jnp.mean(model.energy) / KT
    np.testing.assert_allclose(part(MODEL), expected, rtol=1e-12)
    slope = jax.jit(jax.grad(part))(MODEL)
    truth = jax.grad(lambda p: -free_energy(p) / KT)(MODEL)
    np.testing.assert_allclose(slope["a"], truth["a"], atol=0.005)
    expected = -exact(MODEL, lambda p, R: R[0] ** 4) / KT
    np.testing.assert_allclose(slope["b"], expected, atol=0.02)


def test_force_matching_is_the_mean_square_error(data):
    R = data[:200]
    labelled = adjoint.Labelled(
        R,
        jax.vmap(lambda R: force(PARAMS, R))(R),
        jax.vmap(lambda R: energy_fn(PARAMS, R))(R),
    )
    x = np.asarray(R[:, 0])
    da, db, dc = (float(np.ravel(MODEL[k] - PARAMS[k])[0]) for k in "abc")
    square = np.mean((da * x + 4 * db * x**3 - dc) ** 2)
    energy = np.mean((da * x**2 / 2 + db * x**4 - dc * x) ** 2)
    for size in (None, 64):
        alone = jax.jit(adjoint.force_matching(energy_fn, batch_size=size))
        np.testing.assert_allclose(alone(MODEL, labelled), square)
        both = jax.jit(adjoint.force_matching(energy_fn, 0.3, 2.0, size))
        expected = 0.3 * square + 2 * energy
        np.testing.assert_allclose(both(MODEL, labelled), expected)
        assert both(PARAMS, labelled) == 0
    slope = jax.grad(alone)(MODEL, labelled)
    residual = da * x + 4 * db * x**3 - dc
    np.testing.assert_allclose(slope["b"], np.mean(8 * residual * x**3))
    np.testing.assert_allclose(slope["c"], [np.mean(-2 * residual)])


def test_noisy_forces_give_the_mean_force():
    """Least squares: what is left out of a model averages out of its forces."""
    R = draw(PARAMS, COUNT, 2)
    noise = jax.random.normal(jax.random.key(0), R.shape)
    labelled = adjoint.Labelled(R, jax.vmap(lambda R: force(PARAMS, R))(R) + noise)
    fn = adjoint.force_matching(energy_fn)
    # The loss is quadratic in these parameters: one step of Newton's method.
    both = jax.jit(lambda p: (jax.grad(fn)(p, labelled), jax.hessian(fn)(p, labelled)))
    slope, hessian = both(MODEL)
    names = list(PARAMS)
    H = np.array([[np.ravel(hessian[a][b])[0] for b in names] for a in names])
    move = np.linalg.solve(H, [np.ravel(slope[name])[0] for name in names])
    # Parameters have the covariance 2 H^-1 / COUNT at unit noise.
    error = np.sqrt(np.diag(np.linalg.inv(H)) * 2 / COUNT)
    for name, m, e in zip(names, move, error, strict=True):
        assert np.abs(MODEL[name] - m - PARAMS[name]) < SIGMAS * e < 0.1, name


def test_precision(dtype):
    params = jax.tree.map(lambda x: x.astype(dtype), MODEL)
    R = draw(PARAMS, 50, 0).astype(dtype)
    fit = adjoint.force_matching(energy_fn, 1.0, 0.5)

    @jax.jit
    def both(params, R):
        ensemble = reweighting.collect(params, R)
        labelled = adjoint.Labelled(R, 0 * R, 0 * R[:, 0])
        results = ((loss, (R, ensemble)), (fit, labelled))
        return [jax.value_and_grad(fn)(params, result) for fn, result in results]

    for leaf in jax.tree.leaves(both(params, R)):
        assert leaf.dtype == dtype


def test_refusals(data):
    fn = adjoint.force_matching(energy_fn, energy_weight=1.0)
    with pytest.raises(ValueError, match="the data have no energies"):
        fn(PARAMS, adjoint.Labelled(data, data))
    with pytest.raises(ValueError, match="shape of the positions"):
        fn(PARAMS, adjoint.Labelled(data, data[:, 0], data[:, 0]))
