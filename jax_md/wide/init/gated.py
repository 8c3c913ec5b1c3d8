r"""Initialization of gated recurrent cells that remember for a given time.

A forget gate held open by its bias :math:`\mu` keeps
:math:`E f^2 \approx 1 - 2e^{-\mu}` of a squared signal per step, so
:math:`\mu = \ln 2T` remembers for ``T`` steps. Small orthogonal recurrent weights keep
the singular values of the Jacobian together.

Source:
    D. Gilboa, B. Chang, M. Chen, G. Yang, S. S. Schoenholz, E. H. Chi, J. Pennington,
    "Dynamical isometry and a mean field theory of LSTMs and GRUs", arXiv:1901.08987.
    The rule for the bias is derived here.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array

from ..meanfield import Gate, RecurrentField, gru, lstm, minimal_rnn
from .critical import gaussian, normal
from .orthogonal import Initializer, orthogonal

CELLS = {
    "lstm": ("write", "forget", "candidate", "output"),  # i, f, g, o of flax
    "gru": ("reset", "forget", "candidate"),  # r, z, n of flax
    "minimal": ("forget",),
}


class GatedInit(NamedTuple):
    """Initializers of a gated cell, and the memory they give.

    Attributes:
        recurrent: Initializer of each gate's recurrent weights.
        input: Initializer of each gate's input weights.
        bias: Initializer of the bias of each gate, by name.
        field: Stationary state of the cell; `RecurrentField.xi` is its memory.
    """

    recurrent: Initializer
    input: dict[str, Initializer]
    bias: dict[str, Initializer]
    field: RecurrentField

    def packed_bias(self) -> Initializer:
        """Return the initializer of all biases in one vector, gate after gate.

        The order is that of `bias`: ``i f g o`` for an LSTM, ``r z n`` for a GRU.
        """

        def init(key: Any, shape: Sequence[int], dtype: Any = None) -> Array:
            size, rest = divmod(shape[-1], len(self.bias))
            if len(shape) != 1 or rest:
                raise ValueError(
                    f"`shape` must be one axis that holds the {len(self.bias)} gates "
                    f"{tuple(self.bias)} in turn; got {tuple(shape)}."
                )
            return jnp.concatenate(
                [init(key, (size,), dtype) for init in self.bias.values()]
            )

        return init


def gated_critical_init(
    cell: str,
    steps: float,
    recurrent_std: float = 1e-2,
    forget_input_std: float = 1e-2,
    input_std: float = 1.0,
    input_variance: float = 1.0,
) -> GatedInit:
    """Return the initialization of a gated cell that remembers for some steps.

    Args:
        cell: ``"lstm"``, ``"gru"`` or ``"minimal"``.
        steps: How many steps a signal has to last; above 1/2.
        recurrent_std: Scale of the orthogonal recurrent weights.
        forget_input_std: Standard deviation of the input weights of the forget gate,
            times the root of the fan-in. Large ones close the gate on some inputs.
        input_std: The same of all other gates.
        input_variance: Variance of the inputs.

    Returns:
        Initializers ``init(key, shape, dtype)``, with the stationary state they lead
        to.

    Raises:
        ValueError: If `cell` is unknown, `steps` too small, or if the weights are too
            large for the cell to remember that long.

    Example:
        >>> start = gated_critical_init("gru", steps=300)
        >>> bool(start.field.xi > 300)
        True
    """
    if cell not in CELLS:
        raise ValueError(f"`cell` must be one of {tuple(CELLS)}; got {cell!r}.")
    if not steps > 0.5:
        raise ValueError(f"`steps` must be above 1/2; got {steps}.")
    open_gate = Gate(recurrent_std, forget_input_std, 0.0)
    other = Gate(recurrent_std, input_std, 0.0)

    def field(bias: float) -> RecurrentField:
        forget = open_gate._replace(bias=bias)
        if cell == "gru":
            return gru(forget, other, other, input_variance)
        if cell == "lstm":
            # Long enough for the cell state to settle, which takes some memories.
            length = max(1000, 10 * math.ceil(steps))
            return lstm(
                forget, other, other, other, input_variance, samples=512, steps=length
            )
        return minimal_rnn(
            recurrent_std, forget_input_std, bias, input_variance=input_variance
        )

    # The expansion in exp(-bias) neglects terms that matter for short memories, and
    # what flows back through the weights: raise the bias until the memory is there.
    bias = math.log(2.0 * steps)
    for _ in range(20):
        found = field(bias)
        if float(found.chi) < 1 and float(found.xi) >= steps:
            break
        if float(found.chi) >= 1:
            break
        bias += max(math.log(steps / float(found.xi)), 1e-3)
    if not float(found.chi) < 1 or float(found.xi) < steps:
        raise ValueError(
            f"with `recurrent_std={recurrent_std}` and `forget_input_std="
            f"{forget_input_std}` the cell has no stable memory of {steps} steps "
            f"(growth per step {float(found.chi):.6g}). Lower both."
        )
    names = CELLS[cell]
    return GatedInit(
        orthogonal(recurrent_std),
        {
            name: gaussian(forget_input_std if name == "forget" else input_std)
            for name in names
        },
        {name: normal(0.0, bias if name == "forget" else 0.0) for name in names},
        found,
    )
