"""What an entry of an infinite-width kernel costs, beside neural-tangents.

    python -m benchmarks.bench_wide
    python -m benchmarks.bench_wide --sizes 256 --name wide_256

NNGP and tangent kernel of ReLU networks in single precision on images of handwritten
digits, 8 x 8 (`benchmarks/data/digits.npz`, from 1,798 on mirrored): fully connected
ones of depth 3, 8 and 32, convolutions that end by flattening, convolutions that end by
pooling. Both engines run the same script and take turns.

- Flattened convolutions are measured whole, and at depth 3 also block by block through
  `batch`.
- Every pair of pixels counts under pooling, which takes 4,096 numbers for each pair of
  images: both engines go block by block, neural-tangents for minutes with 512 images.
  The kernel of the smallest number of images is computed whole. Of the larger ones, in
  which every block costs the same, both compute as many rows as make 65,536 entries.
  Each engine runs these once, when small kernels have compiled the blocks.

Memory is what one call adds to the resident size of its process, results included, once
all is compiled; beside it stands the peak of the whole process, which is all that is
told of the runs of minutes.

At last `batch` shares blocks of the flattened convolutions among eight devices that the
host pretends to be, for one, two and four times the images. Work is the processor time
of all threads; the results have to be those of one device.
"""

import math
from functools import partial

import numpy as np

from benchmarks import measure
from benchmarks.peers.client import ROOT, Peer, cores

IMAGES = str(ROOT / "benchmarks" / "data" / "digits.npz")
SCRIPT = "neural_tangents_peer.py"
NAMES = {"ours": "jax_md", "neural_tangents": "neural-tangents"}
DEPTHS = (3, 8, 32)
# Convolutional networks are as deep as neural-tangents compiles in seconds.
CONVOLUTIONS = (3, 8)
FLATTEN_BLOCK = 64
# Images under pooling by depth: neural-tangents takes half a minute for each.
POOL_BLOCK, POOLED = 16, {3: 128, 8: 64}
# Entries of pooled kernels that it takes minutes for.
LONG = 1 << 16
# Seconds below which a call is timed seven times as often.
QUICK = 0.2
DEVICES, DEVICE_BLOCK = 8, 32
# Relative difference of the two kernels, in single precision at depth 32.
AGREEMENT = 2e-4


