"""Copper from crystal to melt, and a gradient through its motion.

    python examples/quickstart.py [--output FOLDER] [--smoke]

1. Read a structure and a published potential, and relax the cell: the energy is
   differentiable in the box, so lattice constant and bulk modulus are derivatives.
2. Hold 2,048 atoms at 300 K, then heat them until they melt; write trajectory, log,
   checkpoint and a figure.
3. Differentiate through a trajectory, hold the result against a finite difference, and
   use it to teach a simpler potential to move as the published one does.

Units: Angstrom, eV, atomic mass units, hence kT in eV and a time unit of 10.18 fs.
"""

import argparse
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jax_md import energy, io, quantity, simulate, space
from jax_md.units import metal_unit_system

DATA = Path(__file__).parent / "data"
UNIT = metal_unit_system()  # multiply ps, K, bar by these
GPA = 1e4 * UNIT["pressure"]
FEMTOSECOND = 1e-3 * UNIT["time"]
# The crystal is heated at constant volume, which keeps it from melting at its usual
# 1,358 K: there is no surface to melt from, and the pressure rises.
COLD, HOT = 300.0, 3000.0  # K

# What S. M. Foiles, M. I. Baskes, M. S. Daw, Phys. Rev. B 33, 7983 (1986) fitted to.
PUBLISHED = {
    "lattice constant": (3.615, "Angstrom"),
    "cohesive energy": (-3.54, "eV"),
    "bulk modulus": (138.0, "GPa"),
}


def crystal(repeats: int):
    """Return fractional positions, the mass and the lattice constant of the file."""
    cell = io.read(DATA / "Cu.cif")
    side = float(cell.box[0, 0])
    corners = np.indices(3 * [repeats]).reshape(3, -1).T
    fractional = (corners[:, None] + cell.position[None] / side).reshape(-1, 3)
    return jnp.asarray(fractional / repeats), float(cell.mass[0]), side


def copper(displacement, box, **options):
    """Return the list and the energy of the published embedded-atom potential."""
    potential = energy.eam_from_file(DATA / "Cu_u3.eam")
    return energy.embedded_atom_neighbor_list(displacement, box, potential, **options)


def relax(repeats: int = 4) -> dict[str, float]:
    """Minimize the energy in the lattice constant by Newton's method."""
    R, _, a = crystal(repeats)
    displacement, _ = space.periodic_general(a * repeats, fractional_coordinates=True)
    neighbor_fn, energy_fn = copper(
        displacement, a * repeats, fractional_coordinates=True
    )
    neighbors = neighbor_fn.allocate(R, box=a * repeats)

    def energy_per_atom(a):
        return energy_fn(R, neighbor=neighbors, box=a * repeats) / len(R)

    slope = jax.jit(jax.grad(energy_per_atom))
    curvature = jax.jit(jax.grad(jax.grad(energy_per_atom)))
    a = 1.01 * a
    for _ in range(6):
        a = a - slope(a) / curvature(a)
    return {
        "lattice constant": float(a),
        "cohesive energy": float(energy_per_atom(a)),
        # V d2E/dV2 at the minimum, with a volume of a**3 / 4 for each atom.
        "bulk modulus": float(4 * curvature(a) / (9 * a) / GPA),
    }


