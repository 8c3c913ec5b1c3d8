r"""Gradient flow on any loss with a constant kernel, as a differential equation.

.. math::
    \dot f_X = -K \nabla_f L(f_X, y), \qquad \dot f_* = -K_{*X} \nabla_f L(f_X, y)

in the time :math:`\eta t`. With momentum ``m`` the outputs have velocities ``q`` and
the time is :math:`\sqrt\eta\, t`,

.. math:: \dot f = q, \qquad \dot q = -K \nabla_f L + \frac{m - 1}{\sqrt\eta}\, q

Source:
    J. Lee, L. Xiao, S. S. Schoenholz et al., "Wide neural networks of any depth evolve
    as linear models under gradient descent", NeurIPS 2019, arXiv:1902.06720.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.ode import odeint
from jaxtyping import Array, Float

from jax_md import dataclasses

from .gradient_descent_mse import check_request
from .layout import kernel_matrix, output_layout, test_layout
from .operator import is_traced


@dataclasses.dataclass
class ODEState:
    """Outputs on both sets and, with momentum, their velocities; None where absent."""

    fx_train: Float[Array, "..."] | None = None
    fx_test: Float[Array, "..."] | None = None
    qx_train: Float[Array, "..."] | None = None
    qx_test: Float[Array, "..."] | None = None


def gradient_descent(
    loss: Callable[[Array, Array], Float[Array, ""]],
    k_train_train: Float[Array, "..."],
    y_train: Float[Array, "..."],
    learning_rate: float = 1.0,
    momentum: float | None = None,
    trace_axes: Sequence[int] = (-1,),
) -> Callable[..., Any]:
    """Predict the outputs of a wide network trained by gradient descent on any loss.

    Args:
        loss: ``loss(fx, y)``, the scalar that training minimizes.
        k_train_train: Tangent kernel of the training set; the axes of two outputs in
            turn, ``[n, n, ..]``, without `trace_axes`.
        y_train: Targets, ``[n, ..]``, passed to `loss`.
        learning_rate: Step size of the descent; time counts its steps.
        momentum: Heavy-ball coefficient, None for plain descent.
        trace_axes: Output axes that the kernel leaves out.

    Returns:
        ``predict_fn(t, fx_train_or_state_0=0., fx_test_0=None, k_test_train=None)``.
        Arrays in, arrays out: the training outputs, the test outputs or the pair of
        both, with the axes of `t` in front. An `ODEState` in, an `ODEState` out, from
        which a later call goes on.

    Raises:
        ValueError: If shapes do not fit; from ``predict_fn`` also if `t` is None or
            does not increase, if nothing is asked for, if test outputs lack
            `k_test_train`, or if velocities come without `momentum`.
    """
    y_train = jnp.asarray(y_train)
    kernel = jnp.asarray(k_train_train)
    train = output_layout(y_train.shape, trace_axes)
    matrix = kernel_matrix(kernel, train, train, "k_train_train")
    rate = learning_rate if momentum is None else np.sqrt(learning_rate)
    if is_traced(learning_rate) and momentum is not None:
        rate = jnp.sqrt(learning_rate)
    float_dtype = jnp.result_type(kernel, 0.0)

    def predict_fn(
        t: Any = None,
        fx_train_or_state_0: Any = 0.0,
        fx_test_0: Any = None,
        k_test_train: Any = None,
    ) -> Any:
        resumed = isinstance(fx_train_or_state_0, ODEState)
        start = fx_train_or_state_0
        if not resumed:
            start = ODEState(fx_train=fx_train_or_state_0, fx_test=fx_test_0)
        elif fx_test_0 is not None:
            raise ValueError(
                "`fx_test_0` is part of the state: pass it as "
                "`ODEState(fx_train=.., fx_test=..)` or pass no state."
            )
        check_request(start.fx_train, start.fx_test, k_test_train)
        if momentum is None and not (start.qx_train is None and start.qx_test is None):
            raise ValueError(
                "the state has velocities `qx_train` or `qx_test`, which belong to "
                "descent with `momentum`; here `momentum` is None."
            )
        times = _increasing(t, float_dtype)

        cross, test_shape = None, None
        if start.fx_test is not None:
            rows = jnp.asarray(k_test_train)
            test = test_layout(rows, train)
            cross = kernel_matrix(rows, test, train, "k_test_train")
            test_shape = test.shape

        def slope(fx: Array) -> dict[str, Array]:
            gradient = train.flatten(jax.grad(loss)(fx, y_train))
            slopes = {"train": -train.unflatten(matrix @ gradient)}
            if cross is not None:
                slopes["test"] = -test.unflatten(cross @ gradient)
            return slopes

        def velocity(state: Any, _: Array) -> Any:
            if momentum is None:
                return {"fx": slope(state["fx"]["train"])}
            force = slope(state["fx"]["train"])
            drag = (momentum - 1.0) / rate
            return {
                "fx": state["qx"],
                "qx": jax.tree.map(lambda a, q: a + drag * q, force, state["qx"]),
            }

        def filled(train_value: Any, test_value: Any) -> dict[str, Array]:
            both = {"train": (train_value, train.shape)}
            if test_shape is not None:
                both["test"] = (test_value, test_shape)
            return {
                name: jnp.broadcast_to(
                    jnp.asarray(0.0 if value is None else value, float_dtype), shape
                )
                for name, (value, shape) in both.items()
            }

        state = {"fx": filled(start.fx_train, start.fx_test)}
        if momentum is not None:
            state["qx"] = filled(start.qx_train, start.qx_test)
        state = _integrate(velocity, state, times * rate, jnp.shape(t))

        fx, qx = state["fx"], state.get("qx", {})
        if resumed:
            return ODEState(
                fx_train=None if start.fx_train is None else fx["train"],
                fx_test=fx.get("test"),
                qx_train=qx.get("train"),
                qx_test=qx.get("test"),
            )
        if start.fx_train is None:
            return fx["test"]
        return fx["train"] if start.fx_test is None else (fx["train"], fx["test"])

    return predict_fn


def _increasing(t: Any, dtype: Any) -> Float[Array, " times"]:
    if t is None:
        raise ValueError(
            "`t` is None, but a general loss has no closed form at infinite time. Pass "
            "a finite `t`, or use `gradient_descent_mse` for the squared loss."
        )
    times = jnp.asarray(t, dtype).reshape(-1)
    if not is_traced(times):
        known = np.asarray(times)
        if known[:1].min(initial=0.0) < 0 or not (np.diff(known) > 0).all():
            raise ValueError(
                "`t` must not be negative and has to increase strictly along its "
                f"flattened values; got {known}."
            )
        if not np.isfinite(known).all():
            raise ValueError(f"`t` must be finite; got {known}.")
    return times


def _integrate(velocity: Any, state: Any, times: Array, shape: tuple[int, ...]) -> Any:
    """States at `times`, whose first may be 0, reshaped to lead with `shape`."""
    # The solver starts at times[0] and cannot take a step of length zero; a first time
    # of 0 therefore gets a stand-in, and its answer is the start itself.
    at_start = times[:1] == 0
    ahead = jnp.concatenate([times, 2.0 * times[-1:] + 1.0])[1:2]
    first = jnp.where(at_start, ahead / 2, times[:1])
    grid = jnp.concatenate([jnp.zeros_like(first), first, times[1:]])
    states = odeint(velocity, state, grid)

    def placed(path: Array, start: Array) -> Array:
        path = path[1:]
        first = jnp.where(at_start[0], start, path[0])
        path = jnp.concatenate([first[None], path[1:]])
        return path.reshape((*shape, *start.shape))

    return jax.tree.map(placed, states, state)
