"""Spatial modes of a convolutional network, each with its own depth scale.

Source:
    L. Xiao, Y. Bahri, J. Sohl-Dickstein, S. S. Schoenholz, J. Pennington, "Dynamical
    isometry and a mean field theory of CNNs", ICML 2018, arXiv:1806.05393.
"""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float


def conv_modes(
    variance: Float[Array, "*window"], grid: Sequence[int]
) -> Float[Array, "*grid"]:
    r"""Return the factor by which each Fourier mode of the covariance passes a layer.

    A mode ``k`` decays by :math:`|\lambda_k| \chi_c` per layer, with
    :math:`\lambda_k = \sum_b v_b e^{i k \cdot b}`; the given factor is the real part,
    which is all of it for a symmetric window. A window with all its variance at one
    pixel, as `wide.init.delta_orthogonal` makes it, lets every mode pass alike.

    Args:
        variance: Variance of the weights over the window, any scale.
        grid: Number of pixels along each axis; the boundary is periodic.

    Returns:
        Factors in the order of `numpy.fft.fftn`; the first, of the mean, is 1.

    Raises:
        ValueError: If the window has another dimension than the grid.
    """
    variance = jnp.asarray(variance)
    grid = tuple(grid)
    if variance.ndim != len(grid):
        raise ValueError(
            "`variance` and `grid` must have the same number of axes; got a window of "
            f"shape {variance.shape} and a grid {grid}."
        )
    factor: Any = variance / jnp.sum(variance)
    for axis, (pixels, taps) in enumerate(zip(grid, variance.shape, strict=True)):
        offset = np.arange(taps) - (taps - 1) // 2
        wave = 2 * np.pi * np.fft.fftfreq(pixels)
        phases = jnp.asarray(np.exp(1j * np.outer(wave, offset)))
        factor = jnp.moveaxis(jnp.tensordot(phases, factor, (1, axis)), 0, axis)
    return jnp.real(factor)
