r"""Mean field theory of recurrent cells: memory and gradients over time.

Recurrent weights have variance :math:`\sigma^2 / N`, input weights :math:`\nu^2 / N`,
biases mean :math:`\mu` and variance :math:`\rho^2`; inputs have variance ``R`` and
correlation ``C_x`` between two sequences. Weights are drawn anew at each step, which is
close to the tied cell while recurrent weights are small; with large ones the tied cell
grows faster.

Source:
    M. Chen, J. Pennington, S. S. Schoenholz, ICML 2018, arXiv:1806.05394 (vanilla,
    minimalRNN); D. Gilboa, B. Chang, M. Chen, G. Yang, S. S. Schoenholz, E. H. Chi,
    J. Pennington, arXiv:1901.08987 (GRU, LSTM). The moments are derived afresh.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .gates import Gate, RecurrentField
from .quadrature import Activation, expectation, pair_expectation, slope
from .roots import bracketed_root

FIXED_POINT_STEPS = 400


@partial(jax.jit, static_argnames="phi")
def vanilla_rnn(
    phi: Activation,
    W_std: Any,
    V_std: Any,
    b_std: Any = 0.0,
    input_variance: Any = 1.0,
) -> RecurrentField:
    """Return the stationary state of ``h' = phi(W h + V x + b)``.

    Args:
        phi: The activation, elementwise.
        W_std: Standard deviation of the recurrent weights, times root of the width.
        V_std: The same of the input weights.
        b_std: Standard deviation of the biases.
        input_variance: Variance of the inputs.
    """
    dtype = jnp.result_type(float)
    drive = V_std**2 * input_variance + b_std**2

    def update(Q: Array) -> Array:
        return expectation(lambda u: phi(u) ** 2, W_std**2 * Q + drive)

    Q = _settle(update, jnp.ones((), dtype))
    q = W_std**2 * Q + drive
    dphi = slope(phi)
    first = W_std**2 * expectation(lambda u: dphi(u) ** 2, q)
    second = W_std**4 * expectation(lambda u: dphi(u) ** 4, q)
    return RecurrentField(Q, first, second - first**2)


@jax.jit
def minimal_rnn(
    W_std: Any,
    V_std: Any,
    bias: Any = 0.0,
    b_std: Any = 0.0,
    input_variance: Any = 1.0,
) -> RecurrentField:
    """Return the stationary state of ``h' = u h + (1 - u) z``.

    The gate is ``u = sigmoid(W h + V z + b)``.

    Args:
        W_std: Standard deviation of the recurrent weights, times root of the width.
        V_std: The same of the input weights.
        bias: Mean of the biases.
        b_std: Standard deviation of the biases.
        input_variance: Variance of the embedded inputs ``z``.
    """
    R = input_variance
    gate = Gate(W_std, V_std, bias, b_std)

    def moments(Q: Array) -> tuple[Array, Array]:
        q = gate.variance(Q, R)
        keep = expectation(lambda u: jax.nn.sigmoid(u) ** 2, q, bias)
        write = expectation(lambda u: jax.nn.sigmoid(-u) ** 2, q, bias)
        return keep, write

    def update(Q: Array) -> Array:
        keep, write = moments(Q)
        return R * write / (1.0 - keep)

    Q = _settle(update, jnp.asarray(R, jnp.result_type(float)))
    q = gate.variance(Q, R)
    keep, _ = moments(Q)

    # v = u' (h - z) is what the recurrent weights see; h and z are independent of u.
    v2 = expectation(lambda u: _sigmoid_slope(u) ** 2, q, bias) * (Q + R)
    chi = keep + W_std**2 * v2
    return RecurrentField(Q, chi, _minimal_variance(W_std, q, bias, Q, R, chi))


@jax.jit
def minimal_rnn_correlation(
    W_std: Any,
    V_std: Any,
    bias: Any = 0.0,
    b_std: Any = 0.0,
    input_variance: Any = 1.0,
    input_correlation: Any = 1.0,
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Return where the correlation of two sequences settles, and how fast.

    Args:
        W_std: Standard deviation of the recurrent weights, times root of the width.
        V_std: The same of the input weights.
        bias: Mean of the biases.
        b_std: Standard deviation of the biases.
        input_variance: Variance of the embedded inputs.
        input_correlation: Correlation of the inputs of two sequences.

    Returns:
        ``(C, chi)``: the mean product of the two hidden states, and the factor by which
        a deviation from it decays per step.
    """
    R, cross = input_variance, input_variance * input_correlation
    Q = minimal_rnn(W_std, V_std, bias, b_std, R).Q
    gate = Gate(W_std, V_std, bias, b_std)
    q = gate.variance(Q, R)

    def pair(fn: Activation, C: Array) -> Array:
        c = gate.variance(C, cross) / q
        return pair_expectation(lambda a, b: fn(a + bias) * fn(b + bias), q, c)

    def update(C: Array) -> Array:
        return (
            pair(jax.nn.sigmoid, C) * C + pair(lambda u: jax.nn.sigmoid(-u), C) * cross
        )

    C = _settle(update, Q * input_correlation)
    slopes = pair(_sigmoid_slope, C)
    return C, pair(jax.nn.sigmoid, C) + W_std**2 * slopes * (C + cross)


