r"""Gradient flow on the squared loss with a constant kernel, in closed form.

With the loss :math:`\frac12\,\mathrm{mean}(f - y)^2` over all ``n`` entries of ``y``,

.. math::
    f_X(t) = f_X(0) + (e^{-\bar K s} - 1)(f_X(0) - y), \qquad
    f_*(t) = f_*(0) + K_{*X} \bar K^{-1} (e^{-\bar K s} - 1)(f_X(0) - y)

where :math:`s = \eta t / n` and :math:`\bar K` is the kernel with its ridge.

Source:
    J. Lee, L. Xiao, S. S. Schoenholz et al., "Wide neural networks of any depth evolve
    as linear models under gradient descent", NeurIPS 2019, arXiv:1902.06720.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from .layout import Layout, kernel_matrix, output_layout, test_layout
from .operator import KernelOperator


def gradient_descent_mse(
    k_train_train: Float[Array, "..."],
    y_train: Float[Array, "..."],
    learning_rate: float = 1.0,
    diag_reg: float = 0.0,
    diag_reg_absolute_scale: bool = False,
    trace_axes: Sequence[int] = (-1,),
) -> Callable[..., Any]:
    """Predict the outputs of a wide network trained by gradient descent.

    Args:
        k_train_train: Kernel of the training set, usually the NTK; the axes of two
            outputs in turn, ``[n, n, ..]``, without `trace_axes`.
        y_train: Targets, ``[n, ..]``.
        learning_rate: Step size of the descent; time counts its steps.
        diag_reg: Ridge added to the kernel, relative to the mean of its diagonal.
        diag_reg_absolute_scale: Whether `diag_reg` is the ridge itself.
        trace_axes: Output axes that the kernel leaves out.

    Returns:
        ``predict_fn(t=None, fx_train_0=0., fx_test_0=None, k_test_train=None)``.
        It gives the training outputs at times `t`, the test outputs, or the pair of
        both: those whose value at time 0 is not None. The axes of `t` lead. None is
        infinite time, where training outputs equal the targets, ridge or not.

    Raises:
        ValueError: If shapes do not fit; from ``predict_fn`` also if neither output is
            asked for, if test outputs lack `k_test_train`, or if the kernel has to be
            inverted and is singular.
    """
    y_train, kernel = _floating(y_train, k_train_train)
    train = output_layout(y_train.shape, trace_axes)
    operator = KernelOperator(
        kernel_matrix(kernel, train, train, "k_train_train"),
        diag_reg,
        diag_reg_absolute_scale,
    )

    def predict_fn(
        t: Any = None,
        fx_train_0: Any = 0.0,
        fx_test_0: Any = None,
        k_test_train: Any = None,
    ) -> Any:
        check_request(fx_train_0, fx_test_0, k_test_train)
        start = 0.0 if fx_train_0 is None else _fits(fx_train_0, train, "fx_train_0")
        residual = train.flatten(start) - train.flatten(y_train)
        s = None if t is None else effective_time(t, learning_rate, y_train.size)

        outputs = []
        if fx_train_0 is not None:
            if s is None:
                outputs.append(jnp.asarray(y_train, residual.dtype))
            else:
                change = operator.apply(operator.lost(s), residual)
                outputs.append(_moved(start, train.unflatten(-change)))
        if fx_test_0 is not None:
            k_test_train = jnp.asarray(k_test_train)
            test = test_layout(k_test_train, train)
            rows = kernel_matrix(k_test_train, test, train, "k_test_train")
            if s is None:
                change = rows @ operator.solve(residual)
            else:
                change = rows @ operator.apply(operator.learned(s), residual)
            fx_test_0 = _fits(fx_test_0, test, "fx_test_0")
            outputs.append(_moved(fx_test_0, test.unflatten(-change)))
        return outputs[0] if len(outputs) == 1 else tuple(outputs)

    return predict_fn


def check_request(fx_train_0: Any, fx_test_0: Any, k_test_train: Any) -> None:
    """Refuse a request for no output, or for test outputs without their kernel.

    Raises:
        ValueError: In these two cases.
    """
    if fx_train_0 is None and fx_test_0 is None:
        raise ValueError(
            "`fx_train_0` and `fx_test_0` are both None, so nothing is asked for. Pass "
            "the outputs at time 0, such as 0., of the set to predict."
        )
    if fx_test_0 is not None and k_test_train is None:
        raise ValueError(
            "test outputs need `k_test_train`, the kernel of test and training inputs; "
            "got `fx_test_0` without it."
        )


def effective_time(t: Any, learning_rate: Any, n: int) -> Float[Array, "*t"]:
    """Return the time of gradient flow on half the summed squares."""
    t = jnp.asarray(t)
    if not jnp.issubdtype(t.dtype, jnp.floating):
        t = t * 1.0
    return t * (learning_rate / n)


def _floating(*arrays: Any) -> tuple[Array, ...]:
    """Arrays in their own dtype, integers in the default float."""
    arrays = tuple(jnp.asarray(a) for a in arrays)
    return tuple(
        a if jnp.issubdtype(a.dtype, jnp.floating) else a * 1.0 for a in arrays
    )


def _fits(start: Any, layout: Layout, name: str) -> Any:
    shape = jnp.shape(start)
    if shape and shape != layout.shape:
        raise ValueError(
            f"`{name}` must be a scalar or have the shape {layout.shape} of the "
            f"outputs; got {shape}."
        )
    return start


def _moved(start: Any, change: Array) -> Array:
    return jnp.broadcast_to(start, change.shape) + change
