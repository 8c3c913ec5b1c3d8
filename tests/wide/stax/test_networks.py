"""Combinators, branches and the interface of a `kernel_fn`."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_md.wide import Kernel, stax
from jax_md.wide.stax import Bool, Diagonal
from tests.wide.stax.oracle import (
    assert_kernels_equal,
    check_affine,
    check_linear,
    images,
)

X1, X2 = images(0, (3, 4)), images(1, (2, 4))
I1, I2 = images(2, (2, 3, 2, 3)), images(3, (3, 3, 2, 3))
ALL = ("nngp", "ntk", "cov1", "cov2")


def dense(**options):
    return stax.Dense(1, 1.3, 0.4, **options)


def test_dense_is_exact():
    check_affine(dense(), X1, X2)
    check_affine(stax.Dense(1, 0.8), I1, I2)
    standard = stax.Dense(1, 1.3, 0.4, parameterization="standard", s=(2, 1))
    check_affine(standard, X1, X2, variances=[1.3**2 * 2 / 4, 0.4**2])
    width = stax.Dense(5, parameterization="standard", s=(2, 3))[0]
    shape, (W, b) = width(jax.random.PRNGKey(0), (-1, 8))
    assert shape == (-1, 15) and W.shape == (8, 15) and b is None
    with pytest.raises(ValueError, match="`parameterization`"):
        stax.Dense(1, parameterization="mup")


def test_get():
    kernel_fn = stax.serial(dense(), stax.Erf(), dense())[2]
    full = kernel_fn(X1, X2)
    assert isinstance(full, Kernel)
    np.testing.assert_array_equal(kernel_fn(X1, X2, "NTK"), full.ntk)
    pair = kernel_fn(X1, X2, ("ntk", "nngp"))
    assert type(pair).__name__ == "AnalyticKernel" and pair._fields == ("ntk", "nngp")
    np.testing.assert_array_equal(pair.nngp, full.nngp)
    np.testing.assert_array_equal(kernel_fn(full, get="cov1").shape, (3,))
    assert kernel_fn(X1, X2, ("shape1", "is_gaussian")) == ((3, 1), True)
    assert kernel_fn(X1, X2, ("nngp", "cov1")).cov1.shape == (3,)
    for bad in ((), ("nngp", "NNGP"), "kernel"):
        with pytest.raises(ValueError, match="`get`"):
            kernel_fn(X1, X2, bad)
    with pytest.raises(TypeError, match="`get`"):
        kernel_fn(X1, X2, 3)


def test_second_batch_is_the_first_by_default():
    kernel_fn = jax.jit(stax.serial(dense(), stax.Relu(), dense())[2])
    alone, twice = kernel_fn(X1), kernel_fn(X1, X1)
    assert alone.cov2 is None and bool(alone.x1_is_x2) and bool(twice.x1_is_x2)
    np.testing.assert_allclose(alone.ntk, twice.ntk, rtol=1e-12)
    np.testing.assert_allclose(alone.ntk, alone.ntk.T, rtol=1e-12)
    assert not bool(kernel_fn(X1, X1 + 1e-3).x1_is_x2)
    whole = stax.serial(dense(), stax.Relu(), dense())[2](X1, diagonal_batch=False)
    np.testing.assert_allclose(whole.cov1, whole.nngp, rtol=1e-12)


def test_inputs_need_two_axes_and_equal_features():
    with pytest.raises(ValueError, match="at least"):
        dense()[2](X1[0], X2[0])
    with pytest.raises(ValueError, match="agree"):
        dense()[2](X1, X2[:, :3])
    with pytest.raises(ValueError, match="`x2`"):
        dense()[2](dense()[2](X1, X2), X2)


def test_composition_of_kernels_is_composition_of_layers():
    first = stax.serial(dense(), stax.Erf(), dense(parameterization="standard"))
    second = stax.serial(stax.Relu(), dense(), stax.Gelu())
    whole = stax.serial(first, second)
    a, b = second[2](first[2](X1, X2)), whole[2](X1, X2)
    assert_kernels_equal(a, b, ALL)
    assert a.is_gaussian == b.is_gaussian and a.shape1 == b.shape1 == (3, 1)
    key = jax.random.PRNGKey(1)
    shape, params = whole[0](key, X1.shape)
    out = second[1](params[1], first[1](params[0], X1))
    np.testing.assert_allclose(whole[1](params, X1), out)
    assert out.shape == shape
    empty = stax.serial()
    assert empty[1]([], X1) is X1
    assert_kernels_equal(empty[2](X1, X2), stax.Identity()[2](X1, X2))


@pytest.mark.parametrize("n", [0, pytest.param(1, marks=pytest.mark.slow), 3])
def test_repeat_is_serial(n):
    block = stax.serial(stax.Relu(), stax.Dense(5, 1.2, 0.3))
    once, many = stax.repeat(block, n), stax.serial(*[block] * n)
    head = stax.Dense(5)
    a, b = stax.serial(head, once), stax.serial(head, many)
    assert_kernels_equal(a[2](X1, X2), b[2](X1, X2), ALL)
    shape, params = a[0](jax.random.PRNGKey(0), X1.shape)
    assert shape == (3, 5)
    split = [jax.tree.map(lambda p, i=i: p[i], params[1]) for i in range(n)]
    np.testing.assert_allclose(a[1](params, X1), b[1]([params[0], split], X1))
    if n:
        with pytest.raises(ValueError, match="`repeat`"):
            stax.repeat(stax.Dense(3), n)[0](jax.random.PRNGKey(0), (2, 5))


def branches(join, *ends):
    return stax.serial(dense(), stax.FanOut(len(ends)), stax.parallel(*ends), join)


def test_fan_in_sum_and_product():
    one = stax.serial(stax.Erf(), stax.Dense(1, 1.1, 0.1))
    two = stax.serial(stax.Relu(), stax.Dense(1, 0.7))
    k1, k2 = (stax.serial(dense(), x)[2](X1, X2) for x in (one, two))
    k = branches(stax.FanInSum(), one, two)[2](X1, X2)
    for field in ALL:
        expected = getattr(k1, field) + getattr(k2, field)
        np.testing.assert_allclose(getattr(k, field), expected, rtol=1e-12)
    assert k.is_gaussian
    k = branches(stax.FanInProd(), one, two)[2](X1, X2)
    np.testing.assert_allclose(k.nngp, k1.nngp * k2.nngp, rtol=1e-12)
    np.testing.assert_allclose(k.ntk, k1.ntk * k2.nngp + k1.nngp * k2.ntk, rtol=1e-12)
    assert not k.is_gaussian
    with pytest.raises(NotImplementedError, match="`FanInSum`"):
        branches(stax.FanInSum(), stax.Erf(), stax.Relu())[2](X1, X2)
    with pytest.raises(ValueError, match="equal shapes"):
        branches(stax.FanInSum(), one, stax.serial(two, stax.Dense(2)))[2](X1, X2)
    with pytest.raises(ValueError, match="`parallel`"):
        stax.parallel(one, two)[1]([(), ()], X1)


def test_several_inputs():
    network = stax.serial(
        stax.parallel(stax.Dense(8), stax.serial(stax.Dense(8), stax.Relu(),
                                                 stax.Dense(8))),
        stax.FanInSum(),
    )  # fmt: skip
    y1, y2 = images(5, (3, 7)), images(6, (2, 7))
    k = network[2]([X1, y1], [X2, y2])
    a = stax.Dense(8)[2](X1, X2)
    b = stax.serial(stax.Dense(8), stax.Relu(), stax.Dense(8))[2](y1, y2)
    np.testing.assert_allclose(k.ntk, a.ntk + b.ntk, rtol=1e-12)
    shape, params = network[0](jax.random.PRNGKey(0), [X1.shape, y1.shape])
    assert network[1](params, [jnp.asarray(X1), jnp.asarray(y1)]).shape == shape
    both = stax.parallel(stax.Dense(8), stax.Dense(8))[2]((X1, y1), (X2, y2), "nngp")
    assert isinstance(both, tuple) and both[1].shape == (3, 2)
    with pytest.raises(ValueError, match="inputs"):
        network[2](X1, X2)


@pytest.mark.parametrize("axis", [0, 2, 3])
@pytest.mark.parametrize("diagonal_spatial", [True, False])
def test_fan_in_concat(axis, diagonal_spatial):
    """Independent branches: the kernel is that of the outputs put together."""
    ends = [stax.Dense(1, 1.3, 0.4), stax.Dense(1, 0.7)]
    network = branches(stax.FanInConcat(axis), *ends)
    k = network[2](I1, I2, diagonal_spatial=diagonal_spatial)
    k1, k2 = (
        stax.serial(dense(), e)[2](I1, I2, diagonal_spatial=diagonal_spatial)
        for e in ends
    )
    if axis == 3:
        np.testing.assert_allclose(k.ntk, (k1.ntk + k2.ntk) / 2, rtol=1e-12)
        assert not k.is_gaussian and k.shape1[3] == 2
        return
    parts = [k1, k2]
    n = I1.shape[axis]
    for i, j in itertools.product(range(2), range(2)):
        for field in ("nngp", "ntk"):
            x = getattr(k, field)
            if axis == 0:
                rows = slice(0, 2) if i == 0 else slice(2, 4)
                columns = slice(0, 3) if j == 0 else slice(3, 6)
                block = x[rows, columns]
            else:
                rows, columns = slice(i * n, i * n + n), slice(j * n, j * n + n)
                first = 1 + axis if diagonal_spatial else 2 * axis
                block = jnp.moveaxis(x, first, 0)[rows]
                if not diagonal_spatial:
                    block = jnp.moveaxis(block, first + 1, 1)[:, columns]
                    block = jnp.moveaxis(block, 1, first + 1)
                block = jnp.moveaxis(block, 0, first)
            if diagonal_spatial and axis and i != j:
                continue
            expected = getattr(parts[i], field) if i == j else 0 * block
            np.testing.assert_allclose(block, expected, rtol=1e-12)
    assert k.shape1[axis] == 2 * I1.shape[axis] and k.is_gaussian
    with pytest.raises(NotImplementedError, match="`FanInConcat`"):
        branches(stax.FanInConcat(axis), stax.Erf(), stax.Relu())[2](I1, I2)


def test_structural_layers_are_exact():
    check_linear(stax.Identity(), I1, I2)
    check_linear(stax.Flatten(), I1, I2)
    S = stax.Slice
    for idx in (S[..., ::2, :], S[:2, ::-1, 0, :]):
        check_linear(stax.Index(idx), I1, I2, out=(0, -1))
    for bad in (S[0], S[..., :2], S[..., 1]):
        with pytest.raises(NotImplementedError):
            stax.Index(bad)[2](I1, I2)
    with pytest.raises(ValueError, match="affine"):
        stax.serial(stax.Dense(1), stax.Flatten(), stax.Relu())[2](I1, I2)


def test_kernel_arithmetic():
    k = dense()[2](I1, I2)
    np.testing.assert_allclose((k * 3).ntk, 9 * k.ntk)
    np.testing.assert_allclose((k / 2).cov2, k.cov2 / 4)
    np.testing.assert_allclose((k + 2).nngp, k.nngp + 4)
    np.testing.assert_allclose((k + 2).ntk, k.ntk)
    assert_kernels_equal(-k, k, ALL)
    turned = k.transpose((1, 0))
    assert_kernels_equal(turned.transpose((1, 0)), k, ALL)
    assert_kernels_equal(turned, k.reverse(), ALL)
    assert set(k.asdict()) >= set(ALL) and len(k.astuple()) == len(k.asdict())


def test_dropout():
    """Entries are kept with the probability `rate`, and divided by it."""
    rate = 0.6
    _, apply_fn, kernel_fn = stax.Dropout(rate)
    keys = jax.random.split(jax.random.PRNGKey(0), 4000)
    x = jnp.asarray(I1)
    y = jax.vmap(lambda key: apply_fn((), x, rng=key))(keys)
    flat = y.reshape(4000, 2, 6, 3)
    estimate = jnp.einsum("nbic,ndjc->bdij", flat, flat) / 3 / 4000
    k = kernel_fn(x, x)
    expected = k.nngp.transpose(0, 1, 2, 4, 3, 5).reshape(2, 2, 6, 6)
    np.testing.assert_allclose(estimate, expected, atol=0.1)
    # exact: only what is between an entry and itself has changed
    plain = stax.Identity()[2](x, x)
    ratio = (k.nngp / plain.nngp).transpose(0, 1, 2, 4, 3, 5).reshape(2, 2, 6, 6)
    same = np.eye(2)[:, :, None, None] * np.eye(6)
    np.testing.assert_allclose(ratio, 1 + same * (1 / rate - 1), rtol=1e-12)
    other = kernel_fn(I1, I2)
    np.testing.assert_allclose(other.nngp, stax.Identity()[2](I1, I2).nngp)
    np.testing.assert_allclose(
        kernel_fn(X1, X2, "cov1"), stax.Identity()[2](X1, X2, "cov1") / rate
    )
    assert stax.Dropout(0.5, "test")[1]((), x) is x
    for bad in ({"rate": 0}, {"rate": 1.2}, {"rate": 0.5, "mode": "eval"}):
        with pytest.raises(ValueError):
            stax.Dropout(**bad)
    with pytest.raises(ValueError, match="rng"):
        apply_fn((), x)
    with pytest.raises(ValueError, match="affine"):
        stax.serial(stax.Dense(1), stax.Dropout(0.5), stax.Relu())[2](X1, X2)


def test_requirements_compose_associatively():
    every = [Diagonal(i, o) for i, o in itertools.product(Bool, Bool)]
    for a, b, c in itertools.product(every, every, every):
        assert (a >> b) >> c == a >> (b >> c)
        assert (a >> b) == (b << a)
    assert Diagonal() & Diagonal(Bool.NO, Bool.YES) == Diagonal(Bool.NO, Bool.NO)
    assert bool(Diagonal(Bool.YES, Bool.MAYBE)) and not bool(Diagonal())


def test_custom_layer():
    @stax.layer
    @stax.supports_masking(remask_kernel=False)
    def Twice():
        def init_fn(rng, input_shape):
            return input_shape, ()

        def apply_fn(params, inputs, **kwargs):
            return 2 * inputs

        @stax.requires(batch_axis=0, channel_axis=-1)
        def kernel_fn(k, **kwargs):
            return k * 2

        return init_fn, apply_fn, kernel_fn

    assert Twice.__name__ == "Twice"
    check_linear(Twice(), I1, I2)
    k = stax.serial(dense(), Twice(), stax.Erf())[2](X1, X2)
    ref = stax.serial(stax.Dense(1, 2.6, 0.8), stax.Erf())[2](X1, X2)
    np.testing.assert_allclose(k.nngp, ref.nngp, rtol=1e-12)
    with pytest.raises(TypeError, match="spatial"):
        stax.requires(spatial=True)


def test_jit_vmap_and_grad():
    kernel_fn = stax.serial(dense(), stax.Erf(), dense())[2]
    k = jax.jit(kernel_fn, static_argnames="get")(X1, X2, get=("nngp", "ntk"))
    np.testing.assert_allclose(k.ntk, kernel_fn(X1, X2, "ntk"), rtol=1e-12)
    stacked = jax.vmap(lambda a: kernel_fn(a, X2, "ntk"))(jnp.stack([X1, 2 * X1]))
    np.testing.assert_allclose(stacked[1], kernel_fn(2 * X1, X2, "ntk"), rtol=1e-12)

    @jax.jit
    def norm(W_std):  # hyper-parameters may be traced
        net = stax.serial(stax.Dense(1, W_std, 0.1), stax.Erf(), stax.Dense(1, W_std))
        return net[2](X1, X2, "ntk").sum()

    step = 1e-5
    slope = (norm(1.2 + step) - norm(1.2 - step)) / (2 * step)
    assert float(jax.jit(jax.grad(norm))(1.2)) == pytest.approx(float(slope), rel=1e-6)


@pytest.mark.parametrize("diagonal_batch", [True, False])
def test_samples_stay_with_themselves_in_chaos(diagonal_batch):
    """Rounding grows as gradients do, by 1e26 in these layers, and must not show."""
    w2, b2, depth = 4.0, 0.05, 120
    dense = stax.Dense(1, w2**0.5, b2**0.5)
    block = stax.repeat(stax.serial(stax.Erf(), dense), depth)
    k = stax.serial(dense, block)[2](X1, diagonal_batch=diagonal_batch)
    p = theta = w2 * np.sum(X1**2, 1) / 4 + b2
    for _ in range(depth):
        slope = w2 * 4 / np.pi / np.sqrt((1 + 2 * p) ** 2 - 4 * p**2)
        p = w2 * 2 / np.pi * np.arcsin(2 * p / (1 + 2 * p)) + b2
        theta = p + slope * theta
    np.testing.assert_allclose(np.diagonal(k.nngp), p, rtol=1e-12)
    np.testing.assert_allclose(np.diagonal(k.ntk), theta, rtol=1e-10)
    twice = np.concatenate([X1, X1])
    assert np.all(np.isfinite(stax.serial(dense, block)[2](twice, get="ntk")))


@pytest.mark.parametrize("diagonal_batch", [True, False])
def test_equal_batches_agree_with_one_in_chaos(diagonal_batch):
    dense = stax.Dense(1, 2.0, 0.2)
    block = stax.repeat(stax.serial(stax.Erf(), dense), 60)
    kernel_fn = stax.serial(dense, block)[2]
    one = kernel_fn(X1, diagonal_batch=diagonal_batch)
    two = kernel_fn(X1, np.array(X1), diagonal_batch=diagonal_batch)
    for a, b in ((one.nngp, two.nngp), (one.ntk, two.ntk)):
        np.testing.assert_allclose(np.diagonal(b), np.diagonal(a), rtol=1e-10)


def test_equal_batches_are_two_in_derivatives():
    """By symmetry either batch has half of the derivative along both."""
    dense = stax.Dense(1, 1.5, 0.2)
    kernel_fn = stax.serial(dense, stax.Erf(), dense)[2]

    def own(x1, x2):
        return jnp.trace(kernel_fn(x1, x2, get="ntk"))

    x = jnp.asarray(X1)
    first, second = jax.jit(jax.grad(own, (0, 1)))(x, jnp.array(x))
    whole = jax.jit(jax.grad(lambda x: own(x, None)))(x)
    np.testing.assert_allclose(first, whole / 2, rtol=1e-12)
    np.testing.assert_allclose(second, whole / 2, rtol=1e-12)
