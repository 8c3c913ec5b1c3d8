"""Convolutions and pooling against exact Jacobians, shapes against JAX's own."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jax_md.wide import layout, stax
from jax_md.wide.stax import windows
from tests.wide.stax.oracle import check_affine, check_diagonals, check_linear, images

X1, X2 = images(0, (2, 5, 4, 3)), images(1, (3, 5, 4, 3))
CONVS = {
    "Conv": stax.Conv,
    "ConvTranspose": stax.ConvTranspose,
    "ConvLocal": stax.ConvLocal,
}


def slow(*values, **options):
    return pytest.param(*values, marks=pytest.mark.slow, **options)


@pytest.mark.parametrize(
    "name,padding",
    [
        slow("Conv", "VALID"),
        ("Conv", "SAME"),
        slow("Conv", "CIRCULAR"),
        ("ConvTranspose", "SAME"),
        slow("ConvTranspose", "CIRCULAR"),
        ("ConvLocal", "CIRCULAR"),
    ],
)
def test_conv_kernel_is_exact(name, padding):
    layer = CONVS[name](1, (3, 2), (2, 1), padding, 1.3, 0.4)
    check_affine(layer, X1, X2)


@pytest.mark.parametrize("name", ["Conv", slow("ConvLocal")])
def test_conv_standard_parameterization(name):
    layer = CONVS[name](
        1, (3, 2), None, "SAME", 1.3, 0.4, parameterization="standard", s=(3, 1)
    )
    variances = [1.3**2 * 3 / (3 * 6), 0.4**2]
    check_affine(layer, X1, X2, variances=variances)


@pytest.mark.slow
def test_conv_without_bias_in_one_dimension():
    layer = stax.Conv(1, (2,), (2,), "SAME", 0.7)
    check_affine(layer, images(0, (2, 5, 3)), images(1, (1, 5, 3)))


@pytest.mark.parametrize("name", ["Conv", slow("ConvTranspose")])
def test_conv_axes_in_any_order(name):
    numbers = ("CWNH", "HIWO", "WCHN")
    layer = CONVS[name](1, (3, 2), (2, 1), "SAME", 1.3, 0.4, numbers)
    x1, x2 = X1.transpose(3, 2, 0, 1), X2.transpose(3, 2, 0, 1)
    # the outputs have positions (W, H) and the batch last
    check_affine(layer, x1, x2, channel_axis=-3, order=(2, 0, 1))


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
@pytest.mark.parametrize("size,stride", [slow(3, 1), (3, 2), (2, 3)])
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


@pytest.mark.parametrize("size,stride", [slow(3, 1), (5, 2)])
def test_circular_transpose_is_the_transpose_of_circular_conv(size, stride):
    init_fn, apply_fn, _ = stax.Conv(3, (size,), (stride,), "CIRCULAR")
    x = jnp.asarray(images(0, (2, 6, 3)))
    _, (W, _) = init_fn(jax.random.PRNGKey(0), x.shape)
    y, vjp = jax.vjp(lambda x: apply_fn((W, None), x), x)
    transpose = stax.ConvTranspose(3, (size,), (stride,), "CIRCULAR")[1]
    flipped = W[::-1].transpose(0, 2, 1)
    z = jnp.asarray(images(3, y.shape))
    np.testing.assert_allclose(transpose((flipped, None), z), vjp(z)[0], rtol=1e-10)


@pytest.mark.slow
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
        slow(stax.AvgPool((2, 3)), id="average"),
        slow(stax.AvgPool((2, 3), (2, 1), "SAME"), id="average same"),
        pytest.param(
            stax.AvgPool((3, 3), (1, 2), "SAME", normalize_edges=True), id="edges"
        ),
        pytest.param(stax.AvgPool((3, 2), (2, 1), "CIRCULAR"), id="circular"),
        slow(stax.SumPool((2, 2), (2, 2)), id="sum"),
        slow(stax.SumPool((3, 3), None, "SAME"), id="sum same"),
        pytest.param(stax.GlobalAvgPool(), id="global average"),
        pytest.param(stax.GlobalSumPool(), id="global sum"),
    ],
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


@pytest.mark.parametrize(
    "layer,axes,out",
    [
        pytest.param(stax.GlobalAvgPool(2, 0), (2, 0), (1, 0), id="average"),
        slow(stax.GlobalSumPool(2, 0), (2, 0), (1, 0), id="sum"),
        slow(
            stax.AvgPool((2, 2), None, "VALID", False, 2, 0), (2, 0), None, id="windows"
        ),
        slow(stax.Flatten(2), (), (0, 1), id="flat"),
        pytest.param(stax.Flatten(2, 1), (), (1, 0), id="flat, batch last"),
    ],
)
def test_axes_in_any_place(layer, axes, out):
    x1, x2 = X1.transpose(3, 1, 0, 2), X2.transpose(3, 1, 0, 2)
    check_linear(layer, x1, x2, *axes, out=out)


def test_axes_that_differ_are_refused():
    x1, x2 = X1.transpose(3, 1, 0, 2), X2.transpose(3, 1, 0, 2)
    with pytest.raises(ValueError, match="`channel_axis`"):
        stax.serial(stax.AvgPool((2, 2), batch_axis=2, channel_axis=0),
                    stax.GlobalAvgPool(2, 1))[2](x1, x2)  # fmt: skip


def test_local_conv_and_pooling_need_diagonals_only():
    layers = [stax.ConvLocal(1, (3, 3), None, "SAME", 1.1, 0.2), stax.Relu(),
              stax.ConvLocal(1, (3, 2), (2, 1), "SAME", 1.1, 0.2)]  # fmt: skip
    # overlapping windows correlate
    overlap = stax.serial(*layers, stax.AvgPool((2, 2)), stax.GlobalSumPool())[2]
    assert not overlap.requirement.diagonal_spatial
    kernel_fn = stax.serial(*layers, stax.GlobalAvgPool())[2]
    assert kernel_fn.requirement.diagonal_spatial
    full = jax.jit(partial(kernel_fn, diagonal_spatial=False))(X1, X2)
    auto = jax.jit(kernel_fn)(X1, X2)
    np.testing.assert_allclose(auto.nngp, full.nngp, rtol=1e-12)
    np.testing.assert_allclose(auto.ntk, full.ntk, rtol=1e-12)


def test_networks_choose_their_own_layout():
    conv = stax.serial(stax.Conv(1, (3, 3), None, "SAME", 1.2, 0.1), stax.Relu())
    flat = stax.serial(conv, conv, stax.Flatten(), stax.Dense(1))[2]
    pooled = stax.serial(conv, conv, stax.GlobalAvgPool(), stax.Dense(1))[2]
    assert flat.requirement.diagonal_spatial
    assert not pooled.requirement.diagonal_spatial
    with pytest.raises(ValueError, match="`diagonal_spatial"):
        pooled(X1, X2, diagonal_spatial=True)


@pytest.mark.slow
def test_kernels_do_not_depend_on_the_layout():
    conv = stax.serial(stax.Conv(1, (3, 3), None, "SAME", 1.2, 0.1), stax.Relu())
    flat = stax.serial(conv, conv, stax.Flatten(), stax.Dense(1))[2]
    a, b = (jax.jit(partial(flat, diagonal_spatial=d))(X1, X2) for d in (None, False))
    np.testing.assert_allclose(a.ntk, b.ntk, rtol=1e-12)
    np.testing.assert_allclose(a.nngp, b.nngp, rtol=1e-12)
    body = stax.serial(conv, conv)[2]
    check_diagonals(body, X1, X2)


@pytest.mark.parametrize("padding", ["VALID", "SAME", "CIRCULAR"])
def test_windows_along_several_axes_are_windows_along_each(padding):
    kind = windows.as_padding(padding)
    for sizes, strides in (((3, 3), (1, 2)), ((4, 3), (2, 1))):  # in one pass, and not
        steps = [
            windows.window(n, size, stride, kind)
            for n, size, stride in zip(X1.shape[1:3], sizes, strides, strict=True)
        ]
        each = windows.window_sum(windows.window_sum(X1, 1, steps[0]), 2, steps[1])
        both = windows.window_sums(X1, (1, 2), steps)
        np.testing.assert_allclose(both, each, rtol=1e-12)


@pytest.mark.slow  # and so compiled as it is outside of the tests
@pytest.mark.skipif(
    jax.__version_info__ < (0, 12), reason="The compiler ignores barriers."
)
def test_covariances_take_the_place_of_those_before():
    """Besides both kernels there is room for a padded one, 10 x 10 of 8 x 8 pixels."""
    conv = stax.serial(stax.Conv(1, (3, 3), None, "SAME", 1.2, 0.1), stax.Relu())
    kernel_fn = stax.serial(conv, conv, conv, stax.Flatten(), stax.Dense(1))[2]
    x = images(0, (64, 8, 8, 1))
    program = jax.jit(partial(kernel_fn, get=("nngp", "ntk"))).lower(x).compile()
    one = 64**2 * 8**2 * x.dtype.itemsize
    assert program.memory_analysis().temp_size_in_bytes < 4 * one


@pytest.mark.slow
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
    kernel_fn = partial(stax.Conv(1, (3, 3))[2], diagonal_spatial=False)
    k = jax.eval_shape(kernel_fn, X1, X2)
    assert k.nngp.shape == (2, 3, 3, 3, 2, 2)
    diagonal = jax.eval_shape(lambda x: layout.spatial_diagonal(x, 2), k.nngp)
    assert diagonal.shape == (2, 3, 3, 2)