def heat_and_melt(a: float, output: Path, smoke: bool) -> dict:
    """Run at 300 K, heat to 3,000 K and stay there."""
    repeats, hold, ramp = (4, 100, 100) if smoke else (8, 1000, 1000)
    stay, every = (100, 20) if smoke else (1500, 20)
    R, mass, _ = crystal(repeats)
    side = a * repeats
    R = jnp.asarray(side * R, jnp.float32)
    displacement, shift = space.periodic(side)
    neighbor_fn, energy_fn = copper(displacement, side)
    neighbors = neighbor_fn.allocate(R)

    def kelvin(state):
        kT = quantity.temperature(momentum=state.momentum, mass=state.mass)
        return kT / UNIT["temperature"]

    observe = {
        "temperature": kelvin,
        "energy": lambda s, neighbor: energy_fn(s.position, neighbor=neighbor) / len(R),
        "position": lambda s: s.position,
    }
    kT = COLD * UNIT["temperature"]

    def heating(step):
        progress = jnp.clip((step - hold) / ramp, 0.0, 1.0)
        return kT * (1 + progress * (HOT / COLD - 1))

    with io.H5MDWriter(output / "copper.h5", box=side) as writer:
        shared = {
            "neighbor_fn": neighbor_fn,
            "observe": observe,
            "every": every,
            "writer": writer,
            "writer_every": 5 * every,
            "checkpoint": output / "copper.checkpoint",
        }
        step_fs = 2.0
        solid = simulate.nvt_nose_hoover(energy_fn, shift, step_fs * FEMTOSECOND, kT)
        # Half of the kinetic energy of a perfect crystal turns into potential energy.
        state = solid.init(
            jax.random.key(0), R, mass=mass, kT=2 * kT, neighbor=neighbors
        )
        first = simulate.run(
            solid,
            state,
            hold,
            neighbors=neighbors,
            conserved=lambda s, neighbor: simulate.nvt_nose_hoover_invariant(
                energy_fn, s, kT, neighbor=neighbor
            ),
            fs_per_step=step_fs,
            **shared,
        )
        print(first.report)
        liquid = simulate.nvt_langevin(
            energy_fn, shift, step_fs * FEMTOSECOND, kT, gamma=1 / (200 * FEMTOSECOND)
        )
        state = liquid.init(
            jax.random.key(1),
            first.state.position,
            mass=mass,
            momenta=first.state.momentum,
            neighbor=first.neighbors,
        )
        second = simulate.run(
            liquid,
            state,
            ramp + stay,
            start=hold,
            neighbors=first.neighbors,
            kT=heating,
            fs_per_step=step_fs,
            **shared,
        )
        print(second.report)

    log = {
        name: np.concatenate([first.records[name], second.records[name]])
        for name in ("step", "temperature", "energy")
    }
    log["time"] = log.pop("step") * step_fs * 1e-3
    header = "time / ps,temperature / K,potential energy / eV per atom"
    columns = np.stack([log["time"], log["temperature"], log["energy"]], 1)
    np.savetxt(output / "copper.csv", columns, delimiter=",", header=header)
    frames = {
        "300 K": first.records["position"][len(first.records) // 2 :],
        "3,000 K": second.records["position"][-len(second.records) // 4 :],
    }
    log["radius"] = np.arange(1.5, min(8.0, side / 2 - 0.3), 0.05)
    for name, positions in frames.items():
        log[name] = radial_distribution(positions, displacement, side, log["radius"])
    log["report"] = second.report
    return log


def radial_distribution(positions, displacement, side: float, radius) -> np.ndarray:
    """Average the pair correlation over frames, one far away being 1."""
    sigma = 0.05
    # Pairs count as Gaussians of width sigma; the list has to reach those that lie
    # beyond the last radius but not beyond half the box.
    beyond = radius[-1] + np.arange(1, 5) * sigma
    radii = jnp.asarray(np.concatenate([radius, beyond]), jnp.float32)
    neighbor_fn, pair_fn = quantity.pair_correlation_neighbor_list(
        displacement, side, radii, sigma, dr_threshold=0.0
    )
    neighbors = neighbor_fn.allocate(positions[0], extra_capacity=60)
    update = jax.jit(lambda R, neighbors: neighbors.update(R))
    count = jax.jit(lambda R, neighbors: jnp.mean(pair_fn(R, neighbor=neighbors), 0))
    frames = positions[:: max(1, len(positions) // 10)]
    total = 0.0
    for R in frames:
        neighbors = update(R, neighbors)
        neighbors.raise_if_overflowed()
        total = total + np.asarray(count(R, neighbors))
    density = positions[0].shape[0] / side**3
    shells = 4 * np.pi * density * sigma * np.sqrt(2 * np.pi)
    return total[: len(radius)] / (len(frames) * shells)


def differentiate(a: float, smoke: bool) -> dict:
    """Fit a Morse potential to how the published potential makes atoms move."""
    steps, updates = (20, 5) if smoke else (60, 40)
    repeats = 4
    R, mass, _ = crystal(repeats)
    side = a * repeats
    R = side * R
    displacement, shift = space.periodic(side)
    dt = 2.0 * FEMTOSECOND

    def start(neighbor_fn, energy_fn):
        neighbors = neighbor_fn.allocate(R)
        simulator = simulate.nve(energy_fn, shift, dt)
        kT = 600 * UNIT["temperature"]
        key = jax.random.key(2)
        return simulator, simulator.init(key, R, mass=mass, kT=kT, neighbor=neighbors)

    # Atoms of a crystal stay within a wide skin for a tenth of a picosecond, so one
    # list serves the whole trajectory.
    teacher_fn, teacher_energy = copper(displacement, side, dr_threshold=1.0)
    # Girifalco and Weizer, Phys. Rev. 114, 687 (1959), fitted copper as well.
    guess = {"epsilon": 0.3429, "alpha": 1.3588, "sigma": 2.866}
    pupil_fn, pupil_energy = energy.morse_neighbor_list(
        displacement, side, **guess, r_onset=4.5, r_cutoff=6.0, dr_threshold=1.0
    )

    def temperatures(simulator, state, neighbors, **parameters):
        def step(state, _):
            state = simulator.step(state, neighbor=neighbors, **parameters)
            kT = quantity.temperature(momentum=state.momentum, mass=state.mass)
            return state, kT / UNIT["temperature"]

        return jax.lax.scan(step, state, length=steps)[1]

    simulator, state = start(teacher_fn, teacher_energy)
    teacher = jax.jit(temperatures, static_argnums=0)(
        simulator, state, teacher_fn.allocate(R)
    )
    simulator, state = start(pupil_fn, pupil_energy)
    neighbors = pupil_fn.allocate(R)

    @jax.jit
    def motion(parameters):
        return temperatures(simulator, state, neighbors, **parameters)

    def last(parameters):
        return motion(parameters)[-1]

    parameters = {name: jnp.asarray(value) for name, value in guess.items()}
    gradient = jax.jit(jax.grad(last))(parameters)
    h = 1e-5
    difference = {
        name: (
            last({**parameters, name: parameters[name] + h})
            - last({**parameters, name: parameters[name] - h})
        )
        / (2 * h)
        for name in parameters
    }
    for name in parameters:
        print(
            f"d T(end) / d {name:8} autodiff {gradient[name]:14.6f}   "
            f"central difference {difference[name]:14.6f}"
        )

    def loss(scale):
        scaled = {name: parameters[name] * scale[name] for name in parameters}
        return jnp.mean((motion(scaled) / teacher - 1) ** 2)

    scale = jax.tree.map(jnp.ones_like, parameters)
    optimizer = optax.adam(0.004)
    moments = optimizer.init(scale)
    value_and_grad = jax.jit(jax.value_and_grad(loss))
    losses = []
    for _ in range(updates):
        value, slope = value_and_grad(scale)
        losses.append(float(value))
        change, moments = optimizer.update(slope, moments)
        scale = optax.apply_updates(scale, change)
    losses.append(float(loss(scale)))
    fitted = {name: float(parameters[name] * scale[name]) for name in parameters}
    return {
        "gradient": {name: float(value) for name, value in gradient.items()},
        "difference": {name: float(value) for name, value in difference.items()},
        "losses": losses,
        "parameters": fitted,
        "time": 2e-3 * np.arange(1, steps + 1),
        "teacher": np.asarray(teacher),
        "before": np.asarray(motion(parameters)),
        "after": np.asarray(motion({k: jnp.asarray(v) for k, v in fitted.items()})),
    }


def draw(melt: dict, fit: dict, path: Path) -> None:
    """Draw the run and the fit."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 7), layout="constrained")
    FigureCanvasAgg(figure)
    (heat, cold), (shells, motion) = figure.subplots(2, 2)
    heat.plot(melt["time"], melt["temperature"], color="tab:red")
    heat.set(title="Heating", xlabel="time / ps", ylabel="temperature / K")
    cold.plot(melt["time"], melt["energy"], color="tab:blue")
    cold.set(
        title="Potential energy", xlabel="time / ps", ylabel="energy / (eV per atom)"
    )
    for name, color in (("300 K", "tab:blue"), ("3,000 K", "tab:red")):
        shells.plot(melt["radius"], melt[name], color=color, label=name)
    shells.axhline(1.0, color="0.7", linewidth=0.8, zorder=0)
    shells.set(title="Radial distribution", xlabel="distance / Å", ylabel="g(r)")
    shells.legend(frameon=False)
    motion.plot(fit["time"], fit["teacher"], "k", label="embedded atom")
    motion.plot(fit["time"], fit["before"], "--", label="Morse, published")
    motion.plot(fit["time"], fit["after"], label="Morse, after the fit")
    motion.set(
        title="Fit through the trajectory",
        xlabel="time / ps",
        ylabel="temperature / K",
    )
    motion.legend(frameon=False)
    figure.savefig(path, dpi=150)


def main(smoke: bool = False, output: str | Path = "output/quickstart") -> dict:
    """Run all three parts.

    Args:
        smoke: Whether to run a small system for a short time.
        output: Folder for trajectory, log, checkpoint and figure.

    Returns:
        The numbers that are printed.
    """
    jax.config.update("jax_enable_x64", True)  # the run itself is in float32
    output = Path(output)
    output.mkdir(parents=True, exist_ok=True)

    print("Relaxing the cell")
    relaxed = relax()
    for name, (published, unit) in PUBLISHED.items():
        print(f"{name:17} {relaxed[name]:9.4f} {unit:9} published {published:8.3f}")

    print(f"\nHeating from {COLD:g} K to {HOT:g} K")
    a = relaxed["lattice constant"]
    melt = heat_and_melt(a, output, smoke)

    print("\nDifferentiating through a trajectory")
    fit = differentiate(a, smoke)
    print(f"loss {fit['losses'][0]:.2e} -> {fit['losses'][-1]:.2e}")
    print(", ".join(f"{name} {value:.4f}" for name, value in fit["parameters"].items()))

    draw(melt, fit, output / "copper.png")
    print(f"\nTrajectory, log, checkpoint and figure are in {output}")
    return {"relaxed": relaxed, "melt": melt, "fit": fit}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", default="output/quickstart")
    parser.add_argument("--smoke", action="store_true", help="small and short")
    options = parser.parse_args()
    main(options.smoke, options.output)
