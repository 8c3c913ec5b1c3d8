r"""Infinite ensembles of wide networks trained on the squared loss, at any time.

With :math:`s = \eta t / n` and :math:`E(K) = 1 - e^{-\bar K s}`, on test points

* NNGP (only the last layer trained): mean :math:`K_* \bar K^{-1} E y`, covariance
  :math:`K_{**} - K_* \bar K^{-1} (1 - e^{-2 \bar K s}) K_*^T`;
* NTK (all layers trained), with :math:`A = \Theta_* \bar\Theta^{-1} E(\Theta)`: mean
  :math:`A y`, covariance :math:`K_{**} + A K A^T - A K_*^T - K_* A^T`.

Source:
    J. Lee, L. Xiao, S. S. Schoenholz et al., "Wide neural networks of any depth evolve
    as linear models under gradient descent", NeurIPS 2019, arXiv:1902.06720.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from ..get import select
from ..requested import requested
from .gaussian import Gaussian
from .gradient_descent_mse import effective_time
from .layout import interleaved, kernel_matrix, output_layout, test_layout
from .operator import KernelOperator, is_traced

KINDS = ("nngp", "ntk")


def gradient_descent_mse_ensemble(
    kernel_fn: Callable[..., Any],
    x_train: Any,
    y_train: Float[Array, "..."],
    learning_rate: float = 1.0,
    diag_reg: float = 0.0,
    diag_reg_absolute_scale: bool = False,
    trace_axes: Sequence[int] = (-1,),
    **kernel_fn_train_train_kwargs: Any,
) -> Callable[..., Any]:
    """Predict mean and covariance of an infinite ensemble of trained networks.

    Args:
        kernel_fn: ``kernel_fn(x1, x2, get, **kwargs)``: analytic, batched, Monte Carlo
            or empirical.
        x_train: Training inputs.
        y_train: Targets, ``[n, ..]``.
        learning_rate: Step size of the descent; time counts its steps.
        diag_reg: Ridge added to the kernel, relative to the mean of its diagonal.
        diag_reg_absolute_scale: Whether `diag_reg` is the ridge itself.
        trace_axes: Output axes that the kernel leaves out.
        **kernel_fn_train_train_kwargs: Passed to `kernel_fn` on the training set, such
            as ``params`` or ``pattern``.

    Returns:
        ``predict_fn(t=None, x_test=None, get=None, compute_cov=False, **kwargs)``,
        where ``get`` is ``"nngp"``, ``"ntk"`` or a tuple of both, None for both. It
        gives the mean, or with `compute_cov` a `Gaussian`; the axes of `t` lead. No
        `x_test` means the training set, `t` None infinite time. ``kwargs`` go to
        `kernel_fn` on the test set, and pair with those of the training set in the
        kernel between the two.

    Raises:
        ValueError: If shapes do not fit, or if a kernel has to be inverted and is
            singular.
        NotImplementedError: From ``predict_fn``, if `get` has another name.
    """
    y_train = jnp.asarray(y_train)
    train = output_layout(y_train.shape, trace_axes)
    kept: dict[str, KernelOperator] = {}

    def training_operators(kinds: Sequence[str]) -> dict[str, KernelOperator]:
        missing = tuple(kind for kind in kinds if kind not in kept)
        found = dict(kept)
        if missing:
            kernels = kernel_fn(
                x_train, None, get=missing, **kernel_fn_train_train_kwargs
            )
            for kind in missing:
                kernel = getattr(kernels, kind)
                found[kind] = KernelOperator(
                    kernel_matrix(kernel, train, train, f"{kind} of `x_train`"),
                    diag_reg,
                    diag_reg_absolute_scale,
                )
                if not is_traced(kernel):
                    kept[kind] = found[kind]
        return found

    def predict_fn(
        t: Any = None,
        x_test: Any = None,
        get: Any = None,
        compute_cov: bool = False,
        **kernel_fn_test_test_kwargs: Any,
    ) -> Any:
        kinds = requested(get, KINDS, NotImplementedError)
        needed = kinds if not compute_cov else tuple({*kinds, "nngp"})
        needed = tuple(kind for kind in KINDS if kind in needed)
        operators = training_operators(needed)
        s = None if t is None else effective_time(t, learning_rate, y_train.size)
        y = train.flatten(y_train * 1.0)

        if x_test is None:
            results = {
                kind: _on_training_set(kind, operators, s, y, compute_cov)
                for kind in kinds
            }
            test = train
        else:
            cross_kernels = kernel_fn(
                x_test,
                x_train,
                get=needed,
                **test_train_kwargs(
                    kernel_fn_test_test_kwargs, kernel_fn_train_train_kwargs
                ),
            )
            test = test_layout(getattr(cross_kernels, needed[0]), train)
            cross = {
                kind: kernel_matrix(getattr(cross_kernels, kind), test, train, kind)
                for kind in needed
            }
            prior = None
            if compute_cov:
                own = kernel_fn(
                    x_test,
                    None,
                    get="nngp",
                    **{
                        **_shared(kernel_fn_train_train_kwargs),
                        **kernel_fn_test_test_kwargs,
                    },
                )
                prior = kernel_matrix(own, test, test, "nngp of `x_test`")
            results = {
                kind: on_test_set(kind, operators, cross, prior, s, y) for kind in kinds
            }

        outputs = {}
        for kind, (mean, covariance) in results.items():
            outputs[kind] = test.unflatten(mean)
            if covariance is not None:
                outputs[kind] = Gaussian(
                    outputs[kind], interleaved(covariance, test, test)
                )
        return select("Gaussians", outputs, get)

    return predict_fn


def on_test_set(
    kind: str,
    operators: dict[str, KernelOperator],
    cross: dict[str, Float[Array, "test train"]],
    prior: Float[Array, "test test"] | None,
    s: Float[Array, "*t"] | None,
    y: Float[Array, "train columns"],
) -> tuple[Array, Array | None]:
    """Return mean and, given the prior, covariance on points outside the training set.

    Args:
        kind: ``"nngp"`` or ``"ntk"``.
        operators: Training kernels by kind.
        cross: Kernels of test and training points by kind.
        prior: NNGP of the test points; None for the mean alone.
        s: Effective times; None for infinity.
        y: Targets.
    """
    operator, rows = operators[kind], cross[kind]

    def weights(times: Any) -> Array:
        """``rows`` times what was learned of the inverse, ``[*t, test, train]``."""
        if times is None:
            return operator.solve(rows.T).T
        learned = operator.apply(operator.learned(times), rows.T)
        return jnp.swapaxes(learned, -1, -2)

    if prior is None:
        if s is None:
            return rows @ operator.solve(y), None
        return rows @ operator.apply(operator.learned(s), y), None

    a = weights(s)
    mean = a @ y
    if kind == "nngp":
        twice = a if s is None else weights(2.0 * s)
        explained = twice @ rows.T
        explained = (explained + jnp.swapaxes(explained, -1, -2)) / 2
        return mean, _matched(prior, explained) - explained
    through = a @ cross["nngp"].T
    spread = a @ operators["nngp"].plain @ jnp.swapaxes(a, -1, -2)
    covariance = spread - through - jnp.swapaxes(through, -1, -2)
    return mean, _matched(prior, covariance) + covariance


def _on_training_set(
    kind: str,
    operators: dict[str, KernelOperator],
    s: Float[Array, "*t"] | None,
    y: Float[Array, "train columns"],
    compute_cov: bool,
) -> tuple[Array, Array | None]:
    operator = operators[kind]
    if s is None:
        zero = jnp.zeros_like(operator.plain) if compute_cov else None
        return y, zero
    mean = operator.apply(operator.lost(s), y)
    if not compute_cov:
        return mean, None
    if kind == "nngp":
        values = operator.eigen()[0]
        left = operator.decay(2.0 * s)
        return mean, operator.dense(left * jnp.broadcast_to(values, left.shape))
    left = operator.dense(operator.decay(s))
    return mean, left @ operators["nngp"].plain @ left


def test_train_kwargs(test: dict[str, Any], train: dict[str, Any]) -> dict[str, Any]:
    """Pair the keyword arguments of two sets for the kernel between them.

    A tuple of two holds a value for each input: the pair takes the first of the test
    set's and the second of the training set's. Random keys pair likewise.
    """
    paired = {**train, **test}
    for name in {*test, *train}:
        ours, theirs = test.get(name), train.get(name)
        if name == "rng" and not (ours is None and theirs is None):
            paired[name] = (_side(ours, theirs, 0), _side(theirs, ours, 1))
        elif _is_pair(ours) or _is_pair(theirs):
            paired[name] = (_side(ours, theirs, 0), _side(theirs, ours, 1))
    return paired


def _side(value: Any, other: Any, position: int) -> Any:
    value = other if value is None else value
    return value[position] if _is_pair(value) else value


def _is_pair(value: Any) -> bool:
    return isinstance(value, tuple) and len(value) == 2


def _shared(train: dict[str, Any]) -> dict[str, Any]:
    """Arguments of the training set that hold for any input, such as parameters."""
    return {
        name: value
        for name, value in train.items()
        if name != "rng" and not _is_pair(value)
    }


def _matched(prior: Array, like: Array) -> Array:
    return jnp.broadcast_to(prior, like.shape)
