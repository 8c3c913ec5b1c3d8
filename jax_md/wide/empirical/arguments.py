"""Arguments of a kernel function, split between its two inputs."""

from typing import Any

import jax
import jax.numpy as jnp


def second_input(x1: Any, x2: Any) -> tuple[Any, bool]:
    """Return the second input, `x1` if it has no leaves, and whether it is `x1`."""
    if not jax.tree.leaves(x2):
        return x1, True
    return x2, x1 is x2


def split_kwargs(
    kwargs: dict[str, Any], x1: Any, x2: Any, same: bool
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the keyword arguments for the first and for the second input.

    A tuple of two is split. A single `rng` key is used for both inputs if they are
    equal; otherwise the second gets one derived from it. All else goes to both.
    """
    first, second = {}, {}
    for name, value in kwargs.items():
        if isinstance(value, tuple) and len(value) == 2:
            first[name], second[name] = value
        elif name == "rng" and value is not None and not same:
            first[name], second[name] = value, second_key(value, x1, x2)
        else:
            first[name] = second[name] = value
    return first, second


def same_kwargs(first: dict[str, Any], second: dict[str, Any]) -> bool:
    """Whether both inputs are given the very same arguments."""
    return all(first[name] is second[name] for name in first)


def second_key(key: Any, x1: Any, x2: Any) -> Any:
    """Return the key of the second input: the same for equal inputs, else another."""
    ours, theirs = jax.tree.leaves(x1), jax.tree.leaves(x2)
    if [jnp.shape(x) for x in ours] != [jnp.shape(x) for x in theirs]:
        return jax.random.fold_in(key, 1)
    equal = jnp.array(True)
    for one, two in zip(ours, theirs, strict=True):
        equal &= jnp.all(jnp.asarray(one) == jnp.asarray(two))
    return jax.lax.cond(equal, lambda: key, lambda: jax.random.fold_in(key, 1))
