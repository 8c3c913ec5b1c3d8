r"""Switching a pair function off between an onset and a cutoff.

Each function here takes ``fn, r_onset, r_cutoff`` and returns ``fn`` times a switch
:math:`S(r)` that is exactly one up to the onset and exactly zero from the cutoff on.
They differ in how smooth the switch is:

================================  ===============================================
`multiplicative_isotropic_cutoff`  one continuous derivative (forces continuous)
`smooth_cutoff`                    two (forces differentiable): for gradients
                                   through trajectories, Hessians, elasticity
`sharp_cutoff`                     none: plain truncation, as ``lj/cut`` in LAMMPS
================================  ===============================================
"""

from collections.abc import Callable
from functools import wraps
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float


def multiplicative_isotropic_cutoff(
    fn: Callable[..., Array], r_onset: Any, r_cutoff: Any
) -> Callable[..., Array]:
    r"""Switch a pair function off with a polynomial in the squared distance.

    .. math:: S(r) = (r_c^2 - r^2)^2 (r_c^2 + 2 r^2 - 3 r_o^2) / (r_c^2 - r_o^2)^3

    The first derivative is continuous, the second jumps at both ends.

    Args:
        fn: Pair function ``fn(dr, ...)``.
        r_onset: Where the switch begins (length).
        r_cutoff: From where on the result is zero (length).

    Returns:
        A function of the arguments of `fn`.

    Source:
        The XPLOR smoothing of HOOMD-blue; J. A. Anderson, J. Glaser, S. C. Glotzer,
        Comput. Mater. Sci. 173, 109363 (2020).
    """
    on, off = r_onset * r_onset, r_cutoff * r_cutoff
    width = _nonzero(off - on)
    scale = 1 / (width * width * width)  # outside of the loops over pairs

    def switch(dr: Array) -> Array:
        r2 = dr * dr
        gap = off - r2
        return gap * gap * (off - 3 * on + 2 * r2) * scale

    return _switched(fn, switch, r_onset, r_cutoff)


def smooth_cutoff(
    fn: Callable[..., Array], r_onset: Any, r_cutoff: Any
) -> Callable[..., Array]:
    r"""Switch a pair function off with two continuous derivatives.

    .. math:: S(r) = 1 - x^3 (10 - 15 x + 6 x^2), \quad x = (r - r_o) / (r_c - r_o)

    Args:
        fn: Pair function ``fn(dr, ...)``.
        r_onset: Where the switch begins (length).
        r_cutoff: From where on the result is zero (length).

    Returns:
        A function of the arguments of `fn`.

    Source:
        The quintic smoothstep; K. Perlin, ACM Trans. Graph. 21, 681 (2002).
    """
    scale = 1 / _nonzero(r_cutoff - r_onset)

    def switch(dr: Array) -> Array:
        x = (dr - r_onset) * scale
        return 1 - x * x * x * (10 - x * (15 - 6 * x))

    return _switched(fn, switch, r_onset, r_cutoff)


def sharp_cutoff(
    fn: Callable[..., Array], r_onset: Any, r_cutoff: Any
) -> Callable[..., Array]:
    """Truncate a pair function, leaving a step at the cutoff.

    Energies jump as pairs cross the cutoff, so energy is not conserved; for comparison
    with codes and papers that truncate.

    Args:
        fn: Pair function ``fn(dr, ...)``.
        r_onset: Not used: there is nothing to switch on.
        r_cutoff: From where on the result is zero (length).

    Returns:
        A function of the arguments of `fn`.
    """
    del r_onset

    @wraps(fn)
    def cut(dr: Float[Array, "*pairs"], *args: Any, **kwargs: Any) -> Array:
        # Asked this way round so that a distance that is NaN stays visible.
        return jnp.where(dr >= r_cutoff, 0, fn(dr, *args, **kwargs))

    return cut


def _nonzero(width: Any) -> Any:
    """`width`, or one where it is zero: then no distance lies within the switch."""
    if isinstance(width, int | float):
        return width or 1.0
    return jnp.where(width == 0, 1, width)


def _switched(fn: Callable, switch: Callable, r_onset: Any, r_cutoff: Any) -> Callable:
    @wraps(fn)
    def cut(dr: Float[Array, "*pairs"], *args: Any, **kwargs: Any) -> Array:
        value = fn(dr, *args, **kwargs)
        # Selected rather than clamped: exactly `fn` below the onset, exactly zero
        # beyond the cutoff, whatever the polynomial does there; NaN where `dr` is.
        tail = jnp.where(dr >= r_cutoff, 0, switch(dr) * value)
        return jnp.where(dr < r_onset, value, tail)

    return cut
