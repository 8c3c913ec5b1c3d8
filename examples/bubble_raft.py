"""A bubble raft: how the energy of soft discs depends on their diameters.

    python examples/bubble_raft.py [--output FOLDER] [--smoke]

Half of the discs have diameter 1, the other half D, and they fill a periodic square to
0.98 of its area. Relaxed from random positions they crystallize where D = 1 and are
frustrated most near D = 0.8. The slope of the mean energy shows it: it is a derivative
through each minimization, had in four ways that agree.

Source:
    S. S. Schoenholz, E. D. Cubuk, NeurIPS 2020, arXiv:1912.04232.
"""

import argparse
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from jax_md import adjoint, energy, minimize, space

FILLED = 0.98
displacement, shift = space.periodic_general(1.0, fractional_coordinates=True)
discs = energy.soft_sphere_pair(displacement)


def geometry(D, n: int):
    """Return the diameter of each disc and the side of the square they fill."""
    diameter = jnp.where(jnp.arange(n) < n // 2, 1.0, D)
    area = n / 2 * jnp.pi / 4 * (1 + D**2)
    return diameter, jnp.sqrt(area / FILLED)


def raft_energy(D, R, stretch=1.0):
    """Energy of discs at fractional positions ``[n, 2]``."""
    diameter, side = geometry(D, len(R))
    return discs(R, box=side * stretch, sigma=(diameter[:, None] + diameter) / 2)


def pressure(D, R):
    """Minus the energy that the raft gains with its area."""
    _, side = geometry(D, len(R))
    return -jax.grad(raft_energy, 2)(D, R, 1.0) / (2 * side**2)


def relax(D, R, steps: int):
    """Take steps of FIRE, which `adjoint.rollout` differentiates."""
    _, side = geometry(D, len(R))
    init, step = minimize.fire_descent(lambda R, D, box: raft_energy(D, R), shift)

    def move(D, state):
        return step(state, D=D, box=geometry(D, len(R))[1])

    start = init(R, D=D, box=side)
    end, _ = adjoint.rollout(move, D, start, steps, adjoint.Checkpointed())
    return end.position


@jax.jit
def ensemble(D, starts):
    """Mean energy and mean slope of rafts relaxed from many starts."""
    # At a minimum the slope is that at fixed positions (envelope theorem).
    minima = jax.lax.map(lambda R: relax(D, R, 300), starts, batch_size=8)
    E, slope = jax.vmap(jax.value_and_grad(raft_energy), (None, 0))(D, minima)
    return jnp.mean(E), jnp.mean(slope), minima[0]


def four_ways(D: float, R, steps: int) -> dict[str, dict[str, float]]:
    """Differentiate energy and pressure of one relaxed raft with respect to D."""
    _, side = geometry(D, len(R))
    moves = partial(shift, box=side)
    solver = minimize.until_converged(minimize.fire_descent, moves, 1e-12)
    found = jax.jit(lambda R: adjoint.minimum(raft_energy, D, R, solver))(R)
    found.raise_if_unconverged()
    at = found.position
    # FIRE needs somewhere to go: at rest its direction is that of round-off.
    near = at + 1e-3 * jnp.cos(jnp.arange(at.size)).reshape(at.shape)

    def implicit(D):
        found = adjoint.minimum(raft_energy, D, at, solver).position
        return jnp.stack([raft_energy(D, found), pressure(D, found)])

    def unrolled(D):
        found = relax(D, near, steps)
        return jnp.stack([raft_energy(D, found), pressure(D, found)])

    h = 1e-6
    minimized = jax.jit(implicit)
    rows = {
        "positions fixed": jax.jacfwd(
            lambda D: jnp.stack([raft_energy(D, at), pressure(D, at)])
        )(D),
        "implicit": jax.jit(jax.jacrev(implicit))(D),
        "unrolled": jax.jit(jax.jacrev(unrolled))(D),
        "differences": (minimized(D + h) - minimized(D - h)) / (2 * h),
    }
    return {k: {"energy": float(e), "pressure": float(p)} for k, (e, p) in rows.items()}


def climb(D: float, starts, steps: int) -> list[float]:
    """Walk up the mean energy along its slope."""
    path = [D]
    for _ in range(steps):
        _, slope, _ = ensemble(path[-1], starts)
        path.append(path[-1] + float(jnp.clip(0.05 * slope, -0.02, 0.02)))
    return path


def draw(result: dict, path: Path) -> None:
    """Draw three rafts, small discs red, and the mean energy."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.collections import EllipseCollection
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    *rafts, curve = figure.subplots(1, 4)
    for axes, (D, R) in zip(rafts, result["rafts"].items(), strict=True):
        diameter, side = geometry(D, len(R))
        images = np.stack(np.meshgrid([-1, 0, 1], [-1, 0, 1]), -1).reshape(-1, 1, 2)
        middles = (np.asarray(R)[None] + images).reshape(-1, 2) * float(side)
        sizes = np.tile(diameter, 9)
        axes.add_collection(
            EllipseCollection(
                sizes, sizes, 0 * sizes, units="x", offsets=middles,
                transOffset=axes.transData, array=np.where(sizes < 1, 1.0, 0.0),
                cmap="coolwarm", alpha=0.5, edgecolor="0.2", linewidth=0.6,
            )
        )  # fmt: skip
        axes.set(title=f"D = {D:.2f}", xlim=(0, side), ylim=(0, side), aspect="equal")
        axes.set(xticks=[], yticks=[])
    curve.plot(result["D"], result["energy"], "o-", color="tab:red")
    curve.set(title="Mean energy of a raft", xlabel="D", ylabel="energy")
    figure.savefig(path, dpi=110)


def main(smoke: bool = False, output: str | Path = "output/bubble_raft") -> dict:
    """Relax an ensemble at each diameter, and differentiate through it.

    Args:
        smoke: Whether to take fewer and smaller rafts.
        output: Folder for the figure.

    Returns:
        The numbers that are printed, and positions at three diameters.
    """
    jax.config.update("jax_enable_x64", True)
    n, seeds, count = (32, 8, 4) if smoke else (128, 16, 13)
    keys = jax.random.split(jax.random.key(0), seeds)
    starts = jax.vmap(lambda key: jax.random.uniform(key, (n, 2)))(keys)

    diameters = np.linspace(0.4, 1.0, count)
    result: dict = {"D": diameters, "energy": [], "slope": [], "rafts": {}}
    print("    D    <E>    d<E>/dD")
    for D in diameters:
        E, slope, R = ensemble(D, starts)
        result["energy"].append(float(E))
        result["slope"].append(float(slope))
        if round(float(D), 2) in (0.6, 0.8, 1.0):
            result["rafts"][float(D)] = R
        print(f"{D:5.2f} {E:6.3f} {slope:10.3f}")
    result["peak"] = float(diameters[np.argmax(result["energy"])])

    result["path"] = climb(0.6, starts[:8], 4 if smoke else 14)
    print(f"uphill from D = 0.6: {result['path'][-1]:.3f}")

    result["ways"] = four_ways(0.7, starts[0], 400 if smoke else 1500)
    print("at D = 0.7              d energy / dD   d pressure / dD")
    for name, row in result["ways"].items():
        print(f"{name:20} {row['energy']:16.9f} {row['pressure']:17.9f}")

    output = Path(output)
    output.mkdir(parents=True, exist_ok=True)
    draw(result, output / "bubble_raft.png")
    return result


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", default="output/bubble_raft")
    parser.add_argument("--smoke", action="store_true", help="few and small")
    options = parser.parse_args()
    main(options.smoke, options.output)
