"""Packings near jamming: elastic moduli, and diameters designed for wanted ones.

    python examples/jamming.py [--smoke]

1. Compress soft discs of two sizes. Towards jamming their shear modulus G vanishes
   faster than their bulk modulus B. Moduli are second derivatives of the energy at the
   minimum with respect to a strain, and the minimum moves with the strain.
2. Change the diameters such that pressure and G/B take values of our choice. That needs
   the derivatives of the moduli with respect to each diameter, hence third derivatives
   through the minimization; one is held against a central difference.

Source:
    C. S. O'Hern, L. E. Silbert, A. J. Liu, S. R. Nagel, Phys. Rev. E 68, 011306 (2003).
"""

import argparse
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from jax_md import adjoint, energy, minimize, space

displacement, shift = space.periodic_general(1.0, fractional_coordinates=True)
discs = energy.soft_sphere_pair(displacement, alpha=2.5)  # spheres of Hertz


def strained(side, strain):
    """Box after an expansion and two shears that keep its area."""
    expansion, stretch, shear = strain
    edges = jnp.exp(jnp.stack([expansion + stretch, expansion - stretch]) / 2)
    return side * edges[:, None] * jnp.eye(2).at[0, 1].set(shear)


def packing_energy(params, R):
    """Energy of discs at fractional positions ``[n, 2]`` in a strained square."""
    diameter, side, strain = params
    sigma = (diameter[:, None] + diameter) / 2
    return discs(R, box=strained(side, strain), sigma=sigma)


def relax(diameter, side, strain, R):
    """Minimize from `R`; differentiable in all but that."""
    moves = partial(shift, box=jax.lax.stop_gradient(side))
    solver = minimize.until_converged(minimize.fire_descent, moves, 1e-11)
    return adjoint.minimum(packing_energy, (diameter, side, strain), R, solver)


@jax.jit
def elasticity(diameter, side, R):
    """Return ``[pressure, G / B]`` of the packing that relaxes from `R`, and itself."""

    def stress(strain):
        found = relax(diameter, side, strain, R)
        # The energy does not see the minimum move, but its slope does.
        slope = jax.grad(lambda e: packing_energy((diameter, side, e), found.position))
        tension = slope(strain) / side**2
        return tension, (tension, found)

    C, (tension, found) = jax.jacfwd(stress, has_aux=True)(jnp.zeros(3))
    bulk = C[0, 0] - tension[0]  # V d2E/dV2, where V grows as exp(expansion)
    shear = (C[1, 1] + C[2, 2]) / 2  # small packings differ from one to the other
    return jnp.stack([-tension[0], shear / bulk]), found


def discs_of_two_sizes(n: int, fraction):
    """Return diameters, and the side of the square that is filled so far."""
    diameter = jnp.where(jnp.arange(n) < n // 2, 1.0, 1.4)
    return diameter, jnp.sqrt(jnp.sum(diameter**2) * jnp.pi / 4 / fraction)


def design(diameter, side, R, wanted, steps: int):
    """Change the diameters by as little as takes pressure and G/B where we want them.

    Newton's method for two equations, with the shortest of all steps that solve them.
    """

    @jax.jit
    def measure(logs, R):
        def misfit(logs):
            values, found = elasticity(jnp.exp(logs), side, R)
            return values / wanted - 1, (values, found)

        rows, (values, found) = jax.jacrev(misfit, has_aux=True)(logs)
        step = -rows.T @ jnp.linalg.solve(rows @ rows.T, values / wanted - 1)
        return values, rows, step / jnp.maximum(1, jnp.max(jnp.abs(step)) / 0.02), found

    logs, history = jnp.log(diameter), []
    for _ in range(steps):
        values, rows, step, found = measure(logs, R)
        found.raise_if_unconverged()
        history.append([float(x) for x in values])
        print(f"{len(history) - 1:4} {values[0]:10.6f} {values[1]:8.4f}")
        if len(history) == 1:
            slope = float(rows[1] @ step)
            h = 1e-4
            up, down = (measure(logs + x * step, found.position)[0] for x in (h, -h))
            difference = float((up[1] - down[1]) / wanted[1] / (2 * h))
        R, logs = found.position, logs + step
    return jnp.exp(logs - step), history, {"implicit": slope, "difference": difference}


def main(smoke: bool = False) -> dict:
    """Measure moduli of packings, then design one.

    Args:
        smoke: Whether to take smaller and fewer packings.

    Returns:
        The numbers that are printed.
    """
    jax.config.update("jax_enable_x64", True)
    n, seeds, steps = (24, 2, 10) if smoke else (48, 12, 14)
    fractions = [0.9, 1.1] if smoke else [0.86, 0.92, 1.0, 1.1]
    starts = jnp.asarray(np.random.default_rng(1).random((seeds, n, 2)))

    print("filled   pressure      G/B")
    rows = []
    for fraction in fractions:
        diameter, side = discs_of_two_sizes(n, fraction)
        found = [elasticity(diameter, side, R) for R in starts]
        for _, minimum in found:
            minimum.raise_if_unconverged()
        # A mean would be that of the few that give way to a shear at a fixed box.
        pressure, ratio = np.median([values for values, _ in found], axis=0)
        rows.append([float(pressure), float(ratio)])
        print(f"{fraction:6.2f} {pressure:10.6f} {ratio:8.4f}")

    print("\nstep   pressure      G/B   (to be: the same pressure, G/B a tenth larger)")
    values, minimum = found[0]
    R = minimum.position
    wanted = values * jnp.array([1.0, 1.1])
    designed, history, slopes = design(diameter, side, R, wanted, steps)
    change = jnp.max(jnp.abs(designed / diameter - 1))
    print(f"largest change of a diameter: {100 * change:.1f} %")
    print("change of G/B along the first step, of what is wanted: ", end="")
    print(", ".join(f"{name} {value:.7f}" for name, value in slopes.items()))
    return {
        "fractions": fractions,
        "pressure": [row[0] for row in rows],
        "ratio": [row[1] for row in rows],
        "history": history,
        "wanted": [float(x) for x in wanted],
        "change": float(change),
        "slopes": slopes,
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--smoke", action="store_true", help="few and small")
    main(parser.parse_args().smoke)
