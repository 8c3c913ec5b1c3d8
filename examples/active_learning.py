"""Learn a potential while running on it: ethanol at 500 K, labelled where unsure.

    python examples/active_learning.py [--output FOLDER] [--seed N] [--bias DEPTH]
        [--tolerance DEVIATION] [--smoke]

The potential is a Gaussian process with the kernel of an infinitely wide network. Its
molecular dynamics stops as soon as some force is more uncertain than is tolerated;
GFN2-xTB labels that geometry, the fit takes it in, and the run goes on where it
stood. Scale of the kernel and size of the noise are those that make the
labels most likely, so that the uncertainty has a unit and no number is fitted to the
frames of the test: those of a trajectory of GFN2-xTB itself, held against fits to as
many frames of another. With a bias the run is drawn to energies that it does not know.

Needs tblite (`pip install "jax-md[xtb]"`). Units: Angstrom, eV, atomic mass units.

Source:
    J. Vandermause et al., npj Comput. Mater. 6, 20 (2020) (labels on the fly);
    M. Kulichenko et al., Nat. Comput. Sci. 3, 230 (2023) (a bias along uncertainty).
"""

import argparse
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jax_md import dataclasses, nn, quantity, simulate, space
from jax_md.energy import kernel_potential as kp
from jax_md.units import metal_unit_system
from jax_md.wide import stax

DATA = Path(__file__).parent / "data"
POOL, TEST = DATA / "ethanol.npz", DATA / "ethanol_test.npz"
UNIT = metal_unit_system()
TEMPERATURE, FEMTOSECOND = 500.0 * UNIT["temperature"], 1e-3 * UNIT["time"]
STEP, EVERY = 0.5, 10  # femtoseconds, and steps between two looks at the uncertainty
TOLERANCE = 0.2  # eV per Angstrom, standard deviation of a component of a force
NOISE = np.array([1e-2, 1.0])  # of energies per atom and forces, as a ratio
RATIOS = 10.0 ** np.arange(-5, -1.9, 0.5)  # noise of forces over scale of the kernel


class Oracle:
    """GFN2-xTB, and how often it was asked."""

    def __init__(self):
        try:
            from ase.build import molecule
            from tblite.ase import TBLite
        except ImportError as error:
            raise ImportError(
                'this example needs tblite and ASE: pip install "jax-md[xtb]"'
            ) from error
        self.atoms = molecule("CH3CH2OH")
        self.atoms.calc = TBLite(method="GFN2-xTB", verbosity=0)
        self.species, self.start = self.atoms.numbers, self.atoms.get_positions()
        self.mass, self.calls = self.atoms.get_masses()[:, None], 0

    def label(self, R) -> kp.Observation:
        """Return energy and forces at ``R``."""
        self.calls += 1
        self.atoms.positions = np.asarray(R)
        E, F = self.atoms.get_potential_energy(), self.atoms.get_forces()
        return kp.observation(R, energy=E, force=F, species=self.species)


class Fit(NamedTuple):
    """A potential in units of the scale of the kernel, which is beside it."""

    potential: kp.KernelPotential
    signal: jax.Array  # eV


class Learner:
    """Fits with room for so many labels: everything is compiled only once."""

    def __init__(self, shaken, species, first: kp.Observation, room: int):
        self.descriptor_fn = nn.behler_parrinello_symmetry_functions(
            space.free()[0],
            species,
            radial_etas=[0.03, 0.08, 0.2, 0.4, 0.8, 1.6, 3.2],
            angular_etas=[0.05] * 4 + [0.2] * 4,
            lambdas=[1, -1] * 4,
            zetas=[1, 1, 4, 4] * 2,
            cutoff_distance=6.0,
            cutoff_fn=nn.quintic_cutoff,
        )
        layers = stax.Dense(1, 0.1, 0.3), stax.Rbf(), stax.Dense(1, 1.0, 0.1)
        self.kernel = kp.network(stax.serial(*layers)[2], "nngp")
        self.room, self.zero = room, np.full(3, first.energy / len(species))
        # Scales of descriptors take geometries, but no labels.
        x = jax.lax.map(lambda R: self.descriptor_fn(R, species=species), shaken)
        x = x.reshape(-1, x.shape[-1])
        self.scale = (x.mean(0), jnp.where(x.std(0) > 1e-6, x.std(0), 1.0))
        self.fit = jax.jit(self._fit)

    def __call__(self, labels: list, ratio=None) -> Fit:
        """Return the fit to labels; without a ratio, that which is most likely."""
        full = [*labels, *[labels[-1]] * (self.room - len(labels))]
        training = kp.prepare(
            self.descriptor_fn, full, standardize=self.scale, reference=self.zero
        )
        # That forces and torques add up to nothing is no evidence for little noise.
        training = kp.independent(training)
        ratios = RATIOS if ratio is None else [ratio]
        fits = [self.fit(training, len(labels), r) for r in ratios]
        return max(fits, key=lambda fit: np.nan_to_num(fit[0], nan=-np.inf))[1]

    def _fit(self, training: kp.Training, count, ratio):
        (group,) = training.groups
        # Atoms of no species have nothing in common with any: these labels are void.
        real = jnp.arange(self.room) < count
        group = dataclasses.replace(
            group,
            z=jnp.where(real[:, None], group.z, 0),
            jacobian=jnp.where(real[:, None, None, None], group.jacobian, 0),
        )
        real = jnp.repeat(real, group.rows)
        y = jnp.where(real, training.y, 0)
        training = dataclasses.replace(training, groups=(group,), y=y)
        p = kp.fit(
            self.kernel,
            self.descriptor_fn,
            training,
            noise=tuple(ratio * NOISE),
            coupling=np.eye(3),
        )
        # The likelihood of the data, at its maximum over the scale of the kernel.
        m = count * group.rows
        signal = jnp.sqrt(y @ p.alpha / m)
        halves = jnp.where(real, jnp.log(jnp.diagonal(p.lower)), 0)
        evidence = -m * jnp.log(signal) - jnp.sum(halves)
        return evidence, Fit(p, signal)


