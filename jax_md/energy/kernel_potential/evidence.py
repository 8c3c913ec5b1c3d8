"""How likely data are under a kernel: what hyper-parameters are chosen by."""

from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp
from jax.scipy.linalg import solve_triangular
from jaxtyping import Array, Float

from .covariance import covariance
from .independent import independent
from .kernels import AtomKernel
from .observations import DEFAULT_NOISE, Noise, Training
from .solve import default_jitter


def log_marginal_likelihood(
    kernel: Callable | Mapping[int, Callable],
    training: Training,
    noise: Noise | tuple = DEFAULT_NOISE,
    *,
    coupling: Any = None,
    jitter: float | None = None,
) -> Float[Array, ""]:
    r"""Log of the probability of the data, hyper-parameters given.

    .. math:: -\tfrac12 y^T (K + \Sigma)^{-1} y - \tfrac12 \log \det (K + \Sigma)
              - \tfrac{p}{2} \log 2 \pi

    Differentiable with respect to whatever the kernel closes over, the noise and the
    coupling; NaN where the matrix is singular. The data are those that say something,
    see `independent`: that forces add up to zero is no evidence.

    Args:
        kernel: As in `fit`; hyper-parameters may be traced.
        training: What `prepare` made; if it is traced, what `independent` made of that.
        noise: As in `fit`.
        coupling: As in `fit`.
        jitter: As in `fit`.

    Raises:
        ValueError: If the kernel is too rough for forces, or `training` is traced and
            its data may depend on each other.

    Example:
        The slope in the length of a Gaussian kernel::

            def evidence(length):
                return log_marginal_likelihood(rbf(length), training)

            jax.grad(evidence)(1.0)

    Source:
        C. E. Rasmussen, C. K. I. Williams, "Gaussian Processes for Machine Learning",
        MIT Press 2006, section 5.4.
    """
    training = independent(training)
    atoms = AtomKernel(kernel, training.types, coupling)
    if training.has_slopes:
        atoms.require_derivatives(1)
    jitter = default_jitter(training.y.dtype) if jitter is None else jitter
    K = covariance(atoms, training)
    variance = training.deviation(Noise(*noise)) ** 2
    L = jnp.linalg.cholesky(K + jnp.diag(variance + jitter * jnp.diagonal(K)))
    white: Array = solve_triangular(L, training.y, lower=True)
    log_det = 2 * jnp.sum(jnp.log(jnp.diagonal(L)))
    return -0.5 * (white @ white + log_det + len(white) * jnp.log(2 * jnp.pi))
