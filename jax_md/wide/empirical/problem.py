"""What every implementation of the tangent kernel is given."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from .axes import OutputAxes
from .batched import SampleAxes, Samples, samples


class Problem(NamedTuple):
    """One tangent kernel to compute.

    Attributes:
        f: The network.
        params: Parameters.
        inputs: For both sides, the input and its keyword arguments.
        same: Whether both sides are the same.
        axes: What happens to the axes of each output leaf.
        samples: Sample axes, or None.
        shapes: For both sides, the shapes of the output leaves.
        forward: Whether derivatives go forward; None for the cheaper way.
        structured: Whether to look for layers that are matrix products.
    """

    f: Callable[..., Any]
    params: Any
    inputs: tuple[tuple[Any, dict[str, Any]], tuple[Any, dict[str, Any]]]
    same: bool
    axes: list[OutputAxes]
    samples: SampleAxes | None
    shapes: tuple[list[Any], list[Any]]
    forward: bool | None = None
    structured: bool = True

    def outputs(self, side: int) -> Callable[[Any], list[Any]]:
        """Return the flat outputs of one side as a function of the parameters."""
        x, kwargs = self.inputs[side]
        return lambda params: jax.tree.leaves(self.f(params, x, **kwargs))

    def one_sample(self, side: int) -> Samples:
        """Return the network of one sample of this side. Needs `samples`."""
        x, kwargs = self.inputs[side]
        assert self.samples is not None
        return samples(self.f, self.params, x, kwargs, self.samples)
