"""Checkpoints: any tree of arrays in one file that is either whole or not there.

A checkpoint is an uncompressed ``.npz`` archive with one array a leaf (``leaf_0`` ...)
and a JSON text ``structure`` that holds the path, kind and dtype of every leaf and what
the caller wants to remember. Nothing is pickled, so reading one runs no code. A new
checkpoint is written beside the old one, forced to disk and renamed over it, so that
a process that is killed at any moment leaves the last whole one.
"""

import io as std_io
import json
import os
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

FORMAT = "jax_md checkpoint"
VERSION = 1


class Checkpoint(NamedTuple):
    """What `load_checkpoint` returns."""

    tree: Any
    meta: dict[str, Any]


def save_checkpoint(
    path: str | Path, tree: Any, *, keep_previous: bool = True, **meta: Any
) -> None:
    """Write a tree of arrays to a file, atomically.

    Args:
        path: The file. An existing one is replaced in one step.
        tree: Any pytree whose leaves are arrays of any dtype (bfloat16 and typed PRNG
            keys included) or Python numbers, booleans or strings.
        keep_previous: Whether the file that is replaced stays under the name
            ``path + ".previous"``.
        **meta: What else to remember; JSON values.

    Raises:
        TypeError: If a leaf is of another kind, naming it, or `meta` is not JSON.
        FileNotFoundError: If the folder does not exist.
    """
    path = Path(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"the folder {path.parent} of `path` does not exist.")
    leaves, arrays = [], {}
    for number, (keys, leaf) in enumerate(jax.tree_util.tree_leaves_with_path(tree)):
        entry = {"path": [_key(k) for k in keys]}
        array = _describe(leaf, entry, jax.tree_util.keystr(keys))
        if array is not None:
            arrays[f"leaf_{number}"] = array
        leaves.append(entry)
    try:
        text = json.dumps(
            {"format": FORMAT, "version": VERSION, "leaves": leaves, "meta": meta}
        )
    except TypeError as error:
        raise TypeError(
            f"`meta` must hold JSON values (numbers, strings, lists, dicts): {error}. "
            "Put arrays into `tree`."
        ) from error
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with open(temporary, "wb") as file:
            np.savez(file, structure=np.frombuffer(text.encode(), np.uint8), **arrays)
            file.flush()
            os.fsync(file.fileno())
        if keep_previous and path.exists():
            _keep(path)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    _sync_folder(path.parent)


