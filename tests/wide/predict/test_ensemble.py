import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_md.wide import predict
from tests.wide.wide_problem import N_TEST, N_TRAIN, arccos_kernel_fn, inputs, targets

EXACT = 1e-9
TIMES = jnp.array([0.0, 2.0, 30.0])


@pytest.fixture(scope="module")
def problem():
    x, x_test, y = inputs(N_TRAIN, 0), inputs(N_TEST, 1), targets()
    kernels = (
        arccos_kernel_fn(x),
        arccos_kernel_fn(x_test, x),
        arccos_kernel_fn(x_test),
    )
    return x, x_test, y, *kernels


def test_covariance_is_that_of_trained_samples(problem):
    """Linear maps of the prior Gaussian: outputs after training, from first principles.

    The joint prior over (train, test) outputs is K; training maps an initial function
    f to f_* + Theta_* Theta^-1 (1 - e^{-Theta s}) (y - f_X).
    """
    x, x_test, y, k, cross, prior = problem
    predict_fn = predict.gradient_descent_mse_ensemble(arccos_kernel_fn, x, y, 2.0)
    joint = np.block(
        [[np.asarray(k.nngp), cross.nngp.T], [np.asarray(cross.nngp), prior.nngp]]
    )

    @jax.jit
    def predictions(t):
        on_train = {
            kind: predict_fn(t, None, kind, compute_cov=True)
            for kind in ("ntk", "nngp")
        }
        return predict_fn(t, x_test, ("ntk", "nngp"), compute_cov=True), on_train

    for t in (0.0, 5.0, 40.0):
        got, got_on_train = predictions(t)
        assert got._fields == ("ntk", "nngp")
        for kind in ("ntk", "nngp"):
            flow, rows = np.asarray(getattr(k, kind)), getattr(cross, kind)
            values, vectors = np.linalg.eigh(flow)
            decay = vectors * np.exp(-values * 2.0 * t / y.size) @ vectors.T
            a = rows @ np.linalg.solve(flow, np.eye(N_TRAIN) - decay)
            trained = np.concatenate([-a, np.eye(N_TEST)], axis=1)
            ours = getattr(got, kind)
            np.testing.assert_allclose(ours.mean, a @ y, atol=EXACT)
            np.testing.assert_allclose(
                ours.covariance, trained @ joint @ trained.T, atol=EXACT
            )
            trained = np.concatenate([decay, np.zeros((N_TRAIN, N_TEST))], axis=1)
            on_train = got_on_train[kind]
            np.testing.assert_allclose(on_train.mean, y - decay @ y, atol=EXACT)
            np.testing.assert_allclose(
                on_train.covariance, trained @ joint @ trained.T, atol=EXACT
            )


def test_limits_in_time(problem):
    x, x_test, y, k, _, prior = problem
    predict_fn = predict.gradient_descent_mse_ensemble(arccos_kernel_fn, x, y)
    start = predict_fn(0.0, x_test, compute_cov=True)
    for kind in ("nngp", "ntk"):
        np.testing.assert_allclose(getattr(start, kind).mean, 0.0, atol=EXACT)
        np.testing.assert_allclose(
            getattr(start, kind).covariance, prior.nngp, atol=EXACT
        )
    for where in (x_test, None):
        late = predict_fn(jnp.inf, where, compute_cov=True)
        end = predict_fn(None, where, compute_cov=True)
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, atol=EXACT), late, end
        )
    np.testing.assert_allclose(predict_fn(None, None, "ntk"), y)


def test_times_lead_and_covariances_are_psd(problem):
    x, x_test, y, *_ = problem
    predict_fn = predict.gradient_descent_mse_ensemble(arccos_kernel_fn, x, y)
    # repeated test points make the prior singular, the hard case
    x_test = jnp.concatenate([x_test, x_test[:1], x[:1]])
    got = jax.jit(lambda t: predict_fn(t, x_test, compute_cov=True))(TIMES)
    for gaussian in got:
        assert gaussian.mean.shape == (3, N_TEST + 2, 2)
        assert gaussian.covariance.shape == (3, N_TEST + 2, N_TEST + 2)
        cov = np.asarray(gaussian.covariance)
        np.testing.assert_allclose(cov, cov.swapaxes(1, 2), atol=EXACT)
        assert np.linalg.eigvalsh(cov).min() > -EXACT
    one = predict_fn(TIMES[1], x_test, compute_cov=True)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a[1], b, atol=EXACT), got, one)


def test_mean_is_the_deterministic_prediction_from_zero(problem):
    x, x_test, y, k, cross, _ = problem
    ridge = {"diag_reg": 0.05}
    ensemble = predict.gradient_descent_mse_ensemble(arccos_kernel_fn, x, y, **ridge)
    single = predict.gradient_descent_mse(k.ntk, y, **ridge)
    got = ensemble(TIMES, x_test, "NTK")
    np.testing.assert_allclose(got, single(TIMES, None, 0.0, cross.ntk), atol=EXACT)
    np.testing.assert_allclose(ensemble(TIMES, get="ntk"), single(TIMES), atol=EXACT)


