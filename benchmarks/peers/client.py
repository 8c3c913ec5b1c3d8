"""Start a runner in its environment and talk to it."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Self

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENTS = ROOT / ".venv-peers"
RUNNERS = Path(__file__).parent


def environment(name: str) -> Path:
    """Return where the environment of a peer is, or would be."""
    return ENVIRONMENTS / name


class PeerError(RuntimeError):
    """A runner could not do what it was asked to do."""


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0))


class Peer:
    """A runner in a process of its own, kept warm between measurements.

    Args:
        name: ``"ours"``, or an environment made by ``make peers``.
        threads: How many threads the engine may use, if it can be told. XLA takes
            the cores it is given, so there this sets the affinity of the process.
        script: The runner; None for that of the name.
        variables: Environment variables to set.
    """

    def __init__(
        self,
        name: str,
        threads: int | None = None,
        script: str | None = None,
        variables: dict[str, str] | None = None,
    ):
        self.name = name
        self.threads = threads or cores()
        variables = {
            **os.environ,
            "OMP_NUM_THREADS": str(self.threads),
            **(variables or {}),
        }
        variables.pop("PYTHONPATH", None)
        variables.setdefault("JAX_PLATFORMS", "cpu")
        if name == "ours":
            # The same script that measures JAX MD, with this project in its place.
            python, script = Path(sys.executable), script or "jax_md_peer.py"
            variables["PYTHONPATH"] = str(ROOT)
        else:
            home = environment(name)
            python, script = home / "bin" / "python", script or f"{name}_peer.py"
            if not python.exists():
                raise PeerError(
                    f"The environment of `{name}` is missing at {home}; "
                    "`make peers` makes it."
                )
            # The wheel of MPICH puts its libraries where the linker does not look.
            variables["LD_LIBRARY_PATH"] = str(home / "lib")
        allowed = sorted(os.sched_getaffinity(0))[: self.threads]
        log = ROOT / ".cache" / "benchmarks" / f"{name}-{self.threads}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        self._log = log
        with log.open("w") as errors:
            self._process = subprocess.Popen(
                [str(python), str(RUNNERS / script)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env=variables,
                preexec_fn=lambda: os.sched_setaffinity(0, allowed),
            )
        self.info = self.ask("info")

    def ask(self, command: str, **arguments) -> dict:
        """Send one request and wait for its answer.

        Raises:
            PeerError: The runner failed or died; the message says where its log is.
        """
        assert self._process.stdin and self._process.stdout
        print(
            json.dumps({"command": command, **arguments}),
            file=self._process.stdin,
            flush=True,
        )
        line = self._process.stdout.readline()
        if not line:
            raise PeerError(f"`{self.name}` died during `{command}`; see {self._log}.")
        answer = json.loads(line)
        if "error" in answer:
            raise PeerError(
                f"`{self.name}` could not `{command}`: {answer['error']} "
                f"(log: {self._log})"
            )
        return answer

    def close(self) -> None:
        """End the process and wait for it."""
        if self._process.stdin:
            self._process.stdin.close()
        self._process.wait(timeout=60)
        if self._process.stdout:
            self._process.stdout.close()

    def __enter__(self) -> Self:
        """Return the runner itself."""
        return self

    def __exit__(self, *error) -> None:
        """End the process."""
        self.close()
