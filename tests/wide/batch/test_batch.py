import os
import subprocess
import sys
import textwrap

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_md.wide import stax
from jax_md.wide.batch import batch
from jax_md.wide.empirical import empirical_kernel_fn

EXACT = 1e-12
DENSE = stax.serial(stax.Dense(8), stax.Erf(), stax.Dense(2))
X1 = jax.random.normal(jax.random.key(0), (6, 3))
X2 = jax.random.normal(jax.random.key(1), (4, 3))


def same_tree(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=EXACT), a, b)


@pytest.mark.parametrize("x2", [None, X2], ids=["same", "other"])
def test_dense_kernels(x2):
    kernel_fn = DENSE[2]
    same_tree(batch(kernel_fn, 2, 0)(X1, x2), kernel_fn(X1, x2))
    for get in ("ntk", ("shape1", "cov2", "cov1", "nngp", "x1_is_x2")):
        got = batch(kernel_fn, 2, 0, store_on_device=False)(X1, x2, get)
        same_tree(got, kernel_fn(X1, x2, get))


def test_kernel_maps_and_images():
    first = stax.serial(stax.Conv(4, (2,)), stax.Relu())[2]
    last = stax.serial(stax.Conv(4, (2,)), stax.GlobalAvgPool())[2]
    x1 = jax.random.normal(jax.random.key(2), (4, 5, 2))
    x2 = jax.random.normal(jax.random.key(3), (2, 5, 2))
    middle = jax.jit(first)(x1, x2)
    same_tree(batch(first, 2, 0)(x1, x2), middle)
    for record in (middle, jax.jit(first)(x1)):
        same_tree(batch(last, 2, 0)(record), jax.jit(last)(record))


def test_symmetric_kernels_cost_half():
    """Only blocks on one side of the diagonal are computed."""
    seen = []

    def kernel_fn(x1, x2):
        jax.debug.callback(lambda _: seen.append(1), x1[0, 0])
        return x1 @ x2.T

    got = batch(kernel_fn, 2, 0)(X1, None)
    jax.effects_barrier()
    np.testing.assert_allclose(got, X1 @ X1.T)
    assert len(seen) == 3 * 4 // 2


def test_compiles_once():
    traces = []

    def kernel_fn(x1, x2, get, scale):
        traces.append(get)
        return scale * x1 @ x2.T

    batched = batch(kernel_fn, 2, 0)
    for scale in (1.0, 2.0):
        got = batched(X1, X2, "nngp", scale=jnp.asarray(scale))
        np.testing.assert_allclose(got, scale * X1 @ X2.T)
    first = len(traces)
    batched(X1 + 1, X2, "nngp", scale=jnp.asarray(3.0))
    assert len(traces) == first


def test_keyword_arguments_are_cut_with_the_samples():
    def kernel_fn(x1, x2, weight, power, label):
        assert label == "static"
        return (weight[0][:, None] * x1**power) @ (weight[1][:, None] * x2**power).T

    pair = (jnp.arange(6.0), jnp.arange(4.0))
    got = batch(kernel_fn, 2, 0)(X1, X2, weight=pair, power=3, label="static")
    np.testing.assert_allclose(got, kernel_fn(X1, X2, pair, 3, "static"), rtol=1e-12)


def test_empirical_kernels_with_a_key():
    """Each sample keeps its key, so the kernel is that of one set of features."""
    init_fn, apply_fn, _ = DENSE
    _, params = jax.jit(lambda key: init_fn(key, X1.shape))(jax.random.key(0))

    def f(params, x, rng):
        return apply_fn(params, x) * jax.random.normal(rng, (x.shape[0], 1))

    kernel_fn = empirical_kernel_fn(f, trace_axes=())
    nngp = batch(kernel_fn, 2, 0)(X1, None, "nngp", params, rng=jax.random.key(4))
    assert nngp.shape == (6, 6, 2, 2)
    matrix = np.asarray(nngp).transpose(0, 2, 1, 3).reshape(12, 12)
    np.testing.assert_allclose(matrix, matrix.T, atol=EXACT)
    assert np.linalg.matrix_rank(matrix, tol=1e-9) == 1  # one feature vector: f itself
    plain = batch(empirical_kernel_fn(apply_fn), 3, 0)(X1, None, None, params)
    same_tree(plain, empirical_kernel_fn(apply_fn)(X1, None, None, params))


