"""A bubble raft: how the energy of soft discs depends on their diameters.

Half of the discs have diameter 1, the other half D, and they fill a periodic square to
0.98 of its area. Relaxed from random positions they crystallize where D = 1 and are
frustrated most near D = 0.8. The slope of the mean energy shows it: it is a derivative
through each minimization, had in four ways that agree. The notebook draws the rafts.

Source: S. S. Schoenholz, E. D. Cubuk, NeurIPS 2020, arXiv:1912.04232.
"""

from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from jax_md import adjoint, energy, minimize, space

displacement, shift = space.periodic_general(1.0, fractional_coordinates=True)
discs = energy.soft_sphere_pair(displacement)


def geometry(D, n: int):
    """Return the diameter of each disc and the side of the square they fill."""
    diameter = jnp.where(jnp.arange(n) < n // 2, 1.0, D)
    return diameter, jnp.sqrt(jnp.pi / 4 * n / 2 * (1 + D**2) / 0.98)


def raft_energy(D, R, stretch=1.0):
    """Energy of discs at fractional positions ``[n, 2]``."""
    diameter, side = geometry(D, len(R))
    return discs(R, box=side * stretch, sigma=(diameter[:, None] + diameter) / 2)


def energy_and_pressure(D, R):
    """The latter is minus the energy that the raft gains with its area."""
    E, slope = jax.value_and_grad(raft_energy, 2)(D, R, 1.0)
    return jnp.stack([E, -slope / (2 * geometry(D, len(R))[1] ** 2)])


def relax(D, R, steps: int):
    """Take steps of FIRE, which `adjoint.rollout` differentiates."""
    init, step = minimize.fire_descent(lambda R, D, box: raft_energy(D, R), shift)
    inputs = {"D": D, "box": geometry(D, len(R))[1]}
    start, method = init(R, **inputs), adjoint.Checkpointed()
    end, _ = adjoint.rollout(lambda p, s: step(s, **p), inputs, start, steps, method)
    return end.position


@jax.jit
def ensemble(D, starts):
    """Mean energy and mean slope of rafts relaxed from many starts, and the first."""
    # At a minimum the slope is that at fixed positions (envelope theorem).
    minima = jax.lax.map(lambda R: relax(D, R, 300), starts, batch_size=8)
    E, slope = jax.vmap(jax.value_and_grad(raft_energy), (None, 0))(D, minima)
    return jnp.mean(E), jnp.mean(slope), minima[0]


def four_ways(D: float, R, steps: int) -> dict[str, dict[str, float]]:
    """Differentiate energy and pressure of one relaxed raft with respect to D."""
    moves = partial(shift, box=geometry(D, len(R))[1])
    solver = minimize.until_converged(minimize.fire_descent, moves, 1e-12)
    minimum = jax.jit(lambda D, R: adjoint.minimum(raft_energy, D, R, solver))
    found = minimum(D, R)
    found.raise_if_unconverged()
    R, h = found.position, 1e-6
    implicit = jax.jit(lambda D: energy_and_pressure(D, minimum(D, R).position))
    # FIRE needs somewhere to go: at rest its direction is that of round-off.
    near = R + 1e-3 * jnp.cos(jnp.arange(R.size)).reshape(R.shape)
    unrolled = jax.jacrev(lambda D: energy_and_pressure(D, relax(D, near, steps)))
    rows = {
        "positions fixed": jax.jacfwd(energy_and_pressure)(D, R),
        "implicit": jax.jit(jax.jacrev(implicit))(D),
        "unrolled": jax.jit(unrolled)(D),
        "differences": (implicit(D + h) - implicit(D - h)) / (2 * h),
    }
    return {k: {"energy": float(e), "pressure": float(p)} for k, (e, p) in rows.items()}


def main(smoke: bool = False, output: str | Path = "output/bubble_raft") -> dict:
    """Relax rafts at each diameter, climb their mean energy, compare derivatives."""
    jax.config.update("jax_enable_x64", True)
    n, seeds, count = (32, 8, 4) if smoke else (128, 16, 13)
    keys = jax.random.split(jax.random.key(0), seeds)
    starts = jax.vmap(lambda key: jax.random.uniform(key, (n, 2)))(keys)

    result = {"D": np.linspace(0.4, 1.0, count), "energy": [], "slope": [], "rafts": {}}
    for D in result["D"]:
        E, slope, R = ensemble(D, starts)
        result["energy"].append(float(E))
        result["slope"].append(float(slope))
        if round(D, 2) in (0.6, 0.8, 1.0):
            result["rafts"][float(D)] = R
        print(f"D = {D:.2f}: mean energy {E:.3f}, its slope {slope:.3f}")
    result["peak"] = float(result["D"][np.argmax(result["energy"])])

    result["path"] = [D := 0.6]
    for _ in range(4 if smoke else 14):
        D += float(jnp.clip(0.05 * ensemble(D, starts[:8])[1], -0.02, 0.02))
        result["path"].append(D)
    print(f"uphill from D = 0.6: {D:.3f}")

    result["ways"] = four_ways(0.7, starts[0], 400 if smoke else 1500)
    for name, row in result["ways"].items():
        print(f"{name:16}" + "".join(f" d {k} / dD = {v:.9f}" for k, v in row.items()))

    axes = (figure := Figure(layout="constrained")).subplots()
    axes.plot(result["D"], result["energy"], "o-")
    axes.set(xlabel="D", ylabel="mean energy of a raft")
    Path(output).mkdir(parents=True, exist_ok=True)
    figure.savefig(Path(output) / "bubble_raft.png")
    return result


if __name__ == "__main__":
    from common import command_line

    command_line(main)