def explore(oracle, learn, labels, score, duration, tolerance, depth, key):
    """Run, stop, label and go on; return what happened, and the labels."""
    species = oracle.species

    def biased(R, fit, **unused):
        E = kp.energy_fn(fit.potential, species)(R)
        if depth == 0:
            return E
        total, _ = kp.variance_fn(fit.potential, species)(R)
        unknown = (fit.signal / TEMPERATURE) ** 2 * total
        return E - depth * TEMPERATURE * (1 - jnp.exp(-unknown / 2))

    simulator = simulate.nvt_langevin(
        biased,
        space.free()[1],
        dt=STEP * FEMTOSECOND,
        kT=TEMPERATURE,
        gamma=0.01 / FEMTOSECOND,
    )

    @jax.jit
    def advance(state, fit, steps):
        """Run so many steps; return also forces and their standard deviations."""
        force = quantity.force(biased)(state.position, fit=fit)
        state = state.set(force=force)  # that of the potential as it is now
        state = jax.lax.fori_loop(
            0, steps, lambda _, state: simulator.step(state, fit=fit), state
        )
        R, p = state.position, fit.potential
        force = quantity.force(kp.energy_fn(p, species))(R)
        variance = kp.force_variance_fn(p, species)(R)
        return state, force, fit.signal * jnp.sqrt(variance + p.noise.force**2)

    fit = learn(labels)
    state = simulator.init(key, jnp.asarray(oracle.start), oracle.mass, fit=fit)
    found: dict = {"time": [], "uncertainty": [], "labelled": [], "surprise": []}
    found.update(labels=[len(labels)], error=[score(fit)])
    chosen, now = len(labels), 0.0
    while now < duration:
        before, steps = state, EVERY
        state, force, expected = advance(state, fit, steps)
        if jnp.max(expected) > tolerance:  # once more, to where that was passed first
            state, steps = before, 0
            while steps < EVERY:
                state, force, expected = advance(state, fit, 1)
                steps += 1
                if jnp.max(expected) > tolerance:
                    break
        now += steps * STEP / 1e3
        worst = float(jnp.max(expected))
        found["time"].append(now)
        found["uncertainty"].append(worst)
        if worst <= tolerance:
            continue
        if len(labels) == learn.room:
            print(f"{now:6.3f} ps: no label is left, and the potential is unsure")
            break
        labels = [*labels, oracle.label(state.position)]
        wrong = jnp.linalg.norm(force - labels[-1].force)
        found["surprise"].append(float(wrong / jnp.linalg.norm(expected)))
        again = len(labels) >= 1.5 * chosen  # hyper-parameters, now that more is known
        chosen = len(labels) if again else chosen
        fit = learn(labels, None if again else fit.potential.noise.force)
        found["labelled"].append((now, worst))
        found["labels"].append(len(labels))
        found["error"].append(score(fit))
        print(
            f"{now:6.3f} ps: label {len(labels):2d}, deviation {worst:.2f} eV per "
            f"Angstrom; held-out error {found['error'][-1][1]:4.0f} meV per Angstrom"
        )
    return found, labels


def frames(path: Path, some: slice, species) -> list:
    """Return frames of GFN2-xTB's own trajectory."""
    data = np.load(path)
    columns = (data[k][some].astype(float) for k in ("position", "energy", "force"))
    return [
        kp.observation(R, energy=E, force=F, species=species)
        for R, E, F in zip(*columns, strict=True)
    ]


def scorer(test: list, species):
    """Return a function from fits to errors, meV per atom and meV per Angstrom."""
    names = "position", "energy", "force"
    R, E, F = (jnp.stack([getattr(seen, k) for seen in test]) for k in names)

    @jax.jit
    def score(fit):
        both = jax.value_and_grad(kp.energy_fn(fit.potential, species))
        e, slope = jax.lax.map(both, R)
        rms = [jnp.sqrt(jnp.mean(x**2)) for x in (e - E, slope + F)]
        return 1e3 * rms[0] / len(species), 1e3 * rms[1]

    return (lambda fit: tuple(map(float, score(fit)))), 1e3 * float(jnp.std(F))


