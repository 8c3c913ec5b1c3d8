import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.scipy.special import erf

from jax_md.wide import meanfield

# Reference values: own quadrature with other rules, printed to four digits.
FOUR_DIGITS = 6e-4
TANH = [  # W_var, q, chi_1, c, chi_c, xi_q, xi_c, xi_gradient at b_var = 0.05
    (1.0, 0.1936, 0.7590, 1.0, 0.7590, 1.75, 3.63, 3.63),
    (1.3, 0.3153, 0.8802, 1.0, 0.8802, 1.79, 7.83, 7.83),
    (1.7, 0.5331, 0.9867, 1.0, 0.9867, 1.56, 74.9, 74.9),
    (2.0, 0.7218, 1.0477, 0.7441, 0.9611, 1.39, 25.2, 21.5),
    (2.5, 1.064, 1.1335, 0.4468, 0.9187, 1.18, 11.8, 7.98),
    (4.0, 2.196, 1.3424, 0.1651, 0.8665, 0.87, 6.98, 3.40),
]
B_STD = 0.05**0.5


@pytest.fixture(scope="module")
def tanh_field():
    return lambda W_std: meanfield.mean_field(jnp.tanh, W_std, B_STD)


@pytest.mark.parametrize("row", TANH)
def test_tanh_fixed_points(tanh_field, row):
    field = tanh_field(row[0] ** 0.5)
    got = (field.q, field.chi_1, field.c, field.chi_c)
    np.testing.assert_allclose(got, row[1:5], rtol=FOUR_DIGITS)
    scales = (field.xi_q, field.xi_c, field.xi_gradient)
    np.testing.assert_allclose(scales, row[5:], rtol=5e-3)
    assert field.name == ("ordered" if row[0] < 1.76 else "chaotic")


def test_fixed_points_are_fixed(tanh_field):
    for W_var in (0.5, 1.75, 1.77, 3.0):
        W_std = W_var**0.5
        field = tanh_field(W_std)
        q = meanfield.q_map(jnp.tanh, field.q, W_std, B_STD)
        c = meanfield.c_map(jnp.tanh, field.c, field.q, W_std, B_STD)
        np.testing.assert_allclose((q, c), (field.q, field.c), rtol=1e-12)


def test_fixed_point_gradient(tanh_field):
    def q(W_std, b_std):
        return meanfield.q_fixed_point(jnp.tanh, W_std, b_std)

    h = 1e-5
    by_difference = (
        (q(1.2 + h, 0.3) - q(1.2 - h, 0.3)) / (2 * h),
        (q(1.2, 0.3 + h) - q(1.2, 0.3 - h)) / (2 * h),
    )
    np.testing.assert_allclose(jax.grad(q, (0, 1))(1.2, 0.3), by_difference, rtol=1e-6)
    np.testing.assert_allclose(
        jax.jvp(q, (1.2, 0.3), (1.0, 2.0))[1],
        by_difference[0] + 2 * by_difference[1],
        rtol=1e-6,
    )


def test_alpha_is_the_slope_of_the_map():
    for phi in (jnp.tanh, jax.nn.relu, jnp.cos):
        slope = jax.grad(lambda q: meanfield.q_map(phi, q, 1.3, 0.1))(0.7)
        np.testing.assert_allclose(meanfield.alpha_q(phi, 0.7, 1.3), slope, rtol=1e-10)
    np.testing.assert_allclose(meanfield.alpha_q(jnp.tanh, 0.0, 1.3), 1.69)


def test_quadrature_against_closed_forms():
    q, c = 0.8, 0.37
    theta = np.arccos(c)
    relu = q * (np.sin(theta) + (np.pi - theta) * c) / (2 * np.pi)
    got = meanfield.pair_expectation(lambda a, b: jax.nn.relu(a) * jax.nn.relu(b), q, c)
    np.testing.assert_allclose(got, relu, rtol=1e-13)
    step = meanfield.chi(jax.nn.relu, q, 1.0, c)
    np.testing.assert_allclose(step, (np.pi - theta) / (2 * np.pi), rtol=1e-13)
    for c in (-1.0, -0.3, 0.999999, 1.0):
        smooth = 2 / np.pi * np.arcsin(2 * q * c / (1 + 2 * q))
        got = meanfield.pair_expectation(lambda a, b: erf(a) * erf(b), q, c)
        np.testing.assert_allclose(got, smooth, rtol=1e-12)
    np.testing.assert_allclose(
        meanfield.expectation(lambda u: jnp.abs(u - 2.0), 3.0, 2.0),
        np.sqrt(6 / np.pi),
        rtol=1e-13,
    )


