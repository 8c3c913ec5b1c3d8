"""`import jax_md` is light, and what is public is documented."""

import importlib
import importlib.util
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import jax_md
from jax_md._compat import BROKEN_JAX, warn_if_broken_jax

ROOT = Path(__file__).resolve().parents[1]
OPTIONAL = set(
    "flax optax orbax ase h5py tqdm rich matplotlib scipy beartype haiku jraph".split()
)
CORE = (
    "space partition smap quantity energy simulate minimize interpolate units".split()
)


def has(module: str) -> bool:
    return importlib.util.find_spec(f"jax_md.{module}") is not None


def loaded_by(statements: str) -> set[str]:
    """Which optional packages a fresh interpreter holds after some statements."""
    program = f"{statements}; import sys; print(*({OPTIONAL} & sys.modules.keys()))"
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    return set(run.stdout.split())


def test_import_is_light():
    core = ", ".join(name for name in CORE if has(name))
    assert not loaded_by(f"import jax_md; from jax_md import {core}")


def test_modules_load_on_first_use():
    program = (
        "import sys, jax_md; assert 'jax_md.space' not in sys.modules; "
        "jax_md.space.free(); assert 'jax_md.space' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)
    assert "space" in dir(jax_md)
    with pytest.raises(AttributeError, match="no_such_module"):
        _ = jax_md.no_such_module


def test_broken_releases_of_jax_are_named():
    for release, reason in BROKEN_JAX.items():
        with pytest.warns(RuntimeWarning) as caught:
            warn_if_broken_jax(release)
        assert reason in str(caught[0].message)
    warn_if_broken_jax("0.10.1")  # warnings are errors here
    pyproject = (ROOT / "pyproject.toml").read_text()
    assert all(f"!={release}" in pyproject for release in BROKEN_JAX)


def public_objects():
    for info in pkgutil.walk_packages(jax_md.__path__, "jax_md."):
        if any(part.startswith("_") for part in info.name.split(".")):
            continue
        try:
            module = importlib.import_module(info.name)
        except ImportError as error:
            if (error.name or "").partition(".")[0] in OPTIONAL:
                continue
            raise
        yield info.name, module
        for name, value in vars(module).items():
            home = getattr(value, "__module__", None) or ""
            ours = home.partition(".")[0] == "jax_md"
            if callable(value) and ours and not name.startswith("_"):
                yield f"{info.name}.{name}", value


@pytest.mark.extra
def test_every_public_name_has_a_docstring():
    bare = []
    for name, value in public_objects():
        doc = (value.__doc__ or "").strip()
        # Dataclasses and named tuples come with their signature as a docstring.
        if not doc or doc.startswith(f"{getattr(value, '__name__', '')}("):
            bare.append(name)
    assert not bare, "\n".join(bare)
