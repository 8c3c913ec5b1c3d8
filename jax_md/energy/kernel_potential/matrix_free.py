"""Systems of equations in the covariance of all data, which is never written out.

Products with it are directional derivatives of the kernel (`covariance.product`), and
conjugate gradients solve by them: for the weights of the data, and for variances.
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.core import Tracer
from jaxtyping import Array, Float

from jax_md import dataclasses

from .covariance import covariance, diagonal, product
from .iterative import Preconditioner, conjugate_gradients
from .kernels import AtomKernel
from .observations import Group, Noise, Training
from .select import select_environments

# Rank of what preconditions conjugate gradients.
RANK = 800
# Right-hand sides solved side by side: they share the kernels of one product.
SIDE_BY_SIDE = 16


class System(NamedTuple):
    r"""What :math:`K + \Sigma` has beside the kernel and the data.

    Attributes:
        shift: Its part on the diagonal, noise and jitter, ``[p]``.
        precondition: Its approximate inverse.
    """

    shift: Float[Array, " p"]
    precondition: Preconditioner

    @classmethod
    def make(
        cls,
        kernel: AtomKernel,
        training: Training,
        landmarks: Training,
        noise: Noise,
        jitter: Any,
    ) -> "System":
        """Make it of the data and of what represents them."""
        own = diagonal(kernel, training)
        shift = training.deviation(noise) ** 2 + jitter * own
        K_mm = covariance(kernel, landmarks)
        K_nm = covariance(kernel, training, landmarks)
        return cls(shift, Preconditioner.make(K_mm, K_nm, own, shift))

    def product(
        self, kernel: AtomKernel, training: Training, a: Float[Array, " p"]
    ) -> Float[Array, " p"]:
        """Multiply a vector."""
        return product(kernel, training, a) + self.shift * a

    def solve(
        self,
        kernel: AtomKernel,
        training: Training,
        y: Float[Array, " p"],
        start: Float[Array, " p"] | None = None,
        *,
        tolerance: float,
        max_iterations: int,
    ) -> tuple[Array, Array, Array]:
        """Solve for one right-hand side, as `conjugate_gradients`."""
        return conjugate_gradients(
            lambda a: self.product(kernel, training, a),
            y,
            self.precondition,
            jnp.zeros_like(y) if start is None else start,
            tolerance=tolerance,
            max_iterations=max_iterations,
        )


def halves(
    system: System,
    kernel: AtomKernel,
    training: Training,
    k: Float[Array, "p n"],
    *,
    tolerance: float,
    max_iterations: int,
) -> tuple[Float[Array, "p n"], Float[Array, "p n"]]:
    r"""Factors a, b of :math:`k^T (K + \Sigma)^{-1} k = a^T b`.

    A solution a with the residual r goes with :math:`b = k + r`: on the diagonal that
    is wrong by the square of the residual, and never too much, so that no variance
    comes out too small.

    Args:
        system: What the fit left.
        kernel: Kernel of atoms.
        training: The data.
        k: Covariances of all data with n quantities, ``[p, n]``.
        tolerance: Residual to reach, relative to each column of `k`.
        max_iterations: Largest number of products.

    Returns:
        Both factors. Within `jit`, they are NaN where the residual is larger.

    Raises:
        ValueError: If the residual is larger.
    """
    limits = {"tolerance": tolerance, "max_iterations": max_iterations}

    def column(y: Array) -> tuple[Array, Array, Array]:
        # Derivatives are solutions for derivatives of y, whatever the iterations were.
        a = lax.custom_linear_solve(
            lambda a: system.product(kernel, training, a),
            y,
            lambda _, y: system.solve(kernel, training, y, **limits)[0],
            symmetric=True,
        )
        rest = lax.stop_gradient(y - system.product(kernel, training, a))
        norm = jnp.linalg.norm(lax.stop_gradient(y))
        residual = jnp.linalg.norm(rest) / jnp.where(norm > 0, norm, 1)
        return a, y + rest, residual

    a, b, residual = lax.map(column, k.T, batch_size=SIDE_BY_SIDE)
    worst = jnp.max(residual)
    if not isinstance(worst, Tracer):
        require_convergence(float(worst), max_iterations, limits)
    a = jnp.where(residual[:, None] <= tolerance, a, jnp.nan)
    return a.T, b.T


def require_convergence(residual: float, iterations: int, limits: dict) -> None:
    """Refuse what conjugate gradients did not solve."""
    if not residual <= limits["tolerance"]:
        raise ValueError(
            f"conjugate gradients left a residual of {residual:.1e} after "
            f"{iterations} iterations, more than `tolerance` = "
            f"{limits['tolerance']:.1e}. Raise `noise` or `jitter`, which improves the "
            "condition of the matrix, or `max_iterations` or `tolerance`; in single "
            "precision, enable 64-bit types."
        )


def landmarks(kernel: AtomKernel, training: Training) -> Training:
    """Representative atoms, each a structure of one atom with its energy and slopes."""
    x, z = (np.asarray(a) for a in (training.x, training.z))
    f = x.shape[1]
    chosen = select_environments(x, z, RANK // 2, "variance", kernel=kernel)
    steep = (RANK - len(chosen)) // f if training.has_slopes else 0
    groups = []
    for at, slopes in ((chosen[:steep], True), (chosen[steep:], False)):
        if len(at):
            own = np.broadcast_to(np.eye(f, dtype=x.dtype), (len(at), 1, f, f))
            kinds = (("energy", 1), ("force", f)) if slopes else (("energy", 1),)
            groups.append(
                Group(
                    x=x[at][:, None],
                    z=z[at][:, None],
                    jacobian=own if slopes else None,
                    has_energy=True,
                    kinds=kinds,
                )
            )
    return dataclasses.replace(training, groups=tuple(groups), y=None)
