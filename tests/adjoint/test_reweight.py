"""Averages and their gradients against quadrature, errors against repetition."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_md import adjoint
from tests.adjoint.anharmonic import (
    KT,
    PARAMS,
    draw,
    energy_fn,
    exact,
    free_energy,
    observable,
)

COUNT, SIGMAS = 20_000, 3
MOVED = {"a": jnp.array(1.15), "b": jnp.array(0.37), "c": jnp.array([0.42])}
reweighting = adjoint.reweight(energy_fn, KT)


@pytest.fixture(scope="module")
def ensemble():
    return reweighting.collect(PARAMS, draw(PARAMS, COUNT, 0))


def pairs(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    return zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)


def check(found, expected):
    """Within three standard errors, which have to be small enough to tell."""
    for value, error, truth in zip(
        *map(jax.tree.leaves, (found.value, found.error, expected)), strict=True
    ):
        assert value.shape == error.shape == truth.shape
        assert np.all(np.abs(value - truth) <= SIGMAS * error + 1e-12)
        assert np.all(error <= 0.03)


@pytest.mark.parametrize("params", [PARAMS, MOVED], ids=["here", "moved"])
def test_averages_are_those_of_quadrature(params, ensemble):
    found = jax.jit(lambda e: reweighting.estimate(params, e, observable, 50))(ensemble)
    check(found, exact(params))
    value = jax.jit(lambda e: reweighting.average(params, e, observable))(ensemble)
    for a, b in pairs(value, found.value):
        np.testing.assert_allclose(a, b, rtol=1e-12)
    off = exact(MOVED)["square"] - exact(PARAMS)["square"]
    assert abs(off) > 5 * found.error["square"]  # or nothing would be shown


@pytest.mark.parametrize("params", [PARAMS, MOVED], ids=["here", "moved"])
def test_gradients_are_the_fluctuation_formula_and_those_of_quadrature(
    params, ensemble
):
    jacobian = jax.jit(
        jax.jacobian(lambda p: reweighting.average(p, ensemble, observable))
    )(params)
    w = None if params is PARAMS else reweighting.weights(params, ensemble)
    found = jax.jit(
        lambda R: adjoint.fluctuation_gradient(
            energy_fn, observable, params, R, KT, 50, w
        )
    )(ensemble.snapshots)
    for a, b in pairs(jacobian, found.value):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)
    check(found, jax.jacobian(exact)(params))


def test_other_temperatures_and_their_derivative(ensemble):
    def of(kT):
        return reweighting.average(PARAMS, ensemble, observable, kT=kT)

    estimate = jax.jit(lambda e, kT: reweighting.estimate(PARAMS, e, observable, kT=kT))
    check(estimate(ensemble, 0.9), exact(PARAMS, kT=0.9))
    hot = reweighting.collect(PARAMS, draw(PARAMS, COUNT, 1, kT=0.9), kT=0.9)
    check(estimate(hot, KT), exact(PARAMS))
    slope = jax.jit(jax.jacobian(of))(jnp.array(KT))
    truth = jax.jacobian(lambda kT: exact(PARAMS, kT=kT))(jnp.array(KT))
    for a, b in pairs(slope, truth):
        np.testing.assert_allclose(a, b, rtol=0.05, atol=0.005)


def test_free_energies(ensemble):
    found = jax.nn.logsumexp(reweighting.log_ratios(MOVED, ensemble)) - np.log(COUNT)
    expected = -(free_energy(MOVED) - free_energy(PARAMS)) / KT
    np.testing.assert_allclose(found, expected, atol=0.003)
    assert abs(expected) > 0.01


def test_effective_samples():
    np.testing.assert_allclose(adjoint.effective_sample_size(jnp.full(7, 0.3)), 7)
    np.testing.assert_allclose(
        adjoint.effective_sample_size(jnp.array([0.0, 5.0, 0.0])), 1
    )
    # Log-normal weights of width s leave exp(-s^2) of the samples.
    x = np.random.default_rng(0).normal(size=100_000)
    size = adjoint.effective_sample_size(jnp.exp(0.5 * x))
    np.testing.assert_allclose(size / len(x), np.exp(-0.25), rtol=0.02)


def test_an_ensemble_grows_stale(ensemble):
    assert not reweighting.is_stale(PARAMS, ensemble, 1 - 1e-9)
    assert not reweighting.is_stale(MOVED, ensemble)
    assert reweighting.is_stale(PARAMS | {"a": 9.0}, ensemble)
    assert reweighting.is_stale(PARAMS | {"a": jnp.nan}, ensemble)


def test_errors_are_what_repetition_shows():
    """Also where each sample stands there many times, as in a slow simulation."""
    repeat, count = 20, 2_000

    def once(samples):
        samples = jnp.repeat(samples, repeat, axis=0)
        e = reweighting.collect(PARAMS, samples)
        average = reweighting.estimate(MOVED, e, observable, 20)
        slope = adjoint.fluctuation_gradient(
            energy_fn, observable, PARAMS, samples, KT, 20
        )
        return average, slope

    many = draw(PARAMS, 200 * count // 10, 5).reshape(200, -1, 1)
    found = jax.jit(lambda many: jax.lax.map(once, many))(many)
    for estimate in found:
        for value, error in pairs(estimate.value, estimate.error):
            spread = np.std(value, axis=0, ddof=1)
            np.testing.assert_allclose(
                np.sqrt(np.mean(error**2, axis=0)), spread, rtol=0.25, atol=1e-12
            )


def test_batches_and_precision(dtype):
    params = jax.tree.map(lambda x: x.astype(dtype), PARAMS)
    R = draw(PARAMS, 100, 0).astype(dtype)
    batched = adjoint.reweight(energy_fn, KT, batch_size=32)

    @jax.jit
    def everything(params, R):
        results = []
        for fns in (reweighting, batched):
            e = fns.collect(params, R)
            fn = jax.grad(lambda p: fns.average(p, e, observable)["square"])  # noqa: B023
            results.append((fn(params), fns.estimate(params, e, observable)))
        return results, adjoint.fluctuation_gradient(
            energy_fn, observable, params, R, KT
        )

    results, found = everything(params, R)
    for leaf in jax.tree.leaves((results, found)):
        assert leaf.dtype == dtype
    for a, b in pairs(*results):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


class Descent:
    def init(self, params):
        return 0

    def update(self, slope, state, params):
        return jax.tree.map(lambda x: -0.4 * x, slope), state


def test_a_fit_draws_again_only_when_it_has_to():
    target = exact(PARAMS | {"a": 2.0})["square"]
    drawn = []

    def sample(params, key, ensemble):
        assert (ensemble is None) == (not drawn)
        drawn.append(params)
        return draw(params, 5_000, int(jax.random.randint(key, (), 0, 10**6)))

    fit = adjoint.reweighted_fit(
        reweighting,
        sample,
        lambda params, R: R[0] ** 2,
        lambda params, average: 20 * (average - target) ** 2,
        PARAMS | {"a": jnp.array(0.5)},
        Descent(),
        40,
        jax.random.key(0),
        threshold=0.9,
    )
    assert {len(x) for x in fit[2:]} == {40}
    assert fit.history[0]["a"] == 0.5 != fit.history[1]["a"]
    assert 2 <= sum(fit.did_resample) == len(drawn) < 20 and fit.did_resample[0]
    for fraction, did in zip(fit.effective, fit.did_resample, strict=True):
        assert fraction >= 0.9 and (not did or fraction > 1 - 1e-9)
    # The fit is as good as its samples.
    found = exact(fit.params)["square"]
    np.testing.assert_allclose(found, target, rtol=0.05)
    assert abs(exact(PARAMS | {"a": 0.5})["square"] - target) > 0.3 * target
    assert fit.loss[-1] < 1e-4 < fit.loss[0]


def test_refusals(ensemble):
    R = ensemble.snapshots
    with pytest.raises(ValueError, match="`blocks` must be at least 2"):
        adjoint.fluctuation_gradient(energy_fn, observable, PARAMS, R, KT, 1)
    with pytest.raises(ValueError, match="`blocks` must be at least 2"):
        reweighting.estimate(PARAMS, ensemble, observable, COUNT + 1)
    with pytest.raises(ValueError, match="one leading axis in common"):
        reweighting.collect(PARAMS, {"R": R, "box": jnp.array(1.0)})
