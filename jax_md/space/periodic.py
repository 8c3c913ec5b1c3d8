"""Periodic boundary conditions in a fixed orthorhombic box, on all or some axes."""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from jax_md.types import Space

from .box import UnexpectedBoxException, in_dtype_of, raw_transform
from .displacement import pairwise_displacement, periodic_displacement, periodic_shift


def canonical_pbc(pbc: bool | Sequence[bool] | None) -> np.ndarray | None:
    """Return the per-axis mask, or None where every axis is periodic.

    Raises:
        ValueError: If `pbc` is not a boolean or a vector of booleans.
    """
    if pbc is None:
        return None
    mask = np.asarray(pbc)
    if mask.dtype != bool or mask.ndim > 1:
        raise ValueError(
            "`pbc` must be a boolean or one boolean per axis, such as "
            f"(True, True, False); got {pbc!r}."
        )
    return None if mask.all() else mask


def periodic(
    side: Any, wrapped: bool = True, *, pbc: bool | Sequence[bool] | None = None
) -> Space:
    """Orthorhombic periodic space in real coordinates.

    Displacements are minimum images, so a cutoff has to stay below half of each
    periodic edge.

    Args:
        side: Edge lengths, a scalar or ``[d]`` (length).
        wrapped: Whether `shift_fn` maps positions back into the box.
        pbc: Which axes are periodic, one boolean per axis; all of them by default. A
            free axis neither wraps nor has images, whatever its `side`.

    Returns:
        ``(displacement_fn, shift_fn)``. The displacement honors ``perturbation=``, an
        affine map applied last.

    Raises:
        ValueError: If `side` is a matrix.
        UnexpectedBoxException: From either function, when called with ``box=``: the
            box is fixed here. Use `periodic_general` for one that changes.
    """
    side = jnp.asarray(side)
    if side.ndim > 1:
        raise ValueError(
            f"`side` must be a scalar or a vector [d]; got shape {side.shape}. "
            "For a cell given by a matrix use `space.periodic_general`."
        )
    mask = canonical_pbc(pbc)

    def refuse_box(kwargs: dict) -> None:
        if "box" in kwargs:
            raise UnexpectedBoxException(
                "`space.periodic` has a fixed box and takes no `box=`. Use "
                "`space.periodic_general` for a box that changes."
            )

    def displacement_fn(Ra: Any, Rb: Any, perturbation: Any = None, **kwargs: Any):
        refuse_box(kwargs)
        straight = pairwise_displacement(Ra, Rb)
        dR = periodic_displacement(in_dtype_of(straight, side), straight)
        if mask is not None:
            dR = jnp.where(mask, dR, straight)
        if perturbation is None:
            return dR
        return raw_transform(in_dtype_of(dR, perturbation), dR)

    def shift_fn(R: Any, dR: Any, **kwargs: Any):
        refuse_box(kwargs)
        if not wrapped:
            return R + dR
        moved = periodic_shift(in_dtype_of(R, side), R, dR)
        return moved if mask is None else jnp.where(mask, moved, R + dR)

    return Space(displacement_fn, shift_fn)
