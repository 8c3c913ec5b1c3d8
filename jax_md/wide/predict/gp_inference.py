r"""Gaussian-process regression with the kernels of wide networks.

``nngp``: the Bayesian posterior; ``ntk``: an ensemble trained to infinite time;
``ntkgp``: a Gaussian process whose covariance is the tangent kernel.

Source:
    J. Lee, L. Xiao, S. S. Schoenholz et al., "Wide neural networks of any depth evolve
    as linear models under gradient descent", NeurIPS 2019, arXiv:1902.06720.
    B. He, B. Lakshminarayanan, Y. W. Teh, "Bayesian deep ensembles via the neural
    tangent kernel", NeurIPS 2020, arXiv:2007.05864 (``ntkgp``).
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from ..get import select
from ..requested import requested
from .ensemble import on_test_set
from .gaussian import Gaussian
from .layout import Layout, interleaved, kernel_matrix, output_layout, test_layout
from .operator import KernelOperator

MODES = ("nngp", "ntk", "ntkgp")


def gp_inference(
    k_train_train: Any,
    y_train: Float[Array, "..."],
    diag_reg: float = 0.0,
    diag_reg_absolute_scale: bool = False,
    trace_axes: Sequence[int] = (-1,),
) -> Callable[..., Any]:
    """Infer outputs by Gaussian-process regression with the kernels given.

    Args:
        k_train_train: Kernel of the training set: a `Kernel`, a named tuple with
            ``nngp`` or ``ntk``, or one array.
        y_train: Targets, ``[n, ..]``.
        diag_reg: Ridge added to the kernel, relative to the mean of its diagonal.
        diag_reg_absolute_scale: Whether `diag_reg` is the ridge itself.
        trace_axes: Output axes that the kernel leaves out.

    Returns:
        ``predict_fn(get=None, k_test_train=None, k_test_test=None)``, where ``get`` is
        ``"nngp"``, ``"ntk"``, ``"ntkgp"`` or a tuple of these. It gives the mean, or a
        `Gaussian` if `k_test_test` is passed. Without `k_test_train` these are the
        targets, without variance, whatever the ridge: what training to the end gives.
        Pass ``k_test_train=k_train_train`` for the posterior on the training set. None
        asks for every kernel passed; an array stands for both of them.

    Raises:
        ValueError: If shapes do not fit or the kernel is singular; from ``predict_fn``
            also if a kernel that ``get`` needs is missing. The covariance of ``"ntk"``
            needs both kernels, of all three sets.
    """
    y_train = jnp.asarray(y_train)
    train = output_layout(y_train.shape, trace_axes)
    y = train.flatten(y_train * 1.0)
    operators = {
        kind: KernelOperator(
            kernel_matrix(
                _pick(k_train_train, kind, "k_train_train"),
                train,
                train,
                "k_train_train",
            ),
            diag_reg,
            diag_reg_absolute_scale,
        )
        for kind in _available(k_train_train)
    }

    def predict_fn(
        get: Any = None, k_test_train: Any = None, k_test_test: Any = None
    ) -> Any:
        modes = _available(k_train_train) if get is None else requested(get, MODES)
        results = {}
        for mode in modes:
            needed = ["nngp" if mode == "nngp" else "ntk"]
            if k_test_train is None:
                _pick(k_train_train, needed[0], "k_train_train")
                results[mode] = y_train * 1.0
                if k_test_test is not None:
                    nothing = jnp.zeros((train.rows, train.rows), results[mode].dtype)
                    results[mode] = Gaussian(
                        results[mode], interleaved(nothing, train, train)
                    )
                continue
            if mode == "ntk" and k_test_test is not None:
                needed = ["ntk", "nngp"]
                _need_both(k_train_train, "k_train_train")
                _need_both(k_test_train, "k_test_train")
            cross = {}
            test: Layout = train
            for kind in needed:
                rows = _pick(k_test_train, kind, "k_test_train")
                test = test_layout(rows, train)
                cross[kind] = kernel_matrix(rows, test, train, "k_test_train")
            prior = None
            if k_test_test is not None:
                own = _pick(
                    k_test_test, "ntk" if mode == "ntkgp" else "nngp", "k_test_test"
                )
                prior = kernel_matrix(own, test, test, "k_test_test")
            for kind in needed:
                _pick(k_train_train, kind, "k_train_train")
            used = {kind: operators[kind] for kind in needed}
            # "ntkgp" is the Bayesian formula with the other kernel in its place.
            if mode == "ntkgp":
                used, cross = {"nngp": used["ntk"]}, {"nngp": cross["ntk"]}
            kind = "ntk" if mode == "ntk" else "nngp"
            mean, covariance = on_test_set(kind, used, cross, prior, None, y)
            results[mode] = test.unflatten(mean)
            if covariance is not None:
                results[mode] = Gaussian(
                    results[mode], interleaved(covariance, test, test)
                )
        return select("Gaussians", results, get)

    return predict_fn


def _is_array(kernel: Any) -> bool:
    return hasattr(kernel, "shape") and not hasattr(kernel, "nngp")


def _available(kernel: Any) -> tuple[str, ...]:
    if _is_array(kernel):
        return ("nngp", "ntk")
    return tuple(
        kind for kind in ("nngp", "ntk") if getattr(kernel, kind, None) is not None
    )


def _pick(kernel: Any, kind: str, name: str) -> Array:
    """The kernel of this kind; an array stands for any kind."""
    if _is_array(kernel):
        return jnp.asarray(kernel)
    found = getattr(kernel, kind, None)
    if found is None:
        raise ValueError(
            f"`{name}` lacks the {kind!r} kernel, which `get` needs; it has "
            f"{_available(kernel)}. Compute it with `kernel_fn(.., get=('nngp', "
            "'ntk'))`."
        )
    return jnp.asarray(found)


def _need_both(kernel: Any, name: str) -> None:
    if _is_array(kernel) or len(_available(kernel)) < 2:
        raise ValueError(
            "the covariance of `get='ntk'` needs the 'nngp' and the 'ntk' kernel in "
            f"`k_train_train` and `k_test_train`; `{name}` does not hold both. Pass a "
            "`Kernel` or a named tuple with both, or ask for 'ntkgp'."
        )
