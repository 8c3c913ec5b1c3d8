"""Kernels of whole networks against means over finite networks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_md.wide import stax
from tests.wide.stax.oracle import images

WIDTH = 96


def residual(layer):
    return stax.serial(
        stax.FanOut(2), stax.parallel(stax.Identity(), layer), stax.FanInSum()
    )


def conv(padding="SAME", strides=None, **options):
    return stax.Conv(WIDTH, (3, 2), strides, padding, 1.3, 0.2, **options)


NETWORKS = {
    "dense": stax.serial(
        stax.Dense(WIDTH, 1.4, 0.3),
        residual(stax.serial(stax.Erf(), stax.Dense(WIDTH, 1.2, 0.1), stax.Relu(),
                             stax.Dense(WIDTH, 0.8))),
        stax.LayerNorm(), stax.Gelu(), stax.Dense(1, 1.1, 0.2),
    ),
    "flattened": stax.serial(
        conv("CIRCULAR"), stax.Relu(), conv(strides=(2, 1)), stax.Sin(),
        stax.AvgPool((1, 2)), stax.Flatten(), stax.Dense(1, 1.1, 0.2),
    ),
    "pooled": stax.serial(
        conv(), stax.Relu(),
        stax.ConvTranspose(WIDTH, (2, 2), (2, 1), "SAME", 1.2, 0.1), stax.Abs(),
        stax.GlobalAvgPool(), stax.Dense(1, 1.1, 0.2),
    ),
    "standard": stax.serial(
        stax.Dense(WIDTH, 1.4, 0.3, parameterization="standard"), stax.Relu(),
        stax.Dense(WIDTH, 1.2, 0.2, parameterization="standard"), stax.Erf(),
        stax.Dense(1, 1.1, 0.2),
    ),
}  # fmt: skip


@pytest.mark.parametrize(
    "name",
    [
        "dense",
        "flattened",
        pytest.param("pooled", marks=pytest.mark.slow),
        pytest.param("standard", marks=pytest.mark.slow),
    ],
)
def test_kernels_are_means_over_networks(name):
    init_fn, apply_fn, kernel_fn = NETWORKS[name]
    shape = (3, 4) if name in ("dense", "standard") else (3, 4, 3, 2)
    x = jnp.asarray(images(0, shape))

    def sample(key):
        _, params = init_fn(key, x.shape)
        jacobian = jax.jacrev(lambda p: apply_fn(p, x)[:, 0])(params)

        def product(tree):
            rows = [j.reshape(x.shape[0], -1) for j in jax.tree.leaves(tree)]
            return sum(j @ j.T for j in rows)

        # The outputs are linear in the last layer, whose share is the NNGP.
        return product(jacobian[-1]), product(jacobian)

    n = 32
    keys = jax.random.split(jax.random.PRNGKey(3), n)
    nngp, ntk = jax.jit(lambda keys: jax.lax.map(sample, keys))(keys)
    k = jax.jit(kernel_fn)(x)
    for samples, exact in ((nngp, k.nngp), (ntk, k.ntk)):
        error = np.std(samples, 0) / np.sqrt(n)
        # a mean over networks differs from the limit by a term of order 1 / width
        allowed = 4 * error + 2 / WIDTH * np.abs(exact).max()
        assert np.all(np.abs(np.mean(samples, 0) - exact) < allowed)
        assert np.all(error < 0.06 * np.abs(exact).max())
