"""Fit a pair potential to a radial distribution function, in two ways.

    python examples/rdf_fit.py [--output FOLDER] [--smoke]

The target g(r) is that of a Lennard-Jones fluid in two dimensions whose parameters are
then forgotten. They are looked for from a wrong start

- by reweighting (DiffTRe): simulate, differentiate the weights of the snapshots, update
  the parameters, and simulate again only when too few snapshots still count;
- through the trajectory: simulate a short while from where the last update ended, and
  differentiate all of it.

Both descend the same loss. Steps of molecular dynamics are what each costs.

Source: S. Thaler, J. Zavadlav, Nat. Commun. 12, 6884 (2021), for the first way.
"""

import argparse
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jax_md import adjoint, energy, quantity, simulate, space

SIDE, ROWS, KT, REPLICAS = 6.5, 5, 1.0, 8  # 25 particles, 8 times
DT, EVERY, SNAPSHOTS, SETTLE = 0.01, 25, 80, 300
TRUTH = {"sigma": 1.0, "epsilon": 1.0}
START = {"sigma": 0.9, "epsilon": 0.5}
displacement, shift = space.periodic(SIDE)
fluid = energy.lennard_jones_pair(displacement, r_onset=2.0, r_cutoff=2.5)
RADII, WIDTH = jnp.linspace(0.7, 3.0, 30), 0.08
correlation = quantity.pair_correlation(
    displacement, RADII, WIDTH, compute_average=True
)
# What the correlation of particles without interaction would be.
IDEAL = (ROWS**2 - 1) / SIDE**2 * (2 * np.pi) ** 1.5 * WIDTH


def energy_fn(params, R):
    """Energy of the fluid, parameters first."""
    return fluid(R, **params)


def g(params, R):
    """Radial distribution of one snapshot."""
    return correlation(R) / IDEAL


def dynamics(params):
    """Return the simulator at some parameters."""
    return simulate.nvt_langevin(
        lambda R: energy_fn(params, R), shift, DT, KT, gamma=2.0
    )


def begin(key):
    """States of all replicas, on a lattice."""
    R = (jnp.indices((ROWS, ROWS)).reshape(2, -1).T + 0.5) * SIDE / ROWS
    init = dynamics(START).init
    return jax.vmap(lambda key: init(key, R))(jax.random.split(key, REPLICAS))


@jax.jit
def simulate_all(params, states):
    """Settle, then take snapshots of all replicas: states and ``[t, n, 2]``."""
    step = jax.vmap(dynamics(params).step)

    def steps(states, count):
        return jax.lax.fori_loop(0, count, lambda i, s: step(s), states)

    def body(states, _):
        states = steps(states, EVERY)
        return states, states.position

    states, R = jax.lax.scan(body, steps(states, SETTLE), None, length=SNAPSHOTS)
    # Replica after replica, so that blocks of snapshots are consecutive in time.
    return states, jnp.swapaxes(R, 0, 1).reshape(-1, *R.shape[2:])


def loss(target):
    """Return the mean square distance of a g(r) from the target."""
    return lambda params, found: jnp.mean((found - target) ** 2)


def descent(updates):
    """Return Adam with a short memory: the loss is much flatter near its minimum."""
    return optax.adam(optax.cosine_decay_schedule(0.05, updates), b1=0.5, b2=0.9)


def fit_by_reweighting(target, updates):
    """Return the parameters after each update and the steps that were simulated."""
    kept = {"states": begin(jax.random.key(1)), "steps": 0}
    costs = []

    def sample(params, key, ensemble):
        kept["states"], R = simulate_all(params, kept["states"])
        costs.append(REPLICAS * (SETTLE + SNAPSHOTS * EVERY))
        return R

    fit = adjoint.reweighted_fit(
        adjoint.reweight(energy_fn, KT),
        sample,
        g,
        loss(target),
        jax.tree.map(jnp.asarray, START),
        descent(updates),
        updates,
        jax.random.key(2),
        threshold=0.9,
    )
    return [*fit.history, fit.params], sum(costs)


