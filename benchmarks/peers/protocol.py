"""One JSON object a line over standard input and output.

A runner is a script that calls :func:`serve` with its commands. It runs inside the
environment of the engine it measures, so it imports nothing from this project and
nothing beyond the standard library. Everything else that the process prints goes to
standard error, since several engines write to standard output as they please.
"""

import ctypes
import gc
import json
import os
import resource
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

# Of malloc.h.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3


def peak_memory() -> int:
    """Return the largest resident size of this process so far, in bytes."""
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def call_memory(call: Callable[[], object]) -> int | None:
    """Return by how much one call raises the resident size of this process, in bytes.

    Arrays come straight from the system from here on, which makes calls slower: take
    times before. None where a process cannot forget its peak, as only on Linux it can.
    """
    gc.collect()
    try:
        # Else what the allocator keeps of earlier calls would hide what this one needs.
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(M_MMAP_THRESHOLD, 1 << 16)
        libc.mallopt(M_TRIM_THRESHOLD, 1 << 16)
        call()
        gc.collect()
        libc.malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")
        before = _status("VmHWM")
    except OSError:
        return None
    call()
    return _status("VmHWM") - before


def _status(field: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return 1024 * int(line.split()[1])
    raise OSError(f"this system does not tell `{field}` of a process.")


def serve(commands: dict[str, Callable[..., dict]]) -> None:
    """Answer requests ``{"command": name, ...arguments}`` until the input ends.

    Args:
        commands: What can be asked for. Each takes keyword arguments and returns a
            dictionary that JSON can hold.
    """
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    commands = {"memory": lambda: {"peak_bytes": peak_memory()}, **commands}
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = commands[request.pop("command")](**request)
        except Exception as error:
            traceback.print_exc()
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), file=answers, flush=True)
