import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.scipy.special import erf

from jax_md.wide import meanfield

B_STD = 0.05**0.5
DEPTH = 1500


def by_depth(phi, W_var, b_var, depth=DEPTH, c=0.0):
    return meanfield.ntk_by_depth(phi, W_var**0.5, b_var**0.5, depth, c)


def test_critical_tanh():
    point = meanfield.critical_point(jnp.tanh, B_STD)
    entries = by_depth(jnp.tanh, point.W_var, 0.05)
    scale = DEPTH * point.q
    np.testing.assert_allclose(entries.diagonal[-1] / scale, 1.0, atol=1e-2)
    assert 0.325 < entries.off_diagonal[-1] / scale < 0.337
    # 1 - c falls like 1 / l
    np.testing.assert_allclose(DEPTH * (1 - entries.c[-1]), 6.21, rtol=1e-2)
    limit = meanfield.ntk_limit(jnp.tanh, point.W_std, B_STD)
    assert limit.phase == "critical"
    np.testing.assert_allclose(limit.off_diagonal / point.q, 1 / 3, rtol=1e-3)
    np.testing.assert_allclose(limit.condition_number(8), 5.0, rtol=2e-3)
    np.testing.assert_allclose(limit.condition_number(4, pixels=4), 9.0, rtol=2e-3)
    np.testing.assert_allclose(
        limit.max_learning_rate(100, 8, 4), 6 * 4 / (34 * 100 * point.q), rtol=1e-3
    )
    at_depth = meanfield.ntk_spectrum(entries, 8)
    np.testing.assert_allclose(at_depth.condition_number[-1], 5.0, rtol=0.1)
    np.testing.assert_allclose(
        limit.max_learning_rate(DEPTH, 8), 2 / at_depth.largest[-1], rtol=2e-2
    )


@pytest.mark.slow
def test_critical_relu():
    entries = by_depth(jax.nn.relu, 2.0, 0.0)
    np.testing.assert_allclose(entries.diagonal, np.arange(1, DEPTH + 1), rtol=1e-9)
    # one quarter, approached like 1 / l with a factor that depends on the start
    ratio = entries.off_diagonal / entries.diagonal
    np.testing.assert_allclose(ratio[999], 0.2538, atol=1e-3)
    assert abs(ratio[999] - 0.25) > 1.3 * abs(ratio[-1] - 0.25)
    limit = meanfield.ntk_limit(jax.nn.relu, 2**0.5, 0.0)
    np.testing.assert_allclose(limit.off_diagonal, 0.25, rtol=1e-3)
    np.testing.assert_allclose(limit.condition_number(6), 3.0, rtol=1e-3)


def test_ordered():
    limit = meanfield.ntk_limit(jnp.tanh, 1.3**0.5, B_STD)
    np.testing.assert_allclose(limit.off_diagonal, 2.63122, rtol=1e-5)
    np.testing.assert_allclose(limit.depth_scale, limit.field.xi_c)
    entries = by_depth(jnp.tanh, 1.3, 0.05, depth=120)
    np.testing.assert_allclose(entries.off_diagonal[-1], 2.63122, rtol=1e-4)
    # ln(kappa) minus the logarithmic correction grows by -ln(chi_1) per layer
    kappa = meanfield.ntk_spectrum(entries, 10).condition_number
    depth = np.arange(1, 121)
    corrected = np.log(kappa) + np.log(depth)
    growth = (corrected[110] - corrected[60]) / 50
    np.testing.assert_allclose(growth, -np.log(limit.field.chi_1), rtol=3e-2)
    assert limit.condition_number(10) == np.inf


@pytest.mark.parametrize(
    ("phi", "W_var", "off_diagonal", "depth"),
    [
        (jnp.tanh, 3.0, 4.08649, 120),
        pytest.param(erf, 1.8, 5.9352944, 200, marks=pytest.mark.slow),
    ],
)
def test_chaotic(phi, W_var, off_diagonal, depth):
    limit = meanfield.ntk_limit(phi, W_var**0.5, B_STD)
    assert limit.phase == "chaotic"
    np.testing.assert_allclose(limit.off_diagonal, off_diagonal, rtol=2e-6)
    entries = by_depth(phi, W_var, 0.05, depth)
    np.testing.assert_allclose(entries.off_diagonal[-1], off_diagonal, rtol=1e-4)
    chi_1, q = limit.field.chi_1, limit.field.q
    growth = entries.diagonal[-1] / entries.diagonal[-2]
    np.testing.assert_allclose(growth, chi_1, rtol=1e-6)
    # (kappa - 1) chi_1^l tends to m p_ab (chi_1 - 1) / q
    kappa = meanfield.ntk_spectrum(entries, 8).condition_number[-1]
    np.testing.assert_allclose(
        (kappa - 1) * chi_1**depth, 8 * off_diagonal * (chi_1 - 1) / q, rtol=1e-3
    )
    largest = meanfield.ntk_spectrum(entries, 8).largest[-1]
    np.testing.assert_allclose(
        limit.max_learning_rate(depth, 8), 2 / largest, rtol=1e-3
    )
    expected = -1 / (np.log(limit.field.chi_c) - np.log(chi_1))
    np.testing.assert_allclose(limit.depth_scale, expected)
