"""Both empirical kernels behind one `get` argument."""

from collections.abc import Callable
from typing import Any

from ..get import Get, select_each
from ..requested import requested
from .implementation import NtkImplementation
from .nngp import empirical_nngp_fn
from .ntk import empirical_ntk_fn

KINDS = ("nngp", "ntk")
NAME = "EmpiricalKernel"


def empirical_kernel_fn(
    f: Callable[..., Any],
    trace_axes: Any = (-1,),
    diagonal_axes: Any = (),
    vmap_axes: Any = None,
    implementation: NtkImplementation | int = NtkImplementation.JACOBIAN_CONTRACTION,
    _j_rules: bool = True,
    _s_rules: bool = True,
    _fwd: bool | None = None,
) -> Callable[..., Any]:
    """Return the NNGP and the tangent kernel of a finite network.

    Args:
        f: ``f(params, x, **kwargs)``, outputs with a batch axis; trees are allowed.
        trace_axes: Output axes to average over.
        diagonal_axes: Output axes to keep once, for equal entries.
        vmap_axes: Promises that `f` treats samples apart, see `empirical_ntk_fn`.
        implementation: How to compute the tangent kernel, see `NtkImplementation`.
        _j_rules: See `empirical_ntk_fn`.
        _s_rules: See `empirical_ntk_fn`.
        _fwd: See `empirical_ntk_fn`.

    Returns:
        ``kernel_fn(x1, x2, get, params, **kwargs)``, where ``get`` is ``"nngp"``,
        ``"ntk"`` or a tuple of both; None is both. See `empirical_ntk_fn`. Where `f`
        returns a tree, so does this, with an array or a named tuple for each leaf.

    Raises:
        ValueError: If `implementation` or `vmap_axes` is unknown; from ``kernel_fn``,
            if the axes do not fit the outputs or `get` is unknown.
    """
    fns = {
        "nngp": empirical_nngp_fn(f, trace_axes, diagonal_axes),
        "ntk": empirical_ntk_fn(
            f,
            trace_axes,
            diagonal_axes,
            vmap_axes,
            implementation,
            _j_rules,
            _s_rules,
            _fwd,
        ),
    }

    def kernel_fn(x1: Any, x2: Any, get: Get, params: Any, **kwargs: Any) -> Any:
        kernels = {
            kind: fns[kind](x1, x2, params, **kwargs) for kind in requested(get, KINDS)
        }
        return select_each(NAME, kernels, get)

    return kernel_fn
