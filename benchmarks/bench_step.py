"""How many atom-steps a second, rebuilds included, beside JAX MD, LAMMPS and OpenMM.

    python -m benchmarks.bench_step
    python -m benchmarks.bench_step --name step_sizes --sizes 4000 32000 108000 500000

All engines start from the same liquid, keep their systems warm and take turns. Peak
memory is that of a fresh process with one system, above what the imports take.
"""

from functools import partial

from benchmarks import cases, measure
from benchmarks.peers.client import Peer

# form of ours: (energy, list layout, through `simulate.run`)
OURS = {
    "jax_md": ("builtin", "Dense", False),
    "jax_md, own pair function": ("own", "Dense", False),
    "jax_md, simulate.run": ("builtin", "Dense", True),
}
UPSTREAM = ("OrderedSparse", "Sparse", "Dense")


def seconds(peer: Peer, name: str, steps: int) -> float:
    return peer.ask("run", name=name, steps=steps)["seconds"]


def measure_size(n: int, steps: int, repeats: int, without: list[str]) -> list[dict]:
    """Measure all engines on one system of ``n`` atoms."""
    case = cases.liquid(n)
    peers: dict[str, Peer] = {}
    rows: dict[str, dict] = {}
    runs = {}

    def add(label: str, peer: Peer, **extra):
        ready = peer.ask("prepare", name=label, **case, **extra)
        rows[label] = {"engine": label, "atoms": n, **peer.info, **extra, **ready}
        runs[label] = partial(seconds, peer, label, steps)

    try:
        peers["ours"] = Peer("ours")
        for label, (form, layout, managed) in OURS.items():
            extra = {"form": form, "layout": layout, "managed": managed}
            add(label, peers["ours"], steps=steps, **extra)
        if "jax_md" not in without:
            peers["jax_md"] = Peer("jax_md")
            # Its slower formats are measured once; they only lose with size.
            for layout in UPSTREAM if n <= 32_000 else UPSTREAM[:1]:
                extra = {"form": "builtin", "layout": layout, "steps": steps}
                add(f"JAX MD, {layout}", peers["jax_md"], **extra)
        for name, label in (("lammps", "LAMMPS"), ("openmm", "OpenMM")):
            for threads in (2, 1) if name == "lammps" else (2,):
                if name not in without:
                    peer = peers[f"{name}-{threads}"] = Peer(name, threads)
                    add(f"{label}, {threads} thread{'s' * (threads > 1)}", peer)
        for label, times in measure.in_turns(runs, repeats).items():
            rows[label].update(times, atom_steps_per_s=n * steps / times["seconds"])
    finally:
        for peer in peers.values():
            peer.close()
    rows["jax_md"].update(memory(case, n, "ours"))
    return list(rows.values())


def memory(case: dict, n: int, name: str) -> dict:
    """Return the peak memory of a fresh process that runs one system."""
    form, layout, managed = OURS["jax_md"]
    with Peer(name) as peer:
        extra = {"form": form, "layout": layout, "managed": managed}
        ready = peer.ask("prepare", name="only", steps=20, **case, **extra)
        peak = peer.ask("memory")["peak_bytes"]
    above = peak - ready["baseline_bytes"]
    return {"peak_bytes": above, "peak_bytes_per_atom": above / n}


def main() -> None:
    """Measure and print."""
    options = measure.arguments(__doc__, name="step", sizes=[32_000])
    rows = []
    for n in options.sizes:
        rows += measure_size(n, options.steps, options.repeats, options.without)
        for row in rows:
            if row["atoms"] == n:
                rate = row["atom_steps_per_s"] / 1e6
                print(f"{n:>8,} {row['engine']:28} {rate:8.3f} M atom-steps/s")
        measure.save(options.name, rows, steps=options.steps)


if __name__ == "__main__":
    main()
