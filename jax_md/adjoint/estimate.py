"""Averages over samples, with one standard error."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from jax_md import dataclasses


@dataclasses.dataclass
class Estimate:
    """An average and its statistical uncertainty.

    Attributes:
        value: Tree of arrays.
        error: One standard error of each number of `value`.
    """

    value: Any
    error: Any


def of_independent(samples: Any) -> Estimate:
    """Average independent samples.

    Args:
        samples: Tree of arrays ``[b, ...]``.
    """

    def error(x: Array) -> Array:
        count = x.shape[0]
        return jnp.std(x, axis=0, ddof=1) / jnp.sqrt(jnp.asarray(count, x.dtype))

    return Estimate(
        jax.tree.map(lambda x: jnp.mean(x, axis=0), samples),
        jax.tree.map(error, samples),
    )


def of_blocks(fn: Callable[[Any], Any], samples: Any, blocks: int) -> Estimate:
    """Evaluate a function of averages; its error is that of the jackknife over blocks.

    Blocks of consecutive samples that are much longer than their correlation are
    independent of each other, so the error holds for correlated samples, too.

    Args:
        fn: Smooth function of the averages of `samples`, a tree of arrays.
        samples: Tree of arrays ``[t, ...]``. Of their order only the blocks remain.
        blocks: Number of blocks, two at least; samples left over at the start are used
            for the value alone.

    Raises:
        ValueError: If there are fewer than two blocks, or fewer samples than blocks.

    Source:
        B. Efron, C. Stein, Ann. Stat. 9, 586 (1981).
    """
    count = leading_axis(samples)
    if not 2 <= blocks <= count:
        raise ValueError(
            f"`blocks` must be at least 2 and at most the number of samples, {count}; "
            f"got {blocks}."
        )
    length = count // blocks

    def left_out(x: Array) -> Array:
        x = x[count - blocks * length :]
        sums = jnp.sum(x.reshape(blocks, length, *x.shape[1:]), axis=1)
        return (jnp.sum(sums, axis=0) - sums) / ((blocks - 1) * length)

    value = fn(jax.tree.map(lambda x: jnp.mean(x, axis=0), samples))
    without = jax.vmap(fn)(jax.tree.map(left_out, samples))
    error = jax.tree.map(lambda x: jnp.std(x, axis=0) * (blocks - 1) ** 0.5, without)
    return Estimate(value, error)


def leading_axis(samples: Any) -> int:
    """The length of the first axis, which all arrays of a tree have to share."""
    lengths = {jnp.shape(x)[:1] for x in jax.tree.leaves(samples)}
    if len(lengths) != 1 or lengths == {()}:
        raise ValueError(
            "samples must be a tree of arrays with one leading axis in common; got "
            f"the lengths {sorted(str(x[0]) if x else 'none' for x in lengths)}."
        )
    return lengths.pop()[0]


def over_samples(
    fn: Callable[[Any], Any], samples: Any, batch_size: int | None = None
) -> Any:
    """Map a function over the leading axis of a tree.

    Args:
        fn: Function of one sample.
        samples: Tree of arrays ``[t, ...]``.
        batch_size: Samples at once; None for all.
    """
    count = leading_axis(samples)
    if batch_size is None or batch_size >= count:
        return jax.vmap(fn)(samples)
    # Computed again in the backward pass: one batch of intermediates, not all of them.
    return jax.lax.map(jax.checkpoint(fn), samples, batch_size=batch_size)
