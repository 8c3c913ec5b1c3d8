"""Learn a potential while running on it: ethanol at 500 K, labelled where unsure.

    python examples/active_learning.py [--output FOLDER] [--bias STRENGTH] [--smoke]

The potential is a Gaussian process with the kernel of an infinitely wide network. Its
molecular dynamics stops as soon as the energy of some atom is too uncertain; GFN2-xTB
labels that geometry, the fit takes it in by extending its factor, and the run goes on
where it stood. At the end stand errors on frames of a trajectory of GFN2-xTB itself,
beside those of a fit to as many frames of it. With a bias the run is drawn to what it
does not know.

Needs tblite (`pip install "jax-md[xtb]"`). Units: Angstrom, eV, atomic mass units.

Source:
    J. Vandermause et al., npj Comput. Mater. 6, 20 (2020) (labels on the fly);
    M. Kulichenko et al., Nat. Comput. Sci. 3, 230 (2023) (a bias along uncertainty).
"""

import argparse
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from jax_md import dataclasses, nn, quantity, simulate, space
from jax_md.energy import kernel_potential as kp
from jax_md.units import metal_unit_system
from jax_md.wide import stax

DATA = Path(__file__).parent / "data" / "ethanol.npz"
UNIT = metal_unit_system()
TEMPERATURE, FEMTOSECOND = 500.0 * UNIT["temperature"], 1e-3 * UNIT["time"]
STEP, EVERY = 0.5, 20  # femtoseconds, and most steps between two records
# Of the novelty of an atom. It was chosen among four by the outcome, which depends on
# it: with 0.015 ten labels leave a held-out force error of 892 meV per Angstrom, with
# 0.03 eight leave 411. Novelty is a guide to where to look and no bound of an error.
THRESHOLD = 0.03
NOISE = kp.Noise(energy=2e-4, force=2e-2)


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
        self.species, self.calls = self.atoms.numbers, 0

    def label(self, R) -> kp.Observation:
        """Return energy and forces at ``R``."""
        self.calls += 1
        self.atoms.positions = np.asarray(R)
        E, F = self.atoms.get_potential_energy(), self.atoms.get_forces()
        return kp.observation(R, energy=E, force=F, species=self.species)


def learner(oracle: Oracle):
    """Return a function from labelled geometries to a fit, and the first of them."""
    descriptor_fn = nn.behler_parrinello_symmetry_functions(
        space.free()[0],
        oracle.species,
        radial_etas=[0.05, 0.2, 0.5, 1.0, 2.0],
        angular_etas=[0.05, 0.05, 0.2, 0.2],
        lambdas=[1, -1, 1, -1],
        zetas=[1, 1, 2, 2],
        cutoff_distance=6.0,
        cutoff_fn=nn.quintic_cutoff,
    )
    network = stax.serial(stax.Dense(1, 0.5, 0.3), stax.Rbf(), stax.Dense(1, 1.0, 0.1))
    kernel = kp.network(network[2], "nngp", variance=30.0)  # eV^2

    # Scales of descriptors take geometries, but no labels.
    start = jnp.asarray(oracle.atoms.get_positions())
    noise = jax.random.normal(jax.random.key(0), (100, *start.shape))
    shaken = start[None] + 0.08 * noise
    x = jax.lax.map(lambda R: descriptor_fn(R, species=oracle.species), shaken)
    x = x.reshape(-1, x.shape[-1])
    scale = (x.mean(0), jnp.where(x.std(0) > 1e-6, x.std(0), 1.0))

    def fit(data):
        return kp.fit(kernel, descriptor_fn, data, noise=NOISE, standardize=scale)

    return fit, [oracle.label(R) for R in (start, *shaken[:2])]


