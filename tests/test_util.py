"""Array helpers: accuracy, dtypes, and gradients where a branch is singular."""

from collections import namedtuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_md import util


def test_star_import_binds_what_scripts_use():
    names: dict = {}
    exec("from jax_md.util import *", names)
    expected = "Array PyTree ArrayLike f32 f64 i32 i64 jnp onp maybe_downcast partial"
    assert set(f"{expected} jit jax".split()) <= names.keys()
    assert names["f32"] == jnp.float32 and names["f32"](3).dtype == "float32"
    assert names["f64"].__name__ == "float64"


def test_custom_simulation_types(monkeypatch):
    class Body:
        pass

    monkeypatch.setattr(util, "CUSTOM_SIMULATION_TYPE", [])
    util.check_custom_simulation_type(Body())
    util.register_custom_simulation_type(Body)
    util.check_custom_simulation_type(jnp.ones(3))
    with pytest.raises(ValueError, match="`Body`"):
        util.check_custom_simulation_type(Body())


def test_static_cast():
    small = list(util.static_cast(3, 0.1, 70000))
    assert [x.dtype.name for x in small] == ["uint8", "float16", "uint32"]


def test_register_pytree_namedtuple():
    Pair = namedtuple("Pair", "a b")
    util.register_pytree_namedtuple(Pair)
    doubled = jax.tree.map(lambda x: 2 * x, Pair(1, (2, 3)))
    assert doubled == Pair(2, (4, 6)) and isinstance(doubled, Pair)


def test_merge_dicts():
    a, b = {"x": 1, "y": 2}, {"y": 3, "z": 4}
    assert util.merge_dicts(a, b) == {"x": 1, "y": 3, "z": 4}
    assert util.merge_dicts(a, b, ignore_unused_parameters=True) == {"x": 1, "y": 3}
    assert util.merge_dicts(a, {"y": None}, ignore_unused_parameters=True) == a
    assert util.merge_dicts(a, {"x": 0}, True) == {"x": 0, "y": 2}
    assert a == {"x": 1, "y": 2}


def test_safe_mask_keeps_nan_out_of_derivatives(dtype):
    x = jnp.array([-1.0, 0.0, 4.0], dtype)

    def total(x):
        return jnp.sum(util.safe_mask(x > 0, jnp.sqrt, x))

    assert util.safe_mask(x > 0, jnp.sqrt, x, placeholder=7).tolist() == [7, 7, 2]
    assert util.safe_mask(x > 0, jnp.sqrt, x).dtype == dtype
    np.testing.assert_array_equal(jax.grad(total)(x), [0, 0, 0.25])
    np.testing.assert_array_equal(
        jnp.diag(jax.hessian(total)(x)), jnp.array([0, 0, -1 / 32], dtype)
    )


def test_high_precision_sum_of_float32():
    # 1 + 2^-24 rounds to 1 in single precision, so a running sum never grows.
    x = jnp.full(2**16 + 1, 2.0**-24, jnp.float32).at[0].set(1)
    out = util.high_precision_sum(x)
    assert out.dtype == jnp.float32
    assert out == 1 + 2.0**-8
    with jax.enable_x64(False):
        assert util.high_precision_sum(x) == pytest.approx(1 + 2.0**-8, rel=1e-6)


def test_high_precision_sum_without_x64_is_accurate():
    with jax.enable_x64(False):
        x = jnp.asarray(np.random.default_rng(0).uniform(size=300_007), jnp.float32)
        exact = np.sum(np.asarray(x), dtype=np.float64)
        assert util.high_precision_sum(x) == pytest.approx(exact, rel=3e-7)


@pytest.mark.parametrize(
    "kind", ["bool", "int32", "uint32", "float32", "float64", "complex64"]
)
def test_high_precision_sum_kinds(kind):
    x = jnp.asarray(np.arange(6).reshape(2, 3), kind)
    for options in ({}, {"axis": 0}, {"axis": (0, 1)}, {"axis": 1, "keepdims": True}):
        out = util.high_precision_sum(x, **options)
        expected = np.sum(np.asarray(x), **options)
        np.testing.assert_array_equal(out, expected)
        assert out.shape == expected.shape
        assert kind == "bool" or out.dtype == x.dtype


def test_maybe_downcast():
    double = jnp.ones(2, jnp.float64)
    assert util.maybe_downcast(double) is double
    for other in (1, 2.5, [1.0, 2.0], np.ones(3), np.arange(3), jnp.arange(3)):
        assert util.maybe_downcast(other).dtype == jnp.float32


def test_x64_enabled():
    assert util.x64_enabled() is True
    with jax.enable_x64(False):
        assert util.x64_enabled() is False


def test_is_array():
    assert util.is_array(jnp.ones(2)) and util.is_array(np.ones(2))
    assert not any(util.is_array(x) for x in (1, 2.0, [1.0], np.float32(1)))


def test_safe_norm(dtype):
    x = jnp.array([[3.0, 4.0], [0.0, 0.0]], dtype)
    out = util.safe_norm(x)
    np.testing.assert_array_equal(out, jnp.array([5, 1e-6], dtype))
    assert out.dtype == dtype
    assert util.safe_norm(x, axis=0, keepdims=True).shape == (1, 2)
    gradient = jax.grad(lambda x: jnp.sum(util.safe_norm(x)))(x)
    np.testing.assert_allclose(gradient, [[0.6, 0.8], [0, 0]], rtol=1e-6)


def test_normalize(dtype):
    x = jnp.array([[3.0, 4.0], [0.0, 0.0]], dtype)
    out = util.normalize(x)
    np.testing.assert_allclose(out, [[0.6, 0.8], [0, 0]], rtol=1e-6)
    assert out.dtype == dtype
    assert util.normalize([3.0, 4.0])[1] == pytest.approx(0.8)
    assert bool(jnp.all(jnp.isfinite(jax.jacobian(util.normalize)(x))))


def test_safe_arccos(dtype):
    x = jnp.array([-2.0, -1.0, 0.3, 1.0], dtype)
    out = util.safe_arccos(x)
    assert out.dtype == dtype
    np.testing.assert_allclose(out[2], np.arccos(0.3), rtol=1e-6)
    slope = jax.vmap(jax.grad(util.safe_arccos))(x)
    assert bool(jnp.all(jnp.isfinite(slope)))
