"""How covariances over samples and positions are stored, and views of them.

A covariance of activations ``[N, H, W, C]`` has no channel axis. Batch axes come first,
position axes follow twice and interleaved: ``[N1, N2, H, H, W, W]``. Where only equal
positions matter it is stored as its spatial diagonal, ``[N1, N2, H, W]``.
"""

import jax
import jax.numpy as jnp
from jax import lax

Array = jax.Array


def pair_diagonal(x: Array, axis: int) -> Array:
    """Return the diagonal over the equal axes `axis` and `axis + 1`, kept at `axis`."""
    size = x.shape[axis]
    if size == 0:
        return x.reshape(x.shape[: axis + 1] + x.shape[axis + 2 :])
    flat = x.reshape(x.shape[:axis] + (size * size,) + x.shape[axis + 2 :])
    return lax.slice_in_dim(flat, 0, size * size, size + 1, axis=axis)


def spatial_diagonal(x: Array, n_batch: int) -> Array:
    """Return ``[*batch, H, W]`` of a covariance ``[*batch, H, H, W, W]``."""
    for axis in range(n_batch, n_batch + (x.ndim - n_batch) // 2):
        x = pair_diagonal(x, axis)
    return x


def from_spatial_diagonal(x: Array, n_batch: int) -> Array:
    """Return ``[*batch, H, H, W, W]`` , `x` at equal positions, else 0."""
    for axis in reversed(range(n_batch, x.ndim)):
        size = x.shape[axis]
        eye = jnp.eye(size, dtype=x.dtype)
        eye = eye.reshape((1,) * axis + eye.shape + (1,) * (x.ndim - axis - 1))
        x = jnp.expand_dims(x, axis) * eye
    return x


def variance(cov: Array, diagonal_batch: bool, diagonal_spatial: bool) -> Array:
    """Return the variances ``[N, *positions]`` held in a self-covariance."""
    if not diagonal_batch:
        cov = pair_diagonal(cov, 0)
    return cov if diagonal_spatial else spatial_diagonal(cov, 1)


def pair_views(
    left: Array, right: Array, n_batch: int, diagonal_spatial: bool
) -> tuple[Array, Array]:
    """Shape variances so that they broadcast against a covariance.

    Args:
        left: Variances ``[N1, H, W]`` of the first argument.
        right: Variances ``[N2, H, W]`` of the second argument.
        n_batch: Batch axes of the covariance; 1 where equal samples are kept only.
        diagonal_spatial: Whether the covariance keeps equal positions only.

    Returns:
        ``[N1, 1, H, 1, W, 1]`` and ``[1, N2, 1, H, 1, W]``, without the singleton axes
        where the covariance has no second copy.
    """

    def view(x: Array, first: bool) -> Array:
        shape: tuple[int, ...] = x.shape[:1]
        if n_batch == 2:
            shape = (x.shape[0], 1) if first else (1, x.shape[0])
        for size in x.shape[1:]:
            if diagonal_spatial:
                shape += (size,)
            else:
                shape += (size, 1) if first else (1, size)
        return x.reshape(shape)

    return view(left, True), view(right, False)


def interleave(x: Array, n_batch: int) -> Array:
    """Turn ``[*batch, H, W, H, W]`` into ``[*batch, H, H, W, W]``."""
    n = (x.ndim - n_batch) // 2
    order = [n_batch + i + n * copy for i in range(n) for copy in range(2)]
    return x.transpose((*range(n_batch), *order))
