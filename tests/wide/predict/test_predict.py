import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import solve_ivp
from scipy.linalg import expm

from jax_md.wide import predict
from tests.wide.wide_problem import N_TEST, N_TRAIN, arccos_kernel_fn, inputs, targets

EXACT = 1e-9
ODE = 1e-6


@pytest.fixture(scope="module")
def problem():
    x, x_test, y = inputs(N_TRAIN, 0), inputs(N_TEST, 1), targets()
    return x, x_test, y, arccos_kernel_fn(x), arccos_kernel_fn(x_test, x)


def test_mse_is_the_matrix_exponential(problem):
    _, _, y, k, k_cross = problem
    fx, fx_test = 0.3 * y, jnp.ones((N_TEST, y.shape[1]))
    predict_fn = predict.gradient_descent_mse(k.ntk, y, learning_rate=2.0)
    for t in (0.0, 3.0, 1e3):
        left = expm(-np.asarray(k.ntk) * 2.0 * t / y.size)
        residual = np.asarray(fx - y)
        train, test = predict_fn(t, fx, fx_test, k_cross.ntk)
        np.testing.assert_allclose(train, y + left @ residual, atol=EXACT)
        moved = np.linalg.solve(k.ntk, left @ residual - residual)
        np.testing.assert_allclose(test, 1.0 + k_cross.ntk @ moved, atol=EXACT)


def test_mse_infinite_time(problem):
    _, _, y, k, k_cross = problem
    predict_fn = predict.gradient_descent_mse(k.ntk, y, diag_reg=0.1)
    for t in (None, jnp.inf):
        train, test = predict_fn(t, 0.0, 0.0, k_cross.ntk)
        np.testing.assert_allclose(train, y, atol=1e-13)
        ridge = 0.1 * np.trace(k.ntk) / N_TRAIN * np.eye(N_TRAIN)
        expected = k_cross.ntk @ np.linalg.solve(k.ntk + ridge, y)
        np.testing.assert_allclose(test, expected, atol=EXACT)
    absolute = predict.gradient_descent_mse(
        k.ntk, y, diag_reg=0.1, diag_reg_absolute_scale=True
    )
    expected = k_cross.ntk @ np.linalg.solve(k.ntk + 0.1 * np.eye(N_TRAIN), y)
    np.testing.assert_allclose(
        absolute(None, None, 0.0, k_cross.ntk), expected, atol=EXACT
    )


def test_mse_times_lead_and_jit(problem):
    _, _, y, k, k_cross = problem
    predict_fn = predict.gradient_descent_mse(k.ntk, y)
    t = jnp.array([[0.0, 1.0, 2.0], [5.0, 10.0, jnp.inf]])
    train, test = jax.jit(predict_fn)(t, 0.0, 0.0, k_cross.ntk)
    assert train.shape == (2, 3, N_TRAIN, 2) and test.shape == (2, 3, N_TEST, 2)
    np.testing.assert_allclose(test[1, 0], predict_fn(5.0, None, 0.0, k_cross.ntk))
    np.testing.assert_allclose(train[1, 2], y)


def test_mse_before_the_start(problem):
    _, _, y, k, k_cross = problem
    back = expm(0.7 * np.asarray(k.ntk) / y.size)
    got = predict.gradient_descent_mse(k.ntk, y)(-0.7, None, 0.0, k_cross.ntk)
    want = k_cross.ntk @ np.linalg.solve(k.ntk, y - back @ y)
    np.testing.assert_allclose(got, want, rtol=1e-8, atol=1e-10)


def test_mse_layout_with_kept_output_axis(problem):
    _, _, y, k, k_cross = problem
    coupling = jnp.array([[2.0, 0.5], [0.5, 1.0]])
    full = jnp.einsum("ij,ab->ijab", k.ntk, coupling)
    cross = jnp.einsum("ij,ab->ijab", k_cross.ntk, coupling)
    predict_fn = predict.gradient_descent_mse(full, y, trace_axes=())
    train, test = predict_fn(7.0, 0.0, 0.0, cross)
    big = np.kron(k.ntk, coupling)
    left = expm(-big * 7.0 / y.size)
    gone = np.asarray(y).reshape(-1) - left @ np.asarray(y).reshape(-1)
    np.testing.assert_allclose(train, gone.reshape(y.shape), atol=EXACT)
    expected = np.kron(k_cross.ntk, coupling) @ np.linalg.solve(big, gone)
    np.testing.assert_allclose(test, expected.reshape(N_TEST, 2), atol=EXACT)
    # the same problem with the channel axis first and traced out
    first = predict.gradient_descent_mse(k.ntk, y.T, trace_axes=(0,))
    plain = predict.gradient_descent_mse(k.ntk, y)
    np.testing.assert_allclose(first(2.0), plain(2.0).T, atol=EXACT)


def test_mse_singular_kernel(problem):
    x, _, y, _, _ = problem
    twice = jnp.concatenate([x[:1], x[:-1]])
    k = arccos_kernel_fn(twice).ntk
    predict_fn = predict.gradient_descent_mse(k, y)
    assert jnp.isfinite(predict_fn(10.0, None, 0.0, k)).all()
    with pytest.raises(ValueError, match=r"condition number .* `diag_reg=") as error:
        predict_fn(None, None, 0.0, k)
    advised = float(str(error.value).split("`diag_reg=")[1].split("`")[0])
    solved = predict.gradient_descent_mse(k, y, diag_reg=advised)
    assert jnp.isfinite(solved(None, None, 0.0, k)).all()
    with pytest.raises(ValueError, match="condition number"):
        predict_fn(jnp.array([1.0, jnp.inf]), None, 0.0, k)