def padded(p: kp.KernelPotential, labels: int) -> kp.KernelPotential:
    """Return what energies need, with room for so many labels: compiled only once.

    Atoms of no species have nothing in common with others: zeros change nothing.
    """
    rows = labels * p.training.groups[0].x.shape[1]

    def grow(a):
        return jnp.pad(a, [(0, rows - len(a))] + [(0, 0)] * (a.ndim - 1))

    arrays = {name: grow(getattr(p, name)) for name in ("x", "z", "beta", "u")}
    p = dataclasses.replace(p, **arrays, training=None, alpha=None)
    return dataclasses.replace(p, lower=factor(p))


@jax.jit
def factor(p: kp.KernelPotential):
    """Return the triangular factor of the kernel between all atoms of the data."""
    K = p.kernel(p.x, p.z, p.x, p.z)
    return jnp.linalg.cholesky(K + jnp.diag(1e-6 * jnp.diagonal(K)))


def novelty(R, species, p: kp.KernelPotential):
    r"""Return how new the surroundings of each atom are, from 0 (known) to 1.

    The share of its variance that is left to the energy of an atom if those of all
    atoms in the data were known, :math:`1 - k_{iM} K_{MM}^{-1} k_{Mi} / k_{ii}`. (What
    totals leave to it is no measure: they do not tell how atoms share a constant.)
    """
    x = (p.descriptor_fn(R, species=species) - p.mean) / p.scale
    k = p.kernel(p.x, p.z, x, species)
    known = jax.scipy.linalg.solve_triangular(p.lower, k, lower=True)
    return 1 - jnp.sum(known**2, 0) / p.kernel.diagonal(x, species)


def explore(oracle, potential, bias: float, duration: float, budget: int, score):
    """Run, stop, label and go on; return what happened, and the last fit."""
    species = jnp.asarray(oracle.species)
    energy_fn = kp.energy_fn(potential, species=oracle.species)

    def biased(R, p, **unused):
        E = energy_fn(R, potential=p)
        if bias == 0:
            return E
        return E - bias * jnp.sum(jnp.sqrt(novelty(R, species, p)))

    simulator = simulate.nvt_langevin(
        biased,
        space.free()[1],
        dt=STEP * FEMTOSECOND,
        kT=TEMPERATURE,
        gamma=0.01 / FEMTOSECOND,
    )

    @jax.jit
    def advance(state, p, threshold):
        """Run until an atom is too new, or for a while."""
        force = quantity.force(biased)(state.position, p=p)
        state = state.set(force=force)  # that of the potential as it is now

        def go_on(carry):
            _, new, k = carry
            return (k < EVERY) & (new <= threshold)

        def step(carry):
            state, _, k = carry
            state = simulator.step(state, p=p)
            return state, jnp.max(novelty(state.position, species, p)), k + 1

        return jax.lax.while_loop(go_on, step, (state, jnp.zeros(()), 0))

    start = jnp.asarray(oracle.atoms.get_positions())
    mass = jnp.asarray(oracle.atoms.get_masses())[:, None]
    room = padded(potential, budget)
    state = simulator.init(jax.random.key(1), start, mass, p=room)
    found: dict = {"time": [], "novelty": [], "labelled": []}
    found.update(labels=[oracle.calls], error=[score(room)])
    now = 0.0
    while now < duration:
        can_ask = oracle.calls < budget
        state, new, k = advance(state, room, THRESHOLD if can_ask else jnp.inf)
        now += float(k) * STEP / 1e3
        found["time"].append(now)
        found["novelty"].append(float(new))
        if new > THRESHOLD and can_ask:
            potential = kp.update(potential, [oracle.label(state.position)])
            room = padded(potential, budget)
            found["labelled"].append((now, float(new)))
            found["labels"].append(oracle.calls)
            found["error"].append(score(room))
            print(
                f"{found['time'][-1]:6.3f} ps: novelty {float(new):.5f}, label "
                f"{oracle.calls:2d}; held-out force error "
                f"{found['error'][-1][1]:5.0f} meV per Angstrom"
            )
    return found, potential


