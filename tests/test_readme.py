"""The examples of the README run as they stand, and its files exist."""

import re
from pathlib import Path

import jax.numpy as jnp

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()


def test_python_blocks_run(capsys):
    names: dict = {}
    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    for block in blocks:
        exec(compile(block, "README.md", "exec"), names)
    printed = capsys.readouterr().out
    assert "1,000 (to step 1,000)" in printed
    assert jnp.all(jnp.isfinite(names["end"].state.position))
    assert jnp.all(jnp.isfinite(names["forces"]))
    assert len(blocks[0].strip().splitlines()) <= 16


def test_files_and_targets_exist():
    for path in re.findall(r"\]\(([^)#]+)\)", README):
        assert path.startswith("http") or (ROOT / path).exists(), path
    for path in re.findall(r"`(partition/\w+\.py)`", README):
        assert (ROOT / "jax_md" / path).exists(), path
    for module in re.findall(r"python -m ([\w.]+)", README):
        assert (ROOT / (module.replace(".", "/") + ".py")).exists(), module
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"`make (\w+)`", README):
        assert f"\n{target}:" in makefile, target
