"""The systems that are measured, the same for every engine."""

from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jax_md import energy, simulate, space

CACHE = Path(__file__).resolve().parents[1] / ".cache" / "benchmarks"

# The Lennard-Jones liquid near its triple point, as in LAMMPS' own benchmark.
DENSITY, CUTOFF, SKIN, DT = 0.8442, 2.5, 0.3, 0.005
MELT_KT, MELT_STEPS = 1.44, 500
SIZES = (4_000, 32_000, 108_000, 500_000)


def fcc_liquid(n: int) -> Path:
    """Return the file with positions, velocities and box of a liquid of ``n`` atoms.

    An fcc crystal with velocities at ``kT = 1.44`` melts during 500 steps of NVE and
    ends near ``kT = 0.72``. Atoms keep the order of the crystal. The file is made once
    and kept in an ignored folder.

    Args:
        n: Number of atoms, ``4 m**3``.

    Raises:
        ValueError: ``n`` atoms do not fill a cube of fcc cells.
    """
    path = CACHE / f"lj-{n}.npz"
    if path.exists():
        return path
    cells = round((n / 4) ** (1 / 3))
    if 4 * cells**3 != n:
        raise ValueError(f"`n` must be 4 m**3 to fill fcc cells; got {n}.")
    box = (n / DENSITY) ** (1 / 3)
    basis = np.array([[0, 0, 0], [0, 1, 1], [1, 0, 1], [1, 1, 0]]) / 2
    corners = np.stack(np.meshgrid(*3 * [np.arange(cells)], indexing="ij"), -1)
    lattice = (corners.reshape(-1, 1, 3) + basis).reshape(-1, 3) + 0.25
    velocity = np.random.default_rng(0).normal(0, MELT_KT**0.5, (n, 3))
    velocity -= velocity.mean(0)
    position, velocity = _melt(lattice * (box / cells), velocity, box)
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, position=position, velocity=velocity, box=box)
    return path


def _melt(position, velocity, box):
    displacement, shift = space.periodic(box)
    neighbor_fn, energy_fn = energy.lennard_jones_neighbor_list(
        displacement, box, dr_threshold=SKIN
    )
    init, step = simulate.nve(energy_fn, shift, DT)
    position = jnp.asarray(position, jnp.float32)
    neighbors = neighbor_fn.allocate(position, extra_capacity=16)
    state = init(jax.random.key(0), position, kT=MELT_KT, neighbor=neighbors)
    state = state.set(momentum=jnp.asarray(velocity, jnp.float32))

    @partial(jax.jit, static_argnums=2)
    def advance(state, neighbors, steps):
        def body(_, carry):
            state, neighbors = carry
            state = step(state, neighbor=neighbors)
            return state, neighbors.update(state.position)

        return lax.fori_loop(0, steps, body, (state, neighbors))

    state, neighbors = advance(state, neighbors, MELT_STEPS)
    if neighbors.did_buffer_overflow:
        raise RuntimeError("The list overflowed while the crystal melted.")
    return np.asarray(state.position), np.asarray(state.momentum)


def liquid(n: int) -> dict:
    """Return the arguments that a runner's ``prepare`` takes for ``n`` atoms."""
    return {"state": str(fcc_liquid(n)), "cutoff": CUTOFF, "skin": SKIN, "dt": DT}