def load_checkpoint(path: str | Path, like: Any = None) -> Checkpoint:
    """Read what `save_checkpoint` wrote.

    Args:
        path: The file.
        like: A tree of the structure that was saved, such as a freshly made initial
            state; values are ignored. Without it, nested dictionaries and lists are
            returned: attributes become keys, tuples become lists.

    Returns:
        ``(tree, meta)``, arrays being JAX arrays on the default device.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is truncated, no checkpoint, or does not fit `like`; then the
            leaf is named.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"`path` must name a checkpoint; {path} is no file.")
    structure, leaves = _read(path)
    if like is None:
        return Checkpoint(_nested(structure["leaves"], leaves), structure["meta"])
    wanted, treedef = jax.tree_util.tree_flatten_with_path(like)
    _check_paths(path, [e["path"] for e in structure["leaves"]], wanted)
    for (keys, leaf), entry, value in zip(
        wanted, structure["leaves"], leaves, strict=True
    ):
        _check_leaf(path, jax.tree_util.keystr(keys), leaf, entry, value)
    return Checkpoint(treedef.unflatten(leaves), structure["meta"])


def _keep(path: Path) -> None:
    # A second name first and then a rename, so that `path` exists at every moment.
    link = path.with_name(f".{path.name}.{os.getpid()}.link")
    link.unlink(missing_ok=True)
    try:
        os.link(path, link)
    except OSError:  # a file system without hard links
        return
    os.replace(link, path.with_name(path.name + ".previous"))


def _sync_folder(folder: Path) -> None:
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:  # Windows opens no folders
        return
    try:
        os.fsync(descriptor)
    except OSError:
        pass
    finally:
        os.close(descriptor)


def _key(key: Any) -> list:
    for name in ("key", "idx", "name"):
        if hasattr(key, name):
            value = getattr(key, name)
            return [name, value if isinstance(value, int | str) else str(value)]
    return ["key", str(key)]


def _show(path: list) -> str:
    return "".join(f".{v}" if kind == "name" else f"[{v!r}]" for kind, v in path)


def _is_key(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array) and jnp.issubdtype(
        leaf.dtype, jax.dtypes.prng_key
    )


def _describe(leaf: Any, entry: dict, name: str) -> np.ndarray | None:
    """Fill in `entry` and return the array to store, if it is one."""
    if leaf is None or isinstance(leaf, bool | int | float | str):
        entry |= {"kind": "python", "value": leaf}
        return None
    if _is_key(leaf):
        entry |= {"kind": "key", "impl": str(jax.random.key_impl(leaf))}
        return np.asarray(jax.random.key_data(leaf))
    if not isinstance(leaf, jax.Array | np.ndarray | np.generic):
        raise TypeError(
            f"leaf `{name or 'tree'}` must be an array, a number or a string; got "
            f"{type(leaf).__name__}. Make it a static field or leave it out."
        )
    array = np.asarray(leaf)
    if array.dtype.kind not in "biufcV" or array.dtype.names:
        raise TypeError(f"leaf `{name}` has dtype {array.dtype}; expected numbers.")
    entry |= {"kind": "array", "dtype": array.dtype.name}
    if getattr(leaf, "weak_type", False) and array.ndim == 0:
        entry["weak"] = True
    if array.dtype.kind == "V":  # bfloat16, float8 ...: npy would lose the name
        array = np.ascontiguousarray(array).view(f"u{array.dtype.itemsize}")
    return array


def _read(path: Path) -> tuple[dict, list]:
    foreign = f"{path} is no checkpoint of `save_checkpoint`, or is truncated"
    try:
        with zipfile.ZipFile(path) as archive:
            raw = {
                name.removesuffix(".npy"): np.lib.format.read_array(
                    std_io.BytesIO(archive.read(name)), allow_pickle=False
                )
                for name in archive.namelist()
            }
        structure = json.loads(raw.pop("structure").tobytes())
        if structure["format"] != FORMAT:
            raise ValueError(f"its format is {structure['format']!r}")
        if structure["version"] > VERSION:
            raise ValueError(f"its version {structure['version']} is newer than known")
        leaves = [
            _restore(entry, raw.get(f"leaf_{number}"))
            for number, entry in enumerate(structure["leaves"])
        ]
    except (zipfile.BadZipFile, KeyError, ValueError, TypeError, EOFError) as error:
        previous = path.with_name(path.name + ".previous")
        hint = f" {previous} holds the one before." if previous.is_file() else ""
        raise ValueError(
            f"{foreign} ({type(error).__name__}: {error}).{hint}"
        ) from error
    return structure, leaves


def _restore(entry: dict, array: np.ndarray | None) -> Any:
    if entry["kind"] == "python":
        return entry["value"]
    if array is None:
        raise ValueError(f"no data for leaf `{_show(entry['path'])}`")
    if entry["kind"] == "key":
        return jax.random.wrap_key_data(jnp.asarray(array), impl=_impl(entry["impl"]))
    dtype = jnp.dtype(entry["dtype"])
    array = array.view(dtype) if dtype.kind == "V" else array
    if jax.dtypes.canonicalize_dtype(dtype) != dtype:
        raise ValueError(
            f"leaf `{_show(entry['path'])}` has dtype {dtype}; set `jax_enable_x64` "
            "to read it"
        )
    if entry.get("weak"):  # weak types promote differently: the bits depend on them
        weak = jnp.asarray(array.item())
        if weak.dtype == dtype:
            return weak
    return jnp.asarray(array)


def _impl(name: str) -> str:
    return name if name in ("rbg", "unsafe_rbg", "threefry2x32") else name.split("'")[1]


def _check_paths(path: Path, saved: list[list], wanted: list) -> None:
    ours = [[_key(k) for k in keys] for keys, _ in wanted]
    if ours == saved:
        return
    missing = [_show(p) for p in ours if p not in saved]
    extra = [_show(p) for p in saved if p not in ours]
    raise ValueError(
        f"{path} holds a tree of another structure than `like`. Only in `like`: "
        f"{', '.join(missing) or 'nothing'}; only in the file: "
        f"{', '.join(extra) or 'nothing'}."
    )


def _check_leaf(path: Path, name: str, leaf: Any, entry: dict, value: Any) -> None:
    if isinstance(leaf, bool | int | float | str) or entry["kind"] == "python":
        # A Python number comes back from a compiled function as a scalar array.
        if isinstance(leaf, str) or jnp.shape(value) == jnp.shape(leaf):
            return
    wanted, got = _kind(leaf), _kind(value)
    if wanted != got:
        raise ValueError(
            f"leaf `{name}` of {path} is {got}; `like` expects {wanted}. Was it made "
            "by another system or with other options?"
        )


def _kind(leaf: Any) -> str:
    if isinstance(leaf, str) or leaf is None:
        return type(leaf).__name__
    dtype = leaf.dtype if hasattr(leaf, "dtype") else jnp.result_type(leaf)
    return f"{dtype}{list(jnp.shape(leaf))}"


def _nested(entries: list[dict], leaves: list) -> Any:
    root: dict = {}
    for entry, leaf in zip(entries, leaves, strict=True):
        node = root
        keys = [("tree", "tree"), *map(tuple, entry["path"])]
        for key in keys[:-1]:
            node = node.setdefault(key, {})
        node[keys[-1]] = leaf
    return _plain(root.get(("tree", "tree"), {}))


def _plain(node: Any) -> Any:
    if not isinstance(node, dict):
        return node
    if node and all(kind == "idx" for kind, _ in node):
        # An index that holds nothing (None in a tuple) has no leaf.
        size = 1 + max(index for _, index in node)
        return [_plain(node.get(("idx", i))) for i in range(size)]
    return {key: _plain(child) for (_, key), child in node.items()}
