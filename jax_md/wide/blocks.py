"""What `batch` cuts into blocks, and how the results of blocks join.

A problem is the tuple ``(pairs, rows, columns, keys, args, shared)``: arrays over pairs
of samples (of a `Kernel` put in), over the first samples, over the second, random keys
of both, and what every block is given whole.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .kernel import Kernel

# How the field of a kernel grows with the data: with both sets, with one, or not.
FIELD_KINDS = {
    "nngp": "pair",
    "ntk": "pair",
    "cov1": "row",
    "cov2": "column",
    "mask1": "row",
    "mask2": "column",
    "x1_is_x2": "flag",
}
N_GROUPS = 6


def is_array(x: Any) -> bool:
    """Whether `x` is an argument of the compiled program, and not a part of it."""
    return isinstance(x, jax.Array | np.ndarray)


def is_kernel(x: Any) -> bool:
    """Whether `x` is a `Kernel`."""
    return isinstance(x, Kernel)


def is_record(x: Any) -> bool:
    """Whether `x` has named fields of a kernel."""
    return is_kernel(x) or hasattr(x, "_fields")


# Cutting


def cut(tree: Any, index: Any, size: int) -> Any:
    """Return the samples of one block; scalars and other values stay."""

    def one(x: Any) -> Any:
        if not is_array(x) or x.ndim == 0:
            return x
        return jax.lax.dynamic_slice_in_dim(x, index * size, size)

    return jax.tree.map(one, tree)


def cut_pairs(pairs: Any, i: Any, size1: int, j: Any, size2: int) -> Any:
    """Return the block of every array over pairs."""

    def one(x: Any) -> Any:
        if not is_array(x) or x.ndim == 0:
            return x
        x = jax.lax.dynamic_slice_in_dim(x, i * size1, size1, 0)
        return jax.lax.dynamic_slice_in_dim(x, j * size2, size2, 1)

    return jax.tree.map(one, pairs)


def count(x: Any) -> int:
    """Return the number of samples in the input of one side.

    Raises:
        ValueError: If there is not one number.
    """
    sizes = {a.shape[0] for a in jax.tree.leaves(x) if is_array(a) and a.ndim}
    if len(sizes) != 1:
        raise ValueError(
            "all inputs must hold the same number of samples along axis 0; got "
            f"{sorted(sizes)}."
        )
    return sizes.pop()


def split_kernels(kernels: Any) -> tuple[Any, Any, Any, bool]:
    """Take a tree of kernels apart.

    Returns:
        ``(pairs, rows, columns, same)``: the kernels with only their arrays over pairs,
        what belongs to the first and to the second samples, and whether these are the
        same.

    Raises:
        NotImplementedError: If a kernel holds covariances between different samples.
        ValueError: If samples are not along axis 0.
    """
    leaves = jax.tree.leaves(kernels, is_leaf=is_kernel)
    if not all(kernel.diagonal_batch for kernel in leaves):
        raise NotImplementedError(
            "a `Kernel` with `diagonal_batch=False` holds covariances between all "
            "samples of a set, which do not divide into blocks."
        )
    if any(kernel.batch_axis != 0 for kernel in leaves):
        raise ValueError(
            "`batch` needs samples along axis 0; got a `Kernel` with another "
            "`batch_axis`."
        )
    same = all(kernel.cov2 is None for kernel in leaves)
    rows = [(kernel.cov1, kernel.mask1) for kernel in leaves]
    columns = [
        (kernel.cov1, kernel.mask1)
        if kernel.cov2 is None
        else (kernel.cov2, kernel.mask2)
        for kernel in leaves
    ]
    pairs = jax.tree.map(
        lambda k: k.replace(cov1=None, cov2=None, mask1=None, mask2=None),
        kernels,
        is_leaf=is_kernel,
    )
    return pairs, rows, columns, same


def join_kernels(pairs: Any, rows: Any, columns: Any) -> Any:
    """Undo `split_kernels`, for one block."""
    leaves, structure = jax.tree.flatten(pairs, is_leaf=is_kernel)
    blocks = [
        kernel.replace(
            cov1=cov1,
            cov2=cov2,
            mask1=mask1,
            mask2=mask2,
            shape1=resized(kernel.shape1, 0, cov1.shape[0]),
            shape2=resized(kernel.shape2, 0, cov2.shape[0]),
        )
        for kernel, (cov1, mask1), (cov2, mask2) in zip(
            leaves, rows, columns, strict=True
        )
    ]
    return jax.tree.unflatten(structure, blocks)


def resized(shape: Sequence[int], axis: int, size: int) -> tuple[int, ...]:
    """Return `shape` with another size along one axis."""
    return (*shape[:axis], size, *shape[axis + 1 :])


# Arrays are traced; everything else is part of the program


def partition(tree: Any) -> tuple[list[Any], Any]:
    """Split a tree into its arrays and a hashable rest."""
    leaves, structure = jax.tree.flatten(tree)
    rest = tuple(None if is_array(leaf) else (type(leaf), leaf) for leaf in leaves)
    return [leaf for leaf in leaves if is_array(leaf)], (structure, rest)


def combine(arrays: Sequence[Any], static: Any) -> Any:
    """Undo `partition`."""
    structure, rest = static
    supply = iter(arrays)
    leaves = [next(supply) if value is None else value[1] for value in rest]
    return jax.tree.unflatten(structure, leaves)


def row_arrays(problem: Any) -> list[bool]:
    """Say of each array of a problem whether its axis 0 runs over the first samples."""
    along = []
    for group in range(N_GROUPS):
        for leaf in jax.tree.leaves(problem[group]):
            if is_array(leaf):
                along.append(group < 2 and leaf.ndim > 0)
    return along


# Results


class Layout(NamedTuple):
    """The result of one block without its arrays.

    Attributes:
        kinds: How each array grows: over ``"pair"``, ``"row"`` or ``"column"``, not at
            all (``"once"``), or as the ``"flag"`` that both inputs are the same.
        static: What `combine` needs to put arrays back.
        ndims: Number of axes of each array.
    """

    kinds: tuple[str, ...]
    static: Any
    ndims: tuple[int, ...]


def describe(out: Any, get: Any) -> tuple[list[Any], Layout]:
    """Return the arrays of the result of one block, and the rest of it."""
    arrays, static = partition(out)
    kinds = [
        kind if kind == "flag" or leaf.ndim else "once"
        for kind, leaf in zip(
            jax.tree.leaves(_kinds(out, get)), jax.tree.leaves(out), strict=True
        )
        if is_array(leaf)
    ]
    arrays = [jnp.asarray(leaf) for leaf in arrays]
    return arrays, Layout(tuple(kinds), static, tuple(leaf.ndim for leaf in arrays))


def _kinds(out: Any, get: Any) -> Any:
    def fill(name: str, value: Any) -> Any:
        return jax.tree.map(lambda _: FIELD_KINDS.get(name, "pair"), value)

    def of(node: Any) -> Any:
        if is_kernel(node):
            names = FIELD_KINDS
            return node.replace(**{n: fill(n, getattr(node, n)) for n in names})
        if hasattr(node, "_fields"):
            return type(node)(*(fill(n, getattr(node, n)) for n in node._fields))
        return "pair"

    if isinstance(get, str):
        return fill(get.lower(), out)
    return jax.tree.map(of, out, is_leaf=is_record)


def joined_shape(kind: str, block: Any, grid: tuple[int, int]) -> tuple[int, ...]:
    """Return the shape of an array joined of a grid of blocks."""
    along = {"pair": grid, "row": grid[:1], "column": grid[1:]}.get(kind, ())
    n = len(along)
    sizes = tuple(k * size for k, size in zip(along, block.shape[:n], strict=True))
    return (*sizes, *block.shape[n:])


def put(kind: str, joined: jax.Array, block: jax.Array, i: Any, j: Any) -> jax.Array:
    """Write one block of an array where it belongs."""
    place = {"pair": (i, j), "row": (i,), "column": (j,)}.get(kind, ())
    starts = [k * size for k, size in zip(place, block.shape, strict=False)]
    starts += [0] * (block.ndim - len(starts))
    return jax.lax.dynamic_update_slice(joined, block, starts)


def join_on_host(kind: str, grid: list[list[np.ndarray]]) -> np.ndarray:
    """Join blocks of one array in the host's memory."""
    if kind == "pair":
        return np.concatenate([np.concatenate(row, axis=1) for row in grid])
    if kind == "row":
        return np.concatenate([row[0] for row in grid])
    if kind == "column":
        return np.concatenate(grid[0])
    return grid[0][0]


def correct(result: Any, get: Any, n1: int, n2: int, same: bool) -> Any:
    """Set what a block could not know: the whole shapes, and that there is one set."""

    def one(name: str, value: Any, axis: int = 0) -> Any:
        if name == "cov2" and same:
            return None
        if name in ("shape1", "shape2"):
            return resized(tuple(value), axis, n1 if name == "shape1" else n2)
        return value

    def of(node: Any) -> Any:
        if is_kernel(node):
            names = ("cov2", "shape1", "shape2")
            axis = node.batch_axis
            return node.replace(**{n: one(n, getattr(node, n), axis) for n in names})
        if hasattr(node, "_fields"):
            return type(node)(*(one(n, getattr(node, n)) for n in node._fields))
        return node

    if isinstance(get, str):
        return one(get.lower(), result)
    return jax.tree.map(of, result, is_leaf=is_record)
