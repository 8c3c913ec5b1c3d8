r"""The tangent kernel of a deep network: its entries, spectrum and limits in depth.

For inputs of equal norm, at the fixed point ``q*``, the layer map is

.. math:: c' = C(c), \quad p_{aa}' = q^* + \chi_1 p_{aa}, \quad
          p_{ab}' = q^* c' + \chi_c p_{ab}.

Source:
    L. Xiao, J. Pennington, S. S. Schoenholz, "Disentangling trainability and
    generalization in deep neural networks", ICML 2020, arXiv:1912.13053.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .maps import c_map, chi
from .phase import MeanField, mean_field
from .quadrature import Activation


class NtkDepth(NamedTuple):
    """Entries of the kernels at each depth, from the first layer on.

    Attributes:
        c: Correlation of two inputs, ``[depth]``.
        diagonal: Tangent kernel of an input with itself, ``[depth]``.
        off_diagonal: Tangent kernel of two inputs, ``[depth]``.
    """

    c: Float[Array, " depth"]
    diagonal: Float[Array, " depth"]
    off_diagonal: Float[Array, " depth"]


class Spectrum(NamedTuple):
    """Eigenvalues of a kernel whose inputs all have the same correlation."""

    largest: Float[Array, "..."]
    bulk: Float[Array, "..."]

    @property
    def condition_number(self) -> Float[Array, "..."]:
        """Ratio of the largest eigenvalue and the others."""
        return self.largest / self.bulk


def ntk_by_depth(
    phi: Activation, W_std: Any, b_std: Any, depth: int, c: Any = 0.0
) -> NtkDepth:
    """Iterate the tangent kernel of two inputs whose variance is the fixed point.

    Args:
        phi: The activation, elementwise.
        W_std: Standard deviation of the weights, scaled by the fan-in.
        b_std: Standard deviation of the biases.
        depth: Number of layers.
        c: Correlation of the two inputs in the first layer.
    """
    q = mean_field(phi, W_std, b_std).q  # refuses parameters without a fixed point
    return _ntk_by_depth(phi, W_std, b_std, depth, q, c)


@partial(jax.jit, static_argnames=("phi", "depth"))
def _ntk_by_depth(
    phi: Activation, W_std: Any, b_std: Any, depth: int, q: Array, c: Any
) -> NtkDepth:
    chi_1 = chi(phi, q, W_std)

    def layer(state: tuple, _: None) -> tuple[tuple, tuple]:
        c, own, cross = state
        below = chi(phi, q, W_std, c)
        new = c_map(phi, c, q, W_std, b_std)
        return (new, q + chi_1 * own, q * new + below * cross), state

    c = jnp.asarray(c, q.dtype)
    _, path = jax.lax.scan(layer, (c, q, q * c), None, length=depth)
    return NtkDepth(*path)


def ntk_spectrum(entries: NtkDepth, points: int, pixels: int = 1) -> Spectrum:
    """Return the spectrum for a set of equally correlated inputs.

    Args:
        entries: What `ntk_by_depth` returned.
        points: Number of training inputs.
        pixels: Number of positions that a convolutional network averages over at the
            end; 1 for dense networks and for those that flatten.
    """
    own, cross = entries.diagonal, entries.off_diagonal
    bulk = (own - cross) / pixels
    return Spectrum(bulk + points * cross, bulk)


class NtkLimit(NamedTuple):
    """How the tangent kernel behaves when depth grows.

    Attributes:
        phase: ``"ordered"``, ``"critical"`` or ``"chaotic"``.
        field: The fixed point.
        off_diagonal: Where the kernel of two inputs tends to; at criticality, its
            growth per layer.
        diagonal: The same of an input with itself; infinite in the chaotic phase, where
            it grows by ``chi_1`` per layer.
        depth_scale: Layers in which, in the ordered phase, training slows down and, in
            the chaotic phase, predictions lose sight of the data, by a factor e;
            infinite at criticality.
    """

    phase: str
    field: MeanField
    off_diagonal: Float[Array, ""]
    diagonal: Float[Array, ""]
    depth_scale: Float[Array, ""]

    def condition_number(self, points: int, pixels: int = 1) -> Float[Array, ""]:
        """Return the limit of the ratio of largest and other eigenvalues.

        Args:
            points: Number of training inputs.
            pixels: Number of positions averaged over at the end, see `ntk_spectrum`.
        """
        if self.phase == "ordered":
            return jnp.full_like(self.diagonal, jnp.inf)
        if self.phase == "chaotic":
            return jnp.ones_like(self.diagonal)
        ratio = self.off_diagonal / self.diagonal
        return 1.0 + points * pixels * ratio / (1.0 - ratio)

    def max_learning_rate(
        self, depth: int, points: int, pixels: int = 1
    ) -> Float[Array, ""]:
        """Return the largest stable rate, for half the summed squares, in the limit.

        Args:
            depth: Number of layers.
            points: Number of training inputs.
            pixels: Number of positions averaged over at the end, see `ntk_spectrum`.
        """
        own, cross = self.diagonal, self.off_diagonal
        if self.phase == "critical":
            own, cross = depth * own, depth * cross
        if self.phase == "chaotic":
            chi_1 = self.field.chi_1
            own = self.field.q * chi_1**depth / (chi_1 - 1.0)
        return 2.0 / ((own - cross) / pixels + points * cross)


def ntk_limit(phi: Activation, W_std: Any, b_std: Any) -> NtkLimit:
    r"""Return how the tangent kernel behaves when depth grows.

    Near ``c = 1`` at criticality :math:`1 - C(c) = x - a x^s` with :math:`x = 1 - c`:
    ``s`` is 2 for smooth activations and 3/2 with a kink. Then
    :math:`\chi_c \approx 1 - k/l` with :math:`k = s / (s - 1)`, and the kernel of two
    inputs grows like :math:`l q^* / (k + 1)`: one third or one quarter of the diagonal.

    Args:
        phi: The activation, elementwise.
        W_std: Standard deviation of the weights, scaled by the fan-in.
        b_std: Standard deviation of the biases.
    """
    field = mean_field(phi, W_std, b_std)
    phase, q = field.name, field.q
    infinite = jnp.full_like(q, jnp.inf)
    if phase == "ordered":
        limit = q / (1.0 - field.chi_1)
        return NtkLimit(phase, field, limit, limit, -1.0 / jnp.log(field.chi_1))
    if phase == "chaotic":
        cross = q * field.c / (1.0 - field.chi_c)
        scale = -1.0 / (jnp.log(field.chi_c) - jnp.log(field.chi_1))
        return NtkLimit(phase, field, cross, infinite, scale)

    def lag(x: float) -> Array:
        return field.chi_1 - chi(phi, q, W_std, 1.0 - x)  # a s x^(s - 1)

    x = float(jnp.finfo(q.dtype).eps) ** 0.25
    power = jnp.log2(lag(2 * x) / lag(x))  # s - 1
    cross = q / ((power + 1.0) / power + 1.0)
    return NtkLimit(phase, field, cross, q, infinite)
