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
    # `Index` of everything declares the axes and does nothing else
    plain = stax.Index(..., *(out or (batch_axis, channel_axis)))[2]

    @jax.jit  # one compilation instead of one for every operation
    def both(x1, x2, kwargs):
        y1 = apply_fn((), x1, **{k: v[0] for k, v in kwargs.items()})
        y2 = apply_fn((), x2, **{k: v[1] for k, v in kwargs.items()})
        pairs = []
        for diagonal_batch in (True, False):
            options = {"diagonal_batch": diagonal_batch, "diagonal_spatial": False}
            pairs.append(
                (kernel_fn(x1, x2, **options, **kwargs), plain(y1, y2, **options))
            )
        return pairs, y1, y2

    pairs, y1, y2 = both(jnp.asarray(x1), jnp.asarray(x2), kwargs)
    for k, expected in pairs:
        assert_kernels_equal(k, expected)
        assert k.shape1 == y1.shape and k.shape2 == y2.shape
        assert (k.batch_axis, k.channel_axis) == (
            expected.batch_axis, expected.channel_axis
        )  # fmt: skip
    return pairs[0][0]


def check_affine(layer, x1, x2, channel_axis=-1, order=None, variances=None):
    """The outputs are linear in the parameters: K is the sum of squared Jacobians."""
    init_fn, apply_fn, kernel_fn = layer
    shape, params = init_fn(jax.random.PRNGKey(0), x1.shape)
    assert shape[channel_axis] == 1

    def rows(x):
        def out(p):
            return apply_fn(p, x)

        y = jax.eval_shape(out, params)
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

    @jax.jit
    def everything(x1, x2):
        r1, r2 = rows(x1), rows(x2)
        ones = [1.0] * len(r1)
        scales = variances or ones
        return (
            product(r1, r2, scales),
            product(r1, r1, scales),
            product(r2, r2, scales),
            product(r1, r2, ones),
            layouts(kernel_fn, x1, x2),
        )

    nngp, cov1, cov2, ntk, (full, *rest) = everything(x1, x2)
    for got, expected in (
        (full.nngp, nngp), (full.cov1, cov1), (full.cov2, cov2), (full.ntk, ntk)
    ):  # fmt: skip
        np.testing.assert_allclose(got, expected, rtol=1e-10, atol=1e-12)
    assert_same_diagonals(*rest)


def layouts(kernel_fn, x1, x2):
    """Return a kernel with everything, that of diagonals, and the diagonals of all."""
    full = kernel_fn(x1, x2, diagonal_batch=False, diagonal_spatial=False)
    expected = {
        f: layout.spatial_diagonal(getattr(full, f), 2) for f in ("nngp", "ntk")
    }
    for f in ("cov1", "cov2"):
        expected[f] = layout.variance(getattr(full, f), False, False)
    return full, kernel_fn(x1, x2, diagonal_spatial=True), expected


def check_diagonals(kernel_fn, x1, x2):
    """What is kept of a kernel does not depend on what else is kept."""
    assert_same_diagonals(*jax.jit(lambda a, b: layouts(kernel_fn, a, b))(x1, x2)[1:])


def assert_same_diagonals(diagonal, expected):
    assert diagonal.diagonal_spatial and diagonal.diagonal_batch
    for field, value in expected.items():
        np.testing.assert_allclose(
            getattr(diagonal, field), value, rtol=1e-12, atol=1e-13
        )
