r"""A regularized training kernel, and the functions of it that predictions need.

With :math:`\bar K = K + \epsilon I` and the effective time :math:`s = \eta t / n`:
``decay`` is :math:`e^{-\bar K s}`, ``learned`` is
:math:`\bar K^{-1} (1 - e^{-\bar K s})`, ``solve`` is :math:`\bar K^{-1}`. The middle
one stays finite where the kernel is singular: its limit there is :math:`s`.
"""

from typing import Any

import jax
import jax.numpy as jnp
import jax.scipy as jsp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float


def is_traced(*values: Any) -> bool:
    """Whether one of the values is known only inside a transformation."""
    return any(isinstance(v, Tracer) for v in jax.tree.leaves(values))


class KernelOperator:
    """A symmetric kernel matrix with a ridge; factorizations are kept once made.

    Factors of a matrix known outside `jit` are computed outside it too, so that a
    compiled predictor holds them as constants. A traced matrix is factorized anew for
    each use, as its factors may not outlive the trace.

    Args:
        matrix: The kernel, ``[rows, rows]``.
        diag_reg: Ridge, relative to the mean of the diagonal unless `absolute`.
        absolute: Whether `diag_reg` is the ridge itself.
    """

    def __init__(
        self, matrix: Float[Array, "rows rows"], diag_reg: Any, absolute: bool
    ):
        rows = matrix.shape[0]
        scale = 1.0 if absolute else jnp.trace(matrix) / rows
        self.plain = matrix
        self.matrix = matrix + diag_reg * scale * jnp.eye(rows, dtype=matrix.dtype)
        self._kept: dict[str, Any] = {}

    def _factor(self, name: str, make: Any) -> Any:
        if is_traced(self.matrix):
            return make(self.matrix)
        if name not in self._kept:
            with jax.ensure_compile_time_eval():
                self._kept[name] = make(self.matrix)
        return self._kept[name]

    def eigen(self) -> tuple[Float[Array, " rows"], Float[Array, "rows rows"]]:
        """Return eigenvalues, negative ones clipped to zero, and eigenvectors."""
        values, vectors = self._factor("eigen", jnp.linalg.eigh)
        return jnp.maximum(values, 0.0), vectors

    def decay(self, s: Float[Array, "*t"]) -> Float[Array, "*t rows"]:
        """Return the spectrum of the exponential at minus `s`; zero at infinity."""
        values, s = _outer(self.eigen()[0], s)
        forever = jnp.isinf(s)
        left = jnp.exp(-values * jnp.where(forever, 0.0, s))
        return jnp.where(forever, 0.0, left)

    def lost(self, s: Float[Array, "*t"]) -> Float[Array, "*t rows"]:
        """Return the spectrum of one minus the exponential, accurate at small `s`."""
        values, s = _outer(self.eigen()[0], s)
        forever = jnp.isinf(s)
        lost = -jnp.expm1(-values * jnp.where(forever, 0.0, s))
        return jnp.where(forever, 1.0, lost)

    def learned(self, s: Float[Array, "*t"]) -> Float[Array, "*t rows"]:
        """Return the spectrum of what gradient flow until `s` makes of the inverse.

        Raises:
            ValueError: If a time known here is infinite and the kernel is singular.
        """
        if not is_traced(s) and bool(np.any(np.isinf(np.asarray(s)))):
            self.check_invertible()
        values, s = _outer(self.eigen()[0], s)
        forever = jnp.isinf(s)
        finite = jnp.where(forever, 1.0, s)
        x = values * finite
        small = jnp.abs(x) < 1e-4  # the series is exact to rounding there
        series = 1.0 - x / 2 + x * x / 6 - x**3 / 24
        ratio = jnp.where(small, series, -jnp.expm1(-x) / jnp.where(small, 1.0, x))
        inverse = 1.0 / jnp.where(forever, values, 1.0)
        return jnp.where(forever, inverse, finite * ratio)

    def apply(
        self, spectrum: Float[Array, "*t rows"], rhs: Float[Array, "rows k"]
    ) -> Float[Array, "*t rows k"]:
        """Return a function of the kernel, given by its spectrum, applied to `rhs`."""
        vectors = self.eigen()[1]
        return jnp.einsum("ik,...k,kj->...ij", vectors, spectrum, vectors.T @ rhs)

    def dense(self, spectrum: Float[Array, "*t rows"]) -> Float[Array, "*t rows rows"]:
        """Return a function of the kernel, given by its spectrum, as a matrix."""
        vectors = self.eigen()[1]
        return jnp.einsum("ik,...k,jk->...ij", vectors, spectrum, vectors)

    def solve(self, rhs: Float[Array, "rows k"]) -> Float[Array, "rows k"]:
        """Return the inverse applied to `rhs`.

        Raises:
            ValueError: If the kernel is known here and numerically singular.
        """
        self.check_invertible()
        lower = self._factor("cholesky", jnp.linalg.cholesky)
        return jsp.linalg.cho_solve((lower, True), rhs)

    def check_invertible(self) -> None:
        """Refuse a known matrix with no digit left in its inverse.

        Raises:
            ValueError: If it is not positive definite to working precision.
        """
        if is_traced(self.matrix):
            return
        lower = np.asarray(self._factor("cholesky", jnp.linalg.cholesky))
        pivots = np.square(np.diagonal(lower))
        rows = self.matrix.shape[0]
        floor = float(jnp.finfo(self.matrix.dtype).eps) * rows**0.5
        # The pivots lie between the extreme eigenvalues, so this asks for little.
        if np.isfinite(pivots).all() and pivots.min() > floor * pivots.max():
            return
        values = np.asarray(self._factor("eigenvalues", jnp.linalg.eigvalsh))
        smallest, largest = float(values[0]), float(values[-1])
        condition = largest / abs(smallest) if smallest else float("inf")
        mean = float(np.trace(np.asarray(self.plain))) / rows
        jitter = (max(-smallest, 0.0) + 1e2 * floor * largest) / mean
        raise ValueError(
            f"the training kernel, {rows} x {rows} in {self.matrix.dtype}, is singular "
            f"to working precision: eigenvalues from {smallest:.3g} to {largest:.3g}, "
            f"condition number {condition:.3g}. Remove repeated training points, or "
            f"pass `diag_reg={jitter:.1g}` (relative to the mean of the diagonal)."
        )


def _outer(values: Array, s: Array) -> tuple[Array, Array]:
    """Both arguments with the axes of `s` and then those of `values`."""
    shape = (*s.shape, values.shape[0])
    return jnp.broadcast_to(values, shape), jnp.broadcast_to(s[..., None], shape)