@jax.jit
def critical_minimal_rnn(
    V_std: Any, bias: Any = 0.0, b_std: Any = 0.0, input_variance: Any = 1.0
) -> Float[Array, ""]:
    """Return the recurrent weights at which gradients neither grow nor decay.

    The spread of singular values is not zero there: see
    `RecurrentField.jacobian_variance`, which falls with a larger `bias`.

    Args:
        V_std: Standard deviation of the input weights, times root of the width.
        bias: Mean of the biases.
        b_std: Standard deviation of the biases.
        input_variance: Variance of the embedded inputs.

    Returns:
        ``W_std``, the smallest at which ``chi`` is 1.
    """

    def excess(W_std: Array) -> Array:
        return 1.0 - minimal_rnn(W_std, V_std, bias, b_std, input_variance).chi

    def excess_slope(W_std: Array) -> Array:
        step = 1e-4 * W_std
        return (excess(W_std + step) - excess(W_std - step)) / (2 * step)

    one = jnp.ones((), jnp.result_type(float))

    def unfinished(W_std: Array) -> Array:
        return (excess(W_std) > 0) & (W_std < 1e3)

    top = jax.lax.while_loop(unfinished, lambda W_std: 1.1 * W_std, one)
    return bracketed_root(excess, excess_slope, top / 1.1, top)


UNIT_GATE = Gate()


@jax.jit
def gru(
    forget: Gate = UNIT_GATE,
    reset: Gate = UNIT_GATE,
    candidate: Gate = UNIT_GATE,
    input_variance: Any = 1.0,
) -> RecurrentField:
    """Return the stationary state of a GRU, ``h' = f h + (1 - f) tanh(W (r h) + ..)``.

    Args:
        forget: The gate ``f`` that keeps the state (also written ``z``).
        reset: The gate ``r``.
        candidate: What is written.
        input_variance: Variance of the inputs.
    """
    R = input_variance

    def parts(Q: Array) -> dict[str, Array]:
        vf, vr = forget.variance(Q, R), reset.variance(Q, R)
        r2 = expectation(lambda u: jax.nn.sigmoid(u) ** 2, vr, reset.bias)
        v2 = candidate._replace(recurrent=1.0).variance(0.0, R) + (
            candidate.recurrent**2 * r2 * Q
        )
        return {
            "keep": expectation(lambda u: jax.nn.sigmoid(u) ** 2, vf, forget.bias),
            "write": expectation(lambda u: jax.nn.sigmoid(-u) ** 2, vf, forget.bias),
            "forget_slope": expectation(
                lambda u: _sigmoid_slope(u) ** 2, vf, forget.bias
            ),
            "reset": r2,
            "reset_slope": expectation(
                lambda u: _sigmoid_slope(u) ** 2, vr, reset.bias
            ),
            "new": expectation(lambda u: jnp.tanh(u) ** 2, v2, candidate.bias),
            "new_slope": expectation(_tanh_slope_squared, v2, candidate.bias),
        }

    def update(Q: Array) -> Array:
        p = parts(Q)
        return p["write"] * p["new"] / (1.0 - p["keep"])

    Q = _settle(update, jnp.full((), 0.1, jnp.result_type(float)))
    p = parts(Q)
    through_state = p["reset"] + reset.recurrent**2 * p["reset_slope"] * Q
    chi = (
        p["keep"]
        + forget.recurrent**2 * p["forget_slope"] * (Q + p["new"])
        + candidate.recurrent**2 * p["write"] * p["new_slope"] * through_state
    )
    return RecurrentField(Q, chi)


