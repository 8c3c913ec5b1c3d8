"""Periodic boundary conditions in any cell, fixed or changing, fractional or real."""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array

from jax_md.types import Space

from .box import (
    cartesian,
    in_dtype_of,
    inverse,
    lattice,
    raw_transform,
    transform,
)
from .displacement import pairwise_displacement
from .periodic import canonical_pbc


def periodic_general(
    box: Any,
    fractional_coordinates: bool = True,
    wrapped: bool = True,
    *,
    pbc: bool | Sequence[bool] | None = None,
) -> Space:
    r"""Periodic space of a parallelepiped cell whose shape may change at call time.

    With ``fractional_coordinates`` positions live in the unit cube while displacements,
    forces and the second argument of `shift_fn` are in real space; gradients with
    respect to positions are real-space too (see `jax_md.space.box`). Without it
    everything is in real space.

    Displacements are minimum images found by rounding fractional components. That is
    the nearest image as long as the cutoff is below half of each perpendicular width of
    the cell.

    Args:
        box: Scalar, ``[d]`` or ``[d, d]``, columns being lattice vectors (length).
        fractional_coordinates: Whether positions are fractions of the box.
        wrapped: Whether `shift_fn` maps positions back into the cell.
        pbc: Which lattice directions are periodic, one boolean per axis; all of them by
            default.

    Returns:
        ``(displacement_fn, shift_fn)``. Both take ``box=``, the current cell, and
        ``new_box=``, the cell to deform the space to: a displacement is that after the
        deformation, and ``shift_fn(R, dR, box=b, new_box=c)`` moves by `dR` in ``b``
        and then carries positions to ``c`` at fixed fractions, so that
        ``shift_fn(R, 0 * R, box=b, new_box=c)`` is how an ensemble changes its box. The
        displacement honors ``perturbation=``, an affine map applied last.
    """
    built = jnp.asarray(box)
    mask = canonical_pbc(pbc)
    # Once, here, not in every pair loop that a displacement ends up in.
    built_inverse = inverse(built)

    def both(R: Any, given: Any) -> tuple[Array, Array]:
        """The box in use and its inverse."""
        if given is None:
            return in_dtype_of(R, built), in_dtype_of(R, built_inverse)
        given = in_dtype_of(R, given)
        return given, inverse(given)

    def images(s: Any, offset: float) -> Any:
        n = jnp.floor(s + offset)
        return n if mask is None else jnp.where(mask, n, 0)

    def displacement_fn(
        Ra: Any,
        Rb: Any,
        box: Any = None,
        new_box: Any = None,
        perturbation: Any = None,
        **unused: Any,
    ):
        dR = pairwise_displacement(Ra, Rb)
        if fractional_coordinates:
            forward = new_box if new_box is not None else box
            forward = in_dtype_of(dR, built if forward is None else forward)
            dR = transform(forward, dR - images(dR, 0.5))
        else:
            current, back = both(dR, box)
            if new_box is None:
                s = raw_transform(back, dR)
                dR = dR - raw_transform(current, images(s, 0.5))
            else:
                # A tangent of real positions, too, is read in the deformed space.
                target = in_dtype_of(dR, new_box)
                s = raw_transform(back, cartesian(current, lattice(target, dR)))
                dR = raw_transform(target, s - images(s, 0.5))
        if perturbation is None:
            return dR
        return raw_transform(in_dtype_of(dR, perturbation), dR)

    def shift_fn(R: Any, dR: Any, box: Any = None, new_box: Any = None, **unused: Any):
        current, back = both(R, box)
        target = current if new_box is None else in_dtype_of(R, new_box)
        if fractional_coordinates:
            s = lattice(current, jnp.asarray(R)) + raw_transform(back, dR)
            s = s - images(s, 0.0) if wrapped else s
            return cartesian(target, s)
        moved = R + dR
        if not wrapped and new_box is None:
            return moved
        s = raw_transform(back, moved)
        if new_box is None:
            # Adding lattice vectors leaves unwrapped positions exact; going to
            # fractions and back would round every position in every step.
            return moved - raw_transform(current, images(s, 0.0))
        return raw_transform(target, s - images(s, 0.0) if wrapped else s)

    return Space(displacement_fn, shift_fn)
