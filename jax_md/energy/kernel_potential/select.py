"""Choosing atoms that represent all others.

* ``"variance"``: the one whose energy is least known from those chosen before, which is
  a pivoted Cholesky factorization of the kernel; it ends when nothing is left to learn.
* ``"farthest_point"``: the one farthest, in descriptors, from those chosen before.
* ``"cur"``: at random, with the leverage of an atom on the descriptors as probability.

Source:
    S. Fine, K. Scheinberg, J. Mach. Learn. Res. 2, 243 (2001) (pivoted Cholesky).
    M. W. Mahoney, P. Drineas, Proc. Natl. Acad. Sci. 106, 697 (2009) (CUR).
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .kernels import AtomKernel

METHODS = ("variance", "farthest_point", "cur")


def select_environments(
    x: Any,
    species: Any = None,
    count: int = 100,
    method: str = "variance",
    *,
    kernel: Callable | None = None,
    coupling: Any = None,
    seed: int = 0,
) -> np.ndarray:
    """Choose atoms that represent all others.

    Args:
        x: Descriptors, ``[a, f]``, standardized.
        species: Labels ``[a]``; one and the same by default.
        count: How many to choose, at most.
        method: ``"variance"``, ``"farthest_point"`` or ``"cur"``.
        kernel: Kernel of descriptors, for ``"variance"``.
        coupling: As in `fit`.
        seed: For ``"cur"``.

    Returns:
        Their positions in `x`, ``[count]``, without repetition, in the order of choice.
        Fewer where ``"variance"`` finds nothing left to learn.

    Raises:
        ValueError: If `method` is none of these, `count` is no positive number, or
            ``"variance"`` has no kernel.
    """
    if method not in METHODS:
        raise ValueError(f"`method` must be one of {METHODS}; got {method!r}.")
    if count < 1:
        raise ValueError(f"`count` must be positive; got {count}.")
    x = jnp.asarray(x)
    z = np.zeros(len(x), int) if species is None else np.asarray(species)
    count = min(int(count), len(x))
    if method == "farthest_point":
        return _farthest(np.asarray(x), z, count)
    if method == "cur":
        return _leverage(np.asarray(x, np.float64), z, count, seed)
    if kernel is None:
        raise ValueError(
            '`method="variance"` needs a `kernel` that says what is known.'
        )
    if not isinstance(kernel, AtomKernel):
        kernel = AtomKernel(kernel, tuple(np.unique(z).tolist()), coupling)
    return _least_known(kernel, x, jnp.asarray(z), count)


def _farthest(x: np.ndarray, z: np.ndarray, count: int) -> np.ndarray:
    chosen = [int(np.argmin(np.sum((x - x.mean(0)) ** 2, 1)))]
    nearest = np.full(len(x), np.inf)
    while len(chosen) < count:
        last = chosen[-1]
        square = np.sum((x - x[last]) ** 2, 1)
        # An atom of another species is at no finite distance.
        nearest = np.minimum(nearest, np.where(z == z[last], square, np.inf))
        nearest[chosen] = -1.0
        chosen.append(int(np.argmax(nearest)))
    return np.array(chosen)


def _leverage(x: np.ndarray, z: np.ndarray, count: int, seed: int) -> np.ndarray:
    score = np.zeros(len(x))
    for label in np.unique(z):
        at = np.flatnonzero(z == label)
        u, s, _ = np.linalg.svd(x[at], full_matrices=False)
        rank = int(np.sum(s > 1e-10 * s[0])) if s[0] > 0 else 1
        score[at] = np.sum(u[:, :rank] ** 2, 1)
    score = np.maximum(score, 1e-12)
    return np.random.default_rng(seed).choice(
        len(x), count, replace=False, p=score / score.sum()
    )


def _least_known(kernel: AtomKernel, x: Any, z: Any, count: int) -> np.ndarray:
    @jax.jit
    def choose(x: Any, z: Any) -> Any:
        prior = kernel.diagonal(x, z)

        def step(carry: Any, k: Any) -> Any:
            columns, left = carry
            at = jnp.argmax(left)
            best = left[at]
            own = kernel(x, z, x[at][None], z[at][None])[:, 0]
            rest = own - columns @ columns[at]
            column = rest / jnp.sqrt(jnp.where(best > 0, best, 1))
            left = jnp.maximum(left - column * column, 0).at[at].set(0)
            return (columns.at[:, k].set(column), left), (at, best)

        columns = jnp.zeros((x.shape[0], count), prior.dtype)
        order = jnp.arange(count)
        _, (chosen, best) = jax.lax.scan(step, (columns, prior), order)
        return chosen, best, jnp.max(prior)

    chosen, best, most = map(np.asarray, choose(x, z))
    least = 100 * np.finfo(best.dtype).eps * most
    enough = int(np.argmax(best <= least)) if np.any(best <= least) else count
    return chosen[: max(enough, 1)]
