"""Exact oracles for layers that are linear in inputs and parameters."""

import jax
import jax.numpy as jnp
import numpy as np

from jax_md.wide import layout, stax

FIELDS = ("nngp", "cov1", "cov2")


def rng(seed):
    return np.random.default_rng(seed)


def images(seed, shape):
    return rng(seed).normal(size=shape)


def assert_kernels_equal(a, b, fields=FIELDS, rtol=1e-11):
    for field in fields:
        x, y = getattr(a, field), getattr(b, field)
        assert (x is None) == (y is None), field
        if x is not None:
            assert x.shape == y.shape, field
            np.testing.assert_allclose(x, y, rtol=rtol, atol=1e-12, err_msg=field)


def check_linear(layer, x1, x2, batch_axis=0, channel_axis=-1, out=None, **kwargs):
    """A layer without weights maps K(x, x') to K(A x, A x'), channel by channel."""
    _, apply_fn, kernel_fn = layer
    out = out or (batch_axis, channel_axis)
    k1 = {k: v[0] for k, v in kwargs.items()}
    k2 = {k: v[1] for k, v in kwargs.items()}
    y1, y2 = apply_fn((), jnp.asarray(x1), **k1), apply_fn((), jnp.asarray(x2), **k2)
    # `Index` of everything declares the axes and does nothing else
    plain = stax.Index(..., *out)[2]
    for diagonal_batch in (True, False):
        k = kernel_fn(
            x1, x2, diagonal_batch=diagonal_batch, diagonal_spatial=False, **kwargs
        )
        expected = plain(y1, y2, diagonal_batch=diagonal_batch, diagonal_spatial=False)
        assert_kernels_equal(k, expected)
        assert k.shape1 == y1.shape and k.shape2 == y2.shape
        assert (k.batch_axis, k.channel_axis) == (
            expected.batch_axis, expected.channel_axis
        )  # fmt: skip
    alone = kernel_fn(x1, None, diagonal_spatial=False, **kwargs)
    assert alone.cov2 is None
    return k


def check_affine(layer, x1, x2, channel_axis=-1, order=None, **options):
    """The outputs are linear in the parameters: K is the sum of squared Jacobians."""
    init_fn, apply_fn, kernel_fn = layer
    shape, params = init_fn(jax.random.PRNGKey(0), x1.shape)
    assert shape[channel_axis] == 1

    def rows(x):
        out = lambda p: apply_fn(p, jnp.asarray(x))  # noqa: E731
        y = out(params)
        assert y.shape == init_fn(jax.random.PRNGKey(0), x.shape)[0]
        jacobian = jax.jacrev(out)(params)
        flat = [j.reshape(y.shape + (-1,)) for j in jax.tree.leaves(jacobian)]
        flat = [jnp.moveaxis(j, channel_axis - 1, -2).squeeze(-2) for j in flat]
        if order is not None:
            flat = [j.transpose((*order, j.ndim - 1)) for j in flat]
        return flat

    def product(a, b, scales):
        n = a[0].ndim - 2
        total = 0
        for x, y, scale in zip(a, b, scales, strict=True):
            total = total + scale * jnp.tensordot(x, y, (-1, -1))
        return layout.interleave(jnp.moveaxis(total, n + 1, 1), 2)

    r1, r2 = rows(x1), rows(x2)
    ones = [1.0] * len(r1)
    scales = options.pop("variances", ones)
    k = kernel_fn(x1, x2, diagonal_batch=False, diagonal_spatial=False)
    for field, a, b in (("nngp", r1, r2), ("cov1", r1, r1), ("cov2", r2, r2)):
        np.testing.assert_allclose(
            getattr(k, field), product(a, b, scales), rtol=1e-10, atol=1e-12
        )
    np.testing.assert_allclose(k.ntk, product(r1, r2, ones), rtol=1e-10, atol=1e-12)
    check_diagonals(kernel_fn, x1, x2)


def check_diagonals(kernel_fn, x1, x2):
    """What is kept of a kernel does not depend on what else is kept."""
    full = kernel_fn(x1, x2, diagonal_batch=False, diagonal_spatial=False)
    diagonal = kernel_fn(x1, x2, diagonal_spatial=True)
    assert diagonal.diagonal_spatial and diagonal.diagonal_batch
    for field in ("nngp", "ntk"):
        np.testing.assert_allclose(
            getattr(diagonal, field),
            layout.spatial_diagonal(getattr(full, field), 2),
            rtol=1e-12,
            atol=1e-13,
        )
    for field in ("cov1", "cov2"):
        np.testing.assert_allclose(
            getattr(diagonal, field),
            layout.variance(getattr(full, field), False, False),
            rtol=1e-12,
            atol=1e-13,
        )
