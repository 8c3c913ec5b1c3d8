"""Gradients through long trajectories: memory, and time in forward runs.

    python -m benchmarks.bench_gradient --long

500 Lennard-Jones atoms, NVE, lists rebuilt on the way: the gradient of the kinetic
energy per atom with respect to epsilon and sigma after 1,000, 10,000 and 100,000 steps,
by walking the trajectory back (`Reversible`) and from 32 stored states
(`Checkpointed`). Beside it, the number of steps at which a plain scan of JAX MD needs
4 GB. Then 32,000 atoms for 1,000 steps.

Of a chaotic trajectory as long as these, the derivative is a number beyond float32, or
none: what is measured is its cost. That the walk back is right is seen from the start,
which has to come back bit for bit.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from typing import Any

from benchmarks import cases, measure

SLOTS, EVERY = 32, 10
LIMIT = 4e9  # bytes
# `Reversible` builds the list of each step anew: a skin would be searched in vain.
THIN = 0.01
# Steps of a rollout that stores all states, from which the cost of a pull is taken.
PULLS = 100
TARGETS = {"reversible_bytes": 3e6, "reversible_ratio": 4.0, "large_bytes": 1e9}


def timed(into: dict, name: str, fn: Any, *args: Any) -> float:
    """Seconds of one call; keeps what it returned."""
    import jax

    begin = time.perf_counter()
    into[name] = jax.block_until_ready(fn(*args))
    return time.perf_counter() - begin


def prepare(n: int, skin: float) -> tuple[Any, Any, Any]:
    """Return the simulator, its start and its list."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    from jax_md import energy, simulate, space

    data = np.load(cases.fcc_liquid(n))
    R, P = (jnp.asarray(data[k], jnp.float32) for k in ("position", "velocity"))
    box = float(data["box"])
    displacement, _ = space.periodic(box)
    neighbor_fn, energy_fn = energy.lennard_jones_neighbor_list(
        displacement, box, dr_threshold=skin, capacity_multiplier=1.1
    )
    # Slots are a good part of the memory, and an overflow is told.
    neighbors = neighbor_fn.allocate(R, extra_capacity=6)
    simulator = simulate.nve_reversible(energy_fn, box, cases.DT)
    state = simulator.init(jax.random.key(0), R, kT=1.0, momenta=P)
    return simulator, state, neighbors


def one(atoms: int, steps: int, methods: list[str], skin: float, repeats: int) -> dict:
    """Measure some methods in this process, in turns."""
    import jax
    import jax.numpy as jnp

    from jax_md import adjoint, quantity

    simulator, state, neighbors = prepare(atoms, skin)
    step = simulator.for_adjoint(lambda q: {"epsilon": q[0], "sigma": q[1]}, neighbors)
    values = {
        "forward": None,
        "reversible": adjoint.Reversible(),
        "checkpointed": adjoint.Checkpointed(SLOTS),
        "stored": adjoint.Checkpointed(PULLS),
        "hybrid": adjoint.Hybrid(EVERY),
    }

    def loss(q, state, method, steps=steps):
        end, _ = adjoint.rollout(step, q, state, steps, method)
        kinetic = quantity.kinetic_energy(momentum=end.momentum, mass=end.mass)
        return kinetic / atoms, end.did_exceed_list

    q = (jnp.float32(1), jnp.float32(1))
    found: dict[str, dict] = {}
    outputs: dict[str, Any] = {}
    runs = {}
    for name in methods:
        # The list of `Hybrid` is that of its window, whatever the method is asked for.
        method = values[name] or values[methods[-1]]
        fn = partial(loss, method=method, steps=PULLS if name == "stored" else steps)
        if name != "forward":
            fn = jax.value_and_grad(fn, has_aux=True)
        begin = time.perf_counter()
        program = jax.jit(fn).lower(q, state).compile()
        memory = program.memory_analysis()
        assert memory is not None
        found[name] = {
            "compile_s": time.perf_counter() - begin,
            "temp_bytes": memory.temp_size_in_bytes,
            "output_bytes": memory.output_size_in_bytes,
            "bytes": memory.temp_size_in_bytes + memory.output_size_in_bytes,
        }
        runs[name] = partial(timed, outputs, name, program, q, state)
    for name, times in measure.in_turns(runs, repeats).items():
        out = outputs[name]
        (value, exceeded), bars = out if name != "forward" else (out, ())
        found[name] |= {
            **times,
            "value": float(value),
            "overflow": bool(exceeded),
            "gradient": [float(bar) for bar in bars],
        }
    return {
        "methods": found,
        "state_bytes": sum(x.nbytes for x in jax.tree.leaves(state)),
        "peak_bytes": 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
    }


