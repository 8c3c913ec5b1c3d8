r"""Products of covariances with constant tensors, over any position axes.

A linear map `A` of positions takes a covariance to :math:`A_1 K A_2^T`, one factor for
each copy of the axes.
"""

import string
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

Array = jax.Array
DotNumbers = tuple[
    tuple[Sequence[int], Sequence[int]], tuple[Sequence[int], Sequence[int]]
]


class Labels(NamedTuple):
    """One lower-case letter for each axis of the inputs, the constant, the outputs."""

    inputs: list[str]
    constant: list[str]
    outputs: list[str]
    batch: str
    channel: str

    @property
    def spatial_in(self) -> list[str]:
        """Letters of the position axes of the inputs."""
        return [c for c in self.inputs if c not in (self.batch, self.channel)]

    @property
    def spatial_out(self) -> list[str]:
        """Letters of the position axes of the outputs."""
        return [c for c in self.outputs if c not in (self.batch, self.channel)]

    @property
    def batch_axis(self) -> int:
        """Batch axis of the outputs."""
        return self.outputs.index(self.batch)

    @property
    def channel_axis(self) -> int:
        """Channel axis of the outputs."""
        return self.outputs.index(self.channel)


def label(
    n_inputs: int,
    n_constant: int,
    is_lhs: bool,
    dimension_numbers: DotNumbers,
    batch_axis: int,
    channel_axis: int,
) -> Labels:
    """Name the axes of ``dot_general(inputs, constant)``, or the other way round.

    Args:
        n_inputs: Number of axes of the inputs.
        n_constant: Number of axes of the constant.
        is_lhs: Whether the constant stands on the left.
        dimension_numbers: Axes contracted and shared, see `jax.lax.dot_general`.
        batch_axis: Batch axis of the inputs.
        channel_axis: Channel axis of the inputs.
    """
    contracted, shared = dimension_numbers
    own, other = (1, 0) if is_lhs else (0, 1)
    letters = iter(string.ascii_lowercase)
    inputs = [next(letters) for _ in range(n_inputs)]
    batch, channel = inputs[batch_axis], inputs[channel_axis]
    const = [""] * n_constant
    for pair in (contracted, shared):
        for i, j in zip(pair[own], pair[other], strict=True):
            const[j] = inputs[i]
    const = [c or next(letters) for c in const]
    free = [c for c in inputs if c not in const]
    new = [c for c in const if c not in inputs]
    outputs = [inputs[i] for i in shared[own]]
    outputs += new + free if is_lhs else free + new
    return Labels(inputs, const, outputs, batch, channel)


def check_axes(names: Labels) -> None:
    """Refuse what covariances do not determine.

    Raises:
        ValueError: If channels are contracted or shared, or samples contracted.
    """
    for name, letter, is_used in (
        ("channel", names.channel, names.channel in names.constant),
        ("batch", names.batch, names.batch not in names.outputs),
    ):
        if is_used:
            raise ValueError(
                f"`dimension_numbers` must leave the {name} axis of the inputs alone, "
                f"axis {names.inputs.index(letter)}. Use `Dense` to mix channels."
            )


def contract(
    x: Array,
    constants: tuple[Any, Any],
    names: Labels,
    n_batch: int,
    diagonal_spatial: bool,
    precision: Any = lax.Precision.HIGHEST,
) -> Array:
    """Multiply both copies of the axes of a covariance with a constant each.

    Args:
        x: Covariance ``[*batch, H, H, W, W]``, ``[*batch, H, W]`` if
            `diagonal_spatial`.
        constants: Tensors for the first and for the second copy.
        names: Axes of inputs, constants and outputs.
        n_batch: Batch axes of `x`; 1 where equal samples are kept only.
        diagonal_spatial: Whether `x` keeps equal positions only.
        precision: See `jax.lax.dot_general`.
    """

    # Lower case for the first copy of an axis, upper for the second.
    def second(letter: str) -> str:
        once = n_batch == 1 if letter == names.batch else diagonal_spatial
        return letter if once else letter.upper()

    def copies(spatial: list[str]) -> str:
        letters = [names.batch, *spatial]
        return "".join(c if second(c) == c else c + second(c) for c in letters)

    return jnp.einsum(
        f"{''.join(names.constant)},{copies(names.spatial_in)},"
        f"{''.join(map(second, names.constant))}->{copies(names.spatial_out)}",
        jnp.asarray(constants[0], x.dtype),
        x,
        jnp.asarray(constants[1], x.dtype),
        precision=precision,
    )
