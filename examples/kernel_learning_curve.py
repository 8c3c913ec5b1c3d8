"""How fast Gaussian processes of wide networks learn a potential.

    python examples/kernel_learning_curve.py [--output FOLDER] [--smoke]

The kernels are those of networks with two hidden layers of infinite width: NNGP, a
Bayesian network, and NTK, one trained by gradient descent. Beside them stands the usual
Gaussian kernel (RBF). They are fitted to energies and forces of

1. silicon, 64 atoms at 300, 600 and 900 K: a sparse fit over 500 representative atoms;
   half of them change errors by 2 %, so that their number does not limit the curve;
2. ethanol at 500 K, three species: a full fit.

Each kernel has a length, a scale and a size of the noise. All three are those that make
the labels of a few training frames most likely, found on the same grid for all kernels.
Errors are root mean squares over frames that neither a fit nor a choice has seen.

Source:
    C. E. Rasmussen, C. K. I. Williams, "Gaussian Processes for Machine Learning",
    MIT Press 2006, section 5.4 (the likelihood of hyper-parameters).
"""

import argparse
import functools
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jax_md import nn, space
from jax_md.energy import kernel_potential as kp
from jax_md.wide import stax

DATA = Path(__file__).parent / "data"
KERNELS = "NNGP", "NTK", "RBF"
LENGTHS = 2.0 ** np.arange(-1, 8)  # in units of the spread of a descriptor
RATIOS = 10.0 ** np.arange(-5, 0, 0.5)  # noise of forces over scale of the kernel
NOISE = np.array([1e-2, 1.0])  # of energies per atom and forces, as a ratio


def kernel(name: str, length, variance=1.0):
    """Return a kernel; networks vary the more slowly the smaller first weights are."""
    if name == "RBF":
        return kp.rbf(length, variance)
    first = stax.Dense(1, 1 / length, 0.2), stax.Erf()
    second = stax.Dense(1, 1.0, 0.3), stax.Erf()
    network = stax.serial(*first, *second, stax.Dense(1, 1.0, 0.1))[2]
    return kp.network(network, name.lower(), variance)


def choose(name: str, training: kp.Training) -> tuple[float, float, float]:
    """Return length, scale and noise of forces that make the labels most likely."""
    # Forces add up to nothing whatever the potential, and would praise any fit for as
    # little noise as there can be.
    training = kp.independent(training)
    m = len(training.y)

    @jax.jit
    @functools.partial(jax.vmap, in_axes=(None, None, 0))
    def evidence(training, length, ratio):
        """Return the logarithm of the likelihood at the best scale, and that scale."""
        p = kp.fit(
            kernel(name, length),
            training.descriptor_fn,
            training,
            noise=tuple(ratio * NOISE),
        )
        scale = jnp.sqrt(training.y @ p.alpha / m)
        volume = jnp.sum(jnp.log(jnp.diagonal(p.lower)))
        return -m * jnp.log(scale) - volume, scale

    found = [evidence(training, length, RATIOS) for length in LENGTHS]
    values, scales = np.moveaxis(np.array(found), 1, 0)
    i, j = np.unravel_index(np.nanargmax(values), values.shape)
    return LENGTHS[i], scales[i, j], scales[i, j] * RATIOS[j]


class System(NamedTuple):
    """What is learned, and from how many frames.

    Attributes:
        descriptor_fn: Descriptors.
        frames: Positions, energies and forces.
        species: Labels of the atoms, or None.
        sizes: Frames in each fit.
        few: Frames by which hyper-parameters are chosen.
        options: Of the fits.
    """

    descriptor_fn: Callable
    frames: dict
    species: np.ndarray | None
    sizes: tuple[int, ...]
    few: int
    options: dict


def silicon() -> System:
    """Return silicon."""
    frames = dict(np.load(DATA / "silicon.npz"))
    displacement, _ = space.periodic(float(frames.pop("box")))
    descriptor_fn = nn.behler_parrinello_symmetry_functions(
        displacement,
        radial_etas=[0.02, 0.08, 0.2, 0.4, 0.8, 1.5],
        angular_etas=[0.02, 0.02, 0.08, 0.08, 0.08, 0.08, 0.2, 0.2],
        lambdas=[1, -1, 1, -1, 1, -1, 1, -1],
        zetas=[1, 1, 1, 1, 4, 4, 2, 2],
        cutoff_distance=4.2,
        cutoff_fn=nn.quintic_cutoff,
    )
    options = {"environments": 500, "selection": "farthest_point"}
    return System(descriptor_fn, frames, None, (2, 4, 8, 16, 32), 2, options)


