"""Make ``ethanol*.npz``: a molecule of ethanol at 500 K, labelled by GFN2-xTB.

    pip install ase tblite
    python examples/data/make_ethanol.py

Labels are energies and forces of GFN2-xTB: C. Bannwarth, S. Ehlert, S. Grimme, J. Chem.
Theory Comput. 15, 1652 (2019), as computed by the program tblite. Frames are 20 fs
apart on a Langevin trajectory; ``ethanol_test.npz`` holds those of another one.
"""

from pathlib import Path

import numpy as np
from ase import units
from ase.build import molecule
from ase.md.langevin import Langevin
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution
from tblite.ase import TBLite

KELVIN, FRAMES, EVERY, SKIP = 500.0, 200, 40, 500


def main(name: str, seed: int) -> None:
    """Run a trajectory and write the file."""
    atoms = molecule("CH3CH2OH")
    atoms.calc = TBLite(method="GFN2-xTB", verbosity=0)
    rng = np.random.default_rng(seed)
    MaxwellBoltzmannDistribution(atoms, temperature_K=2 * KELVIN, rng=rng)
    run = Langevin(
        atoms,
        0.5 * units.fs,
        temperature_K=KELVIN,
        friction=0.01 / units.fs,
        fixcm=False,
        rng=rng,
    )
    frames = {"position": [], "energy": [], "force": []}
    run.run(SKIP)
    for _ in range(FRAMES):
        run.run(EVERY)
        # Labels belong to the positions as they are written.
        frame = atoms.copy()
        frame.positions = frame.positions.astype(np.float32)
        frame.calc = atoms.calc
        frames["position"].append(frame.positions.astype(np.float32))
        frames["energy"].append(frame.get_potential_energy())
        frames["force"].append(frame.get_forces().astype(np.float32))
    arrays = {name: np.array(values) for name, values in frames.items()}
    species = atoms.numbers.astype(np.int32)
    path = Path(__file__).with_name(name)
    np.savez_compressed(path, species=species, **arrays)
    spread = arrays["energy"].std()
    print(f"{name}: {FRAMES} frames, energies spread over {spread:.3f} eV")


if __name__ == "__main__":
    main("ethanol.npz", seed=0)
    main("ethanol_test.npz", seed=1)
