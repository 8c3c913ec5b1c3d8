"""Parameters and sums shared by bonds, angles and torsions."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import tree_map
from jaxtyping import Array

from jax_md import util

from .parameters import (
    ParameterTree,
    ParameterTreeMapping,
    cast_floats,
    describe,
    merge,
    rank,
    split_combinators,
)


def sum_over_groups(
    fn: Callable[..., Array],
    displacement_or_metric: Callable,
    static_groups: Any,
    static_types: Any,
    ignore_unused_parameters: bool,
    declared: dict[str, Any],
    arguments: tuple[tuple[int, int], ...],
    noun: str,
) -> Callable[..., Array]:
    """Return ``total(R, groups, types, dynamic)`` for groups of bonded particles.

    Args:
        fn: Function of one displacement (or distance) for each entry of `arguments`.
        displacement_or_metric: Displacement or distance of two points.
        static_groups: Indices ``[g, width]`` known at construction, or None.
        static_types: A type for each of them, or None.
        ignore_unused_parameters: See `parameters.merge`.
        declared: Parameters of `fn`.
        arguments: Columns ``(a, b)``, each standing for ``displacement(R_a, R_b)``.
        noun: What a group is called, for messages.
    """
    values, combinators = split_combinators(declared)
    width = 1 + max(column for pair in arguments for column in pair)

    def evaluate(R: Any, groups: Any, types: Any, dynamic: dict) -> Array:
        groups = jnp.asarray(groups)
        if groups.ndim != 2 or groups.shape[1] < width:
            raise ValueError(
                f"`{noun}s` must be an integer array [{noun}s, {width}]; got shape "
                f"{groups.shape}."
            )
        members = [groups[:, column] for column in range(width)]
        merged = merge(fn, values, combinators, dynamic, ignore_unused_parameters)
        parameters = {
            name: _group_values(name, value, types, combinators.get(name), members, R)
            for name, value in merged.items()
        }
        d = jax.vmap(partial(displacement_or_metric, **dynamic))
        points = [R[member] for member in members]
        out = fn(*(d(points[a], points[b]) for a, b in arguments), **parameters)
        return util.high_precision_sum(out)

    def total(R: Any, groups: Any, types: Any, dynamic: dict) -> Array:
        out = jnp.zeros((), R.dtype)
        if static_groups is not None:
            out = out + evaluate(R, static_groups, static_types, dynamic)
        if groups is not None:
            out = out + evaluate(R, groups, types, dynamic)
        return out

    return total


def _group_values(
    name: str, value: Any, types: Any, combinator: Any, members: list, R: Array
) -> Any:
    M = ParameterTreeMapping
    if combinator is not None:
        return _combined(name, value, combinator, members, R)
    if isinstance(value, ParameterTree):
        tree = tree_map(lambda x: cast_floats(x, R.dtype), value.tree)
        if types is None or value.mapping is M.Global:
            return tree
        if value.mapping is M.PerBond:
            return tree_map(lambda x: x[types], tree)
        raise ValueError(
            f"`{name}` is a ParameterTree with mapping {value.mapping}; with types it "
            "must be Global, or PerBond with leaves indexed by type."
        )
    if isinstance(value, bool | int | float) and not isinstance(value, np.generic):
        return value
    if types is None:
        return tree_map(lambda x: cast_floats(x, R.dtype), value)
    if rank(value) < 0:
        raise NotImplementedError(
            f"`{name}` must be a scalar, one value a type or a ParameterTree; got "
            f"{describe(value)}."
        )
    if rank(value) > 1:
        raise ValueError(
            f"`{name}` must be a scalar or one value a type; got {describe(value)}. "
            "Use a ParameterTree with mapping PerBond for values that are arrays."
        )
    value = cast_floats(value, R.dtype)
    return value[types] if value.ndim == 1 else value


def _combined(
    name: str, value: Any, combinator: Callable, members: list, R: Array
) -> Any:
    """Values of groups from values of particles."""
    M = ParameterTreeMapping
    if isinstance(value, ParameterTree):
        if value.mapping is M.PerSpecies:
            raise ValueError(
                f"`{name}` has a combinator, which acts on values of particles, and is "
                "a ParameterTree with mapping PerSpecies; expected PerParticle."
            )
        tree = tree_map(lambda x: cast_floats(x, R.dtype), value.tree)
        if value.mapping is not M.PerParticle:
            return tree
    else:
        tree = cast_floats(value, R.dtype)
        if tree.ndim == 0:
            raise ValueError(
                f"`{name}` has a combinator and must hold one value a particle; got a "
                "scalar."
            )
    combine = jax.vmap(combinator)
    return tree_map(lambda x: combine(*(x[member] for member in members)), tree)