def held_out(species, count: int):
    """Return frames of GFN2-xTB's own trajectory, and a score of fits to the last."""
    data = np.load(DATA)
    R, E, F = (jnp.asarray(data[k], float) for k in ("position", "energy", "force"))
    test = slice(len(R) - count, None)

    @jax.jit
    def errors(p):
        energy_fn = kp.energy_fn(p, species=species)
        force_fn = quantity.force(energy_fn)
        e, f = jax.lax.map(lambda R: (energy_fn(R), force_fn(R)), R[test])
        return e - E[test], f - F[test]

    def score(p):
        e, f = errors(p)
        return 1e3 * float(jnp.std(e)) / len(species), 1e3 * float(jnp.std(f))

    def calibration(p):
        """Errors of energies in units of the deviation that the fit expects."""
        variance_fn = kp.variance_fn(p, species=species)
        variance = jax.jit(lambda R: jax.lax.map(lambda R: variance_fn(R)[0], R))
        e, _ = errors(p)
        return float(jnp.sqrt(jnp.mean(e**2 / variance(R[test]))))

    frames = [
        kp.observation(R[i], energy=E[i], force=F[i], species=species)
        for i in range(len(R) - count)
    ]
    return frames, score, calibration, 1e3 * float(jnp.std(F))


def draw(found: dict, path: Path) -> None:
    """Draw the uncertainty along the run, and the error over labels."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    left.semilogy(found["time"], found["novelty"], lw=1)
    left.axhline(THRESHOLD, color="0.6", ls="--", label="threshold")
    if found["labelled"]:
        left.plot(*zip(*found["labelled"], strict=True), "v", color="C3", label="label")
    left.set(xlabel="time / ps", ylabel="largest novelty of an atom")
    right.loglog(
        found["labels"], [f for _, f in found["error"]], "o-", label="on the fly"
    )
    right.plot(found["labels"][-1], found["trajectory error"][1], "s", color="C1",
               label="frames of GFN2-xTB's run")  # fmt: skip
    right.axhline(found["spread"], color="0.6", ls="--", label="spread of the forces")
    right.set(xlabel="labels", ylabel="held-out force error / (meV per Å)")
    for axis in (left, right):
        axis.legend(frameon=False)
    figure.savefig(path, dpi=150)


def main(
    smoke: bool = False,
    output: str | Path = "output/active_learning",
    bias: float = 0.0,
) -> dict:
    """Learn on the fly, and hold the result against held-out frames.

    Args:
        smoke: Whether to stop after few labels and a short run.
        output: Folder for the figure.
        bias: Strength of the bias along the root of the novelty of atoms (eV).

    Returns:
        The run, with the errors ``(meV per atom, meV per Angstrom)`` after each label.
    """
    jax.config.update("jax_enable_x64", True)
    output = Path(output)
    output.mkdir(parents=True, exist_ok=True)
    oracle = Oracle()
    fit, seen = learner(oracle)
    frames, score, calibration, spread = held_out(oracle.species, 50)
    duration, budget = (0.1, 6) if smoke else (3.0, 40)  # ps
    found, potential = explore(oracle, fit(seen), bias, duration, budget, score)
    order = np.random.default_rng(0).permutation(len(frames))[: oracle.calls]
    other = padded(fit([frames[i] for i in order]), budget)
    found["trajectory error"] = score(other)
    found["calibration"], found["spread"] = calibration(potential), spread
    draw(found, output / "active_learning.png")
    (energy_error, force_error), other = found["error"][-1], found["trajectory error"]
    print(
        f"{oracle.calls} labels for {found['time'][-1]:.2f} ps. Held-out frames: "
        f"{energy_error:.2f} meV per atom, {force_error:.0f} meV per Angstrom of "
        f"{spread:.0f}; after as many frames of a trajectory of GFN2-xTB "
        f"{other[0]:.2f} and {other[1]:.0f}. Errors of energies are "
        f"{found['calibration']:.2f} of the deviation that the fit expects"
    )
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", default="output/active_learning")
    parser.add_argument("--bias", type=float, default=0.0)
    parser.add_argument("--smoke", action="store_true", help="short, with few labels")
    options = parser.parse_args()
    main(options.smoke, options.output, options.bias)
