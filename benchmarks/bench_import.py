"""How long one waits before the first step.

    python -m benchmarks.bench_import

``import jax_md`` beyond ``import jax``, and the whole way from a fresh process to the
first step of a Lennard-Jones liquid, without a compilation cache.
"""

import os
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

from benchmarks import measure
from benchmarks.peers.client import ROOT, environment

FIRST_STEP = """
import jax, jax.numpy as jnp
from jax_md import energy, partition, simulate, space
m = jnp.arange(10)
R = jnp.stack(jnp.meshgrid(m, m, m), -1).reshape(-1, 3) * 1.06 + 0.1
displacement, shift = space.periodic(10.6)
neighbor_fn, energy_fn = energy.lennard_jones_neighbor_list(
    displacement, 10.6, format=partition.{layout})
init, step = simulate.nve(energy_fn, shift, 0.005)
neighbors = neighbor_fn.allocate(R)
state = init(jax.random.key(0), R, kT=1.0, neighbor=neighbors)
jax.block_until_ready(jax.jit(step)(state, neighbor=neighbors).position)
"""


def fresh(python: Path, code: str, path: Path | None) -> float:
    """Return the seconds that a new interpreter needs for ``code``."""
    variables = dict(os.environ, JAX_PLATFORMS="cpu")
    variables.pop("JAX_COMPILATION_CACHE_DIR", None)
    variables.pop("PYTHONPATH", None)
    if path:
        variables["PYTHONPATH"] = str(path)
    start = time.perf_counter()
    subprocess.run(
        [python, "-W", "ignore", "-c", code],
        check=True,
        env=variables,
        cwd="/",  # an interpreter finds the modules of the folder it starts in
        stderr=subprocess.DEVNULL,
    )
    return time.perf_counter() - start


def main() -> None:
    """Measure and print."""
    options = measure.arguments(__doc__, name="import", sizes=[1_000])
    engines: dict[str, tuple[Path, Path | None, str]] = {
        "jax_md": (Path(sys.executable), ROOT, "Dense")
    }
    if "jax_md" not in options.without:
        python = environment("jax_md") / "bin" / "python"
        engines["JAX MD"] = (python, None, "OrderedSparse")
    rows = []
    for engine, (python, path, layout) in engines.items():
        asked = {
            "import jax": "import jax",
            "import jax_md": "import jax, jax_md",
            "first step": FIRST_STEP.format(layout=layout),
        }
        runs = {
            what: partial(fresh, python, code, path) for what, code in asked.items()
        }
        measure.in_turns(runs, 1)  # fills the file cache and writes the bytecode
        times = measure.in_turns(runs, options.repeats)
        medians = {what: found["seconds"] for what, found in times.items()}
        rows.append(
            {
                "engine": engine,
                "import_s": medians["import jax_md"] - medians["import jax"],
                "first_step_s": medians["first step"],
                "times": times,
            }
        )
        print(
            f"{engine:8} import beyond jax {rows[-1]['import_s']:6.3f} s, "
            f"import + compile + first step {medians['first step']:6.2f} s"
        )
    measure.save(options.name, rows)


if __name__ == "__main__":
    main()
