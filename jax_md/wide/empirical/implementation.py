"""The ways to compute an empirical tangent kernel, and the choice among them."""

import enum
from collections.abc import Callable, Mapping
from typing import Any

import jax


class NtkImplementation(enum.IntEnum):
    """How the tangent kernel of a finite network is computed.

    All give the same kernel. With ``O`` outputs a sample, ``P`` parameters and ``F``
    the cost of one evaluation: the first needs ``O`` derivatives of cost ``F`` for each
    sample and products of size ``O^2 P`` for each pair; the second ``O`` derivatives
    for each pair and no such product; the third replaces ``P`` by the width of the
    layers that are plain matrix products. AUTO compiles all three and takes the one
    with the fewest floating-point operations.

    Source:
        R. Novak, J. Sohl-Dickstein, S. S. Schoenholz, "Fast finite width neural tangent
        kernel", ICML 2022, arXiv:2206.08720.
    """

    AUTO = 0
    JACOBIAN_CONTRACTION = 1
    NTK_VECTOR_PRODUCTS = 2
    STRUCTURED_DERIVATIVES = 3


def canonical_implementation(implementation: Any) -> NtkImplementation:
    """Return the member of `NtkImplementation` that a number or a member names.

    Raises:
        ValueError: If there is none.
    """
    try:
        return NtkImplementation(implementation)
    except ValueError:
        choices = ", ".join(f"{i.value} ({i.name})" for i in NtkImplementation)
        raise ValueError(
            f"`implementation` must be one of {choices}; got {implementation!r}."
        ) from None


def cheapest(
    candidates: Mapping[NtkImplementation, Callable[..., Any]], args: Any
) -> NtkImplementation:
    """Return the candidate whose compiled program has the fewest operations.

    Args:
        candidates: Functions to compare.
        args: Their positional arguments; only shapes and types of arrays matter.
    """
    leaves, structure = jax.tree.flatten(args)
    is_array = [isinstance(leaf, jax.Array) for leaf in leaves]
    arrays = [
        jax.ShapeDtypeStruct(leaf.shape, leaf.dtype)
        for leaf, known in zip(leaves, is_array, strict=True)
        if known
    ]

    def operations(fn: Callable[..., Any]) -> float:
        def of_arrays(arrays: list[Any]) -> Any:
            supply = iter(arrays)
            filled = [
                next(supply) if known else leaf
                for leaf, known in zip(leaves, is_array, strict=True)
            ]
            return fn(*jax.tree.unflatten(structure, filled))

        cost = jax.jit(of_arrays).lower(arrays).compile().cost_analysis()
        if isinstance(cost, list | tuple):  # one entry per program on older releases
            cost = cost[0] if cost else {}
        return float((cost or {}).get("flops", float("inf")))

    return min(candidates, key=lambda name: operations(candidates[name]))
