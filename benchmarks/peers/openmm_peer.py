"""The Lennard-Jones liquid in OpenMM's CPU platform.

Nanometres, daltons and picoseconds make kJ/mol, so reduced units can be given to it
as they are.
"""

import os
import time

import numpy as np
import openmm  # pyright: ignore[reportMissingImports]
from protocol import serve

THREADS = os.environ["OMP_NUM_THREADS"]
systems: dict[str, openmm.Context] = {}


def info() -> dict:
    version = openmm.Platform.getOpenMMVersion()
    return {"version": version, "threads": int(THREADS)}


def prepare(name: str, state: str, cutoff: float, skin: float, dt: float) -> dict:
    """Set the system up. OpenMM chooses its own skin, so ``skin`` is not used."""
    del skin
    data = np.load(state)
    box = float(data["box"])
    system = openmm.System()
    system.setDefaultPeriodicBoxVectors((box, 0, 0), (0, box, 0), (0, 0, box))
    force = openmm.NonbondedForce()
    force.setNonbondedMethod(openmm.NonbondedForce.CutoffPeriodic)
    force.setCutoffDistance(cutoff)
    force.setUseDispersionCorrection(False)
    for _ in data["position"]:
        system.addParticle(1.0)
        force.addParticle(0.0, 1.0, 1.0)
    system.addForce(force)
    context = openmm.Context(
        system,
        openmm.VerletIntegrator(dt),
        openmm.Platform.getPlatformByName("CPU"),
        {"Threads": THREADS},
    )
    context.setPositions(data["position"].astype(float))
    context.setVelocities(data["velocity"].astype(float))
    systems[name] = context
    return run(name, 1)


def run(name: str, steps: int) -> dict:
    context = systems[name]
    start = time.perf_counter()
    context.getIntegrator().step(steps)
    state = context.getState(getEnergy=True)  # waits for the last step
    seconds = time.perf_counter() - start
    n = context.getSystem().getNumParticles()
    energy = state.getPotentialEnergy()._value + state.getKineticEnergy()._value
    return {"seconds": seconds, "energy_per_atom": energy / n}


if __name__ == "__main__":
    serve({"info": info, "prepare": prepare, "run": run})
