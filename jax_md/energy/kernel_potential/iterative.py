r"""Conjugate gradients for :math:`(K + \Sigma) \alpha = y`, preconditioned.

The preconditioner is the sparse model: :math:`K_{NM} K_{MM}^{-1} K_{MN}` of energies,
and of slopes along descriptors, of a few representative atoms, plus the diagonal that
it leaves, inverted through its factors.

Source:
    M. R. Hestenes, E. Stiefel, J. Res. Natl. Bur. Stand. 49, 409 (1952).
    H. A. van der Vorst, Q. Ye, SIAM J. Sci. Comput. 22, 835 (2000) (true residuals).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import lax
from jax.scipy.linalg import solve_triangular
from jaxtyping import Array, Float


class Preconditioner(NamedTuple):
    """Applies :math:`(D + U U^T)^{-1}` as :math:`(1 - Q Q^T)` between roots of D."""

    root: Float[Array, " p"]
    factor: Float[Array, "p m"]

    @classmethod
    def make(
        cls, K_mm: Array, K_nm: Array, diagonal: Array, variance: Array
    ) -> "Preconditioner":
        """Make it of kernel blocks, the diagonal of K, and the noise."""
        m = K_mm.shape[0]
        eps = jnp.finfo(K_mm.dtype).eps
        # A pseudo-inverse: representatives may say the same thing twice.
        size = jnp.sqrt(jnp.maximum(jnp.diagonal(K_mm), eps))
        values, vectors = jnp.linalg.eigh(K_mm / size / size[:, None])
        held = values > 10 * m * eps * values[-1]
        inverse_root = jnp.where(held, 1 / jnp.sqrt(jnp.where(held, values, 1)), 0)
        U = (K_nm / size) @ (vectors * inverse_root)
        rest = jnp.maximum(diagonal - jnp.sum(U * U, 1), 0)
        # Never less than rounding leaves, or the quotient below loses all digits.
        root = jnp.sqrt(variance + rest + 1e3 * eps * diagonal)
        V = U / root[:, None]
        # (1 + V V^T)^{-1} = 1 - W W^T with W = V L^{-T}, L L^T = 1 + V^T V.
        low = jnp.linalg.cholesky(jnp.eye(m, dtype=V.dtype) + V.T @ V)
        return cls(root, solve_triangular(low, V.T, lower=True).T)

    def __call__(self, r: Array) -> Array:
        """Apply it to a vector."""
        r = r / self.root
        return (r - self.factor @ (self.factor.T @ r)) / self.root


def conjugate_gradients(
    product: Callable[[Array], Array],
    y: Float[Array, " p"],
    precondition: Callable[[Array], Array],
    start: Float[Array, " p"],
    *,
    tolerance: float,
    max_iterations: int,
) -> tuple[Array, Array, Array]:
    """Solve a symmetric positive definite system.

    Args:
        product: The matrix times a vector.
        y: Right-hand side.
        precondition: An approximate inverse.
        start: First guess.
        tolerance: Norm of the residual to reach, relative to that of `y`.
        max_iterations: Largest number of products.

    Returns:
        The solution, the iterations taken, and the relative residual.
    """
    norm = jnp.linalg.norm(y)
    norm = jnp.where(norm > 0, norm, 1)

    def going(carry: Any) -> Array:
        _, r, *_, k = carry
        return (jnp.linalg.norm(r) > tolerance * norm) & (k < max_iterations)

    def body(carry: Any) -> Any:
        a, r, p, rho, k = carry
        q = product(p)
        step = rho / jnp.vdot(p, q)
        a, r = a + step * p, r - step * q
        s = precondition(r)
        new = jnp.vdot(r, s)
        return a, r, s + (new / rho) * p, new, k + 1

    # The residual that is updated departs from the true one by rounding. Where it has
    # met the tolerance and the true one has not, start again from the true one, for as
    # long as that helps.
    def unfinished(carry: Any) -> Array:
        _, r, last, k = carry
        left = jnp.linalg.norm(r)
        return (left > tolerance * norm) & (left < last / 2) & (k < max_iterations)

    def restart(carry: Any) -> Any:
        a, r, _, k = carry
        s = precondition(r)
        found, *_, k = lax.while_loop(going, body, (a, r, s, jnp.vdot(r, s), k))
        left = y - product(found)
        better = jnp.linalg.norm(left) < jnp.linalg.norm(r)
        a, last = jnp.where(better, found, a), jnp.linalg.norm(r)
        return a, jnp.where(better, left, r), last, k

    never = jnp.asarray(jnp.inf, norm.dtype)
    carry = (start, y - product(start), never, jnp.zeros((), jnp.int32))
    a, r, _, k = lax.while_loop(unfinished, restart, carry)
    return a, k, jnp.linalg.norm(r) / norm
