"""Order, chaos and the line between: how deep a signal and a gradient can go.

Source:
    S. S. Schoenholz, J. Gilmer, S. Ganguli, J. Sohl-Dickstein, "Deep information
    propagation", ICLR 2017, arXiv:1611.01232.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float

from .maps import alpha_q, c_fixed_point, chi, q_fixed_point
from .quadrature import Activation, expectation, slope
from .roots import bracketed_root, scan_until

# chi_1 this close to 1 is called critical; in a finite network of any depth that can
# be built the difference does not show.
CRITICAL_WIDTH = 1e-6


class MeanField(NamedTuple):
    """The fixed point that a deep network settles at.

    Attributes:
        q: Variance of the units.
        c: Correlation of any two inputs.
        chi_1: Growth of the squared gradient norm per layer; the phase is ordered
            below 1 and chaotic above.
        chi_c: Decay of correlations per layer, at `c`.
        alpha_q: Decay of the variance per layer.
    """

    q: Float[Array, ""]
    c: Float[Array, ""]
    chi_1: Float[Array, ""]
    chi_c: Float[Array, ""]
    alpha_q: Float[Array, ""]

    @property
    def xi_q(self) -> Float[Array, ""]:
        """Layers in which the variance settles by a factor e."""
        return -1.0 / jnp.log(self.alpha_q)

    @property
    def xi_c(self) -> Float[Array, ""]:
        """Layers in which correlations settle by a factor e.

        A network trains if it is no deeper than some six of these.
        """
        return -1.0 / jnp.log(self.chi_c)

    @property
    def xi_gradient(self) -> Float[Array, ""]:
        """Layers in which squared gradients grow or decay by a factor e."""
        return 1.0 / jnp.abs(jnp.log(self.chi_1))

    @property
    def name(self) -> str:
        """``"ordered"``, ``"critical"`` or ``"chaotic"``. Not under `jit`."""
        distance = float(self.chi_1) - 1.0
        if abs(distance) < CRITICAL_WIDTH:
            return "critical"
        return "ordered" if distance < 0 else "chaotic"


class CriticalPoint(NamedTuple):
    """Weights and biases on the critical line.

    Attributes:
        W_var: Variance of the weights, times the fan-in.
        b_var: Variance of the biases. Negative where no network has this `q`.
        q: Variance of the units.
        alpha_q: Growth of a perturbation of `q` per layer. Above 1 the network drifts
            away from this point.
    """

    W_var: Float[Array, ""]
    b_var: Float[Array, ""]
    q: Float[Array, ""]
    alpha_q: Float[Array, ""]

    @property
    def W_std(self) -> Float[Array, ""]:
        """Standard deviation of the weights, as `wide.stax.Dense` takes it."""
        return jnp.sqrt(self.W_var)

    @property
    def b_std(self) -> Float[Array, ""]:
        """Standard deviation of the biases; NaN where their variance is negative."""
        return jnp.sqrt(self.b_var)


def mean_field(phi: Activation, W_std: Any, b_std: Any) -> MeanField:
    """Return the fixed point of a deep network, and how it is approached.

    Args:
        phi: The activation, elementwise.
        W_std: Standard deviation of the weights, scaled by the fan-in.
        b_std: Standard deviation of the biases.

    Raises:
        ValueError: If variances grow without bound, for values known outside `jit`.

    Example:
        >>> import jax.numpy as jnp
        >>> mean_field(jnp.tanh, W_std=1.0, b_std=0.05**0.5).name
        'ordered'
    """
    field = _mean_field(phi, W_std, b_std)
    known = not isinstance(field.q, Tracer)
    if known and not np.isfinite(np.asarray(field.q)):
        raise ValueError(
            f"with `W_std={W_std}` and `b_std={b_std}` the variance grows without "
            "bound, so there is no fixed point. Lower `W_std`; for ReLU it must not "
            "exceed sqrt(2)."
        )
    return field


@partial(jax.jit, static_argnames="phi")
def _mean_field(phi: Activation, W_std: Any, b_std: Any) -> MeanField:
    q = q_fixed_point(phi, W_std, b_std)
    c = c_fixed_point(phi, W_std, b_std, q)
    chi_1 = chi(phi, q, W_std)
    chi_c = jnp.where(c < 1, chi(phi, q, W_std, c), chi_1)
    return MeanField(q, c, chi_1, chi_c, alpha_q(phi, q, W_std))


@partial(jax.jit, static_argnames="phi")
def critical_line(phi: Activation, q: Any) -> CriticalPoint:
    r"""Return the critical point with this variance of the units.

    .. math:: \sigma_w^2 = 1 / E\,\phi'(u)^2, \qquad
              \sigma_b^2 = q - \sigma_w^2\, E\,\phi(u)^2

    Args:
        phi: The activation, elementwise.
        q: Variance of the units.
    """
    q = jnp.asarray(q, jnp.result_type(float, q))
    dphi = slope(phi)
    W_var = 1.0 / expectation(lambda u: dphi(u) ** 2, q)
    b_var = q - W_var * expectation(lambda u: phi(u) ** 2, q)
    return CriticalPoint(W_var, b_var, q, alpha_q(phi, q, jnp.sqrt(W_var)))


def critical_point(phi: Activation, b_std: Any) -> CriticalPoint:
    """Return the critical point with these biases.

    Args:
        phi: The activation, elementwise.
        b_std: Standard deviation of the biases.

    Raises:
        ValueError: If the line does not reach `b_std`, for values known outside `jit`.
    """
    point, reached = _critical_point(phi, b_std)
    if not isinstance(reached, Tracer) and not reached:
        raise ValueError(
            f"the critical line of this activation does not reach `b_std={b_std}`. "
            "Pass a smaller one, or choose the variance with `critical_line(phi, q)`."
        )
    return point


@partial(jax.jit, static_argnames="phi")
def _critical_point(phi: Activation, b_std: Any) -> tuple[CriticalPoint, Array]:
    b_var = jnp.asarray(b_std, jnp.result_type(float, b_std)) ** 2

    def excess(log_q: Array) -> Array:
        return b_var - critical_line(phi, jnp.exp(log_q)).b_var

    def excess_slope(log_q: Array) -> Array:
        return jax.jvp(excess, (log_q,), (jnp.ones_like(log_q),))[1]

    info = jnp.finfo(b_var.dtype)
    top = scan_until(
        lambda q: (excess(jnp.log(q)) > 0) & (q < 1e6), jnp.ones_like(b_var), 2.0
    )
    bottom = scan_until(
        lambda q: (excess(jnp.log(q)) <= 0) & (q > info.eps**2), top, 0.5
    )
    log_q = bracketed_root(excess, excess_slope, jnp.log(bottom), jnp.log(top))
    q = jnp.where(bottom > info.eps**2, jnp.exp(log_q), 0.0)
    return critical_line(phi, q), top < 1e6
