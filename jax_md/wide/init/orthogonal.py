"""Orthogonal weights, of dense and convolutional layers.

All are initializers ``init(key, shape, dtype)`` as flax takes them: the last two axes
are inputs and outputs, any before them the window of a convolution.

Source:
    A. M. Saxe, J. L. McClelland, S. Ganguli, ICLR 2014, arXiv:1312.6120; L. Xiao,
    Y. Bahri, J. Sohl-Dickstein, S. S. Schoenholz, J. Pennington, "Dynamical isometry
    and a mean field theory of CNNs", ICML 2018, arXiv:1806.05393 (convolutions).
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

Initializer = Callable[..., Array]


def orthogonal(W_std: Any = 1.0, dtype: Any = None) -> Initializer:
    """Return an initializer of orthogonal matrices, uniform over the group.

    The variance of the entries is ``W_std**2 / n_in``, whatever the number of outputs:
    a matrix with more outputs than inputs is scaled up to it.

    Args:
        W_std: Standard deviation of the weights, times the root of the fan-in.
        dtype: Default type of the weights.

    Returns:
        ``init(key, shape, dtype)`` for shapes ``[.., n_in, n_out]``; axes in front are
        independent matrices.

    Raises:
        ValueError: From ``init``, if the shape has fewer than two axes.
    """

    def init(key: Any, shape: Sequence[int], dtype: Any = dtype) -> Float[Array, "..."]:
        if len(shape) < 2:
            raise ValueError(
                f"`shape` must have an input and an output axis; got {tuple(shape)}."
            )
        *lead, n_in, n_out = shape
        long, short = max(n_in, n_out), min(n_in, n_out)
        columns = _haar(key, (*lead, long, short), dtype)
        weights = columns if n_in >= n_out else jnp.swapaxes(columns, -1, -2)
        return W_std * max(1.0, math.sqrt(n_out / n_in)) * weights

    return init


def delta_orthogonal(W_std: Any = 1.0, dtype: Any = None) -> Initializer:
    """Return an initializer of convolutions that keep norms, and every spatial mode.

    All weights are zero but those at the center of the window, which form an orthogonal
    matrix. With a periodic boundary the layer multiplies norms by `W_std`.

    Args:
        W_std: Factor by which the layer scales norms.
        dtype: Default type of the weights.

    Returns:
        ``init(key, shape, dtype)`` for shapes ``[*window, n_in, n_out]``.

    Raises:
        ValueError: From ``init``, if a window size is even, or if outputs are fewer
            than inputs: a map to a smaller space cannot keep norms.
    """

    def init(key: Any, shape: Sequence[int], dtype: Any = dtype) -> Float[Array, "..."]:
        *window, n_in, n_out = _convolution(shape)
        if any(size % 2 == 0 for size in window):
            raise ValueError(
                "`delta_orthogonal` needs a window with a center, odd along each axis; "
                f"got {tuple(window)} in the shape {tuple(shape)}."
            )
        rows = jnp.swapaxes(_haar(key, (n_out, n_in), dtype), 0, 1)
        weights = jnp.zeros(shape, rows.dtype)
        center = tuple(size // 2 for size in window)
        return weights.at[center].set(W_std * rows)

    return init


def conv_orthogonal(W_std: Any = 1.0, dtype: Any = None) -> Initializer:
    """Return an initializer of norm-keeping convolutions that fill their window.

    A product of random projections along each axis: with ``P`` a projection, the window
    ``(P, 1 - P)`` keeps norms, and so does the convolution of several, times an
    orthogonal matrix. Unlike with `delta_orthogonal`, each mode gets its own phase.

    Args:
        W_std: Factor by which the layer scales norms.
        dtype: Default type of the weights.

    Returns:
        ``init(key, shape, dtype)`` for shapes ``[*window, n_in, n_out]``.

    Raises:
        ValueError: From ``init``, if outputs are fewer than inputs.
    """

    def init(key: Any, shape: Sequence[int], dtype: Any = dtype) -> Float[Array, "..."]:
        *window, n_in, n_out = _convolution(shape)
        key, final = jax.random.split(key)
        rows = jnp.swapaxes(_haar(final, (n_out, n_in), dtype), 0, 1)
        weights = rows.reshape(*(1 for _ in window), n_in, n_out)
        for axis, size in enumerate(window):
            for _ in range(size - 1):
                key, this = jax.random.split(key)
                basis = _haar(this, (n_out, n_out), dtype)[:, : n_out // 2]
                inside = basis @ basis.T
                outside = jnp.eye(n_out, dtype=inside.dtype) - inside
                end = [(0, int(i == axis)) for i in range(weights.ndim)]
                start = [(int(i == axis), 0) for i in range(weights.ndim)]
                weights = jnp.pad(weights @ inside, end) + jnp.pad(
                    weights @ outside, start
                )
        return W_std * weights

    return init


def _haar(key: Any, shape: tuple[int, ...], dtype: Any) -> Array:
    """Orthonormal columns, uniformly distributed: QR with the signs of R undone."""
    dtype = jnp.result_type(float) if dtype is None else dtype
    # The factorization exists in single and double precision only.
    working = jnp.promote_types(dtype, jnp.float32)
    q, r = jnp.linalg.qr(jax.random.normal(key, shape, working))
    diagonal = jnp.diagonal(r, axis1=-2, axis2=-1)
    signs = jnp.where(diagonal < 0, -1.0, 1.0).astype(working)
    return (q * jnp.broadcast_to(signs[..., None, :], q.shape)).astype(dtype)


def _convolution(shape: Sequence[int]) -> tuple[int, ...]:
    if len(shape) < 3:
        raise ValueError(
            "`shape` of a convolution must be (*window, n_in, n_out); got "
            f"{tuple(shape)}. For dense layers use `orthogonal`."
        )
    if shape[-2] > shape[-1]:
        raise ValueError(
            "a convolution with fewer outputs than inputs cannot keep norms; got "
            f"{shape[-2]} inputs and {shape[-1]} outputs."
        )
    return tuple(shape)
