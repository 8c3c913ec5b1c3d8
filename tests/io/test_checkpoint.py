import os
import signal
import subprocess
import sys
import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_md import dataclasses, io


@dataclasses.dataclass
class State:
    position: Any
    rng: Any
    name: str = dataclasses.static_field(default="ensemble")


class Pair(NamedTuple):
    first: Any
    second: Any


def tree():
    return {
        "state": State(jnp.arange(6.0).reshape(3, 2), jax.random.key(3)),
        "pair": Pair([1, 2.5, None, True], jnp.asarray(0.1)),
        "half": jnp.asarray([1.5, -2.0], jnp.bfloat16),
        "eighth": jnp.asarray([1.5, -2.0], jnp.float8_e4m3fn),
        "raw key": jax.random.PRNGKey(7),
        "flags": np.array([True, False]),
        "empty": jnp.zeros((0, 3), jnp.int32),
        "complex": jnp.asarray([1 + 2j], jnp.complex64),
        "word": "a word",
        "rbg": jax.random.key(1, impl="rbg"),
    }


def test_round_trip_keeps_every_bit_and_kind(tmp_path):
    saved = tree()
    io.save_checkpoint(tmp_path / "c.npz", saved, step=12, note={"kT": [0.5]})
    loaded, meta = io.load_checkpoint(tmp_path / "c.npz", like=saved)
    assert meta == {"step": 12, "note": {"kT": [0.5]}}
    assert jax.tree.structure(loaded) == jax.tree.structure(saved)
    for a, b in zip(jax.tree.leaves(saved), jax.tree.leaves(loaded), strict=True):
        if not hasattr(a, "dtype"):
            assert type(a) is type(b) and a == b
            continue
        assert a.dtype == b.dtype and a.shape == b.shape
        if jnp.issubdtype(a.dtype, jax.dtypes.prng_key):
            assert jax.random.key_impl(a) == jax.random.key_impl(b)
            a, b = jax.random.key_data(a), jax.random.key_data(b)
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes()
    assert jax.random.uniform(loaded["state"].rng) == jax.random.uniform(
        saved["state"].rng
    )
    assert loaded["pair"].second.weak_type
    assert not loaded["half"].weak_type


def test_without_like_it_is_plain(tmp_path):
    io.save_checkpoint(tmp_path / "c.npz", tree())
    plain = io.load_checkpoint(tmp_path / "c.npz").tree
    np.testing.assert_array_equal(plain["state"]["position"], [[0, 1], [2, 3], [4, 5]])
    assert plain["pair"]["first"] == [1, 2.5, None, True]
    io.save_checkpoint(tmp_path / "a.npz", jnp.ones(2))
    assert io.load_checkpoint(tmp_path / "a.npz").tree.shape == (2,)


def test_mismatch_names_the_leaf(tmp_path):
    path = tmp_path / "c.npz"
    io.save_checkpoint(path, tree())
    other = tree()
    other["state"] = other["state"].set(position=jnp.zeros((4, 2)))
    with pytest.raises(ValueError, match=r"\['state'\]\.position.*\[3, 2\].*\[4, 2\]"):
        io.load_checkpoint(path, like=other)
    other = tree()
    other["half"] = other["half"].astype(jnp.float32)
    with pytest.raises(ValueError, match=r"\['half'\].*bfloat16.*float32"):
        io.load_checkpoint(path, like=other)
    other = tree() | {"chain": jnp.ones(3)}
    del other["half"]
    with pytest.raises(ValueError, match=r"\['chain'\]; only in the file: \['half'\]"):
        io.load_checkpoint(path, like=other)


def test_float64_needs_x64(tmp_path):
    io.save_checkpoint(tmp_path / "c.npz", {"x": np.ones(2)})
    with jax.enable_x64(False):
        with pytest.raises(ValueError, match=r"\['x'\].*jax_enable_x64"):
            io.load_checkpoint(tmp_path / "c.npz")
    with jax.enable_x64(True):
        assert io.load_checkpoint(tmp_path / "c.npz").tree["x"].dtype == np.float64


def test_broken_and_foreign_files(tmp_path):
    path = tmp_path / "c.npz"
    with pytest.raises(FileNotFoundError, match="is no file"):
        io.load_checkpoint(path)
    io.save_checkpoint(path, tree())
    whole = path.read_bytes()
    for size in (0, 1, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(ValueError, match="truncated"):
            io.load_checkpoint(path)
    flipped = bytearray(whole)
    data = np.asarray(tree()["state"].position).tobytes()
    flipped[whole.index(data) + 9] ^= 255  # caught by the archive's checksum
    path.write_bytes(flipped)
    with pytest.raises(ValueError, match="truncated"):
        io.load_checkpoint(path)
    np.savez(path, x=np.ones(3))
    with pytest.raises(ValueError, match="is no checkpoint"):
        io.load_checkpoint(path)
    np.savez(path, x=np.array([{}], dtype=object))  # would run code if unpickled
    with pytest.raises(ValueError, match="is no checkpoint"):
        io.load_checkpoint(path)


def test_previous_is_kept(tmp_path):
    path = tmp_path / "c.npz"
    for step in range(3):
        io.save_checkpoint(path, jnp.ones(2) * step, step=step)
    assert io.load_checkpoint(path).meta["step"] == 2
    assert io.load_checkpoint(tmp_path / "c.npz.previous").meta["step"] == 1
    path.write_bytes(b"")
    with pytest.raises(ValueError, match="previous holds the one before"):
        io.load_checkpoint(path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["c.npz", "c.npz.previous"]


def test_errors_of_save(tmp_path):
    with pytest.raises(TypeError, match=r"\['f'\].*function"):
        io.save_checkpoint(tmp_path / "c.npz", {"f": lambda: 0})
    with pytest.raises(TypeError, match="`meta`"):
        io.save_checkpoint(tmp_path / "c.npz", {}, x=np.ones(2))
    with pytest.raises(FileNotFoundError, match="folder"):
        io.save_checkpoint(tmp_path / "no" / "c.npz", {})
    assert not list(tmp_path.iterdir())


WRITER = """
import sys, numpy as np
from jax_md import io
step = 0
while True:
    io.save_checkpoint(sys.argv[1], {"x": np.full(400_000, step, np.int32)}, step=step)
    if step == 0:
        print("ready", flush=True)
    step += 1
"""


def test_killed_while_writing(tmp_path):
    path = tmp_path / "c.npz"
    last = -1
    for delay in (0.0, 0.013, 0.031, 0.057):
        child = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path)],
            stdout=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": os.getcwd(), "JAX_PLATFORMS": "cpu"},
        )
        child.stdout.readline()
        time.sleep(delay)
        child.send_signal(signal.SIGKILL)
        child.wait()
        child.stdout.close()
        loaded, meta = io.load_checkpoint(path)
        assert (loaded["x"] == meta["step"]).all()
        last = max(last, meta["step"])
    assert last > 0
