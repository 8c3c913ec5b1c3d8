"""Free boundary conditions: infinite space."""

from typing import Any

from jax_md.types import Space

from .box import raw_transform
from .displacement import pairwise_displacement


def free() -> Space:
    """Infinite space: displacements are differences and shifts are sums.

    Returns:
        ``(displacement_fn, shift_fn)``. The displacement honors ``perturbation=``, an
        affine map (scalar or ``[d, d]``) applied last; other keywords are ignored.

    Example:
        >>> displacement_fn, shift_fn = free()
    """

    def displacement_fn(Ra: Any, Rb: Any, perturbation: Any = None, **unused: Any):
        dR = pairwise_displacement(Ra, Rb)
        return dR if perturbation is None else raw_transform(perturbation, dR)

    def shift_fn(R: Any, dR: Any, **unused: Any):
        return R + dR

    return Space(displacement_fn, shift_fn)
