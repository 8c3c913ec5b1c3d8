"""Packings near jamming: elastic moduli, and diameters designed for wanted ones.

1. Compress soft discs of two sizes. Towards jamming their shear modulus G vanishes
   faster than their bulk modulus B. Moduli are second derivatives of the energy at the
   minimum with respect to a strain, and the minimum moves with the strain.
2. Change the diameters such that pressure and G/B take values of our choice. That needs
   the derivatives of the moduli with respect to each diameter, hence third derivatives
   through the minimization; one is held against a central difference.

Source: C. S. O'Hern, L. E. Silbert, A. J. Liu, S. R. Nagel, PRE 68, 011306 (2003).
"""

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


@jax.jit
def elasticity(diameter, side, R):
    """Return ``[pressure, G / B]`` of the packing that relaxes from `R`, and itself."""
    moves = partial(shift, box=jax.lax.stop_gradient(side))
    solver = minimize.until_converged(minimize.fire_descent, moves, 1e-11)

    def stress(strain):
        found = adjoint.minimum(packing_energy, (diameter, side, strain), R, solver)
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


@jax.jit
def newton(logs, side, R, wanted):
    """Values, their slopes, the shortest of all steps that solve for them, packing."""

    def misfit(logs):
        values, found = elasticity(jnp.exp(logs), side, R)
        return values / wanted - 1, (values, found)

    rows, (values, found) = jax.jacrev(misfit, has_aux=True)(logs)
    step = -rows.T @ jnp.linalg.solve(rows @ rows.T, values / wanted - 1)
    return values, rows, step / jnp.maximum(1, jnp.max(jnp.abs(step)) / 0.02), found


def main(smoke: bool = False) -> dict:
    """Measure moduli of packings, then change diameters by as little as is needed."""
    jax.config.update("jax_enable_x64", True)
    n, seeds, steps = (24, 2, 10) if smoke else (48, 12, 8)
    starts = jnp.asarray(np.random.default_rng(1).random((seeds, n, 2)))

    for fraction in [0.9, 1.1] if smoke else [0.86, 0.92, 1.0, 1.1]:
        diameter, side = discs_of_two_sizes(n, fraction)
        packings = [elasticity(diameter, side, R) for R in starts]
        for _, minimum in packings:
            minimum.raise_if_unconverged()
        # A mean would be that of the few that give way to a shear at a fixed box.
        pressure, ratio = np.median([values for values, _ in packings], axis=0)
        print(f"filled {fraction:.2f}: pressure {pressure:.6f}, G/B {ratio:.4f}")

    print("\nTo be had by other diameters: the same pressure, G/B a tenth larger")
    values, minimum = packings[0]
    wanted = values * jnp.array([1.0, 1.1])
    logs, R, history = jnp.log(diameter), minimum.position, []
    for i in range(steps):
        values, rows, step, minimum = newton(logs, side, R, wanted)
        minimum.raise_if_unconverged()
        history.append([float(x) for x in values])
        print(f"step {i:2}: pressure {values[0]:.6f}, G/B {values[1]:.4f}")
        if i == 0:  # the slope of G/B along the first step, in two ways
            h, R = 1e-4, minimum.position
            up, down = (newton(logs + x * step, side, R, wanted)[0] for x in (h, -h))
            slopes = {"implicit": float(rows[1] @ step)}
            slopes["difference"] = float((up[1] - down[1]) / wanted[1] / (2 * h))
            print("change of it along the step", slopes)
        R, logs = minimum.position, logs + step
    change = float(jnp.max(jnp.abs(jnp.exp(logs - step) / diameter - 1)))
    print(f"largest change of a diameter: {100 * change:.1f} %")
    wanted = [float(x) for x in wanted]
    return {"history": history, "wanted": wanted, "change": change, "slopes": slopes}


if __name__ == "__main__":
    from common import command_line

    command_line(main)
