"""A masked batch gives what its cropped samples give."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_md.wide import stax
from tests.wide.stax.oracle import images

FULL = images(0, (2, 6, 3))
OTHER = images(1, (1, 6, 3))
SIZES = (4, 6)


def slow(*values, **options):
    return pytest.param(*values, marks=pytest.mark.slow, **options)


def masked(x, constant):
    x = np.array(x)
    x[0, SIZES[0] :] = constant
    return x


def conv(**options):
    return stax.Conv(1, (3,), None, "SAME", 1.2, 0.3, **options)


NETWORKS = {
    "conv": [stax.Conv(1, (3,), None, "SAME", 1.2, 0.3), stax.Erf(),
             stax.Conv(1, (3,), None, "SAME", 1.2, 0.3), stax.GlobalSumPool()],
    "dense": [stax.Dense(1, 1.2, 0.3), stax.Relu(), stax.Dense(1, 1.1, 0.2),
              stax.GlobalAvgPool()],
    "strided": [stax.Conv(1, (2,), (2,), "VALID", 1.2, 0.3), stax.Gelu(),
                stax.Dense(1), stax.GlobalAvgPool()],
    "transpose": [stax.ConvTranspose(1, (2,), (2,), "SAME", 1.2, 0.3), stax.Relu(),
                  stax.Dense(1, b_std=1.0), stax.GlobalAvgPool()],
    "norm": [stax.Dense(1, 1.2, 0.3), stax.LayerNorm((1, 2)), stax.Relu(),
             stax.GlobalAvgPool()],
    "attention": [stax.Dense(1, 1.2, 0.3),
                  stax.GlobalSelfAttention(1, 4, 4, 2, b_std=0.3, val_pos_emb=True,
                                           pos_emb_type="SUM"),
                  stax.Relu(), stax.GlobalAvgPool()],
    "random attention": [stax.Dense(1, 1.2, 0.3),
                         stax.GlobalSelfAttention(1, 4, 4, 2, linear_scaling=False,
                                                  attention_mechanism="IDENTITY"),
                         stax.GlobalAvgPool()],
    "branches": [stax.Dense(1, 1.2, 0.3), stax.FanOut(2),
                 stax.parallel(stax.Identity(), stax.serial(stax.Erf(), stax.Dense(1))),
                 stax.FanInSum(), stax.Relu(), stax.GlobalAvgPool()],
    "dot": [stax.Dense(1, 1.2, 0.3), stax.DotGeneral(lhs=np.array([1.0, -2.0])),
            stax.GlobalAvgPool(1)],
}  # fmt: skip


FAST = ("conv", "norm", "attention", "random attention", "dot")


@pytest.mark.parametrize("name", [n if n in FAST else slow(n) for n in NETWORKS])
def test_masked_kernel_is_that_of_the_cropped_inputs(name):
    kernel_fn = stax.serial(*NETWORKS[name])[2]

    @jax.jit
    def kernels(full, first, second, other):
        k = kernel_fn(full, other, mask_constant=jnp.nan)
        return k, kernel_fn(first, other[:, : SIZES[0]]), kernel_fn(second, other)

    # `other` is masked too, to the size of the first sample
    k, first, _ = kernels(
        masked(FULL, np.nan), FULL[:1, : SIZES[0]], FULL[1:], masked(OTHER, np.nan)
    )
    _, _, second = kernels(masked(FULL, np.nan), FULL[:1, : SIZES[0]], FULL[1:], OTHER)
    whole = jax.jit(lambda a, b: kernel_fn(a, b, mask_constant=jnp.nan))(
        masked(FULL, np.nan), OTHER
    )
    np.testing.assert_allclose(k.nngp[:1], first.nngp, rtol=1e-10)
    np.testing.assert_allclose(k.ntk[:1], first.ntk, rtol=1e-10)
    np.testing.assert_allclose(k.cov1[:1], first.cov1, rtol=1e-10)
    np.testing.assert_allclose(whole.nngp[1:], second.nngp, rtol=1e-10)
    np.testing.assert_allclose(whole.ntk[1:], second.ntk, rtol=1e-10)


@pytest.mark.parametrize("name", ["conv", slow("attention")])
@pytest.mark.parametrize("constant", [np.nan, 100.0])
def test_masked_network_is_that_of_the_cropped_inputs(name, constant):
    init_fn, apply_fn, _ = stax.serial(*NETWORKS[name])
    _, params = init_fn(jax.random.PRNGKey(0), FULL.shape)
    out = apply_fn(params, masked(FULL, constant), mask_constant=constant)
    assert isinstance(out, stax.MaskedArray)
    if name == "attention":  # embeddings belong to positions
        noise = params[1][-1][:, : SIZES[0]]
        params = [*params]
        cropped = [*params]
        cropped[1] = (*params[1][:-1], noise)
    else:
        cropped = params
    first = apply_fn(cropped, jnp.asarray(FULL[:1, : SIZES[0]]))
    second = apply_fn(params, jnp.asarray(FULL[1:]))
    np.testing.assert_allclose(out.masked_value[:1], first, rtol=1e-10)
    np.testing.assert_allclose(out.masked_value[1:], second, rtol=1e-10)
    plain = stax.unmask_fn(apply_fn)(
        params, masked(FULL, constant), mask_constant=constant
    )
    assert isinstance(plain, jax.Array)


@pytest.mark.parametrize(
    "layer",
    [
        slow(stax.Conv(1, (3,), None, "SAME", 1.2, 0.3)),
        slow(stax.Conv(1, (3,), (2,), "CIRCULAR", 1.2, 0.3)),
        stax.ConvTranspose(1, (3,), (2,), "CIRCULAR", 1.2, 0.3),
        slow(stax.ConvLocal(1, (2,), None, "VALID", 1.2, 0.3)),
    ],
    ids=["same", "circular", "transpose", "local"],
)
def test_masked_convolutions_are_exact(layer):
    """Networks and kernels mask the same outputs, and agree in the others."""
    init_fn, apply_fn, kernel_fn = layer
    x = masked(FULL, np.nan)
    _, params = init_fn(jax.random.PRNGKey(0), x.shape)

    def out(p):
        return stax.unmask_fn(apply_fn)(p, x, mask_constant=jnp.nan)[..., 0]

    jacobian = jax.tree.leaves(jax.jit(jax.jacrev(out))(params))
    flat = [j.reshape(j.shape[:2] + (-1,)) for j in jacobian]
    expected = sum(jnp.einsum("naz,mbz->nmab", j, j) for j in flat)
    options = {"diagonal_spatial": False, "mask_constant": jnp.nan}
    k = jax.jit(lambda x: kernel_fn(x, None, **options))(x)
    np.testing.assert_allclose(k.nngp, expected, rtol=1e-10, atol=1e-12)
    mask = apply_fn(params, x, mask_constant=jnp.nan).mask
    np.testing.assert_array_equal(k.mask1, mask)


@pytest.mark.parametrize(
    "layer",
    [
        stax.AvgPool((2,), None, "SAME"),
        slow(stax.SumPool((3,), (2,), "CIRCULAR")),
        slow(stax.GlobalSumPool()),
        stax.GlobalAvgPool(),
        stax.Flatten(),
        slow(stax.ImageResize((-1, 4, -1), "linear")),
        slow(stax.Index(stax.Slice[:, 1:])),
        stax.DotGeneral(rhs=images(4, (6, 2)),
                        dimension_numbers=(((1,), (0,)), ((), ()))),
    ],
    ids=["average", "sum", "global sum", "global average", "flat", "resize", "index",
         "dot"],
)  # fmt: skip
def test_masked_linear_layers_are_exact(layer):
    _, apply_fn, kernel_fn = layer
    x = masked(FULL, np.nan)
    y = apply_fn((), x, mask_constant=jnp.nan)
    options = {"diagonal_spatial": False, "mask_constant": jnp.nan}
    k = jax.jit(lambda x: kernel_fn(x, None, **options))(x)
    plain = stax.Index(..., k.batch_axis, k.channel_axis)[2]
    expected = plain(y.filled(), None, "nngp", diagonal_spatial=False)
    np.testing.assert_allclose(k.nngp, expected, rtol=1e-10, atol=1e-12)
    assert jnp.broadcast_to(y.mask, y.shape).shape == k.shape1


def test_masks_and_zeros():
    layer = stax.serial(stax.Dense(2, 1.0, 1.0), stax.Cos())
    _, params = layer[0](jax.random.PRNGKey(0), FULL.shape)
    out = layer[1](params, masked(FULL, 5.0), mask_constant=5.0)
    assert out.mask.shape == (2, 6, 1) and bool(out.mask[0, 4:].all())
    np.testing.assert_array_equal(stax.unmask_fn(lambda: out)()[0, 4:], 0)
    options = {"diagonal_spatial": False, "mask_constant": 5.0}
    k = jax.jit(lambda x: layer[2](x, None, **options))(masked(FULL, 5.0))
    np.testing.assert_array_equal(k.nngp[0, :, 4:], 0)
    np.testing.assert_array_equal(k.cov1[0, :, 4:], 0)
    assert k.mask1.shape == (2, 6, 1)
    total = jax.jit(
        jax.grad(lambda x: layer[2](x, None, "ntk", mask_constant=5.0).sum())
    )
    gradient = total(jnp.asarray(masked(FULL, 5.0)))
    assert bool(jnp.all(jnp.isfinite(gradient)))
    np.testing.assert_array_equal(gradient[0, 4:], 0)
