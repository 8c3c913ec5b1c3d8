"""Convolutions and pooling against exact Jacobians, shapes against JAX's own."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jax_md.wide import layout, stax
from tests.wide.stax.oracle import check_affine, check_diagonals, check_linear, images

X1, X2 = images(0, (2, 5, 4, 3)), images(1, (3, 5, 4, 3))
CONVS = {
    "Conv": stax.Conv,
    "ConvTranspose": stax.ConvTranspose,
    "ConvLocal": stax.ConvLocal,
}


@pytest.mark.parametrize(
    "name,padding",
    [
        ("Conv", "VALID"),
        ("Conv", "SAME"),
        ("Conv", "CIRCULAR"),
        ("ConvTranspose", "SAME"),
        ("ConvTranspose", "CIRCULAR"),
        ("ConvLocal", "CIRCULAR"),
    ],
)
def test_conv_kernel_is_exact(name, padding):
    layer = CONVS[name](1, (3, 2), (2, 1), padding, 1.3, 0.4)
    check_affine(layer, X1, X2)


@pytest.mark.parametrize("name", ["Conv", "ConvLocal"])
def test_conv_standard_parameterization(name):
    layer = CONVS[name](
        1, (3, 2), None, "SAME", 1.3, 0.4, parameterization="standard", s=(3, 1)
    )
    variances = [1.3**2 * 3 / (3 * 6), 0.4**2]
    check_affine(layer, X1, X2, variances=variances)


def test_conv_without_bias_in_one_dimension():
    layer = stax.Conv(1, (2,), (2,), "SAME", 0.7)
    check_affine(layer, images(0, (2, 5, 3)), images(1, (1, 5, 3)))


@pytest.mark.parametrize("name", ["Conv", "ConvTranspose"])
def test_conv_axes_in_any_order(name):
    numbers = ("CWNH", "HIWO", "WCHN")
    layer = CONVS[name](1, (3, 2), (2, 1), "SAME", 1.3, 0.4, numbers)
    x1, x2 = X1.transpose(3, 2, 0, 1), X2.transpose(3, 2, 0, 1)
    # the outputs have positions (W, H) and the batch last
    check_affine(layer, x1, x2, channel_axis=-3, order=(2, 0, 1))


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
@pytest.mark.parametrize("size,stride", [(3, 1), (3, 2), (2, 3)])
def test_conv_transpose_is_that_of_jax(size, stride, padding):
    init_fn, apply_fn, _ = stax.ConvTranspose(2, (size,), (stride,), padding)
    x = jnp.asarray(images(0, (2, 5, 3)))
    shape, (W, _) = init_fn(jax.random.PRNGKey(0), x.shape)
    out = apply_fn((W, None), x)
    ref = lax.conv_transpose(
        x, W, (stride,), padding, dimension_numbers=("NWC", "WIO", "NWC")
    )
    assert out.shape == shape
    np.testing.assert_allclose(out, ref / np.sqrt(3 * size), rtol=1e-12)


@pytest.mark.parametrize("size,stride", [(3, 1), (5, 2)])
def test_circular_transpose_is_the_transpose_of_circular_conv(size, stride):
    init_fn, apply_fn, _ = stax.Conv(3, (size,), (stride,), "CIRCULAR")
    x = jnp.asarray(images(0, (2, 6, 3)))
    _, (W, _) = init_fn(jax.random.PRNGKey(0), x.shape)
    y, vjp = jax.vjp(lambda x: apply_fn((W, None), x), x)
    transpose = stax.ConvTranspose(3, (size,), (stride,), "CIRCULAR")[1]
    flipped = W[::-1].transpose(0, 2, 1)
    z = jnp.asarray(images(3, y.shape))
    np.testing.assert_allclose(transpose((flipped, None), z), vjp(z)[0], rtol=1e-10)


def test_local_conv_equals_conv_where_diagonals_matter():
    def kernel_fn(conv):
        return stax.serial(
            conv(1, (3, 3), None, "SAME", 1.1, 0.2), stax.Relu(),
            conv(1, (2, 2), None, "VALID", 1.1, 0.2), stax.Erf(), stax.Flatten(),
        )[2]  # fmt: skip

    a, b = (jax.jit(kernel_fn(c))(X1, X2) for c in (stax.Conv, stax.ConvLocal))
    np.testing.assert_allclose(a.nngp, b.nngp, rtol=1e-12)
    np.testing.assert_allclose(a.ntk, b.ntk, rtol=1e-12)


@pytest.mark.parametrize(
    "layer",
    [
        stax.AvgPool((2, 3)),
        stax.AvgPool((2, 3), (2, 1), "SAME"),
        stax.AvgPool((3, 3), (1, 2), "SAME", normalize_edges=True),
        stax.AvgPool((3, 2), (2, 1), "CIRCULAR"),
        stax.SumPool((2, 2), (2, 2)),
        stax.SumPool((3, 3), None, "SAME"),
        stax.GlobalAvgPool(),
        stax.GlobalSumPool(),
    ],
    ids=str,
)
def test_pooling_is_exact(layer):
    check_linear(layer, X1, X2)


def test_average_pool_is_that_of_jax():
    x = jnp.asarray(X1)
    out = stax.AvgPool((3, 2), (2, 1), "SAME", normalize_edges=True)[1]((), x)
    args = (lax.add, (1, 3, 2, 1), (1, 2, 1, 1), "SAME")
    total = lax.reduce_window(x, 0.0, *args)
    count = lax.reduce_window(jnp.ones_like(x), 0.0, *args)
    np.testing.assert_allclose(out, total / count, rtol=1e-12)


def test_axes_in_any_place():
    x1, x2 = X1.transpose(3, 1, 0, 2), X2.transpose(3, 1, 0, 2)
    for layer in (stax.GlobalAvgPool(2, 0), stax.GlobalSumPool(2, 0)):
        check_linear(layer, x1, x2, 2, 0, out=(1, 0))
    check_linear(stax.AvgPool((2, 2), None, "VALID", False, 2, 0), x1, x2, 2, 0)
    check_linear(stax.Flatten(2), x1, x2, out=(0, 1))
    check_linear(stax.Flatten(2, 1), x1, x2, out=(1, 0))
    with pytest.raises(ValueError, match="`channel_axis`"):
        stax.serial(stax.AvgPool((2, 2), batch_axis=2, channel_axis=0),
                    stax.GlobalAvgPool(2, 1))[2](x1, x2)  # fmt: skip


def test_local_conv_and_pooling_need_diagonals_only():
    layers = [stax.ConvLocal(1, (3, 3), None, "SAME", 1.1, 0.2), stax.Relu(),
              stax.ConvLocal(1, (3, 2), (2, 1), "SAME", 1.1, 0.2)]  # fmt: skip
    for pools in ([stax.GlobalAvgPool()], [stax.AvgPool((2, 2)), stax.GlobalSumPool()]):
        kernel_fn = stax.serial(*layers, pools[0])[2]
        full = jax.jit(partial(kernel_fn, diagonal_spatial=False))(X1, X2)
        if len(pools) == 1:
            assert kernel_fn.requirement.diagonal_spatial
            auto = jax.jit(kernel_fn)(X1, X2)
            np.testing.assert_allclose(auto.nngp, full.nngp, rtol=1e-12)
            np.testing.assert_allclose(auto.ntk, full.ntk, rtol=1e-12)
        else:  # overlapping windows correlate
            assert not stax.serial(*layers, *pools)[2].requirement.diagonal_spatial


def test_networks_choose_their_own_layout():
    conv = stax.serial(stax.Conv(1, (3, 3), None, "SAME", 1.2, 0.1), stax.Relu())
    flat = stax.serial(conv, conv, stax.Flatten(), stax.Dense(1))[2]
    pooled = stax.serial(conv, conv, stax.GlobalAvgPool(), stax.Dense(1))[2]
    assert flat.requirement.diagonal_spatial
    assert not pooled.requirement.diagonal_spatial
    a, b = (jax.jit(partial(flat, diagonal_spatial=d))(X1, X2) for d in (None, False))
    np.testing.assert_allclose(a.ntk, b.ntk, rtol=1e-12)
    np.testing.assert_allclose(a.nngp, b.nngp, rtol=1e-12)
    with pytest.raises(ValueError, match="`diagonal_spatial"):
        pooled(X1, X2, diagonal_spatial=True)
    body = stax.serial(conv, conv)[2]
    check_diagonals(body, X1, X2)


def test_global_average_is_invariant_to_shifts_and_flattening_is_not():
    def network(last):
        conv = stax.Conv(1, (3, 3), None, "CIRCULAR", 1.4, 0.1)
        return jax.jit(stax.serial(conv, stax.Relu(), conv, stax.Relu(), last)[2])

    shifted = np.roll(X1, (1, 2), (1, 2))
    pooled, flat = network(stax.GlobalAvgPool()), network(stax.Flatten())
    a, b = pooled(X1, X2), pooled(shifted, X2)
    np.testing.assert_allclose(a.ntk, b.ntk, rtol=1e-10)
    np.testing.assert_allclose(a.nngp, b.nngp, rtol=1e-10)
    assert np.abs(flat(X1, X2).ntk / flat(shifted, X2).ntk - 1).max() > 1e-3


def test_shapes_and_errors():
    shape, _ = stax.Conv(7, (3, 3), (2, 2), "SAME")[0](
        jax.random.PRNGKey(0), (-1, 9, 8, 3)
    )
    assert shape == (-1, 5, 4, 7)
    with pytest.raises(ValueError, match="does not fit"):
        stax.Conv(7, (11, 3))[0](jax.random.PRNGKey(0), (1, 9, 8, 3))
    with pytest.raises(ValueError, match="`padding`"):
        stax.Conv(7, (3, 3), padding="HALF")
    with pytest.raises(ValueError, match="`dimension_numbers`"):
        stax.Conv(7, (3, 3), dimension_numbers=("NHWC", "HWIO", "NHCC"))
    with pytest.raises(ValueError, match="`strides`"):
        stax.AvgPool((3, 3), (1,))
    with pytest.raises(ValueError, match="`window_shape`"):
        stax.AvgPool((3,))[1]((), jnp.asarray(X1))
    k = stax.Conv(1, (3, 3))[2](X1, X2, diagonal_spatial=False)
    assert k.nngp.shape == (2, 3, 3, 3, 2, 2)
    assert layout.spatial_diagonal(k.nngp, 2).shape == (2, 3, 3, 2)
