"""Make ``silicon.npz``: 64 atoms of silicon at three temperatures, labelled.

    PYTHONPATH=. python examples/data/make_silicon.py

Labels are energies and forces of the potential of F. H. Stillinger, T. A. Weber, Phys.
Rev. B 31, 5262 (1985), with epsilon = 2.1683 eV and sigma = 2.0951 Angstrom for the
crystal's cohesive energy and lattice constant. Frames are 0.25 ps apart on Langevin
trajectories at constant volume.
"""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from jax_md import quantity, simulate, space
from jax_md.units import metal_unit_system

LATTICE, CELLS, MASS = 5.431, 2, 28.0855  # Angstrom, atomic mass units
KELVIN, FRAMES = (300.0, 600.0, 900.0), 24
EPSILON, SIGMA, REACH = 2.1683, 2.0951, 1.80
A, B, LAM, GAMMA = 7.049556277, 0.6022245584, 21.0, 1.20
FEMTOSECOND = 1e-3 * metal_unit_system()["time"]
BOLTZMANN = metal_unit_system()["temperature"]


def stillinger_weber(R, box):
    """Energy of atoms in a cubic box wider than twice the reach (eV)."""
    n = len(R)
    others = np.arange(n - 1) + (np.arange(n - 1) >= np.arange(n)[:, None])
    d = R[others] - R[:, None]
    d = (d - box * jnp.round(d / box)) / SIGMA
    r = jnp.sqrt(jnp.sum(d * d, -1))
    near = r < REACH
    gap = jnp.where(near, r - REACH, -1.0)
    pair = A * (B / r**4 - 1) * jnp.exp(1 / gap)
    ends = jnp.where(near, jnp.exp(GAMMA / gap), 0)
    unit = d / r[..., None]
    cos = jnp.einsum("ijd,ikd->ijk", unit, unit)
    triplet = (cos + 1 / 3) ** 2 * ends[:, :, None] * ends[:, None]
    triplet = jnp.where(np.eye(n - 1, dtype=bool), 0, triplet)
    return EPSILON * (jnp.sum(jnp.where(near, pair, 0)) + LAM * jnp.sum(triplet)) / 2


def main() -> None:
    """Run the trajectories and write the file."""
    jax.config.update("jax_enable_x64", True)
    box = LATTICE * CELLS
    face = np.array([[0, 0, 0], [0, 2, 2], [2, 0, 2], [2, 2, 0]])
    basis = np.concatenate([face, face + 1]) / 4
    corners = np.indices(3 * [CELLS]).reshape(3, -1).T
    crystal = jnp.asarray((corners[:, None] + basis).reshape(-1, 3) * LATTICE)
    perfect = float(stillinger_weber(crystal, box)) / len(crystal)
    print(f"crystal: {perfect:.4f} eV per atom (published: -4.3366)")

    energy_fn = jax.jit(lambda R, **_: stillinger_weber(R, box))
    _, shift = space.periodic(box)
    frames = {"position": [], "force": [], "energy": [], "kelvin": []}
    for seed, kelvin in enumerate(KELVIN):
        init, step = simulate.nvt_langevin(
            energy_fn,
            shift,
            FEMTOSECOND,
            kelvin * BOLTZMANN,
            gamma=1 / (100 * FEMTOSECOND),
        )
        state = init(jax.random.key(seed), crystal, mass=MASS)
        advance = jax.jit(
            lambda s, step=step: jax.lax.fori_loop(0, 250, lambda _, s: step(s), s)
        )
        for frame in range(-4, FRAMES):
            state = advance(state)
            if frame >= 0:
                frames["position"].append(np.asarray(state.position, np.float32))
                frames["kelvin"].append(kelvin)
        print(f"{kelvin:g} K: {float(energy_fn(state.position)):.3f} eV")
    # Labels belong to the positions as they are written.
    for R in frames["position"]:
        R = jnp.asarray(R, float)
        frames["energy"].append(float(energy_fn(R)))
        frames["force"].append(np.asarray(quantity.force(energy_fn)(R), np.float32))
    arrays = {name: np.array(values) for name, values in frames.items()}
    np.savez_compressed(Path(__file__).with_name("silicon.npz"), box=box, **arrays)


if __name__ == "__main__":
    main()
