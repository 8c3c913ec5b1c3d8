import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_md.wide.empirical import empirical_ntk_fn, get_apply_fn_and_params
from jax_md.wide.linearize import linearize, taylor_expand


def f(params, x, shift=0.0):
    return {"y": jnp.sin(x @ params["w"]) + shift, "z": params["b"] ** 2}


@pytest.fixture(scope="module")
def params():
    return {"w": jnp.array([[0.3], [-0.4]]), "b": jnp.array(2.0)}


def shifted(params, size):
    return jax.tree.map(lambda p: p + size, params)


X = jnp.array([[1.0, 0.5], [-0.2, 0.7], [0.1, 0.9]])


def test_linearize_is_tangent(params):
    f_lin = linearize(f, params)
    jax.tree.map(
        np.testing.assert_allclose, f_lin(params, X, shift=1.0), f(params, X, 1.0)
    )
    moved = f_lin(shifted(params, 0.1), X)
    u = X @ params["w"]
    slope = jnp.cos(u) * X.sum(-1, keepdims=True) * 0.1
    np.testing.assert_allclose(moved["y"], jnp.sin(u) + slope)
    np.testing.assert_allclose(moved["z"], 4.0 + 0.4)


@pytest.mark.parametrize("degree", [0, 1, 2, 3, 4])
def test_taylor_error_has_the_next_order(params, degree):
    expanded = taylor_expand(f, params, degree)
    sizes = np.array([0.04, 0.02])
    errors = [
        np.abs(
            expanded(shifted(params, h), X)["y"] - f(shifted(params, h), X)["y"]
        ).max()
        for h in sizes
    ]
    order = np.log2(errors[0] / errors[1])
    assert abs(order - (degree + 1)) < 0.3
    if degree >= 2:  # a polynomial of this degree is exact
        np.testing.assert_allclose(expanded(shifted(params, 0.5), X)["z"], 2.5**2)


def test_taylor_refuses_bad_degree(params):
    for degree in (2.0, np.int64(2)):
        expected = taylor_expand(f, params, 2)(shifted(params, 0.1), X)
        got = taylor_expand(f, params, degree)(shifted(params, 0.1), X)
        jax.tree.map(np.testing.assert_array_equal, got, expected)
    for degree in (-1, 1.5, None):
        with pytest.raises(ValueError, match="`degree`"):
            taylor_expand(f, params, degree)


@pytest.mark.extra
def test_flax_modules():
    nnx = pytest.importorskip("flax.nnx")
    linen = pytest.importorskip("flax.linen")

    class Net(linen.Module):
        @linen.compact
        def __call__(self, x):
            return linen.Dense(1)(jnp.tanh(linen.Dense(5)(x)))

    net = Net()
    variables = net.init(jax.random.key(0), X)
    apply_fn, params = get_apply_fn_and_params(net, variables)
    np.testing.assert_allclose(apply_fn(params, X), net.apply(variables, X))
    kernels = [
        jax.jit(
            lambda p: empirical_ntk_fn(apply_fn, vmap_axes=0, implementation=i)(
                X, None, p
            )
        )(params)
        for i in (1, 3)
    ]
    np.testing.assert_allclose(kernels[0], kernels[1], atol=1e-5)

    module = nnx.Sequential(
        nnx.Linear(2, 5, rngs=nnx.Rngs(0)), jnp.tanh, nnx.Linear(5, 1, rngs=nnx.Rngs(1))
    )
    apply_fn, params = get_apply_fn_and_params(module)
    np.testing.assert_allclose(apply_fn(params, X), module(X))
    f_lin = linearize(apply_fn, params)
    np.testing.assert_allclose(f_lin(params, X), module(X))
    jacobian = jax.jacobian(apply_fn)(params, X)
    flat = jnp.concatenate([j.reshape(3, -1) for j in jax.tree.leaves(jacobian)], -1)
    ntk = empirical_ntk_fn(apply_fn, implementation=3)(X, None, params)
    np.testing.assert_allclose(ntk, flat @ flat.T, atol=1e-5)

    with pytest.raises(ValueError, match="pass `variables`"):
        get_apply_fn_and_params(net)
    with pytest.raises(ValueError, match="belong to linen"):
        get_apply_fn_and_params(module, variables)
    with pytest.raises(TypeError, match="needs no wrapper"):
        get_apply_fn_and_params(jnp.tanh)
