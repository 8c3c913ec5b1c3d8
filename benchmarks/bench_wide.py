"""What an entry of an infinite-width kernel costs, beside neural-tangents.

    python -m benchmarks.bench_wide
    python -m benchmarks.bench_wide --sizes 256 --repeats 3

NNGP and tangent kernel of ReLU networks in single precision on images of handwritten
digits, 8 x 8 (`benchmarks/data/digits.npz`): fully connected ones of depth 3 to 32,
convolutions that end by flattening, convolutions that end by pooling. Both engines run
the same script and take turns. Every pair of pixels counts under pooling, which takes
4,096 numbers for each pair of images, so there both go block by block through `batch`
and get fewer images: the first size over eight. Flattened convolutions are measured
whole and in blocks.

Memory is the peak of a fresh process, above that after the kernel of a few images. At
last `batch` shares blocks among eight devices that the host pretends to be:
four times the work for twice the images.
"""

from functools import partial

import numpy as np

from benchmarks import measure
from benchmarks.peers.client import ROOT, Peer

IMAGES = str(ROOT / "benchmarks" / "data" / "digits.npz")
SCRIPT = "neural_tangents_peer.py"
NAMES = {"ours": "jax_md", "neural_tangents": "neural-tangents"}
FLATTEN_BLOCK, POOL_BLOCK = 64, 16
DEVICES = 8
# Relative difference of the two kernels, in single precision at depth 32.
AGREEMENT = 2e-4


def cases(sizes: list[int]) -> list[dict]:
    """Return what to compute: networks, and numbers of images."""

    def case(kind, depth, n1, n2=None, block=0):
        return {"kind": kind, "depth": depth, "n1": n1, "n2": n2, "block": block}

    small, large = sizes[0], sizes[-1]
    found = [case("fcn", depth, small) for depth in (3, 8, 32)]
    found += [case("fcn", 3, n) for n in sizes[1:]]
    found += [case("fcn", 3, small, large - small)] if large > small else []
    found += [case("flatten", depth, small) for depth in (3, 8)]
    found += [case("flatten", 3, small, None, FLATTEN_BLOCK)]
    pooled = max(small // 8 // POOL_BLOCK, 1) * POOL_BLOCK
    found += [case("pool", depth, pooled, None, POOL_BLOCK) for depth in (3, 8)]
    found += [case("pool", 3, pooled, pooled, POOL_BLOCK)]
    return found


def label(case: dict) -> str:
    columns = "" if case["n2"] is None else f" x {case['n2']}"
    blocks = f", blocks of {case['block']}" if case["block"] else ""
    return f"{case['kind']}, depth {case['depth']}, {case['n1']}{columns}{blocks}"


def seconds(peer: Peer) -> float:
    return peer.ask("run", name="only")["seconds"]


def measure_case(case: dict, engines: list[str], repeats: int, **options) -> list[dict]:
    """Measure both engines on one kernel, each in a fresh process."""
    peers: dict[str, Peer] = {}
    rows: dict[str, dict] = {}
    entries = case["n1"] * (case["n2"] or case["n1"])
    try:
        for name in engines:
            peer = peers[name] = Peer(name, script=SCRIPT, **options)
            ready = peer.ask("prepare", name="only", images=IMAGES, **case)
            above = peer.ask("memory")["peak_bytes"] - ready.pop("baseline_bytes")
            rows[name] = {**peer.info, **ready, "peak_bytes": above}
        agree([row.pop("samples") for row in rows.values()], label(case))
        runs = {name: partial(seconds, peer) for name, peer in peers.items()}
        for name, times in measure.in_turns(runs, repeats).items():
            rows[name].update(times, entry_s=times["seconds"] / entries)
    finally:
        for peer in peers.values():
            peer.close()
    for name, row in rows.items():
        row.update(case, engine=NAMES[name], case=label(case), entries=entries)
        row["ratio"] = rows[engines[-1]]["seconds"] / row["seconds"]
        print(
            f"{row['case']:38} {row['engine']:16} {1e3 * row['seconds']:10.1f} ms, "
            f"{1e6 * row['entry_s']:9.3f} us an entry, {row['ratio']:5.1f} x, "
            f"{row['peak_bytes'] / 1e6:7.0f} MB, "
            f"first call {row['first_call_s']:5.1f} s",
            flush=True,
        )
    return list(rows.values())


def agree(samples: list, name: str) -> None:
    """Refuse to compare speeds of different kernels."""
    for other in samples[1:]:
        gap = np.max(np.abs(np.divide(other, samples[0]) - 1))
        if not gap < AGREEMENT:
            raise RuntimeError(f"the kernels of `{name}` differ by {gap:.1e}.")


def measure_devices(n: int, engines: list[str], repeats: int) -> list[dict]:
    """Measure `batch` over several devices at two sizes."""
    flags = {"XLA_FLAGS": f"--xla_force_host_platform_device_count={DEVICES}"}
    rows = []
    for size in (n, 2 * n):
        case = {"kind": "fcn", "depth": 3, "n1": size, "n2": None, "block": n // 16}
        case["devices"] = DEVICES
        found = measure_case(case, engines, repeats, variables=flags)
        for row in found:
            row["case"] += f", {DEVICES} devices"
        rows += found
    for first, second in zip(rows, rows[len(engines) :], strict=False):
        second["growth"] = second["seconds"] / first["seconds"]
        print(f"{second['engine']}: twice the images take {second['growth']:.1f} x")
    return rows


def main() -> None:
    """Measure and print."""
    options = measure.arguments(
        __doc__, name="wide", sizes=[512, 1024, 1536], peers=["neural_tangents"]
    )
    engines = [name for name in NAMES if name not in options.without]
    rows = []
    for case in cases(options.sizes):
        rows += measure_case(case, engines, options.repeats)
        measure.save(options.name, rows)
    rows += measure_devices(options.sizes[0], engines, options.repeats)
    measure.save(options.name, rows)


if __name__ == "__main__":
    main()