def ethanol() -> System:
    """Return the molecule."""
    frames = dict(np.load(DATA / "ethanol.npz"))
    species = frames.pop("species")
    displacement, _ = space.free()
    descriptor_fn = nn.behler_parrinello_symmetry_functions(
        displacement,
        species,
        radial_etas=[0.05, 0.2, 0.5, 1.0, 2.0],
        angular_etas=[0.05, 0.05, 0.2, 0.2],
        lambdas=[1, -1, 1, -1],
        zetas=[1, 1, 2, 2],
        cutoff_distance=6.0,
        cutoff_fn=nn.quintic_cutoff,
    )
    sizes = 5, 10, 20, 40, 80, 120
    return System(descriptor_fn, frames, species, sizes, 20, {})


def learn(system: System, count: int | None, held_out: int) -> dict:
    """Fit to growing sets; return errors in meV per atom and meV per Angstrom."""
    descriptor_fn, species = system.descriptor_fn, system.species
    order = np.random.default_rng(0).permutation(len(system.frames["energy"]))
    names = "position", "energy", "force"
    R, E, F = (jnp.asarray(system.frames[k][order], float) for k in names)
    n, test = R.shape[1], slice(len(R) - held_out, None)

    def prepare(size: int) -> kp.Training:
        return kp.prepare(
            descriptor_fn,
            [
                kp.observation(R[i], energy=E[i], force=F[i], species=species)
                for i in range(size)
            ],
        )

    few = prepare(system.few)
    chosen = {name: choose(name, few) for name in KERNELS}
    for name, (length, scale, noise) in chosen.items():
        print(
            f"{name:4}: length {length:g}, scale {scale:.3g} eV, noise "
            f"{1e3 * noise:.1f} meV per Angstrom"
        )
    errors: dict = {"size": list(system.sizes[:count]), "chosen": chosen}
    for size in errors["size"]:
        training = prepare(size)
        for name, (length, scale, noise) in chosen.items():
            potential = kp.fit(
                kernel(name, length, scale**2),
                descriptor_fn,
                training,
                noise=tuple(noise * NOISE),
                **system.options,
            )
            energy_fn = kp.energy_fn(potential, species=species)
            both = jax.jit(lambda R, f=energy_fn: jax.lax.map(jax.value_and_grad(f), R))
            e, slope = both(R[test])
            energy_error = 1e3 * float(jnp.sqrt(jnp.mean((e - E[test]) ** 2))) / n
            force_error = 1e3 * float(jnp.sqrt(jnp.mean((slope + F[test]) ** 2)))
            errors.setdefault(name, []).append((energy_error, force_error))
            print(
                f"{size:4d} frames, {name:4}: {energy_error:7.2f} meV per atom, "
                f"{force_error:7.1f} meV per Angstrom"
            )
    errors["spread"] = (1e3 * float(jnp.std(E)) / n, 1e3 * float(jnp.std(F)))
    return errors


TICKS = 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000


def draw(curves: dict, path: Path) -> None:
    """Draw the errors over the number of frames."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 7), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(2, 2, sharex="col")
    units = ("energy error / (meV per atom)", "force error / (meV per Å)")
    for column, (system, errors) in zip(grid.T, curves.items(), strict=True):
        for which, axis in enumerate(column):
            for name in KERNELS:
                values = [pair[which] for pair in errors[name]]
                axis.loglog(errors["size"], values, "o-", label=name)
            spread = errors["spread"][which]
            axis.axhline(spread, color="0.6", ls="--", label="spread of the data")
            axis.set(ylabel=units[which], xticks=errors["size"])
            axis.set_xticklabels(errors["size"])
            low, high = axis.get_ylim()
            ticks = [tick for tick in TICKS if low < tick < high]
            axis.set_yticks(ticks, labels=[f"{tick:g}" for tick in ticks])
            axis.minorticks_off()
        column[0].set_title(system)
        column[1].set_xlabel("frames in the fit")
    grid[0, 0].legend(frameon=False)
    figure.savefig(path, dpi=150)


def main(smoke: bool = False, output: str | Path = "output/learning_curve") -> dict:
    """Learn both systems.

    Args:
        smoke: Whether to stop after two sizes.
        output: Folder for the figure.

    Returns:
        Errors by system and kernel: pairs of meV per atom and meV per Angstrom.
    """
    jax.config.update("jax_enable_x64", True)
    output = Path(output)
    output.mkdir(parents=True, exist_ok=True)
    curves = {}
    for system in (silicon, ethanol):
        print(system.__name__)
        curves[system.__name__] = learn(system(), 2 if smoke else None, 24)
    draw(curves, output / "learning_curve.png")
    return curves


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", default="output/learning_curve")
    parser.add_argument("--smoke", action="store_true", help="stop after two sizes")
    options = parser.parse_args()
    main(options.smoke, options.output)