def calibration(fit: Fit, test: list, species) -> float:
    """Return the error of forces as a multiple of what was expected of it."""
    R = jnp.stack([seen.position for seen in test])
    F = jnp.stack([seen.force for seen in test])
    force = quantity.force(kp.energy_fn(fit.potential, species))
    variance = jax.lax.map(kp.force_variance_fn(fit.potential, species), R)
    wrong = jax.lax.map(force, R) - F
    expected = fit.signal**2 * (variance + fit.potential.noise.force**2)
    return float(jnp.sqrt(jnp.mean(wrong**2) / jnp.mean(expected)))


def draw(found: dict, tolerance: float, path: Path) -> None:
    """Draw the uncertainty along the run, and the error over labels."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    left.semilogy(found["time"], found["uncertainty"], lw=0.8)
    left.axhline(tolerance, color="0.6", ls="--", label="tolerated")
    if found["labelled"]:
        left.plot(*zip(*found["labelled"], strict=True), "v", color="C3", label="label")
    left.set(xlabel="time / ps", ylabel="largest deviation of a force / (eV per Å)")
    right.loglog(
        found["labels"], [f for _, f in found["error"]], "o-", label="on the fly"
    )
    right.plot(found["labels"][-1], found["trajectory error"][1], "s", color="C1",
               label="frames of GFN2-xTB's run")  # fmt: skip
    right.axhline(found["spread"], color="0.6", ls="--", label="spread of the forces")
    right.set(xlabel="labels", ylabel="error of forces / (meV per Å)")
    right.set_xticks([], minor=True)
    right.set_xticks([3, 5, 10, 20, 40], labels=["3", "5", "10", "20", "40"])
    for axis, ticks in ((left, [0.05, 0.1, 0.2, 0.5, 1]), (right, [50, 100, 200, 500])):
        axis.set_yticks([], minor=True)
        axis.set_yticks(ticks, labels=[f"{tick:g}" for tick in ticks])
        axis.legend(frameon=False)
    figure.savefig(path, dpi=150)


def main(
    smoke: bool = False,
    output: str | Path = "output/active_learning",
    seed: int = 0,
    bias: float = 0.0,
    tolerance: float = TOLERANCE,
) -> dict:
    """Learn on the fly, and hold the result against held-out frames.

    Args:
        smoke: Whether to stop after few labels and a short run.
        output: Folder for the figure.
        seed: Of the run, and of the frames that it is compared with.
        bias: Depth of the bias along the variance of the energy (kT).
        tolerance: Standard deviation of a component of a force that asks for a label
            (eV per Angstrom).

    Returns:
        The run, with the errors ``(meV per atom, meV per Angstrom)`` after each label,
        and those of as many frames of a trajectory of GFN2-xTB.
    """
    jax.config.update("jax_enable_x64", True)
    output = Path(output)
    output.mkdir(parents=True, exist_ok=True)
    duration, room = (0.05, 6) if smoke else (3.0, 40)  # ps, labels
    oracle = Oracle()
    shake, run = jax.random.split(jax.random.key(seed))
    start = jnp.asarray(oracle.start)
    shaken = start + 0.05 * jax.random.normal(shake, (100, *start.shape))
    labels = [oracle.label(R) for R in (start, *shaken[:2])]
    learn = Learner(shaken, oracle.species, labels[0], room)
    pool = frames(POOL, slice(150), oracle.species)
    test = frames(TEST, slice(20 if smoke else None), oracle.species)
    score, spread = scorer(test, oracle.species)
    found, labels = explore(
        oracle, learn, labels, score, duration, tolerance, bias, run
    )
    order = np.random.default_rng(seed).permutation(len(pool))[: len(labels)]
    final = learn(labels)
    found["error"].append(score(final))
    found["labels"].append(len(labels))
    found["calibration"] = calibration(final, test[::5], oracle.species)
    found["trajectory error"] = score(learn([pool[i] for i in order]))
    found["spread"] = spread
    draw(found, tolerance, output / "active_learning.png")
    (energy_error, force_error), other = found["error"][-1], found["trajectory error"]
    surprise = np.sqrt(np.mean(np.square(found["surprise"])))
    print(
        f"{len(labels)} labels for {found['time'][-1]:.2f} ps. Held-out frames: "
        f"{energy_error:.2f} meV per atom, {force_error:.0f} meV per Angstrom of "
        f"{found['spread']:.0f}; after as many frames of a trajectory of GFN2-xTB "
        f"{other[0]:.2f} and {other[1]:.0f}. Error over deviation: {surprise:.2f} when "
        f"labelled, {found['calibration']:.2f} on held-out frames"
    )
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", default="output/active_learning")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--bias", type=float, default=0.0, help="depth in kT")
    parser.add_argument("--tolerance", type=float, default=TOLERANCE)
    parser.add_argument("--smoke", action="store_true", help="short, with few labels")
    options = parser.parse_args()
    main(options.smoke, options.output, options.seed, options.bias, options.tolerance)
