"""Differentiable molecular dynamics on JAX.

Spaces, energies, neighbor lists and integrators are pure functions that compose,
compile with `jit`, batch with `vmap` and differentiate with `grad`.
"""

from importlib import import_module
from typing import Any

from jax_md._compat import warn_if_broken_jax

__version__ = "0.1.0"

_MODULES = (
    "adjoint",
    "dataclasses",
    "energy",
    "interpolate",
    "io",
    "minimize",
    "nn",
    "partition",
    "quantity",
    "simulate",
    "smap",
    "space",
    "types",
    "units",
    "util",
    "wide",
)

__all__ = [*_MODULES, "__version__"]

warn_if_broken_jax()


def __getattr__(name: str) -> Any:  # PEP 562: a module loads on first use
    if name in _MODULES:
        return import_module(f"jax_md.{name}")
    raise AttributeError(f"module 'jax_md' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULES})
