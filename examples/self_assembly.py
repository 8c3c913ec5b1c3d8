"""Tune a Morse potential so that a cluster forms at a wanted rate.

    python examples/self_assembly.py [--output FOLDER] [--smoke]

Three discs diffuse in a shallow bowl and stick to each other, kT = 0.3 and alpha = 5.
The cluster has formed once all three touch; with the fraction p of paths where that
happened by the time T, the rate is -ln(1 - p) / T. Whether a path has formed a cluster
is yes or no: it has no derivative, and a gradient through the simulation is zero. But
the probability of the path has one, so the score of the path gives the gradient of p:
adding up what each step says about the depth of the well, until the cluster forms.

The idea of tuning kinetics by gradients: C. P. Goodrich, E. M. King, S. S. Schoenholz,
E. D. Cubuk, M. P. Brenner, Proc. Natl. Acad. Sci. 118, e2024083118 (2021).
"""

import argparse
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jax_md import adjoint, energy, simulate, space

KT, ALPHA, TOUCHING, BOWL, DT = 0.3, 5.0, 1.3, 0.3, 0.002
displacement, shift = space.free()
morse = energy.morse_pair(displacement, alpha=ALPHA, r_onset=2.0, r_cutoff=2.5)
START = 1.3 * np.array([[0, 1], [-(3**0.5) / 2, -0.5], [3**0.5 / 2, -0.5]])


def energy_fn(params, R):
    """Morse discs in a bowl."""
    return morse(R, epsilon=params["epsilon"]) + BOWL * jnp.sum(R**2) / 2


def sampler(steps):
    """Return a function that simulates one path, ``[steps + 1, 3, 2]``."""

    def sample(params, key):
        init, step = simulate.brownian(
            lambda R: energy_fn(params, R), shift, DT, KT, gamma=1.0
        )
        state = init(key, jnp.asarray(START, jnp.float32))
        _, R = jax.lax.scan(lambda s, _: (step(s),) * 2, state, None, length=steps)
        return jnp.concatenate([state.position[None], R.position])

    return sample


def formed(params, path):
    """One at the step after which all discs touch for the first time, else zero."""
    R = path[1:]
    dr = space.distance(R[:, [0, 1, 2]] - R[:, [1, 2, 0]])
    together = jnp.all(dr < TOUCHING, axis=1)
    ever = jnp.cumsum(together) > 0
    return jnp.diff(ever.astype(path.dtype), prepend=0.0)


log_prob = adjoint.brownian_log_prob(energy_fn, DT, KT, gamma=1.0)
fraction = adjoint.score_loss(log_prob, formed)


def draw(result: dict, path: Path) -> None:
    """Draw the rate while it was learned, and how clusters form before and after."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    left.plot(result["rates"], "o-", label="rate of the paths")
    left.plot(result["epsilons"], "s-", color="0.6", label="depth of the well")
    left.axhline(result["target"], color="k", linestyle="--", label="wanted rate")
    left.set(title="Learning", xlabel="update")
    left.legend(frameon=False)
    for name in ("before", "after"):
        grown = np.cumsum(result[name])
        time = DT * np.arange(1, len(grown) + 1)
        right.plot(time, grown, label=f"{name}, depth {result['depth ' + name]:.2f}")
    wanted = 1 - np.exp(-result["target"] * time[-1])
    right.plot(time[-1], wanted, "k*", markersize=12, label="wanted")
    right.set(title="Clusters formed", xlabel="time", ylabel="fraction of the paths")
    right.legend(frameon=False)
    figure.savefig(path, dpi=150)


def main(smoke: bool = False, output: str | Path = "output/self_assembly") -> dict:
    """Fit the depth of the well to a rate; check the gradient and the rate.

    Args:
        smoke: Whether to take few paths and updates.
        output: Folder for the figure.

    Returns:
        The numbers that are printed, with standard errors.
    """
    output = Path(output)
    output.mkdir(parents=True, exist_ok=True)
    steps, paths, updates, checks = (400, 800, 6, 4) if smoke else (400, 1000, 12, 10)
    time, target = steps * DT, 0.8

    def rate(p):
        return -jnp.log(1 - p) / time

    @jax.jit
    def walk(params, seed):
        keys = jax.random.split(jax.random.key(seed), paths)
        return jax.vmap(sampler(steps), (None, 0))(params, keys)

    @jax.jit
    def value_and_grad(params, walks):
        def loss(params):
            found = rate(fraction(params, walks))
            return jnp.log(found / target) ** 2, found

        return jax.value_and_grad(loss, has_aux=True)(params)

    @jax.jit
    def growth(params, walks):
        return jnp.mean(jax.vmap(formed, (None, 0))(params, walks), axis=0)

    def measure(params, seed):  # with other paths than any update saw
        seeds = range(seed, seed + checks)
        return np.mean([growth(params, walk(params, i)) for i in seeds], axis=0)

    start = params = {"epsilon": jnp.asarray(1.0)}
    _, slope = jax.jit(
        lambda walks: adjoint.score_gradient(log_prob, formed, start, walks)
    )(walk(start, 0))
    _, along = adjoint.pathwise_gradient(
        sampler(50), formed, start, jax.random.split(jax.random.key(0), 20)
    )
    h, ends = 0.3, []
    for i, sign in enumerate((1, -1)):
        ends.append(measure({"epsilon": 1.0 + sign * h}, 1000 * (i + 1)).sum())
    noise = sum(p * (1 - p) for p in ends) / (checks * paths)

    optimizer = optax.sgd(2.0)
    moments, rates, epsilons = optimizer.init(params), [], []
    for i in range(updates):
        (_, found), gradient = value_and_grad(params, walk(params, 10_000 + i))
        rates.append(float(found))
        epsilons.append(float(params["epsilon"]))
        change, moments = optimizer.update(gradient, moments)
        params = optax.apply_updates(params, change)

    before, after = measure(start, 20_000), measure(params, 30_000)
    p = after.sum()
    result = {
        "target": target,
        "rate before": float(rate(before.sum())),
        "rate": float(rate(p)),
        "error": float(np.sqrt(p / (1 - p) / (checks * paths)) / time),
        "score gradient": float(slope.value["epsilon"]),
        "score error": float(slope.error["epsilon"]),
        "difference": float((ends[0] - ends[1]) / (2 * h)),
        "difference error": float(np.sqrt(noise) / (2 * h)),
        "pathwise gradient": float(along.value["epsilon"]),
        "depth before": 1.0,
        "depth after": float(params["epsilon"]),
        "before": before,
        "after": after,
        "rates": rates,
        "epsilons": epsilons,
    }
    print("derivative of the fraction of clusters with respect to the depth")
    for name in ("score gradient", "difference", "pathwise gradient"):
        error = result.get(f"{name.split()[0]} error", 0.0)
        print(f"  {name:18} {result[name]:.3f} +- {error:.3f}")
    print(f"rate {result['rate before']:.3f} -> {result['rate']:.3f}", end=" ")
    print(f"+- {result['error']:.3f}, wanted {target}")
    print(f"depth of the well 1 -> {result['depth after']:.2f}")
    draw(result, output / "assembly.png")
    return result


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", default="output/self_assembly")
    parser.add_argument("--smoke", action="store_true", help="small and short")
    options = parser.parse_args()
    main(options.smoke, options.output)
