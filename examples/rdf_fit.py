"""Fit a pair potential to a radial distribution function, in two ways.

The target g(r) is that of a Lennard-Jones fluid in two dimensions whose parameters are
then forgotten. From a wrong start they are found by reweighting (DiffTRe: simulate
again only when too few of the snapshots still count) and through the trajectory
(simulate a short while from where the last update ended, and differentiate it all).

Source: S. Thaler, J. Zavadlav, Nat. Commun. 12, 6884 (2021), for the first way.
"""

from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import optax
from matplotlib.figure import Figure

from jax_md import adjoint, energy, quantity, simulate, space

SIDE, ROWS, KT, DT, COPIES, EVERY = 6.5, 5, 1.0, 0.01, 8, 25
TRUTH = {"sigma": 1.0, "epsilon": 1.0}
START = {"sigma": jnp.asarray(0.9), "epsilon": jnp.asarray(0.5)}
displacement, shift = space.periodic(SIDE)
fluid = energy.lennard_jones_pair(displacement, r_onset=2.0, r_cutoff=2.5)
simulator = simulate.nvt_langevin(fluid, shift, DT, KT, gamma=2.0)
reweighting = adjoint.reweight(lambda params, R: fluid(R, **params), KT)
RADII, WIDTH = jnp.linspace(0.7, 3.0, 30), 0.08
counts = quantity.pair_correlation(displacement, RADII, WIDTH, compute_average=True)


def g(params, R):
    """Radial distribution of one snapshot: counts over those of an ideal gas."""
    ideal = (ROWS**2 - 1) / SIDE**2 * (2 * jnp.pi) ** 1.5 * WIDTH
    return counts(R) / ideal


def begin(key):
    """States of all copies, on a lattice."""
    R = (jnp.indices((ROWS, ROWS)).reshape(2, -1).T + 0.5) * SIDE / ROWS
    keys = jax.random.split(key, COPIES)
    return jax.vmap(lambda key: simulator.init(key, R, **START))(keys)


@partial(jax.jit, static_argnums=(2, 3))
def run(params, states, steps, settle=300):
    """Simulate all copies: their states, snapshots once settled, and the mean g."""
    step = jax.vmap(lambda params, state: simulator.step(state, **params), (None, 0))
    record = {"observe": lambda states: states.position, "every": EVERY}
    states, R = adjoint.rollout(step, params, states, steps, **record)
    R = R[settle // EVERY :].reshape(-1, ROWS**2, 2)
    return states, R, jnp.mean(jax.vmap(g, (None, 0))(params, R), axis=0)


def fit_by_reweighting(loss, optimizer, updates, steps=2300):
    """Return the parameters and the loss by updates, and how many steps it took."""

    def sample(params, key, ensemble):
        return run(params, begin(key), steps)[1]

    fit = adjoint.reweighted_fit(
        reweighting, sample, g, loss, START, optimizer, updates, jax.random.key(2), 0.9
    )
    return [*fit.history, fit.params], fit.loss, sum(fit.did_resample) * steps * COPIES


def fit_through_trajectories(loss, optimizer, updates, steps=150):
    """Return the same, from gradients of short trajectories but for their start."""

    @jax.jit
    @partial(jax.value_and_grad, has_aux=True)
    def descend(params, states):
        states, _, found = run(params, states, steps, EVERY)
        return loss(params, found), states

    params, states, moments = START, begin(jax.random.key(3)), optimizer.init(START)
    path, losses = [params], []
    for _ in range(updates):
        (value, states), slope = descend(params, states)
        change, moments = optimizer.update(slope, moments)
        params = optax.apply_updates(params, change)
        path, losses = [*path, params], [*losses, float(value)]
    return path, losses, updates * steps * COPIES


def main(smoke: bool = False, output: str | Path = "output/rdf_fit") -> dict:
    """Fit in both ways; noise averages out over the last quarter of the updates."""
    updates, steps = (40, 4300) if smoke else (100, 8300)

    target = run(TRUTH, begin(jax.random.key(10)), steps)[2]
    start = run(START, begin(jax.random.key(11)), steps)[2]

    def loss(params, found):
        return jnp.mean((found - target) ** 2)

    result = {"target": target, "start g": start, "start loss": loss(START, start)}
    # Adam with a short memory: the loss is much flatter near its minimum.
    optimizer = optax.adam(optax.cosine_decay_schedule(0.05, updates), b1=0.5, b2=0.9)
    axes = (figure := Figure(layout="constrained")).subplots()
    axes.plot(RADII, target, "k", linewidth=4, alpha=0.3, label="target")
    ways = {"reweighting": fit_by_reweighting, "trajectory": fit_through_trajectories}
    for name, fit in ways.items():
        path, losses, cost = fit(loss, optimizer, updates)
        params = jax.tree.map(lambda *p: float(sum(p) / len(p)), *path[-updates // 4 :])
        found = run(params, begin(jax.random.key(12)), steps)[2]
        result[name] = {"path": path, "losses": losses, "steps": cost, "g": found}
        result[name] |= {"loss": float(loss(params, found)), **params}
        print(f"{name}: {params}, loss {result[name]['loss']:.1e}, {cost:,} steps")
        axes.plot(RADII, found, label=name)
    axes.set(xlabel="distance", ylabel="g(r)")
    axes.legend()
    Path(output).mkdir(parents=True, exist_ok=True)
    figure.savefig(Path(output) / "rdf.png")
    return result


if __name__ == "__main__":
    from common import command_line

    command_line(main)
