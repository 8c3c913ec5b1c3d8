"""Critical initialization: the weights and biases at which a deep network trains.

Source:
    L. Xiao, Y. Bahri, J. Sohl-Dickstein, S. S. Schoenholz, J. Pennington, "Dynamical
    isometry and a mean field theory of CNNs", ICML 2018, arXiv:1806.05393 (the choice
    ``q = 1 / depth``); S. S. Schoenholz, J. Gilmer, S. Ganguli, J. Sohl-Dickstein,
    ICLR 2017, arXiv:1611.01232.
"""

import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from ..meanfield import JacobianMoments, critical_line, jacobian_moments
from .orthogonal import Initializer, delta_orthogonal, orthogonal

# A perturbation of the variance may at most double over the depth of the network.
MAX_DRIFT = 2.0


class Critical(NamedTuple):
    """Initializers on the critical line, and what they promise.

    Attributes:
        kernel: Initializer of dense kernels ``[n_in, n_out]``.
        conv_kernel: Initializer of convolution kernels ``[*window, n_in, n_out]``.
        bias: Initializer of biases.
        W_std: Standard deviation of the weights, times the root of the fan-in.
        b_std: Standard deviation of the biases.
        q: Variance of the units, at which the network has to be entered.
        alpha_q: Growth of a deviation from `q` per layer.
        jacobian: Moments of the squared singular values of the whole network.
    """

    kernel: Initializer
    conv_kernel: Initializer
    bias: Initializer
    W_std: float
    b_std: float
    q: float
    alpha_q: float
    jacobian: JacobianMoments


def critical(
    phi: Callable[[Array], Array],
    depth: int,
    q: float | None = None,
    weights: str = "orthogonal",
) -> Critical:
    """Return the critical initialization of a network with this depth.

    Args:
        phi: The activation, elementwise.
        depth: Number of layers.
        q: Variance of the units; ``1 / depth`` by default, with which orthogonal
            weights and an activation like tanh keep all singular values near 1.
        weights: ``"orthogonal"`` (convolutions: delta-orthogonal) or ``"gaussian"``.

    Returns:
        Initializers ``init(key, shape, dtype)`` for flax and alike, with the variances
        they draw from; `Critical.W_std` and `b_std` also fit `wide.stax.Dense`.

    Raises:
        ValueError: If no network is critical at this `q`, since it would take biases
            of negative variance (softplus), or if `depth` or `weights` is unknown.

    Warns:
        UserWarning: If deviations of the variance grow more than twofold over the
            depth, so that the network drifts off criticality.

    Example:
        >>> import jax.numpy as jnp
        >>> start = critical(jnp.tanh, depth=64)
        >>> # flax.nnx.Linear(8, 8, kernel_init=start.kernel, bias_init=start.bias, ..)
    """
    if not isinstance(depth, int) or depth < 1:
        raise ValueError(f"`depth` must be a positive integer; got {depth!r}.")
    if weights not in ("orthogonal", "gaussian"):
        raise ValueError(
            f"`weights` must be 'orthogonal' or 'gaussian'; got {weights!r}."
        )
    q = 1.0 / depth if q is None else float(q)
    point = critical_line(phi, q)
    W_var, b_var, alpha = float(point.W_var), float(point.b_var), float(point.alpha_q)
    rounding = 1e3 * float(np.finfo(point.q.dtype).eps) * max(q, 1.0)
    if not np.isfinite(W_var) or b_var < -rounding:
        raise ValueError(
            f"no network with this activation is critical at `q={q:.3g}`: it would "
            f"take biases of variance {b_var:.3g}. Try another `q`, or shift the "
            "activation to pass through zero (softplus minus log 2)."
        )
    if alpha**depth > MAX_DRIFT:
        warnings.warn(
            f"deviations of the variance grow by {alpha:.4g} per layer, "
            f"{alpha**depth:.3g} over {depth} layers, so the network drifts off "
            "criticality. Use another `q` or activation (tanh does not drift), or "
            "fewer layers.",
            UserWarning,
            stacklevel=2,
        )
    W_std, b_std = W_var**0.5, max(b_var, 0.0) ** 0.5
    is_orthogonal = weights == "orthogonal"
    return Critical(
        orthogonal(W_std) if is_orthogonal else gaussian(W_std),
        delta_orthogonal(W_std) if is_orthogonal else gaussian(W_std),
        normal(b_std),
        W_std,
        b_std,
        q,
        alpha,
        jacobian_moments(phi, q, depth, None, is_orthogonal),
    )


def gaussian(W_std: Any = 1.0, dtype: Any = None) -> Initializer:
    """Return an initializer of Gaussian weights of variance ``W_std**2 / fan_in``.

    Args:
        W_std: Standard deviation of the weights, times the root of the fan-in.
        dtype: Default type of the weights.

    Returns:
        ``init(key, shape, dtype)`` for shapes ``[*window, n_in, n_out]``.
    """

    def init(key: Any, shape: Sequence[int], dtype: Any = dtype) -> Array:
        dtype = jnp.result_type(float) if dtype is None else dtype
        fan_in = int(np.prod(shape[:-1]))
        return W_std / fan_in**0.5 * jax.random.normal(key, shape, dtype)

    return init


def normal(std: Any, mean: Any = 0.0, dtype: Any = None) -> Initializer:
    """Return an initializer of Gaussian values with this mean, such as biases.

    Args:
        std: Standard deviation.
        mean: Mean.
        dtype: Default type.

    Returns:
        ``init(key, shape, dtype)``.
    """

    def init(key: Any, shape: Sequence[int], dtype: Any = dtype) -> Array:
        dtype = jnp.result_type(float) if dtype is None else dtype
        return mean + std * jax.random.normal(key, shape, dtype)

    return init
