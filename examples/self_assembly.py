"""Tune a Morse potential so that a cluster forms at a wanted rate.

Three discs diffuse in a bowl and stick together. With the fraction p of paths where
all three have touched by the time T, the rate is -ln(1 - p) / T. Whether they have is
yes or no, so a gradient through the path is zero. But the path has a probability, whose
score gives the gradient: what each step says of the well, until the cluster forms.

Source of the aim: C. P. Goodrich et al., PNAS 118, e2024083118 (2021).
"""

from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from jax_md import adjoint, energy, simulate, space

KT, DT, TOUCHING, BOWL, STEPS, TARGET = 0.3, 0.002, 1.3, 0.3, 400, 0.8
displacement, shift = space.free()
morse = energy.morse_pair(displacement, alpha=5.0, r_onset=2.0, r_cutoff=2.5)
START = 1.3 * np.array([[0, 1], [-(3**0.5) / 2, -0.5], [3**0.5 / 2, -0.5]])


def energy_fn(depth, R):
    """Morse discs in a bowl."""
    return morse(R, epsilon=depth) + BOWL * jnp.sum(R**2) / 2


def sample(depth, key, steps=STEPS):
    """Simulate one path, ``[steps + 1, 3, 2]``."""
    init, step = simulate.brownian(lambda R: energy_fn(depth, R), shift, DT, KT, 1.0)
    state = init(key, jnp.asarray(START, jnp.float32))
    _, R = jax.lax.scan(lambda s, _: (step(s),) * 2, state, None, length=steps)
    return jnp.concatenate([state.position[None], R.position])


@partial(jax.jit, static_argnums=2)
def sample_many(depth, seed, count):
    """Simulate independent paths, ``[count, steps + 1, 3, 2]``."""
    keys = jax.random.split(jax.random.key(seed), count)
    return jax.vmap(sample, (None, 0))(depth, keys)


def formed(depth, path):
    """One at the step after which all discs touch for the first time, else zero."""
    R = path[1:]
    dr = space.distance(R[:, [0, 1, 2]] - R[:, [1, 2, 0]])
    ever = jnp.cumsum(jnp.all(dr < TOUCHING, axis=1)) > 0
    return jnp.diff(ever.astype(path.dtype), prepend=0.0)


# The fraction of paths with a cluster, to differentiate although the paths are fixed.
log_prob = adjoint.brownian_log_prob(energy_fn, DT, KT, gamma=1.0)
fraction = jax.jit(adjoint.score_loss(log_prob, formed))


def rate(p):
    """Rate at which clusters form, by the fraction of paths where one did."""
    return -jnp.log(1 - p) / (STEPS * DT)


@jax.jit
@partial(jax.value_and_grad, has_aux=True)
def loss_and_slope(depth, paths):
    """How far the rate of some paths is from the one that is wanted, and the rate."""
    found = rate(fraction(depth, paths))
    return jnp.log(found / TARGET) ** 2, found


def main(smoke: bool = False, output: str | Path = "output/self_assembly") -> dict:
    """Fit the depth of the well to a rate; check the gradient and the rate."""
    count, updates, checks = (800, 6, 4) if smoke else (1000, 12, 10)

    def measure(depth, seed):  # with other paths than any update saw
        many = (sample_many(depth, seed + i, count) for i in range(checks))
        return float(np.mean([fraction(depth, paths) for paths in many]))

    by_score = jax.jit(partial(adjoint.score_gradient, log_prob, formed))
    _, slope = by_score(1.0, sample_many(1.0, 0, count))
    keys = jax.random.split(jax.random.key(0), 20)
    _, along = adjoint.pathwise_gradient(partial(sample, steps=50), formed, 1.0, keys)
    h, above, below = 0.3, measure(1.3, 1000), measure(0.7, 2000)
    noise = (above * (1 - above) + below * (1 - below)) / (checks * count)
    result = {
        "score gradient": float(slope.value),
        "score error": float(slope.error),
        "difference": (above - below) / (2 * h),
        "difference error": float(np.sqrt(noise) / (2 * h)),
        "pathwise gradient": float(along.value),
    }
    print("derivative of the fraction of clusters with respect to the depth", result)

    depth, history = 1.0, []
    for i in range(updates):
        (_, found), slope = loss_and_slope(depth, sample_many(depth, 10_000 + i, count))
        history.append((float(depth), float(found)))
        print(f"depth {depth:.3f}, rate {found:.3f}, wanted {TARGET}")
        depth -= 2.0 * slope

    p = measure(depth, 30_000)
    result |= {"target": TARGET, "rate": float(rate(p)), "history": history}
    result["rate before"] = float(rate(measure(1.0, 20_000)))
    result["error"] = float(np.sqrt(p / (1 - p) / (checks * count)) / (STEPS * DT))
    print(f"rate with other paths {result['rate']:.3f} +- {result['error']:.3f}")

    axes = (figure := Figure(layout="constrained")).subplots()
    axes.plot(*np.transpose(history), "o-")
    axes.set(xlabel="depth of the well", ylabel=f"rate, to be {TARGET}")
    Path(output).mkdir(parents=True, exist_ok=True)
    figure.savefig(Path(output) / "assembly.png")
    return result


if __name__ == "__main__":
    from common import command_line

    command_line(main)
