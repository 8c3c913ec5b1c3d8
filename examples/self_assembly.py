"""Tune a Morse potential so that a cluster forms at a wanted rate.

Three discs diffuse in a shallow bowl and stick to each other, kT = 0.3 and alpha = 5.
The cluster has formed once all three touch; with the fraction p of paths where that
happened by the time T, the rate is -ln(1 - p) / T. Whether a path has formed a cluster
is yes or no: it has no derivative, and a gradient through the simulation is zero. But
the probability of the path has one, so the score of the path gives the gradient of p:
adding up what each step says about the depth of the well, until the cluster forms.

The idea of tuning kinetics by gradients: C. P. Goodrich, E. M. King, S. S. Schoenholz,
E. D. Cubuk, M. P. Brenner, Proc. Natl. Acad. Sci. 118, e2024083118 (2021).
"""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from matplotlib.figure import Figure

from jax_md import adjoint, energy, simulate, space

KT, DT, TOUCHING, BOWL, STEPS, TARGET = 0.3, 0.002, 1.3, 0.3, 400, 0.8
displacement, shift = space.free()
morse = energy.morse_pair(displacement, alpha=5.0, r_onset=2.0, r_cutoff=2.5)
START = 1.3 * np.array([[0, 1], [-(3**0.5) / 2, -0.5], [3**0.5 / 2, -0.5]])


def energy_fn(params, R):
    """Morse discs in a bowl."""
    return morse(R, epsilon=params["epsilon"]) + BOWL * jnp.sum(R**2) / 2


def sample(params, key, steps=STEPS):
    """Simulate one path, ``[steps + 1, 3, 2]``."""
    init, step = simulate.brownian(lambda R: energy_fn(params, R), shift, DT, KT, 1.0)
    state = init(key, jnp.asarray(START, jnp.float32))
    _, R = jax.lax.scan(lambda s, _: (step(s),) * 2, state, None, length=steps)
    return jnp.concatenate([state.position[None], R.position])


def formed(params, path):
    """One at the step after which all discs touch for the first time, else zero."""
    R = path[1:]
    dr = space.distance(R[:, [0, 1, 2]] - R[:, [1, 2, 0]])
    ever = jnp.cumsum(jnp.all(dr < TOUCHING, axis=1)) > 0
    return jnp.diff(ever.astype(path.dtype), prepend=0.0)


def rate(p):
    """Rate at which clusters form, by the fraction of paths where one did."""
    return -jnp.log(1 - p) / (STEPS * DT)


log_prob = adjoint.brownian_log_prob(energy_fn, DT, KT, gamma=1.0)
fraction = adjoint.score_loss(log_prob, formed)
score_gradient = jax.jit(lambda *a: adjoint.score_gradient(log_prob, formed, *a))


@jax.jit
def misfit(params, walks):
    """Of the rate, and the rate; differentiable though the paths are fixed."""
    found = rate(fraction(params, walks))
    return jnp.log(found / TARGET) ** 2, found
