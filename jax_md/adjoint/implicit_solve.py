r"""Linear systems with a Hessian: symmetric, known by its products, flat in places.

A minimum is flat along some directions: the whole system can be moved or turned, a
rattler goes where it likes. There the Hessian has zeros for eigenvalues and a system
:math:`H x = b` no unique solution. The one that is computed moves nothing along them,
:math:`x = H^+ b`, and no part of ``b`` along them counts.

`flat_directions` finds the usual ones: coordinates that no other depends on (rows of
zeros, found by random products) and rigid motions. What others there may be, `solve`
treats by least squares where that is right, and answers by NaN where it is not.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from .flat import Leaves

Product = Callable[[Float[Array, " n"]], Float[Array, " n"]]

# Residuals relative to |H| |x| + |b|: what is aimed at, in units of the precision, and
# the powers of the precision that a round aims at and that pass in the end. A round
# that aimed at round-off itself could go on with nothing left but flat directions.
AIM, ROUND, PASSES = 16, 0.6, 0.75
ROUNDS = 5


def pack(leaves: Leaves) -> Float[Array, " n"]:
    """One vector of all numbers of a list of arrays."""
    dtype = jnp.result_type(*leaves)
    return jnp.concatenate([jnp.ravel(x).astype(dtype) for x in leaves])


def unpack(vector: Float[Array, " n"], like: Leaves) -> Leaves:
    """Undo `pack`, for arrays of the shapes and dtypes of `like`."""
    begin, leaves = 0, []
    for x in like:
        part = vector[begin : begin + x.size]
        leaves.append(part.reshape(x.shape).astype(x.dtype))
        begin += x.size
    return leaves


class FlatDirections(NamedTuple):
    """Directions along which nothing pulls back.

    Attributes:
        bound: Whether something depends on a coordinate.
        basis: Orthonormal flat directions among the others; rows of zeros fill up.
        size: Stiffness of a random direction, to tell what is flat by.
    """

    bound: Bool[Array, " n"]
    basis: Float[Array, "k n"]
    size: Float[Array, ""]

    def remove(self, v: Float[Array, " n"]) -> Float[Array, " n"]:
        """The part of a vector across the flat directions."""
        v = jnp.where(self.bound, v, 0)
        return v - self.basis.T @ (self.basis @ v)


def flat_directions(
    product: Product, leaves: Leaves, slope: Float[Array, " n"]
) -> FlatDirections:
    """Find coordinates that nothing depends on, and rigid motions that cost nothing.

    Args:
        product: Product of the Hessian with a vector.
        leaves: Where it is taken.
        slope: Gradient there. What is left of it bends rigid motions, too.
    """
    # Seen once, a zero could be a sum that happens to vanish; twice, it is not.
    probes = jax.random.normal(jax.random.key(0), (2, slope.size), slope.dtype)
    images = jax.vmap(product)(probes)
    bound = jnp.any(images != 0, axis=0)
    size = jnp.linalg.norm(images) / jnp.linalg.norm(probes)
    motions = _rigid_motions(leaves).astype(slope.dtype)
    motions = jnp.where(bound, motions, 0)
    if not len(motions):
        return FlatDirections(bound, motions, size)

    lengths = jnp.linalg.norm(motions, axis=1)
    here = lengths > 0
    motions = motions / jnp.where(here, lengths, 1)[:, None]
    shortest = jnp.min(jnp.where(here, lengths, jnp.inf))
    across = jnp.linalg.qr(motions.T)[0]
    # Singular values of H on their span: small ones belong to flat combinations.
    stretched = jnp.linalg.qr(jax.vmap(product, 1, 1)(across), mode="r")
    _, stiffness, mixed = jnp.linalg.svd(stretched)
    round_off = 100 * jnp.finfo(slope.dtype).eps * size
    flat = stiffness <= round_off + 4 * jnp.linalg.norm(slope) / shortest
    basis = jnp.where(flat[:, None], mixed @ across.T, 0)
    return FlatDirections(bound, jnp.where(bound, basis, 0), size)


def _rigid_motions(leaves: Leaves) -> Float[Array, "k n"]:
    """Translations and rotations of each array of points, one a row.

    Which combinations of them are flat is seen later, so one too many does no harm.
    """
    rows = []

    def add(i: int, motion: Array) -> None:
        moved = [jnp.zeros_like(x) for x in leaves]
        moved[i] = motion
        rows.append(pack(moved))

    for i, x in enumerate(leaves):
        if x.ndim != 2 or not 1 <= x.shape[1] <= 3:
            continue
        n, d = x.shape
        middle = x - jnp.mean(x, axis=0)
        for a in range(d):
            add(i, jnp.zeros_like(x).at[:, a].set(1))
            for b in range(a):
                turned = jnp.zeros_like(x).at[:, a].set(middle[:, b])
                add(i, turned.at[:, b].set(-middle[:, a]))
                if n == d:  # a box, whose lattice vectors are columns
                    turned = jnp.zeros_like(x).at[a].set(x[b])
                    add(i, turned.at[b].set(-x[a]))
    return jnp.stack(rows) if rows else jnp.zeros((0, pack(leaves).size))


def solve(
    product: Product,
    flat: FlatDirections,
    b: Float[Array, " n"],
    steps: int,
    least_squares: bool,
) -> Float[Array, " n"]:
    """Solve ``H x = b`` across the flat directions by MINRES, with refinement.

    Args:
        product: Product of the Hessian with a vector.
        flat: Directions to leave out.
        b: Right-hand side.
        steps: Most products in each of a few rounds.
        least_squares: Whether a right-hand side that points along flat directions that
            are not in `flat` is meant to be solved across them.

    Returns:
        The solution; NaN where none was found.
    """
    eps = jnp.finfo(b.dtype).eps
    passes = eps**PASSES
    b = flat.remove(b)

    def across(v: Array) -> Array:
        # Round-off along flat directions would grow from one step to the next.
        return flat.remove(product(flat.remove(v)))

    def error(x: Array, r: Array, size: Array) -> Array:
        whole = size * jnp.linalg.norm(x) + jnp.linalg.norm(b)
        return jnp.linalg.norm(r) / jnp.where(whole > 0, whole, 1)

    def improve(carry: tuple) -> tuple:
        i, x, r, size, before, _ = carry
        dx, size = _minres(across, r, size, eps**ROUND, passes, steps)
        # Once all else is solved, what is left of flat directions is divided by ~0.
        new = x + flat.remove(dx)
        new_r = b - across(new)
        now = error(new, new_r, size)
        better = now < before
        x, r = jnp.where(better, new, x), jnp.where(better, new_r, r)
        go_on = (now > AIM * eps) & (now < before / 2)
        return i + 1, x, r, size, jnp.minimum(now, before), go_on

    far = jnp.full((), jnp.inf, b.dtype)
    carry = 0, jnp.zeros_like(b), b, flat.size, far, far > 0
    carry = jax.lax.while_loop(lambda c: c[-1] & (c[0] < ROUNDS), improve, carry)
    _, x, r, size, left, _ = carry
    solved = left <= passes
    if least_squares:
        solved |= jnp.linalg.norm(across(r)) <= passes * size * jnp.linalg.norm(r)
    return jnp.where(solved, x, jnp.nan)


def _minres(
    product: Product,
    b: Float[Array, " n"],
    size: Float[Array, ""],
    aim: Any,
    flat: Any,
    steps: int,
) -> tuple[Float[Array, " n"], Float[Array, ""]]:
    r"""Minimize :math:`|b - A x|` over Krylov spaces of a symmetric matrix.

    Lanczos vectors :math:`v_k` make :math:`A` tridiagonal (diagonal ``alpha``, beside
    it ``beta``), plane rotations ``c, s`` make that triangular, and ``phi`` is what is
    left of the right-hand side, up to its sign the norm of the residual.

    Args:
        product: Product of the matrix with a vector.
        b: Right-hand side.
        size: Estimate of the norm of the matrix from below.
        aim: Stop at residuals so small relative to ``|A| |x| + |b|``.
        flat: Stop where the matrix shrinks the residual by so much relative to
            ``|A|``: what is left of it lies along flat directions.
        steps: Most products.

    Returns:
        The solution, and a better estimate of the norm of the matrix.

    Source:
        C. C. Paige, M. A. Saunders, SIAM J. Numer. Anal. 12, 617 (1975), section 5;
        stopping as in S.-C. T. Choi, C. C. Paige, M. A. Saunders, SIAM J. Sci. Comput.
        33, 1810 (2011).
    """
    length = jnp.linalg.norm(b)

    def over(x: Array, y: Array) -> Array:
        return jnp.where(y != 0, x / jnp.where(y != 0, y, 1), 0)

    def advance(carry: dict) -> dict:
        v, beta, (c, s), (c_old, s_old) = (carry[k] for k in ("v", "beta", "cs", "cs2"))
        w = product(v)
        alpha = jnp.vdot(v, w)
        w = w - alpha * v - beta * carry["v_old"]
        beta_new = jnp.linalg.norm(w)
        size = jnp.maximum(carry["size"], jnp.sqrt(beta**2 + alpha**2 + beta_new**2))

        # Column k of the triangle, from two rotations back to this one.
        far, near = s_old * beta, c_old * beta
        near, diagonal = c * near + s * alpha, c * alpha - s * near
        shrunk = jnp.hypot(diagonal, c * beta_new) <= flat * size
        gamma = jnp.hypot(diagonal, beta_new)
        cs = over(diagonal, gamma), over(beta_new, gamma)
        d = over(v - near * carry["d"] - far * carry["d_old"], gamma)
        x = jnp.where(shrunk, carry["x"], carry["x"] + cs[0] * carry["phi"] * d)
        phi = jnp.where(shrunk, carry["phi"], -cs[1] * carry["phi"])
        whole = size * jnp.linalg.norm(x) + length
        small = jnp.abs(phi) <= aim * whole
        return {
            "k": carry["k"] + 1,
            "x": x,
            "v": over(w, beta_new),
            "v_old": v,
            "d": d,
            "d_old": carry["d"],
            "beta": beta_new,
            "phi": phi,
            "cs": cs,
            "cs2": (c, s),
            "size": size,
            "go_on": ~small & ~shrunk & (beta_new > 0),
        }

    zero, zeros = jnp.zeros_like(length), jnp.zeros_like(b)
    carry = {
        "k": 0,
        "x": zeros,
        "v": over(b, length),
        "v_old": zeros,
        "d": zeros,
        "d_old": zeros,
        "beta": zero,
        "phi": length,
        "cs": (zero + 1, zero),
        "cs2": (zero + 1, zero),
        "size": size,
        "go_on": length > 0,
    }
    carry = jax.lax.while_loop(lambda c: c["go_on"] & (c["k"] < steps), advance, carry)
    return carry["x"], carry["size"]
