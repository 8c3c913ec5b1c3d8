"""A module imports only what stands before it, so that no cycle is possible.

Imports are read as text: those inside functions and `TYPE_CHECKING` blocks count too.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "jax_md"

# Left before right, bars only for the eye. The last line is the facade and the modules
# that keep an address of scripts alive; they may import everything.
ORDER = """
    _compat util dataclasses types units | interpolate adjoint wide | space io |
    partition | smap quantity nn | energy reaxff elasticity analysis |
    simulate minimize | rigid_body sampling parallel | training |
    mm_forcefields custom_partition custom_smap test_util colab_tools __init__
"""
RANK = {name: rank for rank, name in enumerate(ORDER.replace("|", " ").split())}


def imports(source: str, parts: tuple[str, ...]) -> Iterator[str]:
    """The top-level modules of jax_md that a file imports.

    Args:
        source: Text of the file.
        parts: Its path inside the package, such as ``("space", "free.py")``.
    """
    folder = ["jax_md", *parts[:-1]]
    for node in ast.walk(ast.parse(source)):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = folder[: len(folder) + 1 - node.level] if node.level else []
            module = [*base, *([node.module] if node.module else [])]
            names = [".".join([*module, alias.name]) for alias in node.names]
        elif isinstance(node, ast.Call):
            called = ast.unparse(node.func).rpartition(".")[2]
            if called == "import_module" and isinstance(node.args[0], ast.Constant):
                names = [str(node.args[0].value)]
        for name in names:
            root, _, rest = name.partition(".")
            if root == "jax_md":
                yield rest.partition(".")[0] or "__init__"


def upward_imports(source: str, parts: tuple[str, ...]) -> list[str]:
    home = parts[0].removesuffix(".py")
    return [
        target
        for target in imports(source, parts)
        if target != home and RANK.get(target, len(RANK)) >= RANK[home]
    ]


FILES = sorted(path.relative_to(PACKAGE).parts for path in PACKAGE.rglob("*.py"))


def test_every_module_has_a_place():
    unplaced = {parts[0].removesuffix(".py") for parts in FILES} - set(RANK)
    assert not unplaced, f"give these a place in ORDER: {sorted(unplaced)}"


@pytest.mark.parametrize("home", [name for name in RANK if name != "__init__"])
def test_no_upward_import(home):
    upward = [
        f"jax_md/{'/'.join(parts)} imports {target}"
        for parts in FILES
        if parts[0].removesuffix(".py") == home
        for target in upward_imports((PACKAGE.joinpath(*parts)).read_text(), parts)
    ]
    assert not upward, "\n".join(upward)


def test_nothing_private_of_jax():
    private = [
        "/".join(parts)
        for parts in FILES
        if any(
            name.startswith("jax._src")
            for node in ast.walk(ast.parse(PACKAGE.joinpath(*parts).read_text()))
            for name in (
                [node.module or ""]
                if isinstance(node, ast.ImportFrom)
                else [alias.name for alias in node.names]
                if isinstance(node, ast.Import)
                else []
            )
        )
    ]
    assert not private


@pytest.mark.parametrize(
    ("source", "parts", "found"),
    [
        ("from jax_md import energy", ("space", "free.py"), ["energy"]),
        ("from jax_md.energy import x", ("space", "free.py"), ["energy"]),
        ("import jax_md.energy.yukawa", ("space", "free.py"), ["energy"]),
        ("from ..energy import x", ("space", "free.py"), ["energy"]),
        ("from .. import energy", ("space", "free.py"), ["energy"]),
        ("from ...energy import x", ("energy", "a", "b.py"), []),
        ("from ...simulate import x", ("energy", "a", "b.py"), ["simulate"]),
        ("from .box import inverse", ("space", "free.py"), []),
        ("from jax_md import util, types", ("space", "free.py"), []),
        ("import jax_md", ("space", "free.py"), ["__init__"]),
        ("from jax_md import space as s", ("util.py",), ["space"]),
        ("def f():\n    from jax_md import smap", ("space", "free.py"), ["smap"]),
        ("if TYPE_CHECKING:\n    import jax_md.nn", ("space", "a.py"), ["nn"]),
        ("importlib.import_module('jax_md.nn')", ("space", "free.py"), ["nn"]),
        ("from jax_md import unheard_of", ("space", "free.py"), ["unheard_of"]),
    ],
)
def test_the_reader_of_imports(source, parts, found):
    assert upward_imports(source, parts) == found