@pytest.mark.parametrize(
    ("phi", "b_var", "W_var", "q"),
    [
        (jnp.tanh, 1e-5, 1.039521, 0.02034),
        (jnp.tanh, 1e-3, 1.18919, 0.1073),
        (jnp.tanh, 0.01, 1.424205, 0.2733),
        (jnp.tanh, 0.05, 1.760955, 0.57005),
        (jnp.tanh, 0.18, 2.233929, 1.0994),
        (erf, 0.05, 1.37583900734668, 0.51717683798057),
        (erf, 0.18, 1.747604, 0.98779),
    ],
)
def test_critical_points(phi, b_var, W_var, q):
    point = meanfield.critical_point(phi, b_var**0.5)
    np.testing.assert_allclose(point.W_var, W_var, rtol=4e-7)
    np.testing.assert_allclose(point.q, q, rtol=3e-4)
    np.testing.assert_allclose(point.b_var, b_var, rtol=1e-9)


def test_critical_line():
    tanh = meanfield.critical_line(jnp.tanh, 1 / 16)
    np.testing.assert_allclose(tanh.W_var, 1.1153806, rtol=1e-7)
    np.testing.assert_allclose(tanh.b_var, 2.369e-4, rtol=1e-3)
    relu = meanfield.critical_line(jax.nn.relu, 3.0)
    np.testing.assert_allclose((relu.W_std**2, relu.alpha_q), (2.0, 1.0), rtol=1e-12)
    np.testing.assert_allclose(relu.b_var, 0.0, atol=1e-12)
    table = [  # activation, q, W_var, b_var, alpha
        (jax.nn.softplus, 0.01, None, -1.92, None),
        (lambda x: jax.nn.softplus(x) - jnp.log(2.0), 1.0, 3.409, 0.031, 1.057),
        (jax.nn.silu, 1.0, 2.635, 0.0625, 1.099),
        (jax.nn.silu, 20.0, 1.975, 0.679, 0.993),
        (lambda x: jax.nn.gelu(x, approximate=False), 5.0, 1.966, 0.214, 0.990),
    ]
    for phi, q, W_var, b_var, alpha in table:
        point = meanfield.critical_line(phi, q)
        np.testing.assert_allclose(point.b_var, b_var, rtol=1.5e-2)
        if W_var is not None:
            np.testing.assert_allclose(
                (point.W_var, point.alpha_q), (W_var, alpha), rtol=1e-3
            )


def test_relu_and_divergence():
    at_he = meanfield.mean_field(jax.nn.relu, 2**0.5, 0.0)
    assert at_he.name == "critical" and float(at_he.q) == 1.0
    below = meanfield.mean_field(jax.nn.relu, 1.0, 0.5)
    np.testing.assert_allclose(below.q, 0.25 / (1 - 0.5), rtol=1e-12)
    with pytest.raises(ValueError, match="variance grows without bound"):
        meanfield.mean_field(jax.nn.relu, 1.5, 0.1)
    with pytest.raises(ValueError, match="does not reach"):
        meanfield.critical_point(jax.nn.relu, 0.1)


def test_jacobian_moments():
    isometric = meanfield.jacobian_moments(jnp.tanh, 1 / 32, 32)
    np.testing.assert_allclose(isometric, (1.0, 0.191), rtol=3e-3)
    np.testing.assert_allclose(
        meanfield.jacobian_moments(jnp.tanh, 0.5, 32).variance, 9.6, rtol=1e-2
    )
    gauss = meanfield.jacobian_moments(jnp.tanh, 1 / 32, 32, orthogonal=False)
    np.testing.assert_allclose(gauss.variance - isometric.variance, 32.0)
    relu = meanfield.jacobian_moments(jax.nn.relu, 1.0, 4, W_std=1.0)
    np.testing.assert_allclose(relu, (0.5**4, 4 * 0.5**8), rtol=1e-12)


def test_conv_modes():
    uniform = meanfield.conv_modes(jnp.ones((3, 3)), (4, 4))
    k = 2 * np.pi * np.fft.fftfreq(4)
    expected = np.outer(1 + 2 * np.cos(k), 1 + 2 * np.cos(k)) / 9
    np.testing.assert_allclose(uniform, expected, atol=1e-15)
    assert np.sort(np.abs(uniform).ravel())[-2] == pytest.approx(1 / 3)
    center = jnp.zeros((3, 5)).at[1, 2].set(7.0)
    np.testing.assert_allclose(meanfield.conv_modes(center, (6, 8)), 1.0)
    with pytest.raises(ValueError, match="same number of axes"):
        meanfield.conv_modes(jnp.ones(3), (4, 4))


def test_float32():
    with jax.enable_x64(False):
        field = meanfield.mean_field(jnp.tanh, 2.0**0.5, B_STD)
        assert {leaf.dtype for leaf in field} == {jnp.dtype("float32")}
        np.testing.assert_allclose(field.c, 0.7441, rtol=1e-3)
