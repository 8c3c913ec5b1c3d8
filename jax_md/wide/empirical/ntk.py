"""The empirical neural tangent kernel of a finite network."""

from collections.abc import Callable
from typing import Any

import jax

from .arguments import same_kwargs, second_input, split_kwargs
from .axes import output_axes
from .batched import sample_axes
from .implementation import NtkImplementation, canonical_implementation, cheapest
from .jacobian import jacobian_contraction
from .problem import Problem
from .products import ntk_vector_products
from .structured import structured_derivatives

IMPLEMENTATIONS: dict[NtkImplementation, Callable[[Problem], list[jax.Array]]] = {
    NtkImplementation.JACOBIAN_CONTRACTION: jacobian_contraction,
    NtkImplementation.NTK_VECTOR_PRODUCTS: ntk_vector_products,
    NtkImplementation.STRUCTURED_DERIVATIVES: structured_derivatives,
}


def empirical_ntk_fn(
    f: Callable[..., Any],
    trace_axes: Any = (-1,),
    diagonal_axes: Any = (),
    vmap_axes: Any = None,
    implementation: NtkImplementation | int = NtkImplementation.JACOBIAN_CONTRACTION,
    _j_rules: bool = True,
    _s_rules: bool = True,
    _fwd: bool | None = None,
) -> Callable[..., Any]:
    r"""Return the tangent kernel :math:`\partial_\theta f_1\, (\partial_\theta f_2)^T`.

    Args:
        f: ``f(params, x, **kwargs)``, outputs with a batch axis; trees are allowed.
        trace_axes: Output axes to average over.
        diagonal_axes: Output axes to keep once, for equal entries.
        vmap_axes: Promises that `f` treats samples apart: None for no promise, the axis
            of samples in inputs and outputs, or a triple of input axes, output axes and
            a dictionary of axes of keyword arguments.
        implementation: How to compute it, see `NtkImplementation`.
        _j_rules: Kept for the interface; Jacobians of single operations always come
            from their differentiation rules.
        _s_rules: Whether `STRUCTURED_DERIVATIVES` looks for structure.
        _fwd: Whether Jacobians are taken forward; None for the cheaper way.

    Returns:
        ``ntk_fn(x1, x2, params, **kwargs)``; `x2` None means `x1`. The axes of both
        outputs come in turn, ``[n1, n2, ..]``. One kernel for each output leaf. Of the
        keyword arguments a tuple of two is split between the inputs, a single ``rng``
        gives unequal inputs different keys, and all else goes to both.

    Raises:
        ValueError: If `implementation` or `vmap_axes` is unknown; from ``ntk_fn``, if
            the axes do not fit the outputs.

    Source:
        R. Novak, J. Sohl-Dickstein, S. S. Schoenholz, "Fast finite width neural tangent
        kernel", ICML 2022, arXiv:2206.08720.
    """
    del _j_rules
    chosen = canonical_implementation(implementation)
    mapped = sample_axes(vmap_axes)
    decided: dict[Any, NtkImplementation] = {}

    def build(x1: Any, x2: Any, params: Any, kwargs: Any) -> Problem:
        x2, same = second_input(x1, x2)
        kwargs1, kwargs2 = split_kwargs(kwargs, x1, x2, same)
        same = same and same_kwargs(kwargs1, kwargs2)
        shapes1 = jax.eval_shape(lambda p: f(p, x1, **kwargs1), params)
        shapes2 = jax.eval_shape(lambda p: f(p, x2, **kwargs2), params)
        return Problem(
            f=f,
            params=params,
            inputs=((x1, kwargs1), (x2, kwargs2)),
            same=same,
            axes=output_axes(shapes1, shapes2, trace_axes, diagonal_axes),
            samples=mapped,
            shapes=(jax.tree.leaves(shapes1), jax.tree.leaves(shapes2)),
            forward=_fwd,
            structured=_s_rules,
        )

    def decide(args: Any) -> NtkImplementation:
        key = jax.tree.map(
            lambda a: (a.shape, str(a.dtype)) if isinstance(a, jax.Array) else a, args
        )
        key = repr(key)
        if key not in decided:
            candidates = {
                name: lambda *args, fn=fn: fn(build(*args))
                for name, fn in IMPLEMENTATIONS.items()
            }
            decided[key] = cheapest(candidates, args)
        return decided[key]

    def ntk_fn(x1: Any, x2: Any, params: Any, **kwargs: Any) -> Any:
        args = (x1, x2, params, kwargs)
        name = decide(args) if chosen is NtkImplementation.AUTO else chosen
        problem = build(*args)
        kernels = IMPLEMENTATIONS[name](problem)
        (x, own), _ = problem.inputs
        structure = jax.tree.structure(jax.eval_shape(lambda p: f(p, x, **own), params))
        return jax.tree.unflatten(structure, kernels)

    return ntk_fn
