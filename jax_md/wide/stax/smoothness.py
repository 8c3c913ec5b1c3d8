r"""How often a kernel can be differentiated where its two inputs coincide.

Forces of a Gaussian process need :math:`\partial_x \partial_{x'} k` at :math:`x = x'`.
The kernel of a nonlinearity with a kink behaves there as
:math:`|x - x'|^{2 m + 1}`: it has :math:`m` derivatives in each argument. Beyond, the
true derivative is infinite, and no number that a program returns for it means anything.

The layers of this package know how smooth they are. Those of a user, and nonlinearities
that a user hands over as a function, are unknown until `with_smoothness` says it.

Source:
    Y. Cho and L. Saul, NeurIPS 2009, section 2 (the angular kernels of degree n).
"""

from collections.abc import Callable, Iterable
from functools import wraps
from math import inf
from typing import Any, NamedTuple


class Smoothness(NamedTuple):
    """Derivatives in each argument that exist at coincidence, and the layer to blame.

    Attributes:
        nngp: Number for the covariance of the activations.
        ntk: Number for the neural tangent kernel.
        layer: Name of the least smooth layer.
        is_known: Whether somebody said so; else the numbers are zero.
    """

    nngp: float = inf
    ntk: float = inf
    layer: str = ""
    is_known: bool = True


SMOOTH = Smoothness()


def unknown(name: str) -> Smoothness:
    """Return the smoothness of a layer that did not declare it."""
    return Smoothness(0, 0, name, False)


def smoothness_of(kernel_fn: Callable[..., Any]) -> Smoothness:
    """Return what is known of `kernel_fn`, also through `jax.jit` and alike."""
    fn: Any = kernel_fn
    while fn is not None:
        if hasattr(fn, "smoothness"):
            return fn.smoothness
        fn = getattr(fn, "__wrapped__", None)
    return unknown(getattr(kernel_fn, "__name__", type(kernel_fn).__name__))


def smoothest_common(parts: Iterable[Smoothness]) -> Smoothness:
    """Return the smoothness of a network with the layers `parts`."""
    every = [SMOOTH, *parts]
    worst = min(every, key=lambda p: (p.is_known, p.ntk))
    return worst._replace(nngp=min(p.nngp for p in every))


def with_smoothness(layer: Any, nngp: float = inf, ntk: float = inf) -> Any:
    """Declare how often the kernel of a layer can be differentiated.

    A nonlinearity whose derivative of order `m` is the first to jump has the kernel
    ``|x - x'|^(2 m + 1)``: it has ``m`` derivatives in each argument for ``"nngp"`` and
    ``m - 1`` for ``"ntk"``, as `Relu` has 1 and 0.

    Args:
        layer: A triple ``(init_fn, apply_fn, kernel_fn)``, or a `kernel_fn` alone.
        nngp: Derivatives in each argument of the covariance that exist where the two
            inputs coincide; infinite for analytic nonlinearities.
        ntk: The same of the tangent kernel.

    Returns:
        The same, with the declaration.

    Example:
        >>> from jax_md.wide import stax
        >>> swish = stax.with_smoothness(stax.ElementwiseNumerical(jax.nn.silu, 25))
    """
    if isinstance(layer, tuple):
        init_fn, apply_fn, kernel_fn = layer
        return init_fn, apply_fn, with_smoothness(kernel_fn, nngp, ntk)

    @wraps(layer)
    def kernel_fn(*args: Any, **kwargs: Any) -> Any:
        return layer(*args, **kwargs)

    name = getattr(layer, "__name__", "kernel_fn")
    kernel_fn.smoothness = Smoothness(nngp, ntk, name)  # type: ignore[attr-defined]
    return kernel_fn


def require_derivatives(
    kernel_fn: Callable[..., Any], get: str = "nngp", order: int = 1
) -> None:
    """Refuse a kernel that lacks derivatives at coincident inputs.

    Call it before differentiating a kernel `order` times in each argument, as a fit to
    forces or a variance of forces does.

    Args:
        kernel_fn: The `kernel_fn` of a network.
        get: ``"nngp"`` or ``"ntk"``.
        order: Derivatives wanted in each of the two arguments: 1 for forces.

    Raises:
        ValueError: If a layer is known to be less smooth than that, or does not say.
    """
    if get not in ("nngp", "ntk"):
        raise ValueError(f'`get` must be "nngp" or "ntk"; got {get!r}. Pass one.')
    known = smoothness_of(kernel_fn)
    found = getattr(known, get)
    if found >= order:
        return
    if not known.is_known:
        raise ValueError(
            f"`get={get!r}` is asked for {order} derivative(s) in each argument, but "
            f"`{known.layer}` does not say whether its kernel has them. Derivatives of "
            "a kernel with a kink would be wrong without a sign of it. If the "
            "nonlinearity is smooth, declare "
            f"`stax.with_smoothness({known.layer}(...))`."
        )
    raise ValueError(
        f"`get={get!r}` is asked for {order} derivative(s) in each argument, but "
        f"`{known.layer}` leaves it with {found:g} at coincident inputs: beyond, "
        "the mixed derivative grows as an inverse power of the distance and has "
        'no value there. Use `Erf`, `Gelu` or `Sin`, or `get="nngp"` of `Relu` '
        "for one."
    )
