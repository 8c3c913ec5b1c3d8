"""Small array helpers shared by every module: types, safe masks, accurate sums."""

# No `__all__`: scripts star-import `f32`, `f64`, `onp`, `jnp` from here.
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as onp
from jax import jit
from jax.typing import ArrayLike

Array = jax.Array
PyTree = Any

i16 = jnp.int16
i32 = jnp.int32
i64 = jnp.int64
f32 = jnp.float32
f64 = jnp.float64

# Position types (rigid bodies ...) that plain kinetic-energy functions must refuse.
CUSTOM_SIMULATION_TYPE: list[type] = []


def register_custom_simulation_type(t: type) -> None:
    """Record a position type that has its own kinetic energy and degrees of freedom."""
    CUSTOM_SIMULATION_TYPE.append(t)


def check_custom_simulation_type(x: Any) -> None:
    """Raise `ValueError` if `x` is of a type recorded as custom."""
    if type(x) in CUSTOM_SIMULATION_TYPE:
        raise ValueError(
            f"expected an array or a plain tree of arrays; got `{type(x).__name__}`, "
            "whose kinetic energy and degrees of freedom have functions of their own. "
            "Use those of the module that defines it (`jax_md.rigid_body` ...)."
        )


def static_cast(*xs: Any) -> Iterator[onp.ndarray]:
    """Cast each value to the smallest numpy dtype that holds it (0.1 to float16).

    Kept for scripts that call it; nothing here does, since a time step in half
    precision is no time step.
    """
    return (onp.array(x, dtype=onp.min_scalar_type(x)) for x in xs)


def register_pytree_namedtuple(cls: type) -> None:
    """Register a namedtuple class as a pytree node of its own."""
    jax.tree_util.register_pytree_node(
        cls, lambda xs: (tuple(xs), None), lambda _, xs: cls(*xs)
    )


def merge_dicts(
    a: Mapping[str, Any],
    b: Mapping[str, Any],
    ignore_unused_parameters: bool = False,
) -> dict[str, Any]:
    """Merge `b` into `a`.

    Args:
        a: Base values.
        b: Overriding values.
        ignore_unused_parameters: If False, the union, `b` winning. If True, only the
            keys of `a`, each overridden by the value in `b` unless that is None.
    """
    if not ignore_unused_parameters:
        return {**a, **b}
    return {k: v if b.get(k) is None else b[k] for k, v in a.items()}


@partial(jit, static_argnums=(1,))
def safe_mask(mask: ArrayLike, fn: Callable, operand: ArrayLike, placeholder: Any = 0):
    """``where(mask, fn(operand), placeholder)`` with finite gradients where masked.

    The operand is replaced before `fn` sees it, so that a singular branch that is not
    taken sends no NaN into a derivative.
    """
    return jnp.where(mask, fn(jnp.where(mask, operand, 0)), placeholder)


def high_precision_sum(
    X: ArrayLike, axis: int | tuple[int, ...] | None = None, keepdims: bool = False
) -> Array:
    """Sum in the widest enabled type of the same kind, cast back to the dtype of `X`.

    Where float64 is not enabled a float32 sum over everything is taken row by row
    first, so that its error grows with the square root of the count.
    """
    X = jnp.asarray(X)
    kind = X.dtype.kind
    if kind == "b":
        return jnp.sum(X, axis=axis, keepdims=keepdims)
    wide = {"i": "int64", "u": "uint64", "f": "float64", "c": "complex128"}.get(kind)
    if wide is None or not x64_enabled():
        return (
            _pairwise_sum(X)
            if axis is None and not keepdims
            else jnp.sum(X, axis=axis, keepdims=keepdims)
        )
    return jnp.sum(X, axis=axis, dtype=wide, keepdims=keepdims).astype(X.dtype)


def _pairwise_sum(X: Array) -> Array:
    flat = X.reshape(-1)
    width = int(onp.sqrt(flat.size))
    if width < 8:
        return jnp.sum(flat)
    whole = flat.size // width * width
    rows = jnp.sum(flat[:whole].reshape(width, -1), axis=1)
    return jnp.sum(rows) + jnp.sum(flat[whole:])


def maybe_downcast(x: Any) -> Array:
    """Return a float64 jax array unchanged and anything else as float32."""
    if isinstance(x, jax.Array) and x.dtype == jnp.dtype("float64"):
        return x
    return jnp.asarray(x, f32)


def x64_enabled() -> bool:
    """Whether 64-bit types are enabled (`jax_enable_x64`)."""
    return bool(jax.config.read("jax_enable_x64"))


def is_array(x: Any) -> bool:
    """Whether `x` is a jax or numpy array (scalars of either are not)."""
    return isinstance(x, jax.Array | onp.ndarray)


def safe_norm(
    x: ArrayLike, axis: int = -1, epsilon: float = 1e-6, keepdims: bool = False
) -> Array:
    """Euclidean norm, at least `epsilon`, with zero gradient at the origin."""
    square = jnp.sum(jnp.square(jnp.asarray(x)), axis=axis, keepdims=keepdims)
    near = square <= epsilon**2
    return jnp.where(near, epsilon, jnp.sqrt(jnp.where(near, 1, square)))


def safe_arccos(x: ArrayLike, epsilon: float = 1e-6) -> Array:
    """Arc cosine of `x` clipped to ``[-1 + epsilon, 1 - epsilon]``."""
    return jnp.arccos(jnp.clip(x, -1 + epsilon, 1 - epsilon))


def normalize(x: ArrayLike, axis: int = -1, epsilon: float = 1e-6) -> Array:
    """`x` divided by its `safe_norm` along `axis`."""
    x = jnp.asarray(x)
    return x / safe_norm(x, axis=axis, epsilon=epsilon, keepdims=True)
