"""The largest Lyapunov exponent of a step, by the growth of one tangent.

Source:
    G. Benettin, L. Galgani, A. Giorgilli, J.-M. Strelcyn, Meccanica 15, 9 (1980).
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .flat import Leaves, merge, split
from .rollout import Prepared

_BLOCKS = 8  # for the error; each is long where there are enough steps


def lyapunov(prepared: Prepared, active: list[bool], key: Any) -> tuple[float, float]:
    """The largest exponent, from how a tangent grows, and its standard error."""
    problem, x = prepared.problem, prepared.x
    mask = problem.state_mask
    kinds = [a for a, smooth in zip(active, mask, strict=True) if smooth]
    smooth = split(mask, x)[0]
    keys = jax.random.split(key, len(smooth))
    dots = [
        jax.random.normal(k, a.shape, a.dtype) if moving else jnp.zeros_like(a)
        for k, a, moving in zip(keys, smooth, kinds, strict=True)
    ]

    @jax.jit
    def run(theta: Leaves, x: Leaves, dots: Leaves) -> Any:
        def move(carry: Any, _: Any) -> tuple[Any, Any]:
            x, dots = carry
            x_in, x_rest = split(mask, x)

            def step(x_in: Leaves) -> tuple[Leaves, Leaves]:
                return split(mask, problem.step(theta, merge(mask, x_in, x_rest)))

            x_in, dots, x_rest = jax.jvp(step, (x_in,), (dots,), has_aux=True)
            # Only leaves that move and matter: others may have no bound.
            dots = [d if m else 0 * d for d, m in zip(dots, kinds, strict=True)]
            size = norm(dots)
            safe = jnp.where(size > 0, size, 1)
            dots = [d / safe.astype(d.real.dtype) for d in dots]
            return (merge(mask, x_in, x_rest), dots), jnp.log(size)

        return jax.lax.scan(move, (x, dots), length=problem.steps)[1]

    growth = np.asarray(run(prepared.theta, x, dots), float)
    settled = growth[len(growth) // 4 :]
    blocks = np.array_split(settled, min(_BLOCKS, len(settled)))
    means = np.array([block.mean() for block in blocks])
    if len(means) < 2:
        return float(settled.mean()), math.inf
    error = means.std(ddof=1) / math.sqrt(len(means))
    return float(settled.mean()), float(error)


def norm(leaves: Leaves) -> Any:
    """Euclidean norm over all arrays; squares of large numbers do not overflow."""
    largest = jnp.stack([jnp.max(jnp.abs(a), initial=0) for a in leaves]).max()
    scale = jnp.where((largest > 0) & jnp.isfinite(largest), largest, 1)
    squares = [jnp.sum(jnp.abs(a / scale.astype(a.real.dtype)) ** 2) for a in leaves]
    return scale * jnp.sqrt(sum(squares))