def test_mse_refuses_bad_input(problem):
    _, _, y, k, k_cross = problem
    with pytest.raises(ValueError, match="`k_train_train` must have shape"):
        predict.gradient_descent_mse(k_cross.ntk, y)
    with pytest.raises(ValueError, match="`trace_axes`"):
        predict.gradient_descent_mse(k.ntk, y, trace_axes=(2,))
    predict_fn = predict.gradient_descent_mse(k.ntk, y)
    with pytest.raises(ValueError, match="nothing is asked"):
        predict_fn(1.0, None, None)
    with pytest.raises(ValueError, match="need `k_test_train`"):
        predict_fn(1.0, 0.0, 0.0)
    with pytest.raises(ValueError, match="`k_test_train` must have shape"):
        predict_fn(1.0, 0.0, 0.0, k_cross.ntk.T)
    with pytest.raises(ValueError, match="`fx_train_0`"):
        predict_fn(1.0, y[:1])


def half_mean_square(fx, y):
    return 0.5 * jnp.mean((fx - y) ** 2)


def cross_entropy(fx, y):
    return -jnp.mean(jnp.sum(jax.nn.log_softmax(fx) * y, axis=-1))


def test_ode_agrees_with_closed_form(problem):
    _, _, y, k, k_cross = problem
    ode = predict.gradient_descent(half_mean_square, k.ntk, y, learning_rate=0.5)
    closed = predict.gradient_descent_mse(k.ntk, y, learning_rate=0.5)
    t = jnp.array([0.0, 1.0, 20.0])
    args = (t, 0.1 * y, 0.5, k_cross.ntk)
    for ours, exact in zip(jax.jit(ode)(*args), closed(*args), strict=True):
        np.testing.assert_allclose(ours, exact, atol=ODE)
    np.testing.assert_allclose(ode(4.0), closed(4.0), atol=ODE)


@pytest.mark.parametrize("momentum", [pytest.param(None, marks=pytest.mark.slow), 0.8])
def test_ode_resumes(problem, momentum):
    _, _, y, k, k_cross = problem
    predict_fn = predict.gradient_descent(
        cross_entropy, k.ntk, jax.nn.softmax(y), learning_rate=0.3, momentum=momentum
    )
    start = predict.ODEState(fx_train=0.2 * y, fx_test=jnp.zeros((N_TEST, 2)))
    kernel = {"k_test_train": k_cross.ntk}
    middle = predict_fn(2.0, start, **kernel)
    assert (middle.qx_train is None) == (momentum is None)
    end = predict_fn(3.0, middle, **kernel)
    whole = predict_fn(jnp.array([2.0, 5.0]), start, **kernel)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b[1], atol=ODE), end, whole)
    train, test = predict_fn(5.0, 0.2 * y, 0.0, k_cross.ntk)
    np.testing.assert_allclose(train, whole.fx_train[1], atol=ODE)
    np.testing.assert_allclose(test, whole.fx_test[1], atol=ODE)


def test_momentum_is_heavy_ball(problem):
    _, _, y, k, _ = problem
    eta, m, t = 0.4, 0.7, 6.0
    matrix, target = np.asarray(k.ntk), np.asarray(y)

    def rhs(_, state):
        f, q = state.reshape(2, *target.shape)
        force = -matrix @ (f - target) / target.size
        return np.stack([q, force + (m - 1) / np.sqrt(eta) * q]).reshape(-1)

    expected = solve_ivp(
        rhs, (0, np.sqrt(eta) * t), np.zeros(2 * y.size), rtol=1e-10, atol=1e-12
    ).y[:, -1]
    ours = predict.gradient_descent(half_mean_square, k.ntk, y, eta, m)(t)
    np.testing.assert_allclose(ours, expected.reshape(2, *y.shape)[0], atol=ODE)


def test_ode_refuses_bad_input(problem):
    _, _, y, k, _ = problem
    predict_fn = predict.gradient_descent(half_mean_square, k.ntk, y)
    with pytest.raises(ValueError, match="`t` is None"):
        predict_fn()
    with pytest.raises(ValueError, match="increase strictly"):
        predict_fn(jnp.array([1.0, 1.0]))
    with pytest.raises(ValueError, match="velocities"):
        predict_fn(1.0, predict.ODEState(fx_train=y, qx_train=y))


def test_max_learning_rate(problem):
    _, _, y, k, _ = problem
    top = np.linalg.eigvalsh(k.ntk)[-1]
    np.testing.assert_allclose(
        predict.max_learning_rate(k.ntk, y.size), 2 * y.size / top
    )
    np.testing.assert_allclose(
        jax.jit(lambda k: predict.max_learning_rate(k, momentum=0.9))(k.ntk),
        3.8 * N_TRAIN / top,
    )
    # the bound is sharp for discrete descent on half the mean square
    for factor, grows in ((0.98, False), (1.02, True)):
        step = factor * predict.max_learning_rate(k.ntk, y.size) / y.size
        residual = np.linalg.matrix_power(np.eye(N_TRAIN) - step * k.ntk, 400) @ y
        assert (np.abs(residual).max() > np.abs(y).max()) == grows
    with pytest.raises(ValueError, match="pair equal axes"):
        predict.max_learning_rate(k.ntk[:-1])