def test_gp_inference_is_the_ensemble_at_infinite_time(problem):
    x, x_test, y, k, cross, prior = problem
    ensemble = predict.gradient_descent_mse_ensemble(
        arccos_kernel_fn, x, y, diag_reg=0.01
    )(None, x_test, compute_cov=True)
    predict_fn = predict.gp_inference(k, y, diag_reg=0.01)
    got = predict_fn(("nngp", "ntk", "ntkgp"), cross, prior)
    assert got._fields == ("nngp", "ntk", "ntkgp")
    for kind in ("nngp", "ntk"):
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, atol=EXACT),
            getattr(got, kind),
            getattr(ensemble, kind),
        )
    ridge = 0.01 * np.trace(k.ntk) / N_TRAIN * np.eye(N_TRAIN)
    gain = np.linalg.solve(k.ntk + ridge, cross.ntk.T).T
    np.testing.assert_allclose(got.ntkgp.mean, gain @ y, atol=EXACT)
    np.testing.assert_allclose(
        got.ntkgp.covariance, prior.ntk - gain @ cross.ntk.T, atol=EXACT
    )
    means = predict_fn(None, cross)
    assert means._fields == ("nngp", "ntk")
    np.testing.assert_allclose(means.ntk, got.ntk.mean, atol=EXACT)
    arrays = predict.gp_inference(k.ntk, y, diag_reg=0.01)
    for mean in arrays(None, cross.ntk)._asdict().values():
        np.testing.assert_allclose(mean, got.ntkgp.mean, atol=EXACT)
    with pytest.raises(ValueError, match="needs the 'nngp' and the 'ntk'"):
        arrays(None, cross.ntk, prior.ntk)
    np.testing.assert_allclose(
        jax.jit(lambda c: predict_fn("nngp", c))(cross), got.nngp.mean, atol=EXACT
    )


def test_gp_inference_on_training_set(problem):
    x, _, y, k, _, _ = problem
    np.testing.assert_allclose(predict.gp_inference(k, y)("ntk", k), y, atol=1e-8)
    # Without another set: the end of training, as the ensemble has it.
    predict_fn = predict.gp_inference(k, y, diag_reg=0.1)
    ensemble = predict.gradient_descent_mse_ensemble(
        arccos_kernel_fn, x, y, diag_reg=0.1
    )(None, None, compute_cov=True)
    for kind in ("nngp", "ntk"):
        got, wanted = predict_fn(kind, None, k), getattr(ensemble, kind)
        np.testing.assert_array_equal(got.mean, y)
        np.testing.assert_allclose(got.mean, wanted.mean, atol=EXACT)
        np.testing.assert_allclose(got.covariance, wanted.covariance, atol=EXACT)
        # The last argument only says that a covariance is wanted.
        jax.tree.map(
            np.testing.assert_array_equal, predict_fn(kind, None, k.ntk[:2, :2]), got
        )
    posterior = predict_fn("nngp", k)
    ridge = 0.1 * np.trace(k.nngp) / N_TRAIN * np.eye(N_TRAIN)
    expected = k.nngp @ np.linalg.solve(k.nngp + ridge, y)
    np.testing.assert_allclose(posterior, expected, atol=EXACT)


def test_gp_inference_refuses_missing_kernels(problem):
    x, _, y, k, cross, prior = problem
    only_ntk = arccos_kernel_fn(x, get=("ntk",))
    predict_fn = predict.gp_inference(only_ntk, y)
    with pytest.raises(ValueError, match="lacks the 'nngp' kernel"):
        predict_fn("nngp", cross)
    with pytest.raises(ValueError, match="needs the 'nngp' and the 'ntk'"):
        predict_fn("ntk", cross, prior)
    ensemble = predict.gradient_descent_mse_ensemble(arccos_kernel_fn, x, y)
    with pytest.raises(NotImplementedError, match="`get`"):
        ensemble(1.0, None, "ntkgp")
    for get in ((), ("ntk", "ntk"), "laplace"):
        with pytest.raises(ValueError, match="`get`"):
            predict_fn(get, cross)
    twice = jnp.concatenate([x[:1], x[:-1]])
    with pytest.raises(ValueError, match="condition number"):
        predict.gp_inference(arccos_kernel_fn(twice), y)("nngp", cross)


def test_keyword_arguments_pair(problem):
    x, x_test, y, *_ = problem
    seen = []

    def kernel_fn(x1, x2, get, pattern, rng, params):
        seen.append((pattern, rng, params))
        return arccos_kernel_fn(x1, x2, get)

    predict_fn = predict.gradient_descent_mse_ensemble(
        kernel_fn, x, y, pattern=("p", "p"), rng="r", params="w"
    )
    predict_fn(None, x_test, "nngp", compute_cov=True, pattern=("q", "q"), rng="s")
    assert seen == [
        (("p", "p"), "r", "w"),
        (("q", "p"), ("s", "r"), "w"),
        (("q", "q"), "s", "w"),
    ]


def test_float32(problem):
    x, x_test, y, *_ = problem
    x, x_test, y = (a.astype(jnp.float32) for a in (x, x_test, y))
    predict_fn = predict.gradient_descent_mse_ensemble(
        arccos_kernel_fn, x, y, learning_rate=0.5, diag_reg=1e-3
    )
    got = jax.jit(lambda t: predict_fn(t, x_test, "ntk", True))(jnp.float32(3.0))
    assert {leaf.dtype for leaf in jax.tree.leaves(got)} == {jnp.dtype("float32")}
