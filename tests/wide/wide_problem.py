"""A small regression problem with the kernels of a one-hidden-layer ReLU network."""

from collections import namedtuple

import jax
import jax.numpy as jnp

N_TRAIN, N_TEST = 6, 4
Kernels = namedtuple("Kernels", ["nngp", "ntk"])


def inputs(n, seed):
    return jax.random.normal(jax.random.key(seed), (n, 3))


def targets():
    return jax.random.normal(jax.random.key(7), (N_TRAIN, 2))


def arccos_kernel_fn(x1, x2=None, get=None, scale=1.0):
    x2 = x1 if x2 is None else x2
    cov = x1 @ x2.T / 3 + 0.1
    p = jnp.sum(x1**2, -1)[:, None] / 3 + 0.1
    q = jnp.sum(x2**2, -1)[None] / 3 + 0.1
    norm = jnp.sqrt(jnp.broadcast_to(p, cov.shape) * jnp.broadcast_to(q, cov.shape))
    cos = jnp.clip(cov / norm, -1.0, 1.0)
    theta = jnp.arccos(cos)
    slope = (jnp.pi - theta) / (2 * jnp.pi)
    nngp = 2 * norm * (jnp.sin(theta) + (jnp.pi - theta) * cos) / (2 * jnp.pi) + 0.1
    kernels = {"nngp": scale * nngp, "ntk": scale * (nngp + 2 * slope * cov)}
    if isinstance(get, str):
        return kernels[get]
    if get is None:
        return Kernels(**kernels)
    return namedtuple("Some", get)(*(kernels[name] for name in get))