def cases(sizes: list[int]) -> list[dict]:
    """Return what to compute: networks, numbers of images, and by which engines."""

    def case(kind, depth, n1, n2=None, block=0, warm=0):
        problem = {"kind": kind, "depth": depth, "n1": n1, "n2": n2, "block": block}
        return {**problem, "warm": warm}

    small, large = sizes[0], sizes[-1]
    found = [case("fcn", depth, n) for n in sizes for depth in DEPTHS]
    found += [case("fcn", 3, small, large - small)] if large > small else []
    found += [case("flatten", depth, n) for n in sizes for depth in CONVOLUTIONS]
    found += [case("flatten", 3, n, None, FLATTEN_BLOCK) for n in sizes]
    for depth, most in POOLED.items():
        n = min(most, small // POOL_BLOCK * POOL_BLOCK)
        found += [case("pool", depth, n, None, POOL_BLOCK)]
    n = min(POOLED[8], small // POOL_BLOCK * POOL_BLOCK)
    found += [case("pool", 3, n, n, POOL_BLOCK)]
    if small > POOLED[3]:
        pooled = partial(case, "pool", 3, block=POOL_BLOCK, warm=2 * POOL_BLOCK)
        found += [pooled(small)]
        rows = {n: min(LONG // n, n // 2) for n in sizes[1:]}
        found += [pooled(m, n - m) for n, m in rows.items()]
    return found


def label(problem: dict) -> str:
    columns = "" if problem["n2"] is None else f" x {problem['n2']}"
    blocks = f", blocks of {problem['block']}" if problem["block"] else ""
    depth, n1 = problem["depth"], problem["n1"]
    return f"{problem['kind']}, depth {depth}, {n1}{columns}{blocks}"


def seconds(peer: Peer) -> float:
    return peer.ask("run", name="only")["seconds"]


def measure_case(problem: dict, engines: list[str], repeats: int) -> list[dict]:
    """Measure engines on one kernel, each in a fresh process."""
    long = problem["warm"] > 0
    peers: dict[str, Peer] = {}
    rows: dict[str, dict] = {}
    entries = problem["n1"] * (problem["n2"] or problem["n1"])
    try:
        for name in engines:
            peer = peers[name] = Peer(name, script=SCRIPT)
            ready = peer.ask("prepare", name="only", images=IMAGES, **problem)
            rows[name] = {**peer.info, **ready}
        runs = {name: partial(seconds, peer) for name, peer in peers.items()}
        measured = measure.in_turns(runs, 1 if long else repeats)
        if all(times["seconds"] < QUICK for times in measured.values()):
            measured = measure.in_turns(runs, 7 * repeats)
        found = [peer.ask("samples", name="only") for peer in peers.values()]
        agree([samples["samples"] for samples in found], label(problem))
        for name, times in measured.items():
            memory = peers[name].ask("process" if long else "memory", name="only")
            rows[name].update(times, entry_s=times["seconds"] / entries, **memory)
    finally:
        for peer in peers.values():
            peer.close()
    for name, row in rows.items():
        row.update(problem, engine=NAMES[name], case=label(problem), entries=entries)
        if len(engines) > 1:
            row["ratio"] = rows[engines[-1]]["seconds"] / row["seconds"]
        print(
            f"{row['case']:38} {row['engine']:16} {1e3 * row['seconds']:10.1f} ms, "
            f"{1e6 * row['entry_s']:9.3f} us an entry, {row.get('ratio', 0):5.1f} x, "
            f"{(row['call_bytes'] or 0) / 1e6:8.1f} MB a call, "
            f"{row['process_bytes'] / 1e6:6.0f} MB in all, "
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


def measure_devices(n: int, repeats: int) -> list[dict]:
    """Measure how the work of `batch` over several devices grows with the images."""
    flags = {"XLA_FLAGS": f"--xla_force_host_platform_device_count={DEVICES}"}
    rows: list[dict] = []
    # The blocks stay, so that twice the images are four times the blocks.
    unit = DEVICES * DEVICE_BLOCK
    first = max(n // unit, 1) * unit
    for size in (first, 2 * first, 4 * first):
        problem = {"kind": "flatten", "depth": 3, "n1": size, "n2": None}
        problem |= {"block": DEVICE_BLOCK, "devices": DEVICES}
        with Peer("ours", script=SCRIPT, variables=flags) as peer:
            ready = peer.ask("prepare", name="only", images=IMAGES, **problem)
            runs = [peer.ask("run", name="only") for _ in range(repeats)]
            gap = peer.ask("compare", name="only")["gap"]
            row = {**peer.info, **ready, **problem, "gap": gap, "cores": cores()}
        for key in ("seconds", "work_s"):
            row[key] = float(np.median([run[key] for run in runs]))
        row.update(engine=NAMES["ours"], case=label(problem), entries=size**2)
        if rows:
            before = rows[-1]
            factor = math.log(size / before["n1"])
            row["exponent"] = math.log(row["work_s"] / before["work_s"]) / factor
        rows.append(row)
        print(
            f"{row['case']:38} {DEVICES} devices, {row['seconds']:7.2f} s, "
            f"work {row['work_s']:7.2f} s, exponent {row.get('exponent', 0):4.2f}, "
            f"from one device {gap:.1e}",
            flush=True,
        )
    return rows


def main() -> None:
    """Measure and print."""
    options = measure.arguments(
        __doc__,
        name="wide",
        sizes=[512, 1024, 2048],
        repeats=3,
        peers=["neural_tangents"],
    )
    engines = [name for name in NAMES if name not in options.without]
    rows = []
    for case in cases(options.sizes):
        rows += measure_case(case, engines, options.repeats)
        measure.save(options.name, rows)
    rows = measure_devices(options.sizes[0], options.repeats)
    measure.save(f"{options.name}_devices", rows)


if __name__ == "__main__":
    main()
