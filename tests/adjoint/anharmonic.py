"""One particle in a well that is not harmonic, where integrals give all averages."""

import jax
import jax.numpy as jnp
import numpy as np

KT = 0.8
PARAMS = {"a": jnp.array(1.0), "b": jnp.array(0.4), "c": jnp.array([0.5])}
GRID = jnp.linspace(-6.0, 6.0, 4001)


def energy_fn(params, R):
    x = R[0]
    return params["a"] * x**2 / 2 + params["b"] * x**4 - params["c"][0] * x


def observable(params, R):
    waves = jnp.cos(params["a"] * R[0] * jnp.arange(2, dtype=R.dtype))
    return {"square": R[0] ** 2, "waves": waves}


def exact(params, fn=observable, kT=KT):
    """Averages by quadrature; the integrand vanishes at the ends of the grid."""
    R = GRID[:, None]
    w = jax.nn.softmax(-jax.vmap(lambda R: energy_fn(params, R))(R) / kT)
    return jax.tree.map(
        lambda A: jnp.tensordot(w, A, 1), jax.vmap(lambda R: fn(params, R))(R)
    )


def free_energy(params, kT=KT):
    U = jax.vmap(lambda R: energy_fn(params, R))(GRID[:, None])
    return -kT * jax.nn.logsumexp(-U / kT)


def draw(params, count, seed, kT=KT):
    """Independent samples ``[count, 1]``."""
    U = np.asarray(jax.vmap(lambda R: energy_fn(params, R))(GRID[:, None]))
    density = np.exp(-(U - U.min()) / kT)
    total = np.concatenate([[0], np.cumsum((density[1:] + density[:-1]) / 2)])
    uniform = np.random.default_rng(seed).random(count)
    return jnp.asarray(np.interp(uniform, total / total[-1], GRID))[:, None]
