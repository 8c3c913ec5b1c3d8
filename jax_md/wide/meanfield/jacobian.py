"""Spectrum of the input-output Jacobian at initialization.

Source:
    J. Pennington, S. S. Schoenholz, S. Ganguli, "Resurrecting the sigmoid in deep
    learning through dynamical isometry", NeurIPS 2017, arXiv:1711.04735.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .quadrature import Activation, expectation, slope


class JacobianMoments(NamedTuple):
    """Mean and variance of the squared singular values of the Jacobian."""

    mean: Float[Array, ""]
    variance: Float[Array, ""]


@partial(jax.jit, static_argnames=("phi", "depth", "orthogonal"))
def jacobian_moments(
    phi: Activation, q: Any, depth: int, W_std: Any = None, orthogonal: bool = True
) -> JacobianMoments:
    r"""Return the moments of the squared singular values of a deep Jacobian.

    With :math:`\mu_k = E\,\phi'(u)^{2k}` and :math:`\chi = \sigma_w^2 \mu_1`: mean
    :math:`\chi^L`, variance :math:`\chi^{2L} L (\mu_2 / \mu_1^2 - 1 - s)`, with
    :math:`s` 0 for orthogonal and -1 for Gaussian weights. A variance that vanishes is
    dynamical isometry.

    Args:
        phi: The activation, elementwise.
        q: Variance of the units.
        depth: Number of layers ``L``.
        W_std: Standard deviation of the weights; the critical one by default.
        orthogonal: Whether weights are orthogonal, else Gaussian.
    """
    dphi = slope(phi)
    first = expectation(lambda u: dphi(u) ** 2, q)
    second = expectation(lambda u: dphi(u) ** 4, q)
    growth = jnp.ones_like(first) if W_std is None else W_std**2 * first
    spread = second / first**2 - (1.0 if orthogonal else 0.0)
    return JacobianMoments(growth**depth, growth ** (2 * depth) * depth * spread)
