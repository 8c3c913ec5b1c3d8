"""How fast Gaussian processes of wide networks learn a potential.

    python examples/kernel_learning_curve.py [--output FOLDER] [--smoke]

The kernels are those of networks with two hidden layers of infinite width: NNGP, a
Bayesian network, and NTK, one trained by gradient descent. Beside them stands the usual
Gaussian kernel (RBF). They are fitted to energies and forces of

1. silicon, 64 atoms at 300, 600 and 900 K: a sparse fit over representative atoms;
2. ethanol at 500 K, three species: a full fit.

Errors are root mean squares over frames that no fit has seen.
"""

import argparse
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from jax_md import nn, quantity, space
from jax_md.energy import kernel_potential as kp
from jax_md.wide import stax

DATA = Path(__file__).parent / "data"


def kernels() -> dict:
    """Return the kernels by name.

    Small first weights make networks vary slowly with their inputs; the variances bring
    the energy of an atom to a scale of some eV.
    """
    layers = (stax.Dense(1, 0.5, 0.2), stax.Erf(), stax.Dense(1, 1.0, 0.3), stax.Erf())
    network = stax.serial(*layers, stax.Dense(1, 1.0, 0.1))[2]
    return {
        "NNGP": kp.network(network, "nngp", variance=300.0),
        "NTK": kp.network(network, "ntk", variance=300.0),
        "RBF": kp.rbf(length=2.0, variance=30.0),
    }


def silicon():
    """Return descriptors, frames in random order, and the training sizes."""
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
    options = {
        "noise": (2e-4, 2e-2),
        "environments": 250,
        "selection": "farthest_point",
    }
    return descriptor_fn, frames, None, (2, 4, 8), options


def ethanol():
    """Return the same for the molecule."""
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
    options = {"noise": (2e-4, 2e-2)}
    return descriptor_fn, frames, species, (5, 10, 20), options


def learn(system, count: int, held_out: int) -> dict:
    """Fit to growing sets; return errors in meV per atom and meV per Angstrom."""
    descriptor_fn, frames, species, sizes, options = system
    order = np.random.default_rng(0).permutation(len(frames["energy"]))
    R, E, F = (jnp.asarray(frames[k][order], float) for k in DATA_NAMES)
    n, test = R.shape[1], slice(len(R) - held_out, None)
    errors: dict = {"size": list(sizes[:count])}
    for size in errors["size"]:
        seen = [
            kp.observation(R[i], energy=E[i], force=F[i], species=species)
            for i in range(size)
        ]
        training = kp.prepare(descriptor_fn, seen)
        for name, kernel in kernels().items():
            potential = kp.fit(kernel, descriptor_fn, training, **options)
            energy_fn = kp.energy_fn(potential, species=species)
            both = lambda R, f=energy_fn: (f(R), quantity.force(f)(R))  # noqa: E731
            e, f = jax.jit(lambda R, both=both: jax.lax.map(both, R))(R[test])
            energy_error = 1e3 * float(jnp.sqrt(jnp.mean((e - E[test]) ** 2))) / n
            force_error = 1e3 * float(jnp.sqrt(jnp.mean((f - F[test]) ** 2)))
            errors.setdefault(name, []).append((energy_error, force_error))
            print(
                f"{size:4d} frames, {name:4}: {energy_error:7.2f} meV per atom, "
                f"{force_error:7.1f} meV per Angstrom"
            )
    errors["spread"] = (1e3 * float(jnp.std(E)) / n, 1e3 * float(jnp.std(F)))
    return errors


DATA_NAMES = ("position", "energy", "force")


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
            for name in kernels():
                values = [pair[which] for pair in errors[name]]
                axis.loglog(errors["size"], values, "o-", label=name)
            spread = errors["spread"][which]
            axis.axhline(spread, color="0.6", ls="--", label="spread of the data")
            axis.set(ylabel=units[which], xticks=errors["size"])
            axis.set_xticks([], minor=True)
            axis.set_xticklabels(errors["size"])
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
        curves[system.__name__] = learn(system(), 2 if smoke else 3, 24)
    draw(curves, output / "learning_curve.png")
    return curves


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", default="output/learning_curve")
    parser.add_argument("--smoke", action="store_true", help="stop after two sizes")
    options = parser.parse_args()
    main(options.smoke, options.output)
