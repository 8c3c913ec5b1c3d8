"""Kernels of infinitely wide networks, estimated from random finite ones.

Source:
    R. Novak, L. Xiao, J. Hron, J. Lee, A. A. Alemi, J. Sohl-Dickstein,
    S. S. Schoenholz, "Neural tangents", ICLR 2020, arXiv:1912.02803.
"""

import inspect
import operator
from collections.abc import Callable, Generator, Iterable
from typing import Any

import jax

from .batch import batch
from .empirical import NtkImplementation, empirical_kernel_fn
from .empirical.kernel import KINDS, NAME
from .get import Get, select
from .requested import requested
from .stax.smoothness import SMOOTH


def monte_carlo_kernel_fn(
    init_fn: Callable[..., Any],
    apply_fn: Callable[..., Any],
    key: Any,
    n_samples: int | Iterable[int],
    batch_size: int = 0,
    device_count: int = -1,
    store_on_device: bool = True,
    trace_axes: Any = (-1,),
    diagonal_axes: Any = (),
    vmap_axes: Any = None,
    implementation: NtkImplementation | int = NtkImplementation.JACOBIAN_CONTRACTION,
    _j_rules: bool = True,
    _s_rules: bool = True,
    _fwd: bool | None = None,
) -> Callable[..., Any]:
    """Return the mean of empirical kernels over random parameters.

    Args:
        init_fn: ``init_fn(key, input_shape) -> (output_shape, params)``.
        apply_fn: ``apply_fn(params, x, **kwargs)``; it gets an ``rng`` key if it takes
            one.
        key: Random key; equal keys give equal kernels.
        n_samples: How many networks to average over. Several numbers make the result
            a generator of the running means at these counts.
        batch_size: See `batch`.
        device_count: See `batch`.
        store_on_device: See `batch`.
        trace_axes: Output axes to average over.
        diagonal_axes: Output axes to keep once, for equal entries.
        vmap_axes: Promises that samples are treated apart, see `empirical_ntk_fn`.
        implementation: How to compute the tangent kernel, see `NtkImplementation`.
        _j_rules: See `empirical_ntk_fn`.
        _s_rules: See `empirical_ntk_fn`.
        _fwd: See `empirical_ntk_fn`.

    Returns:
        ``kernel_fn(x1, x2=None, get=None, **kwargs)``, where ``get`` is ``"nngp"``,
        ``"ntk"`` or a tuple of both; None is both. Its result is a kernel, or a
        generator of kernels that starts afresh with each call.

    Raises:
        ValueError: If `n_samples` is, or holds, no positive integer.
        TypeError: If `n_samples` is neither an integer nor an iterable.

    Example:
        >>> from jax_md.wide import stax
        >>> init_fn, apply_fn, _ = stax.serial(stax.Dense(64), stax.Relu())
        >>> kernel_fn = monte_carlo_kernel_fn(
        ...     init_fn, apply_fn, jax.random.key(0), n_samples=8
        ... )  # doctest: +SKIP
    """
    counts, is_single = _canonical_counts(n_samples)
    empirical = empirical_kernel_fn(
        apply_fn,
        trace_axes,
        diagonal_axes,
        vmap_axes,
        implementation,
        _j_rules,
        _s_rules,
        _fwd,
    )
    batched = batch(empirical, batch_size, device_count, store_on_device)
    takes_rng = _takes_keyword(apply_fn, "rng")

    def running_means(
        x1: Any, x2: Any, get: Get, **apply_fn_kwargs: Any
    ) -> Generator[Any, None, None]:
        kinds = requested(get, KINDS)
        shape = jax.tree.map(lambda x: x.shape, x1)
        draw = jax.jit(lambda key: init_fn(key, shape)[1])
        running_key, total = key, None
        for done in range(1, counts[-1] + 1):
            running_key, sample_key = jax.random.split(running_key)
            init_key, apply_key = jax.random.split(sample_key)
            if takes_rng:
                apply_fn_kwargs["rng"] = apply_key
            sample = batched(x1, x2, kinds, draw(init_key), **apply_fn_kwargs)
            if total is None:
                total = sample
            else:
                total = jax.tree.map(operator.add, total, sample)
            if done in counts:
                mean = jax.tree.map(lambda leaf, n=done: leaf / n, total)
                # One sample has named tuples at the leaves of the outputs.
                yield jax.tree.map(
                    lambda one: select("MonteCarloKernel", one._asdict(), get),
                    mean,
                    is_leaf=lambda node: type(node).__name__ == NAME,
                )

    def kernel_fn(
        x1: Any, x2: Any = None, get: Get = None, **apply_fn_kwargs: Any
    ) -> Any:
        requested(get, KINDS)  # refuse a bad name now, not at the first value
        means = running_means(x1, x2, get, **apply_fn_kwargs)
        return next(means) if is_single else means

    # A sum of products of functions of one input each: what is differentiated twice,
    # once in each argument, has no singularity where the two coincide.
    kernel_fn.smoothness = SMOOTH  # type: ignore[attr-defined]
    return kernel_fn


def _canonical_counts(n_samples: Any) -> tuple[tuple[int, ...], bool]:
    """The counts in increasing order, and whether there was just a number."""
    try:
        counts, is_single = (operator.index(n_samples),), True
    except TypeError:
        if not isinstance(n_samples, Iterable):
            raise TypeError(
                "`n_samples` must be an integer or an iterable of integers; got "
                f"{type(n_samples).__name__}."
            ) from None
        counts, is_single = tuple(n_samples), False
    try:
        counts = tuple(sorted({operator.index(n) for n in counts}))
    except TypeError:
        raise ValueError(f"`n_samples` must hold integers; got {counts}.") from None
    if not counts or counts[0] < 1:
        raise ValueError(f"`n_samples` must be positive; got {n_samples}.")
    return counts, is_single


def _takes_keyword(fn: Callable[..., Any], name: str) -> bool:
    try:
        parameters = inspect.signature(fn).parameters.values()
    except (TypeError, ValueError):  # no signature to read: assume the convention
        return True
    return any(p.name == name or p.kind is p.VAR_KEYWORD for p in parameters)
