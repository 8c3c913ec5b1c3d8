r"""Gradients of averages over random paths, by likelihood ratios or along the paths.

The score estimator differentiates the probability of a path, not the path:

.. math::
    \nabla_\theta \langle L \rangle = \langle \nabla_\theta L
        + (L - b) \, \nabla_\theta \ln p_\theta(\mathrm{path}) \rangle

It holds for losses with jumps and does not grow with chaos, since no path is
differentiated, but its variance grows with the length of the path. The baseline `b`,
any number that does not depend on the path itself, takes a part of the variance away
and leaves the average as it is.

A cost of one time depends on the steps before it alone, so where a loss is given as
costs ``[t]``, each is weighted with the score of those steps only.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from .estimate import Estimate, leading_axis, of_independent, over_samples


def score_loss(
    log_prob: Callable[[Any, Any], Array],
    loss: Callable[[Any, Any], Array],
    baseline: str | Array | None = "leave_one_out",
) -> Callable[[Any, Any], Array]:
    """Return the average loss of sampled paths as a function to differentiate.

    Its value is the plain average. Its derivatives, of any order, are unbiased
    estimates of the derivatives of the expected loss, although the paths are fixed.

    Args:
        log_prob: ``log_prob(params, path) -> [t]``, the logarithm of the probability of
            each step, such as `brownian_log_prob` makes.
        loss: ``loss(params, path)``, a scalar, or costs ``[t]`` to be summed, the k-th
            of which depends on the path up to the end of the k-th step at the latest.
        baseline: What is subtracted from each cost: ``"leave_one_out"`` for the mean
            over the other paths, time by time; an array ``[]`` or ``[t]`` that does not
            depend on these paths; None for nothing.

    Returns:
        ``fn(params, paths) -> []``; `paths` were sampled at `params` and have a new
        leading axis ``[b, ...]``.

    Raises:
        ValueError: For another baseline; when called, if the costs are neither a scalar
            nor as many as the steps, or if one path is to be compared with others.

    Source:
        J. Foerster et al., ICML (2018), arXiv:1802.05098, for derivatives of any order;
        J. Peters, S. Schaal, Neural Networks 21, 682 (2008) for causality.
    """
    one = _of_one_path(log_prob, loss)

    def fn(params: Any, paths: Any) -> Array:
        b = _baselines(loss, baseline, params, paths)
        return jnp.mean(jax.vmap(one, (None, 0, 0))(params, paths, b))

    return fn


def score_gradient(
    log_prob: Callable[[Any, Any], Array],
    loss: Callable[[Any, Any], Array],
    params: Any,
    paths: Any,
    baseline: str | Array | None = "leave_one_out",
    batch_size: int | None = None,
) -> tuple[Estimate, Estimate]:
    """Estimate the expected loss of random paths and its gradient, with errors.

    Args:
        log_prob: As for `score_loss`.
        loss: As for `score_loss`.
        params: Tree of arrays; the paths were sampled at them.
        paths: Independent paths, a tree of arrays ``[b, ...]``.
        baseline: As for `score_loss`.
        batch_size: Paths at once; None for all.

    Returns:
        ``(loss, gradient)``, each with one standard error; the gradient has the
        structure of `params`.

    Raises:
        ValueError: As `score_loss`.
    """
    one = _of_one_path(log_prob, loss)
    b = _baselines(loss, baseline, params, paths)
    slope = jax.value_and_grad(one)
    values, slopes = over_samples(
        lambda sample: slope(params, *sample), (paths, b), batch_size
    )
    return of_independent(values), of_independent(slopes)


def pathwise_gradient(
    sample: Callable[[Any, Array], Any],
    loss: Callable[[Any, Any], Array],
    params: Any,
    keys: Array,
    batch_size: int | None = None,
) -> tuple[Estimate, Estimate]:
    """Estimate the same as `score_gradient` by differentiating the paths themselves.

    Of lower variance where paths are short and the loss is smooth; wrong for a loss
    with jumps, whose paths do not feel them.

    Args:
        sample: ``sample(params, key) -> path``, differentiable.
        loss: ``loss(params, path)``, a scalar, or costs ``[t]`` to be summed.
        params: Tree of arrays.
        keys: Random keys, one a path, ``[b]`` or ``[b, 2]``.
        batch_size: Paths at once; None for all.

    Returns:
        ``(loss, gradient)``, each with one standard error.
    """

    def one(params: Any, key: Array) -> Array:
        return jnp.sum(loss(params, sample(params, key)))

    values, slopes = over_samples(
        lambda key: jax.value_and_grad(one)(params, key), keys, batch_size
    )
    return of_independent(values), of_independent(slopes)


def _of_one_path(log_prob: Callable, loss: Callable) -> Callable:
    """The loss of one path with the derivatives of an expected loss."""

    def one(params: Any, path: Any, b: Array) -> Array:
        costs, steps = loss(params, path), log_prob(params, path)
        if jnp.ndim(steps) != 1:
            raise ValueError(
                "`log_prob` must return one number a step, [t]; got the shape "
                f"{jnp.shape(steps)}."
            )
        if jnp.shape(costs) not in ((), jnp.shape(steps)):
            raise ValueError(
                "`loss` must return a scalar, or one cost for the state after each of "
                f"the {len(steps)} steps; got the shape {jnp.shape(costs)}."
            )
        score = jnp.cumsum(steps) if jnp.ndim(costs) else jnp.sum(steps)
        # One, with the derivatives of the probability of the path, relative to it.
        ratio = jnp.exp(score - jax.lax.stop_gradient(score))
        return jnp.sum((costs - b) * ratio + b)

    return one


def _baselines(loss: Callable, baseline: Any, params: Any, paths: Any) -> Array:
    """What is subtracted from the costs of each path, ``[b]`` or ``[b, t]``."""
    count = leading_axis(paths)
    costs = jax.lax.stop_gradient(jax.vmap(loss, (None, 0))(params, paths))
    if baseline is None:
        return jnp.zeros_like(costs)
    if isinstance(baseline, str):
        if baseline != "leave_one_out":
            raise ValueError(
                '`baseline` must be "leave_one_out", an array or None; got '
                f'"{baseline}".'
            )
        if count < 2:
            raise ValueError(
                '`baseline="leave_one_out"` needs two paths at least; got one. Give '
                "more paths, or `baseline=None`."
            )
        return (jnp.sum(costs, axis=0) - costs) / (count - 1)
    value = jnp.asarray(baseline, costs.dtype)
    if value.shape not in ((), costs.shape[1:]):
        raise ValueError(
            f"`baseline` must be a scalar or have the shape of the costs of one path, "
            f"{costs.shape[1:]}; got {value.shape}."
        )
    return jnp.broadcast_to(jax.lax.stop_gradient(value), costs.shape)
