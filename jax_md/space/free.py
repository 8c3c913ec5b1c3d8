"""Free boundary conditions: infinite space."""

from typing import Any

from jax_md.types import Space

from .box import in_dtype_of, raw_transform
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
        if perturbation is None:
            return dR
        return raw_transform(in_dtype_of(dR, perturbation), dR)

    def shift_fn(R: Any, dR: Any, **unused: Any):
        return R + dR

    return Space(displacement_fn, shift_fn)
