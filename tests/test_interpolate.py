"""Splines against scipy's, and what they do beyond their table."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads
from scipy.interpolate import BSpline, splrep

from jax_md import interpolate

DX = 0.3
TOLERANCE = {"float32": 2e-6, "float64": 1e-13}  # of values near 1


def table(n, dtype=float):
    return np.sin(1.3 * np.arange(n) * DX + 0.2).astype(dtype)


def oracle(y, degree):
    return BSpline(*splrep(np.arange(len(y)) * DX, y.astype(float), k=degree, s=0))


@pytest.mark.parametrize("degree", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("n", [6, 23])
def test_spline_is_that_of_scipy(degree, n, dtype):
    y = table(n, dtype)
    x = np.linspace(0, (n - 1) * DX, 200).astype(dtype)
    out = jax.jit(interpolate.spline(jnp.asarray(y), DX, degree))(x)
    assert out.dtype == dtype
    np.testing.assert_allclose(
        out, oracle(y, degree)(x.astype(float)), atol=TOLERANCE[dtype.__name__]
    )


@pytest.mark.parametrize("n", [4, 5, 6])
def test_the_shortest_cubic_tables(n):
    y = np.random.default_rng(n).normal(size=n)
    x = np.linspace(0, (n - 1) * DX, 50)
    np.testing.assert_allclose(interpolate.spline(y, DX)(x), oracle(y, 3)(x), 1e-12)


def test_a_cubic_is_reproduced_in_every_interval():
    polynomial = np.poly1d([0.7, -1.1, 0.4, 2.0])
    y = polynomial(np.arange(9) * 0.1)
    f = interpolate.spline(y, 0.1)
    x = np.linspace(-0.05, 0.899, 100)  # both ends continue their piece
    np.testing.assert_allclose(f(x), polynomial(x), rtol=1e-12)
    np.testing.assert_allclose(jax.vmap(jax.grad(f))(x), polynomial.deriv()(x), 1e-11)


def test_beyond_the_table():
    f = interpolate.spline(jnp.ones(8), 0.5)
    assert f(3.99) == 1
    assert f(4.0) == 0
    assert f(jnp.inf) == 0
    assert jax.grad(f)(jnp.inf) == 0
    assert jax.grad(jax.grad(f))(100.0) == 0


@pytest.mark.parametrize("degree", [2, 3, 4, 5])
def test_derivatives_are_continuous(degree):
    f = interpolate.spline(table(12), DX, degree)
    knots = np.arange(1, 11) * DX
    if degree % 2 == 0:  # then the knots are halfway
        knots = knots[:-1] + DX / 2
    for order in range(degree):
        nth = f
        for _ in range(order):
            nth = jax.grad(nth)
        left, right = jax.jit(jax.vmap(jax.vmap(nth)))(
            jnp.stack([knots - 1e-9, knots + 1e-9])
        )
        np.testing.assert_allclose(left, right, atol=1e-6)


@pytest.mark.parametrize("degree", [3, 4])
def test_derivatives_are_those_of_scipy(degree):
    y = table(12)
    f = interpolate.spline(y, DX, degree)
    x = np.linspace(0.01, 11 * DX - 0.01, 40)
    ref = oracle(y, degree)
    np.testing.assert_allclose(jax.vmap(jax.grad(f))(x), ref(x, nu=1), atol=1e-11)
    np.testing.assert_allclose(
        jax.vmap(jax.jacfwd(jax.grad(f)))(x), ref(x, nu=2), atol=1e-10
    )


def test_a_table_can_be_learned():
    y, x = table(9), jnp.linspace(0.1, 2.2, 7)

    @jax.jit
    def loss(y):
        return jnp.sum(interpolate.spline(y, DX)(x) ** 2)

    check_grads(loss, (jnp.asarray(y),), order=2, modes=["fwd", "rev"], eps=1e-4)
    concrete = jnp.sum(interpolate.spline(y, DX)(x) ** 2)
    np.testing.assert_allclose(loss(y), concrete, rtol=1e-13)


def test_dtype_is_that_of_the_argument(dtype):
    f = interpolate.spline(table(6, np.float64), DX)
    assert f(jnp.ones((2, 3), dtype)).dtype == dtype
    assert f(jnp.ones((2, 3), dtype)).shape == (2, 3)
    g = interpolate.spline(table(6, dtype), DX)
    assert g(1.0).dtype == g(jnp.asarray(1)).dtype == dtype  # that of the table


def test_lists_and_integers_are_tables():
    assert interpolate.spline([0, 1, 4, 9], 1)(2.5) == pytest.approx(6.25)
    assert interpolate.spline(jnp.arange(5) ** 2, 1)(1.5) == pytest.approx(2.25)


def test_spline_errors():
    with pytest.raises(ValueError, match="`degree` must be from 1 to 5; got 0"):
        interpolate.spline(table(9), DX, 0)
    with pytest.raises(ValueError, match=r"more than `degree` = 3 .* \(3,\)"):
        interpolate.spline(table(3), DX)
    with pytest.raises(ValueError, match=r"got shape \(4, 4\)"):
        interpolate.spline(np.ones((4, 4)), DX)
    with pytest.raises(TypeError, match="degree 2 needs concrete values"):
        jax.jit(lambda y: interpolate.spline(y, DX, 2)(0.1))(table(9))


def test_without_scipy(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "scipy.interpolate", None)
    assert interpolate.spline([0, 1, 4, 9], 1)(0.5) == pytest.approx(0.25)
    with pytest.raises(ImportError, match="pip install scipy"):
        interpolate.spline(table(9), DX, 5)


def test_schedules():
    assert interpolate.constant(3.0)(17) == 3.0
    assert interpolate.canonicalize(2.5)(0) == 2.5
    assert interpolate.canonicalize(jnp.asarray(2.5))(0) == 2.5
    double = interpolate.canonicalize(lambda t: 2 * t)
    assert double(4) == 8
    with pytest.raises(TypeError, match=r"shape \(3,\)"):
        interpolate.canonicalize(jnp.ones(3))
