"""Checks of what a neighbor list is made of, with messages that say what to do."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array


def length(name: str, value: Any, strictly: bool = False) -> float:
    """Return `value` as a finite length, or say what it should have been."""
    try:
        value = float(value)
    except (TypeError, jax.errors.JAXTypeError) as error:
        raise ValueError(
            f"`{name}` must be a number that is known when the list is made; got "
            f"{type(value).__name__}. A differentiated parameter can set the potential "
            "but not the cutoff of its list."
        ) from error
    if not math.isfinite(value) or value < 0 or (strictly and value == 0):
        kind = "positive" if strictly else "zero or positive"
        raise ValueError(f"`{name}` must be a {kind}, finite length; got {value}.")
    return value


def check_box(box: Any, d: int | None = None) -> None:
    """Raise `ValueError` unless `box` is one, of dimension `d` where that is known."""
    shape = jnp.shape(box)
    good = len(shape) <= 2 and (len(shape) < 2 or shape[0] == shape[1])
    if d is not None and shape not in ((), (1,), (d,), (d, d)):
        good = False
    if good and not isinstance(box, Tracer):
        values = np.asarray(box, float)
        size = values if values.ndim < 2 else np.abs(np.linalg.det(values))
        if not (np.all(np.isfinite(values)) and np.all(size > 0)):
            raise ValueError(
                f"`box` must have finite, positive extent; got {np.asarray(box)}."
            )
    if not good:
        raise ValueError(
            f"`box` must be a scalar, a vector [{d or 'd'}] or a matrix "
            f"[{d or 'd'}, {d or 'd'}] whose columns are lattice vectors; got "
            f"shape {shape}."
        )


def check_positions(position: Any) -> Array:
    """Return positions as an array; raise `ValueError` unless they are ``[n, d]``."""
    position = jnp.asarray(position)
    if position.ndim != 2 or not jnp.issubdtype(position.dtype, jnp.floating):
        raise ValueError(
            "positions must be a floating-point array [n, d]; got "
            f"{position.dtype}{list(position.shape)}."
        )
    return position


def check_finite(position: Array) -> None:
    """Raise `ValueError` naming the first particle that is nowhere."""
    if isinstance(position, Tracer):
        raise ValueError(
            "`allocate` sizes buffers and cannot run inside `jit`, `vmap` or `grad`; "
            "call it outside and `update` inside."
        )
    bad = ~np.all(np.isfinite(np.asarray(position)), axis=1)
    if bad.any():
        raise ValueError(
            f"positions must be finite; particle {int(np.argmax(bad))} is at "
            f"{np.asarray(position)[np.argmax(bad)]} ({int(bad.sum())} such particles)."
        )


def split_arrays(kwargs: dict) -> tuple[dict, dict]:
    """Keywords that can be traced, and the others."""

    def traceable(value: Any) -> bool:
        kinds = (jax.Array, np.ndarray, np.generic, bool, int, float, complex)
        leaves = jax.tree_util.tree_leaves(value)
        return bool(leaves) and all(isinstance(leaf, kinds) for leaf in leaves)

    arrays = {k: v for k, v in kwargs.items() if traceable(v)}
    # A keyword that is None is a keyword that was not given.
    others = {k: v for k, v in kwargs.items() if k not in arrays and v is not None}
    return arrays, others