def test_gradients_and_jit_pass():
    def total(kernel_fn):
        return lambda x: kernel_fn(x, X2, "ntk").sum()

    expected = jax.jit(jax.grad(total(DENSE[2])))(X1)
    got = jax.jit(jax.grad(total(batch(DENSE[2], 2, 0, store_on_device=False))))(X1)
    np.testing.assert_allclose(got, expected, atol=EXACT)


def test_gradients_pass_through_mirrored_blocks():
    weights = jax.random.normal(jax.random.key(4), (len(X1), len(X1)))

    def slope(kernel_fn):
        return jax.jit(jax.grad(lambda x: jnp.sum(weights * kernel_fn(x, None, "ntk"))))

    got, expected = slope(batch(DENSE[2], 2, 0))(X1), slope(DENSE[2])(X1)
    np.testing.assert_allclose(got, expected, atol=EXACT)


def test_samples_stay_with_themselves_in_chaos():
    dense = stax.Dense(1, 2.0, 0.2)
    block = stax.repeat(stax.serial(stax.Erf(), dense), 60)
    kernel_fn = stax.serial(dense, block)[2]
    whole, blocks = kernel_fn(X1, None, "ntk"), batch(kernel_fn, 2, 0)(X1, None, "ntk")
    np.testing.assert_allclose(np.diagonal(blocks), np.diagonal(whole), rtol=1e-10)


def test_refuses_what_does_not_divide():
    batched = batch(DENSE[2], 4, 0)
    with pytest.warns(UserWarning, match="using 2"):
        batched(X1, X2, "nngp")
    with pytest.raises(ValueError, match="multiple of blocks of 4"):
        batched(jnp.ones((6, 3)), jnp.ones((18, 3)), "nngp")
    with pytest.raises(ValueError, match="`batch_size`"):
        batch(DENSE[2], -1)
    with pytest.raises(ValueError, match="`device_count`"):
        batch(DENSE[2], 0, 99)
    with pytest.raises(NotImplementedError, match="diagonal_batch"):
        batch(DENSE[2], 2, 0)(X1, None, diagonal_batch=False)
    whole = DENSE[2](X1, diagonal_batch=False)
    with pytest.raises(NotImplementedError, match="diagonal_batch"):
        batch(stax.Dense(2)[2], 2, 0)(whole)


DEVICES = """
    import jax, numpy as np
    jax.config.update("jax_enable_x64", True)
    jax.config.update("jax_numpy_rank_promotion", "raise")
    from jax_md.wide import stax
    from jax_md.wide.batch import batch
    kernel_fn = stax.serial(stax.Dense(8), stax.Erf(), stax.Dense(2))[2]
    x1 = jax.random.normal(jax.random.key(0), (8, 3))
    x2 = jax.random.normal(jax.random.key(1), (4, 3))
    assert len(jax.devices()) == 4
    for second, *how in ((None, 0, -1, True), (x2, 1, 2, True), (x2, 1, 4, False)):
        exact = jax.jit(kernel_fn)(x1, second)
        got = batch(kernel_fn, *how)(x1, second)
        assert jax.tree.structure(got) == jax.tree.structure(exact)
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, atol=1e-12), got, exact
        )
        if how[2]:
            assert len(got.nngp.sharding.device_set) == (4 if how[1] == -1 else 2)
    middle = jax.jit(kernel_fn)(x1)
    last = stax.Dense(3)[2]
    np.testing.assert_allclose(batch(last)(middle).ntk, last(middle).ntk, atol=1e-12)
    try:
        batch(kernel_fn)(x1[:6])
    except ValueError as error:
        assert "divide among 4 devices" in str(error)
    else:
        raise AssertionError("6 samples do not divide among 4 devices")
"""


def test_several_devices():
    flags = {"XLA_FLAGS": "--xla_force_host_platform_device_count=4"}
    subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(DEVICES)],
        check=True,
        env={**os.environ, **flags, "JAX_PLATFORMS": "cpu", "PYTHONPATH": "."},
    )
