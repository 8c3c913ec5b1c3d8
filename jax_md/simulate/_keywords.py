"""Refusal of misspelt run-time parameters.

A step hands the keywords it does not know to the energy and the space, and those take
any keyword: ``step(state, kt=0.5)`` would run at the old temperature and say nothing.
"""

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

# Keywords of energies and spaces: never taken for a misspelt parameter of a step.
KNOWN = frozenset(
    "alpha box charge epsilon mass mask neighbor new_box perturbation "
    "preconditioner_position sigma species t".split()
)

# What people write for a parameter besides its name, in lower case, underscores gone.
SYNONYMS = {
    "dt": {"timestep", "deltat", "stepsize"},
    "kT": {"temperature", "temp", "kbt"},
    "gamma": {"friction"},
    "pressure": {"press"},
    "step_size": {"learningrate"},
}


def _folded(name: str) -> str:
    return name.lower().replace("_", "")


def _one_edit_apart(a: str, b: str) -> bool:
    """Whether one insertion, deletion, exchange or swap of letters turns a into b."""
    if len(a) > len(b):
        a, b = b, a
    start = next((i for i, (x, y) in enumerate(zip(a, b)) if x != y), len(a))  # noqa: B905
    rest_a, rest_b = a[start:], b[start:]
    if len(a) < len(b):
        return rest_a == rest_b[1:]
    swapped = rest_a[1::-1] + rest_a[2:]
    return rest_a[1:] == rest_b[1:] or swapped == rest_b


def _explicit_parameters(fns: Iterable[Callable]) -> set[str]:
    names: set[str] = set()
    for fn in fns:
        try:
            parameters = inspect.signature(fn).parameters.values()
        except (TypeError, ValueError):  # builtins, trees of functions
            continue
        names |= {p.name for p in parameters if p.kind is not p.VAR_KEYWORD}
    return names


def refuse_unknown(factory: str, options: Mapping[str, Any]) -> None:
    """Raise if a factory was given options that it does not have.

    Factories accept any keyword to keep the signature that scripts know them by.

    Args:
        factory: Name of the factory.
        options: The keywords left over.

    Raises:
        TypeError: Naming the options.
    """
    if options:
        names = ", ".join(f"`{name}`" for name in options)
        raise TypeError(
            f"`simulate.{factory}` has no option {names}. Keywords of the energy and "
            "the space go to the functions it returns, `init` and `step`."
        )


def refuse_lookalikes(
    kwargs: Mapping[str, Any], *names: str, fns: Iterable[Callable] = ()
) -> None:
    """Raise if a keyword looks like a misspelt run-time parameter.

    A keyword is refused if, apart from case and underscores, it is one of `names`, a
    synonym of one, or (for names of four letters or more) one edit away. Keywords that
    energies and spaces are known to take, and those named in the signature of one of
    `fns`, pass.

    Args:
        kwargs: Keywords on their way to the energy and the space.
        *names: Run-time parameters of the step.
        fns: The functions that will receive them.

    Raises:
        TypeError: Naming the keyword and the parameter it looks like.
    """
    suspects = {}
    for key in kwargs:
        if key in KNOWN:
            continue
        for name in names:
            a, b = _folded(key), _folded(name)
            close = len(b) >= 4 and _one_edit_apart(a, b)
            if a == b or close or a in SYNONYMS.get(name, ()):
                suspects[key] = name
    if not suspects:
        return
    explicit = _explicit_parameters(fns)
    for key, name in suspects.items():
        if key not in explicit:
            raise TypeError(
                f"got the keyword `{key}`; did you mean `{name}`? It would have gone "
                "to the energy and the space unread. If your energy does take "
                f"`{key}`, name it in the signature of the energy function."
            )
