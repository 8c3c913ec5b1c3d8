import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_md.wide import meanfield
from jax_md.wide.meanfield import Gate

R = 0.46
SAMPLED = 1e-2


def test_minimal_rnn_published_critical_point():
    W_std = meanfield.critical_minimal_rnn(1.39, input_variance=R)
    np.testing.assert_allclose(W_std, 6.891, atol=5e-3)
    near = meanfield.minimal_rnn(6.88, 1.39, input_variance=R)
    np.testing.assert_allclose(near.chi, 0.9988, atol=5e-5)
    np.testing.assert_allclose(near.Q, 0.3181, rtol=1e-3)
    np.testing.assert_allclose(near.jacobian_variance, 3.05, rtol=2e-2)


@pytest.mark.parametrize(
    ("bias", "W_std", "variance"), [(2.0, 5.54, 1.24), (4.0, 6.04, 0.33)]
)
def test_minimal_rnn_critical_line(bias, W_std, variance):
    found = meanfield.critical_minimal_rnn(1.39, bias, input_variance=R)
    np.testing.assert_allclose(found, W_std, rtol=4e-3)
    field = meanfield.minimal_rnn(found, 1.39, bias, input_variance=R)
    np.testing.assert_allclose(field.chi, 1.0, rtol=1e-9)
    np.testing.assert_allclose(field.jacobian_variance, variance, rtol=4e-2)


def test_minimal_rnn_correlation_of_equal_inputs_decays_like_gradients():
    """Two histories that get equal inputs forget their difference at the rate chi."""
    field = meanfield.minimal_rnn(3.0, 1.0, 1.0, 0.1, R)
    C, chi = meanfield.minimal_rnn_correlation(3.0, 1.0, 1.0, 0.1, R, 1.0)
    np.testing.assert_allclose((C, chi), (field.Q, field.chi), rtol=1e-9)
    C, chi = meanfield.minimal_rnn_correlation(3.0, 1.0, 1.0, 0.1, R, 0.4)
    assert C < field.Q and chi < field.chi


def test_vanilla_rnn_is_the_feedforward_map():
    field = meanfield.vanilla_rnn(jnp.tanh, 1.5**0.5, 0.3, 0.1, 0.5)
    b_std = (0.3**2 * 0.5 + 0.1**2) ** 0.5
    q = meanfield.q_fixed_point(jnp.tanh, 1.5**0.5, b_std)
    np.testing.assert_allclose(1.5 * field.Q + b_std**2, q, rtol=1e-10)
    np.testing.assert_allclose(field.chi, meanfield.chi(jnp.tanh, q, 1.5**0.5))


def test_gru():
    unit = meanfield.gru()
    np.testing.assert_allclose((unit.Q, unit.chi), (0.1717, 0.3649), rtol=3e-4)


@pytest.mark.slow
def test_gru_against_simulation():
    """A wide cell with weights drawn anew at each step."""
    forget, reset, candidate = Gate(0.5, 0.6, 1.0), Gate(0.8, 0.5), Gate(1.2, 0.7)
    n, rng = 300, np.random.default_rng(1)

    def gaussian(std, *shape):
        return std * rng.normal(size=shape) / np.sqrt(n)

    h, pushed = np.zeros(n), rng.normal(size=n)
    squares, growth = [], []
    for step in range(150):
        x = rng.normal(size=n)
        us = [gaussian(g.input, n, n) @ x + g.bias for g in (forget, reset, candidate)]
        wf, wr, wc = (gaussian(g.recurrent, n, n) for g in (forget, reset, candidate))
        f = 1 / (1 + np.exp(-(wf @ h + us[0])))
        r = 1 / (1 + np.exp(-(wr @ h + us[1])))
        new = np.tanh(wc @ (r * h) + us[2])
        df = f * (1 - f) * (wf @ pushed)
        dr = r * (1 - r) * (wr @ pushed)
        dnew = (1 - new**2) * (wc @ (r * pushed + h * dr))
        after = f * pushed + df * (h - new) + (1 - f) * dnew
        if step > 20:
            squares.append(np.mean(h**2))
            growth.append(np.log(np.sum(after**2) / np.sum(pushed**2)))
        pushed = after / np.linalg.norm(after)
        h = f * h + (1 - f) * new
    field = meanfield.gru(forget, reset, candidate)
    np.testing.assert_allclose(field.Q, np.mean(squares), rtol=3e-2)
    np.testing.assert_allclose(np.log(field.chi), np.mean(growth), atol=3e-2)


@pytest.mark.parametrize(
    ("gates", "chi"),
    [
        pytest.param({}, 0.332, marks=pytest.mark.slow),
        pytest.param({"forget": Gate(bias=1.0)}, 0.553, marks=pytest.mark.slow),
        (
            {
                "forget": Gate(2.0, 1.0, 1.0),
                "write": Gate(2.0),
                "candidate": Gate(3.0),
                "output": Gate(2.0),
            },
            0.772,
        ),
    ],
)
def test_lstm(gates, chi):
    field = meanfield.lstm(**gates, samples=2048, steps=400)
    np.testing.assert_allclose(field.chi, chi, rtol=SAMPLED)


@pytest.mark.slow
def test_lstm_long_memory():
    gate = Gate(0.01)
    field = meanfield.lstm(
        Gate(0.01, 0.01, 5.0), gate, gate, gate, samples=2048, steps=2000
    )
    np.testing.assert_allclose(field.chi, 0.9866, rtol=2e-4)
    np.testing.assert_allclose(field.memory, 8.6, rtol=2e-2)
    np.testing.assert_allclose(field.xi, 74.0, rtol=2e-2)
    other = meanfield.lstm(key=jax.random.key(3), samples=512, steps=100)
    np.testing.assert_allclose(other.chi, 0.332, rtol=5e-2)
