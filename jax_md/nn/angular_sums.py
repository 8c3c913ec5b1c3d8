r"""Angular symmetry functions summed over the pairs of neighbors of each particle.

Neighbors stand in slots, ``[k, n]``. All unordered pairs of slots are met once by
rotating the slots by 1, 2 ... ``k // 2`` places, so that nothing larger than a few
``[k, n]`` arrays is ever held, in the reverse mode neither: each turn is computed again
there.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.core import Tracer
from jaxtyping import Array, Float


class Shapes(NamedTuple):
    """Parameters of the functions, each of length ``m``; they vary together."""

    eta: Any
    lam: Any
    zeta: Any


def safe_root(square: Array) -> Array:
    """Square root with derivative zero, to any order, at zero."""
    apart = square != 0  # unlike `> 0`, lets NaN through
    return jnp.where(apart, jnp.sqrt(jnp.where(apart, square, 1)), 0)


def weak(value: Any) -> Any:
    """A number that takes the dtype of what it meets, unless it is traced."""
    return value if isinstance(value, Tracer) else float(value)


def power(base: Array, exponent: Any) -> Array:
    """``base ** exponent`` of a base that is zero at worst, with finite derivatives."""
    if isinstance(exponent, float) and exponent == int(exponent):
        return lax.integer_pow(base, int(exponent))
    null = base <= jnp.finfo(base.dtype).eps
    return jnp.where(null, 0, jnp.where(null, 1, base) ** exponent)


def factors(cos: Array, square: Array, shapes: Shapes) -> tuple[Array, Array, Any, Any]:
    """Distinct Gaussians and distinct functions of the angle, and where each goes.

    Args:
        cos: Cosine of the angle, ``[...]``.
        square: Sum of the three squared distances, ``[...]``.
        shapes: Parameters.

    Returns:
        Gaussians ``[a, ...]``, functions of the angle ``[b, ...]``, and for each of the
        ``m`` symmetry functions its rows in the two.
    """
    if any(isinstance(x, Tracer) for x in shapes):
        etas, lams, zetas = (jnp.asarray(x, cos.dtype) for x in shapes)
        of_eta = of_angle = np.arange(len(etas))
    else:
        etas, of_eta = np.unique(np.asarray(shapes.eta, float), return_inverse=True)
        table = np.stack([shapes.lam, shapes.zeta], 1).astype(float)
        table, of_angle = np.unique(table, axis=0, return_inverse=True)
        etas, (lams, zetas) = etas.tolist(), table.T.tolist()
    gaussians = jnp.stack([jnp.exp(-eta * square) for eta in etas])
    angles = jnp.stack(
        [
            2.0 ** (1 - zeta) * power(1 + lam * cos, zeta)
            for lam, zeta in zip(lams, zetas, strict=True)
        ]
    )
    return gaussians, angles, np.ravel(of_eta), np.ravel(of_angle)


def angular_sums(
    dR: Float[Array, "k n d"],
    kinds: Float[Array, "k n t"],
    shapes: Shapes,
    cutoff: Callable[[Array], Array],
) -> Float[Array, "n c"]:
    r"""Sum over ordered pairs of neighbors, one channel for each pair of types.

    Args:
        dR: Displacements to the neighbors; empty slots lie beyond the cutoff (length).
        kinds: One where the neighbor is of the type, zero elsewhere.
        shapes: Parameters of the ``m`` functions.
        cutoff: The function of a distance that ends all three of a triangle.

    Returns:
        ``[n, m * t * (t + 1) / 2]``, the types (0, 0), (0, 1) ... in blocks of ``m``.
        Pairs of two types count once, those of one type in both orders.
    """
    k, n, _ = dR.shape
    m, t = len(shapes.eta), kinds.shape[-1]
    first, second = np.triu_indices(t)
    r = safe_root(jnp.sum(dR * dR, -1))
    # The direction of a particle that coincides with the central one is no direction.
    unit = dR / jnp.where(r == 0, 1, r)[..., None]
    held = (dR, unit, r * r, cutoff(r), kinds)
    twice = jax.tree.map(lambda x: jnp.concatenate([x, x]), held)

    @jax.checkpoint
    def turn(twice: Any, shift: Array) -> Array:
        def at(start: Any) -> Any:
            return jax.tree.map(lambda x: lax.dynamic_slice_in_dim(x, start, k), twice)

        (dR_j, unit_j, square_j, f_j, kind_j), other = at(0), at(shift)
        dR_l, unit_l, square_l, f_l, kind_l = other
        gap = dR_j - dR_l
        square_jl = jnp.sum(gap * gap, -1)
        cos = jnp.sum(unit_j * unit_l, -1)
        weight = f_j * f_l * cutoff(safe_root(square_jl))
        # Half a turn meets every pair from both ends.
        weight = weight * jnp.where(2 * shift == k, 0.5, 1.0).astype(weight.dtype)
        gaussians, angles, a, b = factors(cos, square_j + square_l + square_jl, shapes)
        # Without a barrier each of the m sums evaluates its exponentials again.
        gaussians, angles = lax.optimization_barrier((gaussians * weight, angles))
        if t == 1:
            pair = 2 * kind_j[..., 0] * kind_l[..., 0]
            return jnp.sum(gaussians[a] * angles[b] * pair, 1)[None]
        pair = kind_j[..., first] * kind_l[..., second]
        pair = pair + kind_j[..., second] * kind_l[..., first]
        return jnp.einsum("mkn,knc->cmn", gaussians[a] * angles[b], pair)

    total = jnp.zeros((len(first), m, n), dR.dtype)
    if k > 1:

        def add(total: Array, shift: Array) -> tuple[Array, None]:
            return total + turn(twice, shift), None

        total, _ = lax.scan(add, total, jnp.arange(1, k // 2 + 1))
    return total.reshape(len(first) * m, n).T


def one_triangle(
    dR_12: Array, dR_13: Array, eta: Any, lam: Any, zeta: Any, cutoff: Callable
) -> Array:
    """The function of one pair of neighbors, ``[d]`` each."""
    r_12, r_13 = (safe_root(jnp.sum(x * x)) for x in (dR_12, dR_13))
    gap = dR_12 - dR_13
    square_23 = jnp.sum(gap * gap)
    length = r_12 * r_13
    cos = jnp.sum(dR_12 * dR_13) / jnp.where(length == 0, 1, length)
    square = r_12 * r_12 + r_13 * r_13 + square_23
    eta, lam, zeta = weak(eta), weak(lam), weak(zeta)
    angle = 2.0 ** (1 - zeta) * power(1 + lam * cos, zeta)
    ends = cutoff(r_12) * cutoff(r_13) * cutoff(safe_root(square_23))
    return angle * jnp.exp(-eta * square) * ends
