"""The largest learning rate at which gradient descent still converges."""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float


def max_learning_rate(
    ntk_train_train: Float[Array, "..."],
    y_train_size: int | None = None,
    momentum: float = 0.0,
    eps: float = 1e-12,
) -> Float[Array, ""]:
    r"""Largest stable learning rate, :math:`2 (1 + m)\, n / \lambda_{max}`.

    It holds for full-batch gradient descent, or heavy-ball momentum ``m``, on half the
    mean squared error over ``n`` output entries.

    Args:
        ntk_train_train: Tangent kernel of the training set, ``[n1, n1, ..]``: the axes
            of two outputs in turn.
        y_train_size: Number of entries of the targets, output channels included; by
            default the dimension of the kernel matrix.
        momentum: Momentum coefficient.
        eps: Added to the largest eigenvalue, so that a zero kernel gives no infinity.

    Returns:
        The learning rate, a scalar.

    Raises:
        ValueError: If the kernel does not pair equal axes.

    Source:
        L. Xiao, J. Pennington, S. S. Schoenholz, "Disentangling trainability and
        generalization in deep neural networks", ICML 2020, arXiv:1912.13053.
    """
    kernel: Any = jnp.asarray(ntk_train_train)
    if kernel.ndim % 2 or kernel.shape[::2] != kernel.shape[1::2]:
        raise ValueError(
            "`ntk_train_train` must pair equal axes of two outputs, (n, n, a, a, ..); "
            f"got shape {kernel.shape}."
        )
    order = (*range(0, kernel.ndim, 2), *range(1, kernel.ndim, 2))
    rows = int(round(kernel.size**0.5))
    matrix = kernel.transpose(order).reshape(rows, rows)
    n = rows if y_train_size is None else y_train_size
    return 2.0 * (1.0 + momentum) * n / (jnp.linalg.eigvalsh(matrix)[-1] + eps)
