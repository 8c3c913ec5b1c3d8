"""Arrays with masked entries: variable sizes in arrays of one shape.

Masked entries of inputs are marked by a constant (which may be NaN). A network sees
zeros there, and the kernels of masked positions are zero.
"""

from collections.abc import Callable
from functools import wraps
from typing import Any

import jax
import jax.numpy as jnp

from jax_md import dataclasses

Array = jax.Array


@dataclasses.dataclass
class MaskedArray:
    """An array and where it is masked.

    Attributes:
        masked_value: The array; what it holds at masked entries has no meaning.
        mask: Boolean, True where masked, broadcastable to the array; None for nowhere.
    """

    masked_value: Any
    mask: Any

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the array."""
        return self.masked_value.shape

    @property
    def ndim(self) -> int:
        """Number of axes of the array."""
        return self.masked_value.ndim

    @property
    def dtype(self) -> Any:
        """Type of the entries of the array."""
        return self.masked_value.dtype

    def astype(self, dtype: Any) -> "MaskedArray":
        """Return the same with entries of another type."""
        return MaskedArray(self.masked_value.astype(dtype), self.mask)

    def filled(self) -> Array:
        """Return the array with zeros at masked entries."""
        return zero_masked(self.masked_value, self.mask)


def zero_masked(x: Array, mask: Array | None) -> Array:
    """Return `x` with zeros where `mask` is True."""
    return x if mask is None else jnp.where(mask, jnp.zeros((), x.dtype), x)


def as_masked(x: Any, mask_constant: float | None) -> MaskedArray:
    """Read the mask off an array: its entries equal to `mask_constant`.

    Args:
        x: An array or a `MaskedArray`; the latter is returned as it is.
        mask_constant: The mark, which may be NaN; None for no mask.
    """
    if isinstance(x, MaskedArray):
        return x
    x = jnp.asarray(x)
    if mask_constant is None:
        return MaskedArray(x, None)
    # NaN differs from itself, and may come as a traced value.
    mask = jnp.where(jnp.isnan(mask_constant), jnp.isnan(x), x == mask_constant)
    return MaskedArray(zero_masked(x, mask), mask)


def map_nested(fn: Callable[..., Any], x: Any, *rest: Any) -> Any:
    """Apply `fn` to the leaves of nested lists and tuples; records are leaves."""
    if isinstance(x, list | tuple):
        return type(x)(map_nested(fn, *ys) for ys in zip(x, *rest, strict=True))
    return fn(x, *rest)


def unmask_fn(fn: Callable[..., Any]) -> Callable[..., Any]:
    """Make a function of arrays out of one that returns masked arrays.

    Args:
        fn: A function, such as the `apply_fn` of a network called with
            ``mask_constant``.

    Returns:
        The same function with zeros at masked entries of what it returns.
    """

    def unmask(x: Any) -> Any:
        return x.filled() if isinstance(x, MaskedArray) else x

    @wraps(fn)
    def unmasked(*args: Any, **kwargs: Any) -> Any:
        return map_nested(unmask, fn(*args, **kwargs))

    return unmasked
