r"""Batch normalization makes gradients grow with depth, whatever the activation.

In a network :math:`z = W \phi(\mathrm{BN}(z'))` a batch of ``B`` normalized units is
uniform on a sphere, and squared gradients grow per layer by

.. math::
    \lambda = \frac{B}{(B - 3)(B - 1)\,\sigma^2}\; E\,\mathrm{tr}(P D G D P), \qquad
    \sigma^2 = E\,\phi(x_1)^2 - E\,\phi(x_1)\phi(x_2)

with :math:`D = \mathrm{diag}\,\phi'(x)`, :math:`G = 1 - 11^T/B` and
:math:`P = G - xx^T/B`. All terms are means over one or two of the entries of ``x``.

The covariances of a batch go to the fixed point :math:`\sigma^2 G` plus a constant. A
small departure :math:`\Delta` becomes in one layer

.. math:: \Delta'_{ij} = \frac{B - 1}{2 B \sigma^2}\,
          E\,\phi(x_i)\phi(x_j)\, x^T G \Delta G x ,

with one eigenvalue for departures ``G diag(v) G`` that single samples out, and one for
those of pairs, with zeros on the diagonal and in all sums over a row. Sums over the
other samples follow from those of ``x``, 0, and of its squares, ``B``.

Source:
    G. Yang, J. Pennington, V. Rao, J. Sohl-Dickstein, S. S. Schoenholz, "A mean field
    theory of batch normalization", ICLR 2019, arXiv:1902.08129.
"""

from functools import lru_cache, partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .quadrature import Activation, sector_rule, slope

RADIAL_POINTS = 96


class BatchNormRate(NamedTuple):
    """Fixed point and gradient growth of a network with batch normalization.

    Attributes:
        q: Second moment of the activations.
        c: Correlation of the activations of two samples of a batch.
        growth: Factor per layer of the squared gradient norm.
        forward_single: Factor per layer of a departure of single samples from the fixed
            point of the covariances; below one where it is stable.
        forward_pair: The same of a departure of pairs.
    """

    q: Float[Array, ""]
    c: Float[Array, ""]
    growth: Float[Array, ""]
    forward_single: Float[Array, ""]
    forward_pair: Float[Array, ""]

    @property
    def xi(self) -> Float[Array, ""]:
        """Layers in which squared gradients grow by a factor e."""
        return 1.0 / jnp.log(self.growth)


@partial(jax.jit, static_argnames=("phi", "batch_size"))
def batchnorm_rate(phi: Activation, batch_size: int) -> BatchNormRate:
    """Return how fast gradients grow in a deep network with batch normalization.

    It does not depend on the variance of weights and biases. The least growth, of a
    linear network, is ``(B - 2) / (B - 3)``.

    Args:
        phi: The activation, elementwise, smooth but for a kink at zero.
        batch_size: Number of samples normalized together, at least 4.

    Raises:
        ValueError: If `batch_size` is below 4, where the growth is infinite.
    """
    b = batch_size
    if b < 4:
        raise ValueError(
            f"`batch_size` must be at least 4; got {b}. With fewer samples squared "
            "gradients have no finite mean."
        )
    dtype = jnp.result_type(float)
    radius, weight = _disk_rule(b)
    cos1, cos2, turn = sector_rule(jnp.asarray(-1.0 / (b - 1), dtype))
    weights = jnp.outer(turn, jnp.asarray(weight, dtype)) / (2 * np.pi)
    radius = jnp.asarray(radius, dtype)
    x1 = np.sqrt(b - 1.0) * jnp.outer(cos1, radius)
    x2 = np.sqrt(b - 1.0) * jnp.outer(cos2, radius)

    def mean(values: Array) -> Array:
        return jnp.sum(weights * values)

    d1, d2 = slope(phi)(x1), slope(phi)(x2)
    q, qc = mean(phi(x1) ** 2), mean(phi(x1) * phi(x2))
    # The three sums over samples of the trace, each b terms i = j and b(b-1) others.
    squares = b * mean(d1**2)
    total = squares + b * (b - 1) * mean(d1 * d2)
    along = b * mean((d1 * x1) ** 2) + b * (b - 1) * mean(d1 * x1 * d2 * x2)
    tangent = (1 - 1 / b) * squares - mean((d1 * x1) ** 2)
    trace = tangent - (squares - total / b - along / b) / b
    growth = b / ((b - 3) * (b - 1) * (q - qc)) * trace

    # What the other samples add up to, given one or two of them.
    own, pair = phi(x1) ** 2, phi(x1) * phi(x2)
    others = x1**2 - (b - x1**2) / (b - 1)
    beyond = (b - 2) * x1**2 - (b - x1**2 - x2**2)
    single = (b - 2) * mean(own * others) - 2 * mean(pair * beyond)
    single = (b - 1) / (2 * b * (b - 2) * (q - qc)) * single
    both = x1 + x2
    crossed = (both**2 - (b - x1**2 - x2**2)) / ((b - 2) * (b - 3))
    pairs = mean(pair * (x1 * x2 + both**2 / (b - 2) + crossed))
    return BatchNormRate(q, qc / q, growth, single, (b - 1) / (b * (q - qc)) * pairs)


@lru_cache
def _disk_rule(b: int) -> tuple[np.ndarray, np.ndarray]:
    """Radii and weights for two coordinates of the unit sphere in ``b - 1`` dimensions.

    Their density falls off as ``(1 - r^2)^((b - 5) / 2)``: a Gauss-Jacobi rule in
    ``r^2``, from the eigenvectors of its recurrence matrix.
    """
    alpha = (b - 5) / 2
    k = np.arange(1, RADIAL_POINTS)
    both = 2 * k + alpha
    diagonal = np.concatenate([[-alpha / (alpha + 2)], -(alpha**2) / both / (both + 2)])
    beside = 2 * k * (k + alpha) / (both * np.sqrt(both**2 - 1))
    nodes, vectors = np.linalg.eigh(
        np.diag(diagonal) + np.diag(beside, 1) + np.diag(beside, -1)
    )
    return np.sqrt(np.clip((1 + nodes) / 2, 0.0, 1.0)), vectors[0] ** 2
