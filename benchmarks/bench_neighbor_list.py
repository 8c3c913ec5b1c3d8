"""What one rebuild of the neighbor list costs, in evaluations of the forces.

    python -m benchmarks.bench_neighbor_list

Both are timed in turns on the same liquid, for this project and for JAX MD, whose
force is not ours: seconds of the rebuild are what compares the two.
"""

from benchmarks import cases, measure
from benchmarks.peers.client import Peer, PeerError


def main() -> None:
    """Measure and print."""
    options = measure.arguments(__doc__, name="neighbor_list", sizes=list(cases.SIZES))
    rows = []
    for n in options.sizes:
        case = cases.liquid(n)
        for name, layout in (("ours", "Dense"), ("jax_md", "OrderedSparse")):
            if name in options.without:
                continue
            extra = {"form": "builtin", "layout": layout}
            try:
                with Peer(name) as peer:
                    facts = {**peer.info, "layout": layout, "atoms": n}
                    found = peer.ask(
                        "rebuild", repeats=options.repeats, **case, **extra
                    )
            except PeerError as error:
                rows.append({"engine": name, "atoms": n, "failed": str(error)})
                print(error)
                continue
            label = "jax_md" if name == "ours" else f"JAX MD, {layout}"
            found["ratio"] = found["rebuild_s"] / found["force_s"]
            rows.append({**facts, "engine": label, **found})
            print(
                f"{n:>8,} {label:22} rebuild {1e3 * found['rebuild_s']:9.2f} ms, "
                f"force {1e3 * found['force_s']:8.2f} ms, ratio {found['ratio']:6.2f}"
            )
        measure.save(options.name, rows)


if __name__ == "__main__":
    main()
