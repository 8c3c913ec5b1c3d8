"""Mean and covariance of Gaussian predictions."""

from typing import NamedTuple

from jaxtyping import Array, Float


class Gaussian(NamedTuple):
    """A Gaussian over outputs; the covariance interleaves the axes of two outputs."""

    mean: Float[Array, "..."]
    covariance: Float[Array, "..."]
