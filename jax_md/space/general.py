"""Periodic boundary conditions in any cell, fixed or changing, fractional or real."""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp

from jax_md.types import Space

from .box import cartesian, inverse, lattice, raw_transform, transform
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
    if jnp.ndim(box) > 2 or (jnp.ndim(box) == 2 and len(set(jnp.shape(box))) != 1):
        inverse(box)  # raises the message that says what a box is
    built = box
    mask = canonical_pbc(pbc)
    # Once, here, not in every pair loop that a displacement ends up in.
    built_inverse = inverse(box)

    def both(given: Any) -> tuple[Any, Any]:
        return (built, built_inverse) if given is None else (given, inverse(given))

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
            dR = transform(built if forward is None else forward, dR - images(dR, 0.5))
        else:
            current, back = both(box)
            s = raw_transform(back, dR)
            if new_box is None:
                dR = dR - raw_transform(current, images(s, 0.5))
            else:
                # Real positions, too, keep their tangent when the space is deformed.
                s = cartesian(jnp.asarray(current, s.dtype), s - images(s, 0.5))
                dR = transform(new_box, s)
        return dR if perturbation is None else raw_transform(perturbation, dR)

    def shift_fn(R: Any, dR: Any, box: Any = None, new_box: Any = None, **unused: Any):
        current, back = both(box)
        if fractional_coordinates:
            current = jnp.asarray(current, jnp.result_type(R))
            s = lattice(current, jnp.asarray(R)) + raw_transform(back, dR)
            s = s - images(s, 0.0) if wrapped else s
            target = current if new_box is None else jnp.asarray(new_box, s.dtype)
            return cartesian(target, s)
        moved = R + dR
        if not wrapped and new_box is None:
            return moved
        s = raw_transform(back, moved)
        if new_box is None:
            # Adding lattice vectors leaves unwrapped positions exact; going to
            # fractions and back would round every position in every step.
            return moved - raw_transform(current, images(s, 0.0))
        return raw_transform(new_box, s - images(s, 0.0) if wrapped else s)

    return Space(displacement_fn, shift_fn)