@partial(jax.jit, static_argnames=("samples", "steps"))
def lstm(
    forget: Gate = UNIT_GATE,
    write: Gate = UNIT_GATE,
    candidate: Gate = UNIT_GATE,
    output: Gate = UNIT_GATE,
    input_variance: Any = 1.0,
    key: Any = None,
    samples: int = 4096,
    steps: int = 1000,
) -> RecurrentField:
    """Return the stationary state of an LSTM.

    The cell is ``c' = f c + i tanh(u)`` and the hidden state ``h = o tanh(c')``.

    The cell state is not Gaussian, so its distribution is sampled: a population of
    units evolves until it is stationary, and the second half of the steps is averaged.
    The statistical error is of the order of a percent.

    Args:
        forget: The gate ``f``.
        write: The gate ``i``.
        candidate: What is written, ``u``.
        output: The gate ``o``.
        input_variance: Variance of the inputs.
        key: Random key; a fixed one by default.
        samples: Number of units in the population.
        steps: Number of steps; a few times the memory of the cell.
    """
    R = input_variance
    dtype = jnp.result_type(float)
    gates = (forget, write, candidate, output)

    def step(state: tuple, key: Any) -> tuple[tuple, tuple]:
        c, Q = state
        noise = jax.random.normal(key, (4, samples), dtype)
        f, i, u, o = (
            gate.bias + jnp.sqrt(gate.variance(Q, R)) * z
            for gate, z in zip(gates, noise, strict=True)
        )
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(u)
        Q = jnp.mean((jax.nn.sigmoid(o) * jnp.tanh(c)) ** 2)
        means = (
            jnp.mean(c**2),
            jnp.mean(jnp.tanh(c) ** 2),
            jnp.mean(_tanh_slope_squared(c)),
        )
        return (c, Q), means

    keys = jax.random.split(jax.random.key(0) if key is None else key, steps)
    start = (jnp.zeros((samples,), dtype), jnp.zeros((), dtype))
    _, path = jax.lax.scan(step, start, keys)
    memory, squashed, open_ = (jnp.mean(values[steps // 2 :]) for values in path)

    def over(gate: Gate, fn: Activation, Q: Array) -> Array:
        return expectation(fn, gate.variance(Q, R), gate.bias)

    def square(u: Array) -> Array:
        return jax.nn.sigmoid(u) ** 2

    def slope_square(u: Array) -> Array:
        return _sigmoid_slope(u) ** 2

    Q = _settle(lambda Q: over(output, square, Q) * squashed, jnp.zeros((), dtype))
    new = over(candidate, lambda u: jnp.tanh(u) ** 2, Q)
    keep = over(forget, square, Q)
    into_cell = (
        forget.recurrent**2 * over(forget, slope_square, Q) * memory
        + write.recurrent**2 * over(write, slope_square, Q) * new
        + candidate.recurrent**2
        * over(write, square, Q)
        * over(candidate, _tanh_slope_squared, Q)
    )
    shown = over(output, square, Q) * open_
    into_output = output.recurrent**2 * over(output, slope_square, Q) * squashed
    # Squared perturbations of (cell, hidden) evolve by this matrix.
    trace = keep + shown * into_cell + into_output
    determinant = keep * into_output
    chi = (trace + jnp.sqrt(trace**2 - 4.0 * determinant)) / 2.0
    return RecurrentField(Q, chi, memory=memory)


def _settle(update: Any, start: Array) -> Array:
    """Iterate an increasing map until it stands still."""
    eps = jnp.finfo(start.dtype).eps

    def unfinished(state: tuple) -> Array:
        old, new, k = state
        moved = jnp.abs(new - old) > 4 * eps * jnp.abs(new)
        return (k < FIXED_POINT_STEPS) & (moved | (k < 2))

    def step(state: tuple) -> tuple:
        _, old, k = state
        return old, update(old), k + 1

    state = (start, start, jnp.zeros((), jnp.int32))
    return jax.lax.while_loop(unfinished, step, state)[1]


def _minimal_variance(
    W_std: Any, q: Array, bias: Any, Q: Array, R: Any, chi: Array
) -> Array:
    """Growth of the variance of squared singular values, orthogonal weights.

    ``E (u^2 + W^2 v^2)^2 + 2 W^2 E v^2 E u^2 - chi^2`` with ``v = u' (h - z)``, whose
    second factor is taken as Gaussian.
    """
    spread = Q + R
    w2 = W_std**2

    def over(fn: Activation) -> Array:
        return expectation(fn, q, bias)

    keep2 = over(lambda u: jax.nn.sigmoid(u) ** 2)
    keep4 = over(lambda u: jax.nn.sigmoid(u) ** 4)
    both = over(lambda u: jax.nn.sigmoid(u) ** 2 * _sigmoid_slope(u) ** 2) * spread
    v2 = over(lambda u: _sigmoid_slope(u) ** 2) * spread
    v4 = over(lambda u: _sigmoid_slope(u) ** 4) * 3.0 * spread**2
    second = keep4 + 2.0 * w2 * both + w2**2 * v4 + 2.0 * w2 * v2 * keep2
    return second - chi**2


def _sigmoid_slope(u: Array) -> Array:
    s = jax.nn.sigmoid(u)
    return s * (1.0 - s)


def _tanh_slope_squared(u: Array) -> Array:
    return (1.0 - jnp.tanh(u) ** 2) ** 2
