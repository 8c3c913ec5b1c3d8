"""Scripts written for JAX MD 0.2.x find their names, with parameters in their order.

`data/upstream_names.json` holds the public names of the modules of the engine, with the
parameters of functions and the fields and methods of classes. What is not carried
stands in `data/not_carried.txt`, so that neither losing a name nor gaining one goes
unseen. After either, and a look at the difference::

    PYTHONPATH=. python tests/test_upstream_names.py

writes the list anew.
"""

import importlib
import importlib.util
import inspect
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

DATA = Path(__file__).parent / "data"
UPSTREAM = json.loads((DATA / "upstream_names.json").read_text())
LIST = DATA / "not_carried.txt"
HEAD = "# Public names of JAX MD 0.2.x that the modules here do not have.\n"


def ours(module: str) -> Any:
    if importlib.util.find_spec(f"jax_md.{module}") is None:
        return None
    return importlib.import_module(f"jax_md.{module}")


def missing() -> Iterator[str]:
    for module, names in UPSTREAM.items():
        home = ours(module)
        for name, entry in names.items():
            value = getattr(home, name, None)
            # A file of that name is no function of that name.
            if value is None or inspect.ismodule(value):
                yield f"{module}.{name}"
                continue
            fields = set(getattr(value, "__dataclass_fields__", ()))
            for member in entry.get("members", ()):
                if member not in fields and not hasattr(value, member):
                    yield f"{module}.{name}.{member}"


def test_what_is_not_carried_is_listed():
    listed = {x for x in LIST.read_text().split("\n") if x and x[0] != "#"}
    found = set(missing())
    assert not found - listed, f"lost: {sorted(found - listed)}"
    assert not listed - found, f"carried by now: {sorted(listed - found)}"


FUNCTIONS = [
    pytest.param(module, name, id=f"{module}.{name}")
    for module, names in UPSTREAM.items()
    for name, entry in names.items()
    if "positional" in entry and callable(getattr(ours(module), name, None))
]


@pytest.mark.parametrize(("module", "name"), FUNCTIONS)
def test_parameters(module, name):
    entry = UPSTREAM[module][name]
    signature = inspect.signature(getattr(ours(module), name))
    kinds = {p.name: p.kind for p in signature.parameters.values()}
    positional = [
        p.name
        for p in signature.parameters.values()
        if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
    ]
    assert positional[: len(entry["positional"])] == entry["positional"]
    # What follows is ours: it must not be needed by a call that upstream takes.
    for extra in positional[len(entry["positional"]) :]:
        assert signature.parameters[extra].default is not inspect.Parameter.empty
    stars = {kind.name for kind in kinds.values() if kind.name.startswith("VAR")}
    assert stars >= set(entry.get("star", ()))
    if "VAR_KEYWORD" not in stars:
        assert kinds.keys() >= set(entry.get("keyword", ()))


if __name__ == "__main__":
    LIST.write_text(HEAD + "\n".join(sorted(missing())) + "\n")
