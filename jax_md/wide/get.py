"""The `get` argument: which quantities a kernel or a predictor returns.

A string asks for one array, a tuple of strings for a namedtuple with those fields in
that order, None for everything.
"""

from collections import namedtuple
from collections.abc import Sequence
from functools import cache
from typing import Any

import jax

Get = None | str | Sequence[str]


def canonicalize_get(get: Get) -> tuple[tuple[str, ...] | None, bool]:
    """Return the names asked for in lower case, and whether `get` was one string.

    Args:
        get: None, a name, or a sequence of names; case does not matter.

    Returns:
        ``(names, is_single)``; ``names`` is None where `get` is None.

    Raises:
        ValueError: If `get` is an empty sequence or names something twice.
        TypeError: If `get` is something else.
    """
    if get is None:
        return None, False
    if isinstance(get, str):
        return (get.lower(),), True
    if not isinstance(get, Sequence) or not all(isinstance(g, str) for g in get):
        raise TypeError(
            f"`get` must be None, a string or a tuple of strings; got {get!r}. "
            'Pass for example `get="nngp"` or `get=("nngp", "ntk")`.'
        )
    if not get:
        raise ValueError(
            "`get` must name at least one quantity; got an empty sequence. "
            "Pass `get=None` to have them all."
        )
    names = tuple(g.lower() for g in get)
    if len(set(names)) < len(names):
        raise ValueError(
            f"every name in `get` must be different; got {tuple(get)!r}. "
            "Drop the repeated one."
        )
    return names, False


@cache
def _namedtuple_class(typename: str, names: tuple[str, ...]) -> Any:
    return namedtuple(typename, names)


def select_each(typename: str, trees: dict[str, Any], get: Get) -> Any:
    """Pick `get` out of trees of arrays, leaf by leaf.

    Args:
        typename: See `select`.
        trees: Every quantity there is, by its name; trees of one structure.
        get: See `canonicalize_get`.

    Returns:
        A tree of that structure, whose leaves are what `select` returns.
    """

    def pick(*leaves: Any) -> Any:
        return select(typename, dict(zip(trees, leaves, strict=True)), get)

    return jax.tree.map(pick, *trees.values())


def select(typename: str, values: dict[str, Any], get: Get) -> Any:
    """Pick `get` out of `values`: an array for a string, else a namedtuple.

    Args:
        typename: Name of the namedtuple class, such as ``"AnalyticKernel"``.
        values: Every quantity there is, by its name.
        get: See `canonicalize_get`; None picks all of `values`.

    Raises:
        ValueError: If a name is not among `values`.
    """
    names, is_single = canonicalize_get(get)
    if names is None:
        names = tuple(values)
    for name in names:
        if name not in values:
            raise ValueError(
                f"`get` must name some of {', '.join(map(repr, values))}; "
                f"got {name!r}. Correct the name."
            )
    if is_single:
        return values[names[0]]
    return _namedtuple_class(typename, names)(*(values[name] for name in names))
