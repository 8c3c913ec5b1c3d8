"""One JSON object a line over standard input and output.

A runner is a script that calls :func:`serve` with its commands. It runs inside the
environment of the engine it measures, so it imports nothing from this project and
nothing beyond the standard library. Everything else that the process prints goes to
standard error, since several engines write to standard output as they please.
"""

import json
import os
import resource
import sys
import traceback
from collections.abc import Callable


def peak_memory() -> int:
    """Return the largest resident size of this process so far, in bytes."""
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


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
