"""The command line that the examples share."""

import argparse
import inspect
from collections.abc import Callable


def command_line(main: Callable) -> None:
    """Call the `main` of a script with what the command line says.

    Args:
        main: Has ``smoke``, and ``output`` where it writes to a folder; the latter's
            default is that of the option. The first line of its script is the help.
    """
    parser = argparse.ArgumentParser(
        description=main.__globals__["__doc__"].split("\n")[0]
    )
    parser.add_argument("--smoke", action="store_true", help="small and short")
    output = inspect.signature(main).parameters.get("output")
    if output is not None:
        parser.add_argument("--output", default=output.default, help="[%(default)s]")
    main(**vars(parser.parse_args()))
