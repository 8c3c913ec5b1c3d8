"""Import of optional packages, with an error that says how to get them."""

from importlib import import_module
from types import ModuleType


def need(module: str, purpose: str) -> ModuleType:
    """Import `module`, which belongs to the extra ``io``.

    Raises:
        ImportError: If it is not installed, naming the extra.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        package = module.partition(".")[0]
        if (error.name or "").partition(".")[0] != package:
            raise
        raise ImportError(
            f'{purpose} needs `{package}`: pip install "jax-md[io]".'
        ) from error