def fit_through_trajectories(target, updates, steps=150):
    """Return the same, from gradients of short trajectories in a row."""

    def step(params, states):
        return jax.vmap(dynamics(params).step)(states)

    @jax.jit
    def value_and_grad(params, states):
        def of(params):
            end, R = adjoint.rollout(
                step, params, states, steps, observe=lambda s: s.position, every=EVERY
            )
            R = R[1:].reshape(-1, *R.shape[2:])  # the first have not felt the change
            found = jnp.mean(jax.vmap(g, (None, 0))(params, R), axis=0)
            return loss(target)(params, found), end

        return jax.value_and_grad(of, has_aux=True)(params)

    params, states = jax.tree.map(jnp.asarray, START), begin(jax.random.key(3))
    optimizer = descent(updates)
    moments, path = optimizer.init(params), [params]
    for _ in range(updates):
        (_, states), slope = value_and_grad(params, states)
        change, moments = optimizer.update(slope, moments)
        params = optax.apply_updates(params, change)
        path.append(params)
    return path, updates * steps * REPLICAS


def draw(result: dict, path: Path) -> None:
    """Draw the radial distributions and the ways of the parameters."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    left.plot(RADII, result["target"], "k", linewidth=3, alpha=0.3, label="target")
    left.plot(RADII, result["start g"], ":", color="0.4", label="start")
    for name, color in (("reweighting", "tab:blue"), ("trajectory", "tab:red")):
        left.plot(RADII, result[name]["g"], color=color, label=name)
        for key, style in (("sigma", "-"), ("epsilon", "--")):
            values = [float(p[key]) for p in result[name]["path"]]
            right.plot(values, style, color=color, label=f"{key}, {name}")
    left.set(title="Radial distribution", xlabel="distance", ylabel="g(r)")
    left.legend(frameon=False)
    right.axhline(1.0, color="k", linewidth=0.8)
    right.set(title="Parameters (both are 1 in truth)", xlabel="update")
    right.legend(frameon=False)
    figure.savefig(path, dpi=150)


def main(smoke: bool = False, output: str | Path = "output/rdf_fit") -> dict:
    """Fit in both ways.

    Args:
        smoke: Whether to take few updates.
        output: Folder for the figure.

    Returns:
        The numbers that are printed.
    """
    output = Path(output)
    output.mkdir(parents=True, exist_ok=True)
    updates, runs = (40, 2) if smoke else (100, 4)
    mean_g = jax.jit(lambda R: jnp.mean(jax.vmap(g, (None, 0))(TRUTH, R), axis=0))

    def measure(params, seed):
        states, found = begin(jax.random.key(seed)), []
        for _ in range(runs):
            states, R = simulate_all(jax.tree.map(jnp.asarray, params), states)
            found.append(mean_g(R))
        return jnp.mean(jnp.stack(found), axis=0)

    target = measure(TRUTH, 10)
    result = {"target": target, "start g": measure(START, 11)}
    result["start loss"] = float(loss(target)(START, result["start g"]))
    print(f"{'':12} sigma  epsilon  loss      steps simulated")
    print(f"{'start':12} {START['sigma']:.3f}  {START['epsilon']:.3f}    ", end="")
    print(f"{result['start loss']:.1e}")
    ways = {"reweighting": fit_by_reweighting, "trajectory": fit_through_trajectories}
    for name, fit in ways.items():
        path, steps = fit(target, updates)
        last = path[-updates // 4 :]  # noise of the descent averages out
        params = {k: float(np.mean([p[k] for p in last])) for k in TRUTH}
        found = measure(params, 12)
        value = float(loss(target)(params, found))
        result[name] = {"path": path, "steps": steps, "g": found, "loss": value}
        result[name] |= params
        print(f"{name:12} {params['sigma']:.3f}  {params['epsilon']:.3f}    ", end="")
        print(f"{value:.1e}  {steps:,}")
    draw(result, output / "rdf.png")
    return result


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", default="output/rdf_fit")
    parser.add_argument("--smoke", action="store_true", help="small and short")
    options = parser.parse_args()
    main(options.smoke, options.output)
