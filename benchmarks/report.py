"""Print the results as Markdown tables.

    python -m benchmarks.report [name ...]

Reads ``benchmarks/results/<name>.json``; prints all by default.
"""

import json
import re
import sys
from collections.abc import Callable

from benchmarks.measure import RESULTS

# By benchmark: column title and how to make its cell of a row.
Columns = dict[str, Callable[[dict], str]]


def version(row: dict) -> str:
    """Say what was measured, with the JAX under it and the threads it had."""
    parts = [str(row.get("version", ""))]
    if "jax" in row:
        parts.append(f"JAX {row['jax']}")
    if "threads" in row:
        parts.append(f"{row['threads']} core{'s' * (row['threads'] > 1)}")
    return ", ".join(part for part in parts if part)


def check(found: float, expected: float) -> str:
    """Show a derivative beside its central difference."""
    return f"{found:.4f} / {expected:.4f}"


def megabytes(row: dict) -> str:
    """Show the peak memory of a process and its share for each atom."""
    if "peak_bytes" not in row:
        return ""
    each = row["peak_bytes_per_atom"] / 1e3
    return f"{row['peak_bytes'] / 1e6:,.0f} MB, {each:.2f} kB an atom"


def size(row: dict, key: str) -> str:
    """Show a number of bytes, where it was measured."""
    return f"{row[key] / 1e6:,.1f} MB" if row.get(key) else ""


STEP: Columns = {
    "engine": lambda row: row["engine"],
    "version": version,
    "atoms": lambda row: f"{row['atoms']:,}",
    "M atom-steps/s": lambda row: f"{row['atom_steps_per_s'] / 1e6:.2f}",
    "peak memory": megabytes,
}
COLUMNS: dict[str, Columns] = {
    "step": STEP,
    "step_sizes": STEP,
    "neighbor_list": {
        "engine": lambda row: row["engine"],
        "version": version,
        "atoms": lambda row: f"{row['atoms']:,}",
        "rebuild": lambda row: f"{1e3 * row['rebuild_s']:.2f} ms",
        "force": lambda row: f"{1e3 * row['force_s']:.2f} ms",
        "rebuild / force": lambda row: f"{row['ratio']:.1f}",
    },
    "gradient": {
        "engine": lambda row: row["engine"],
        "version": version,
        "atoms": lambda row: f"{row['atoms']:,}",
        "forward": lambda row: f"{row['forward_s']:.3f} s",
        "gradient": lambda row: f"{row['gradient_s']:.3f} s",
        "gradient / forward": lambda row: f"{row['ratio']:.2f}",
        "d/dε, autodiff / difference": lambda row: check(
            row["d_epsilon"], row["d_epsilon_difference"]
        ),
        "along dR, autodiff / difference": lambda row: check(
            row["d_position"], row["d_position_difference"]
        ),
    },
    "long_gradient": {
        "engine": lambda row: row["engine"],
        "atoms": lambda row: f"{row['atoms']:,}",
        "steps": lambda row: f"{row['steps']:,}",
        "memory": lambda row: f"{row['bytes'] / 1e6:,.2f} MB",
        "gradient": lambda row: f"{row['seconds']:.2f} s" if "seconds" in row else "",
        "in forward runs": lambda row: f"{row['ratio']:.2f}" if "ratio" in row else "",
        "bound": lambda row: (
            f"{row['ratio_limit']:.2f}" if "ratio_limit" in row else ""
        ),
    },
    "kernel_potential": {
        "energy and forces": lambda row: row["potential"],
        "atoms": lambda row: f"{row['atoms']:,}",
        "environments": lambda row: f"{row['environments']:,}",
        "time": lambda row: f"{1e3 * row['seconds']:.2f} ms",
        "ratio": lambda row: f"{row['ratio']:.2f}",
    },
    "wide": {
        "kernel": lambda row: row["case"],
        "engine": lambda row: row["engine"],
        "version": version,
        "time": lambda row: f"{1e3 * row['seconds']:,.1f} ms",
        "an entry": lambda row: f"{1e6 * row['entry_s']:.3f} µs",
        "speed": lambda row: f"{row['ratio']:.1f} ×" if "ratio" in row else "",
        "memory of a call": lambda row: size(row, "call_bytes"),
        "of the process": lambda row: size(row, "process_bytes"),
        "first call": lambda row: f"{row['first_call_s']:.1f} s",
    },
    "wide_devices": {
        "kernel": lambda row: row["case"],
        "devices": lambda row: f"{row['devices']} on {row['cores']} cores",
        "time": lambda row: f"{row['seconds']:.2f} s",
        "work of all threads": lambda row: f"{row['work_s']:.2f} s",
        "exponent": lambda row: f"{row['exponent']:.2f}" if "exponent" in row else "",
        "difference from one device": lambda row: f"{row['gap']:.1e}",
    },
    "import": {
        "engine": lambda row: row["engine"],
        "import beyond jax": lambda row: f"{row['import_s']:.2f} s",
        "to the first step": lambda row: f"{row['first_step_s']:.2f} s",
    },
}


def table(name: str) -> str:
    """Make the table of one benchmark, under a line that says where it was run."""
    content = json.loads((RESULTS / f"{name}.json").read_text())
    machine = content["machine"]
    # Runs with other sizes have names such as `wide_512` and `wide_512_devices`.
    kind = re.sub(r"_\d+", "", name)
    columns = COLUMNS.get(kind, STEP)
    lines = [
        f"`{name}`, {machine['date']}, {machine['cores']} cores of {machine['cpu']}",
        "",
        "| " + " | ".join(columns) + " |",
        "|" + " --- |" * len(columns),
    ]
    for row in content["rows"]:
        if "failed" in row:
            cells = [row["engine"], f"failed at {row['atoms']:,} atoms"]
            cells += [""] * (len(columns) - 2)
        else:
            cells = [cell(row) for cell in columns.values()]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main(names: list[str]) -> None:
    """Print the tables ``names``, all that there are by default."""
    for name in names or sorted(path.stem for path in RESULTS.glob("*.json")):
        print(table(name), end="\n\n")


if __name__ == "__main__":
    main(sys.argv[1:])
