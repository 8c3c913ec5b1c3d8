"""Which axis of inputs, filter and outputs of a convolution is what."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jax_md.wide.kernel import Kernel

Array = jax.Array
DimensionNumbers = tuple[str, str, str]


class Axes(NamedTuple):
    """Which axis is what, from strings such as ``("NHWC", "HWIO", "NHWC")``."""

    lhs: str
    rhs: str
    out: str

    @classmethod
    def checked(cls, numbers: DimensionNumbers | None, n: int) -> "Axes":
        """Return the axes for a filter with `n`, those of images by default."""
        if numbers is None:
            names = "HWDXYZ"[:n] if n <= 6 else "".join(map(chr, range(97, 97 + n)))
            numbers = (f"N{names}C", f"{names}IO", f"N{names}C")
        axes = cls(*numbers)
        spatial = set(axes.rhs) - set("IO")
        wanted = (spatial | set("NC"), spatial | set("IO"), spatial | set("NC"))
        if any(
            set(spec) != want or len(spec) != n + 2
            for spec, want in zip(axes, wanted, strict=True)
        ):
            raise ValueError(
                f"`dimension_numbers` must be three strings for {n} axes of the "
                f"filter, such as ('NHWC', 'HWIO', 'NHWC'); got {tuple(numbers)}. "
                "Name every axis once in each."
            )
        return axes

    @property
    def numbers(self) -> DimensionNumbers:
        """The three strings."""
        return self.lhs, self.rhs, self.out

    @property
    def names(self) -> list[str]:
        """Names of the position axes, in the order of the filter."""
        return [c for c in self.rhs if c not in "IO"]

    def lengths(self, shape: Sequence[int]) -> list[int]:
        """Return the lengths of the position axes in the order of the filter.

        Raises:
            ValueError: If `shape` has another number of axes.
        """
        if len(shape) != len(self.lhs):
            raise ValueError(
                f"inputs must have {len(self.lhs)} axes, {self.lhs}, for a filter over "
                f"{len(self.names)} positions; got shape {tuple(shape)}. Give "
                "`filter_shape` one entry for each position axis."
            )
        return [shape[self.lhs.index(c)] for c in self.names]

    def out_shape(self, batch: int, lengths: Sequence[int], width: int) -> Any:
        """Return the shape of outputs with such axes in the order of the filter."""
        sizes = dict(zip(self.names, lengths, strict=True)) | {"N": batch, "C": width}
        return tuple(sizes[c] for c in self.out)

    def weight_shape(self, sizes: Sequence[int], channels: int, width: int) -> Any:
        """Return the shape of a filter."""
        by = dict(zip(self.names, sizes, strict=True)) | {"I": channels, "O": width}
        return tuple(by[c] for c in self.rhs)

    def in_kernel(self) -> list[int]:
        """Return where each axis of the filter stands among those of the kernel."""
        order = [c for c in self.lhs if c not in "NC"]
        return [order.index(c) for c in self.names]

    def reordered(self, k: Kernel) -> Kernel:
        """Bring the position axes of the kernel into the order of the outputs."""
        order = [c for c in self.lhs if c not in "NC"]
        permutation = tuple(order.index(c) for c in self.out if c not in "NC")
        if permutation != tuple(range(len(order))):
            k = k.transpose(permutation)
        return k.replace(
            batch_axis=self.out.index("N"), channel_axis=self.out.index("C")
        )

    def mask(self, mask: Array, shape: Sequence[int], slide: Any) -> Array:
        """Return a mask of the outputs, from one step ``slide(mask, axis, i)`` an axis.

        A sample counts as masked where all its channels are.
        """
        channel = self.lhs.index("C")
        mask = jnp.broadcast_to(mask, tuple(shape)).all(channel, keepdims=True)
        for i, name in enumerate(self.names):
            mask = slide(mask, self.lhs.index(name), i)
        return mask.transpose([self.lhs.index(c) for c in self.out])
