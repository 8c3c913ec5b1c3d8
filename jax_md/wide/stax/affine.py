r"""What all layers with weights share: parameters, scales and the kernel rule.

An affine layer averages inputs linearly, ``A``, before it mixes channels with random
weights. In NTK parameterization

.. math:: K' = \sigma_w^2 A K + \sigma_b^2, \qquad
          \Theta' = K' + \sigma_w^2 A \Theta ;

in standard parameterization, with `n` inputs to each unit and the multiplier
:math:`s_{in}`, :math:`\Theta' = (n / s_{in}) A K + \sigma_w^2 A \Theta + 1`, the last
term for biases.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from jax_md.wide.kernel import Kernel

Array = jax.Array


class Affine(NamedTuple):
    """The random weights and biases of a layer.

    Attributes:
        W_std: Standard deviation of the weights.
        b_std: Standard deviation of the biases; None for no biases.
        parameterization: ``"ntk"`` or ``"standard"``.
        s: Width multipliers in and out of the standard parameterization.
    """

    W_std: Any
    b_std: Any
    parameterization: str
    s: tuple[int, int]

    @classmethod
    def checked(
        cls, W_std: Any, b_std: Any, parameterization: str, s: tuple[int, int]
    ) -> "Affine":
        """Return the record, or refuse an unknown parameterization."""
        if parameterization not in ("ntk", "standard"):
            raise ValueError(
                '`parameterization` must be "ntk" or "standard"; got '
                f"{parameterization!r}. Pass one of the two."
            )
        return cls(W_std, b_std, parameterization, s)

    def width(self, channels: int) -> int:
        """Return the channels out of a layer declared with `channels`."""
        return channels * self.s[1] if self.parameterization == "standard" else channels

    def draw(
        self,
        rng: Array,
        W_shape: tuple[int, ...],
        b_shape: tuple[int, ...],
        fan_in: int,
    ) -> tuple[Array, Array | None]:
        """Draw weights and biases; None for biases where there are none."""
        key_W, key_b = jax.random.split(rng)
        W = jax.random.normal(key_W, W_shape)
        b = None if self.b_std is None else jax.random.normal(key_b, b_shape)
        if self.parameterization == "standard":
            W = W * (self.W_std * (self.s[0] / fan_in) ** 0.5)
            b = None if b is None else b * self.b_std
        return W, b

    def scale(self, z: Array, b: Array | None, fan_in: int) -> Array:
        """Scale the weighted sums `z` of `fan_in` terms and add the biases."""
        if self.parameterization == "standard":
            z = z / self.s[0] ** 0.5
            return z if b is None else z + b
        z = z * (self.W_std / fan_in**0.5)
        return z if b is None else z + b * self.b_std

    def kernel(
        self,
        k: Kernel,
        fan_in: int,
        average: Callable[[Array, int, int, int], Array] | None = None,
        bias: Callable[[Array, int], Array] | None = None,
    ) -> Kernel:
        """Apply the kernel rule of an affine layer.

        Args:
            k: Kernel of the inputs.
            fan_in: Weights that each unit has.
            average: The map ``A``, see `Kernel.linear`; None for the identity.
            bias: ``bias(x, n_batch)`` gives where biases correlate, an array of ones
                and zeros that broadcasts against the covariance `x`; None for
                everywhere.
        """
        if average is not None:
            k = k.linear(average)
        n_self = k.n_batch_self

        def plus(x: Array, amount: Any, n_batch: int) -> Array:
            if self.b_std is None:
                return x
            return x + (amount if bias is None else amount * bias(x, n_batch))

        w2 = self.W_std**2
        b2 = None if self.b_std is None else self.b_std**2
        nngp = plus(k.nngp * w2, b2, 2)
        ntk = k.ntk
        if ntk is not None and self.parameterization == "ntk":
            ntk = nngp + w2 * ntk
        elif ntk is not None:
            ntk = plus(k.nngp * (fan_in / self.s[0]) + w2 * ntk, 1.0, 2)
        return k.replace(
            nngp=nngp,
            ntk=ntk,
            cov1=plus(k.cov1 * w2, b2, n_self),
            cov2=None if k.cov2 is None else plus(k.cov2 * w2, b2, n_self),
            is_gaussian=True,
            is_input=False,
        )