def recovered(atoms: int, steps: int, skin: float) -> dict:
    """Say whether as many steps forward and back end on the bits of the start."""
    import jax

    simulator, state, neighbors = prepare(atoms, skin)

    @partial(jax.jit, static_argnums=0)
    def repeat(fn: Any, state: Any) -> Any:
        def body(_: Any, state: Any) -> Any:
            return fn(state, neighbor=neighbors)

        return jax.lax.fori_loop(0, steps, body, state)

    end = repeat(simulator.step, state)
    again = repeat(simulator.inverse, end)
    again.raise_if_failed()
    same = (again.lattice_position == state.lattice_position).all()
    same &= (again.lattice_momentum == state.lattice_momentum).all()
    moved = (end.lattice_position != state.lattice_position).any()
    return {"recovered": bool(same & moved)}


def apart(command: str, **arguments: Any) -> dict:
    """Run one of the measurements in a process of its own."""
    asked = json.dumps({"command": command, **arguments})
    argv = [sys.executable, "-m", "benchmarks.long_gradient", "--one", asked]
    done = subprocess.run(argv, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        return {"failed": f"exit status {done.returncode}"}
    return json.loads(done.stdout.splitlines()[-1])


def plain_scan() -> dict:
    """How many steps of a plain scan of JAX MD need `LIMIT` bytes, and from what."""
    from benchmarks.peers.client import Peer, environment

    case = cases.liquid(500)
    if environment("jax_md").exists():
        sizes = {}
        with Peer("jax_md") as peer:
            for steps in (20, 60):
                found = peer.ask(
                    "gradient",
                    form="own",
                    layout="Dense",
                    steps=steps,
                    repeats=1,
                    **case,
                )
                sizes[steps] = found["xla_bytes"]
        each = (sizes[60] - sizes[20]) / 40
        source = "compiled programs of 20 and 60 steps"
    else:
        # What reverse mode keeps of a dense pair sum: displacements, distances and the
        # factors of the energy, about ten numbers of four bytes for each pair held.
        pairs = prepare(500, cases.SKIN)[2].max_occupancy
        each, source = 40 * pairs, f"an estimate, 40 bytes for each of {pairs:,} pairs"
    return {
        "bytes_per_step": each,
        "bytes": LIMIT,
        "steps": int(LIMIT / each),
        "source": source,
    }


def bound(steps: int, slots: int) -> tuple[int, int]:
    """Steps that a binomial schedule takes forward again, and the rows of its table."""
    from jax_md.adjoint.schedule import binomial

    rows = binomial(steps, min(slots, steps)).rows
    return int(rows[:, 2].sum()), len(rows)


def show(row: dict) -> None:
    """Print a row, measured beside what it should be."""
    words = [f"{row['atoms']:>7,} atoms, {row['steps']:>7,} steps, {row['engine']:14}"]
    if "failed" in row:
        words.append(row["failed"])
    else:
        words += [
            f"{row['bytes'] / 1e6:8.2f} MB",
            f"(at most {row['bytes_limit'] / 1e6:,.2f})",
            f"{row['seconds']:8.2f} s,",
            f"{row['ratio']:5.2f} forward runs",
            f"(at most {row['ratio_limit']:.2f})" if "ratio_limit" in row else "",
            f"d/d(epsilon, sigma) {row['gradient']}",
        ]
        words += [f"{key} {row[key]}" for key in ("recovered", "again") if key in row]
    print(*words, flush=True)


def rows_of(found: dict, **facts: Any) -> list[dict]:
    """Make one row a method of what `one` found, each in forward runs."""
    if "failed" in found:
        return [{**facts, "engine": "jax_md", **found}]
    forward = found["methods"].pop("forward")
    return [
        {
            **facts,
            "engine": name,
            **row,
            "forward_s": forward["seconds"],
            "ratio": row["seconds"] / forward["seconds"],
            "peak_bytes": found["peak_bytes"],
            "state_bytes": found["state_bytes"],
        }
        for name, row in found["methods"].items()
    ]


def small_rows(atoms: int, steps: int, repeats: int) -> list[dict]:
    """Measure the small system."""
    facts = {"atoms": atoms, "steps": steps}
    names = ["forward", "reversible", "checkpointed", "stored"]
    found = apart("one", **facts, methods=names, skin=THIN, repeats=repeats)
    rows = rows_of(found, **facts)
    if len(rows) < 2:
        return rows
    walk, stored, all_stored = rows
    # Without its forward pass: the pulls of the cotangent, in steps.
    pull = all_stored["seconds"] / PULLS / walk["forward_s"] * steps - 1
    walk |= {
        **apart("recovered", **facts, skin=THIN),
        "bytes_limit": TARGETS["reversible_bytes"],
        "ratio_limit": TARGETS["reversible_ratio"],
    }
    again, table = bound(steps, SLOTS)
    stored |= {
        "again": again,
        "ratio_limit": 1.2 * ((steps + again) / steps + pull),
        # The states, the table with its copy, and what a step needs.
        "bytes_limit": SLOTS * stored["state_bytes"] + 32 * table + walk["bytes"],
    }
    return [walk, stored]


def large_rows(atoms: int, steps: int, repeats: int) -> Iterator[dict]:
    """Measure the system with lists, each method in its own process."""
    facts = {"atoms": atoms, "steps": steps}
    for name, skin in (("reversible", THIN), ("hybrid", cases.SKIN)):
        methods = ["forward", name]
        found = apart("one", **facts, methods=methods, skin=skin, repeats=repeats)
        for row in rows_of(found, **facts):
            if "failed" not in row:
                row |= {
                    "engine": name,
                    "compiled_bytes": row["bytes"],
                    "bytes": row["peak_bytes"],  # of the whole process
                    "bytes_limit": TARGETS["large_bytes"],
                }
            yield row


def main(argv: list[str]) -> None:
    """Measure and print, or do one measurement of a parent process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--atoms", type=int, default=500)
    parser.add_argument(
        "--steps", type=int, nargs="*", default=[1_000, 10_000, 100_000]
    )
    parser.add_argument("--large", type=int, default=32_000, help="0 leaves it out")
    parser.add_argument("--large-steps", type=int, default=1_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--large-repeats", type=int, default=1)
    parser.add_argument("--name", default="long_gradient", help="name of the results")
    options = parser.parse_args(argv)
    if options.one:
        asked = json.loads(options.one)
        print(
            json.dumps(
                {"one": one, "recovered": recovered}[asked.pop("command")](**asked)
            )
        )
        return
    rows = []

    def keep(row: dict) -> None:
        rows.append(row)
        show(row)

    cases.fcc_liquid(options.atoms)
    for steps in options.steps:
        # Minutes are long enough for one run.
        repeats = options.repeats if steps < 100_000 else 1
        for row in small_rows(options.atoms, steps, repeats):
            keep(row)
    if options.atoms == 500:
        scan = plain_scan()
        rows.append({"engine": "JAX MD, plain scan", "atoms": 500, **scan})
        print(
            f"JAX MD, plain scan: {scan['bytes_per_step'] / 1e6:.2f} MB a step, "
            f"{LIMIT / 1e9:.0f} GB at {scan['steps']:,} steps ({scan['source']})"
        )
    if options.large:
        cases.fcc_liquid(options.large)
        for row in large_rows(
            options.large, options.large_steps, options.large_repeats
        ):
            keep(row)
    measure.save(options.name, rows, targets=TARGETS)


if __name__ == "__main__":
    main(sys.argv[1:])
