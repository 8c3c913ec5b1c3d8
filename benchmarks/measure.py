"""Take turns between engines, take medians, and keep what was measured."""

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.peers.client import environment

# The peers that simulate; a benchmark of something else names its own.
MOLECULAR_DYNAMICS = ("jax_md", "lammps", "openmm")
RESULTS = Path(__file__).parent / "results"


def in_turns(runs: dict[str, Callable[[], float]], repeats: int) -> dict[str, dict]:
    """Time several things in turns, so that a noisy minute hits all of them.

    Args:
        runs: By name, what to do once; each returns the seconds it took.
        repeats: How many turns.

    Returns:
        By name, the median and all times, in seconds.
    """
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(repeats):
        for name, run in runs.items():
            times[name].append(run())
    return {
        name: {"seconds": statistics.median(values), "all_seconds": values}
        for name, values in times.items()
    }


def machine() -> dict:
    """Say on what machine a measurement was taken, and how busy it was."""
    cpu = platform.processor()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            cpu = line.split(":", 1)[1].strip()
            break
    return {
        "cpu": cpu,
        "cores": len(os.sched_getaffinity(0)),
        "load": os.getloadavg()[0],
        "date": time.strftime("%Y-%m-%d"),
    }


def save(name: str, rows: list[dict], **facts) -> Path:
    """Write the rows of one benchmark to ``benchmarks/results/<name>.json``."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    content = {"benchmark": name, "machine": machine(), **facts, "rows": rows}
    path.write_text(json.dumps(content, indent=1) + "\n")
    return path


def arguments(description: str | None, **defaults) -> argparse.Namespace:
    """Read ``--sizes``, ``--repeats``, ``--steps`` and the peers to leave out."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--sizes", type=int, nargs="+", default=defaults["sizes"])
    parser.add_argument("--repeats", type=int, default=defaults.get("repeats", 5))
    parser.add_argument("--steps", type=int, default=defaults.get("steps", 100))
    parser.add_argument("--without", nargs="*", default=[], help="peers to leave out")
    parser.add_argument("--name", default=defaults["name"], help="name of the results")
    options = parser.parse_args()
    for name in defaults.get("peers", MOLECULAR_DYNAMICS):
        if name not in options.without and not environment(name).exists():
            print(
                f"`{name}` is not installed and is left out; `make peers` installs it."
            )
            options.without.append(name)
    return options
