"""Factors of covariance matrices, and what to do where there are none."""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float


def default_jitter(dtype: Any) -> float:
    """Part of the diagonal that rounding in this type calls for."""
    return 1e-10 if jnp.finfo(dtype).bits > 32 else 1e-5


def check_factor(
    lower: Float[Array, "p p"], matrix: Float[Array, "p p"], what: str
) -> None:
    """Refuse a Cholesky factor that does not exist, or consists of rounding.

    Args:
        lower: The factor, NaN where there is none.
        matrix: What it should be a factor of.
        what: Whose covariance it is, for the message.

    Raises:
        ValueError: With the condition of the matrix and the `jitter` that would do.
    """
    if isinstance(lower, Tracer):
        return  # numbers are not known yet: NaN has to tell
    pivots = np.diagonal(lower) ** 2
    noise_floor = 10 * np.finfo(pivots.dtype).eps * np.diagonal(matrix)
    if np.all(np.isfinite(np.asarray(lower))) and np.all(pivots > noise_floor):
        return
    whole = np.asarray(matrix, np.float64)
    if not np.all(np.isfinite(whole)):
        raise ValueError(
            f"the covariance matrix of {what} holds NaN or infinity: a kernel or a "
            "descriptor has no derivative at one of the structures. Look for "
            "coincident atoms, or a kernel with a kink."
        )
    raise ValueError(_advice(whole, what, float(jnp.finfo(matrix.dtype).eps)))


def _advice(matrix: np.ndarray, what: str, eps: float) -> str:
    size = np.sqrt(np.abs(np.diagonal(matrix)))
    size = np.where(size > 0, size, 1)
    values = np.linalg.eigvalsh(matrix / size / size[:, None])
    largest = values[-1]
    floor = max(abs(values[0]), eps * largest)
    enough = 10.0 ** np.ceil(np.log10(len(values) * eps * largest + 2 * floor))
    return (
        f"the covariance matrix of {what} is singular: with its diagonal scaled to "
        f"one, the {len(values)} eigenvalues run from {values[0]:.1e} to "
        f"{largest:.1e}, a condition number of {largest / floor:.0e} or more. Data "
        "that follow from each other (forces add up to zero, structures repeat) do "
        f"that. Give them noise, or pass `jitter={enough:.0e}`."
    )
