"""What describes a recurrent cell at initialization, and its stationary state."""

from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float


class Gate(NamedTuple):
    """The distribution of the weights and biases that feed one gate.

    Attributes:
        recurrent: Standard deviation of the recurrent weights, times root of the width.
        input: The same of the input weights.
        bias: Mean of the biases.
        bias_std: Standard deviation of the biases.
    """

    recurrent: Any = 1.0
    input: Any = 1.0
    bias: Any = 0.0
    bias_std: Any = 0.0

    def variance(self, state: Any, inputs: Any) -> Any:
        """Return the variance of the gate's argument over units."""
        return self.recurrent**2 * state + self.input**2 * inputs + self.bias_std**2


class RecurrentField(NamedTuple):
    """The stationary state of a recurrent cell.

    Attributes:
        Q: Mean square of the hidden state.
        chi: Growth per step of squared perturbations, and of squared gradients.
        jacobian_variance: Growth per step of the variance of the squared singular
            values of the state-to-state Jacobian with orthogonal weights, where known.
        memory: Mean square of the cell state of an LSTM; None elsewhere.
    """

    Q: Float[Array, ""]
    chi: Float[Array, ""]
    jacobian_variance: Float[Array, ""] | None = None
    memory: Float[Array, ""] | None = None

    @property
    def xi(self) -> Float[Array, ""]:
        """Steps in which a squared perturbation decays by a factor e.

        Its amplitude takes twice as many. The longest memory that can be trained is a
        few of these.
        """
        return -1.0 / jnp.log(self.chi)
