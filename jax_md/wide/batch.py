"""Kernels of large data sets, block by block and across devices.

Rows go to devices by `jax.shard_map`; on each, blocks of rows and columns are computed
one after the other. A block needs the memory of one block only, and of a symmetric
kernel only the blocks on one side of the diagonal are computed.
"""

import math
import warnings
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.sharding import Mesh, PartitionSpec

from . import blocks
from .empirical.arguments import second_input, second_key
from .stax.smoothness import smoothness_of

# Inputs closer than this count as the same, as in `wide.stax`.
SAME_INPUT = 1e-12


def batch(
    kernel_fn: Callable[..., Any],
    batch_size: int = 0,
    device_count: int = -1,
    store_on_device: bool = True,
) -> Callable[..., Any]:
    """Return a function that computes the same kernel block by block.

    Args:
        kernel_fn: ``kernel_fn(x1, x2, *args, **kwargs)``, analytic or empirical, or a
            map of a `Kernel` to a `Kernel`. Samples lie along axis 0.
        batch_size: Rows and columns of a block; 0 for as few blocks as there are
            devices.
        device_count: Number of devices that share the rows; -1 for all local ones, 0
            for the default device alone.
        store_on_device: Whether the result stays on the device; else each block moves
            to the host's memory once it is done.

    Returns:
        A function with the signature of `kernel_fn`. Keyword arguments that are tuples
        of two belong to the two inputs: arrays in them are cut along axis 0 with the
        samples. A single ``rng`` is split so that a sample has one key in all its
        blocks. Everything else goes to each block as it is.

    Raises:
        ValueError: If `batch_size` or `device_count` is out of range; from the function
            returned, if blocks do not divide the data.
        NotImplementedError: From the function returned, where covariances between
            different samples of one set are held (``diagonal_batch=False``).

    Warns:
        UserWarning: From the function returned, if `batch_size` had to be lowered.

    Example:
        >>> import jax.numpy as jnp
        >>> dot = batch(lambda x1, x2: x1 @ (x1 if x2 is None else x2).T, batch_size=2)
        >>> dot(jnp.eye(4), None).shape
        (4, 4)
    """
    if batch_size < 0:
        raise ValueError(f"`batch_size` must not be negative; got {batch_size}.")
    devices = _devices(device_count)
    programs: dict[Any, _Program] = {}

    def batched_fn(x1_or_kernel: Any, x2: Any = None, *args: Any, **kwargs: Any) -> Any:
        x1 = x1_or_kernel
        is_map = any(
            blocks.is_kernel(leaf)
            for leaf in jax.tree.leaves(x1, is_leaf=blocks.is_kernel)
        )
        if is_map:
            pairs, first, second, same = blocks.split_kernels(x1)
        else:
            pairs, first = None, x1
            second, same = second_input(x1, x2)
        if kwargs.get("diagonal_batch") is False:
            raise NotImplementedError(
                "`diagonal_batch=False` asks for covariances between all samples of a "
                "set, which do not divide into blocks. Leave it out."
            )
        n1, n2 = blocks.count(first), blocks.count(second)
        sizes = _block_sizes(n1, n2, batch_size, len(devices))

        keys, shared, cut1, cut2 = {}, {}, {}, {}
        for name, value in kwargs.items():
            if name == "rng" and value is not None:
                keys[name] = _key_pair(value, first, second, same)
            elif isinstance(value, tuple) and len(value) == 2:
                cut1[name], cut2[name] = value
            else:
                shared[name] = value
        problem = (pairs, (first, cut1), (second, cut2), keys, args, shared)
        arrays, static = blocks.partition(problem)
        settings = (static, sizes, same)
        if settings not in programs:
            programs[settings] = _Program(kernel_fn, devices, static, sizes, same)
        program = programs[settings]

        if store_on_device or any(isinstance(a, Tracer) for a in arrays):
            leaves, layout = program(arrays)
        else:
            leaves, layout = _on_host(program, problem, n1, n2)
        leaves = [
            _same_flag(x1, x2, is_map, same) if kind == "flag" else leaf
            for kind, leaf in zip(layout.kinds, leaves, strict=True)
        ]
        get = _requested(args, shared)
        result = blocks.combine(leaves, layout.static)
        # A batch that is passed twice keeps its covariances twice.
        one_set = same if is_map else not jax.tree.leaves(x2)
        return blocks.correct(result, get, n1, n2, one_set)

    batched_fn.smoothness = smoothness_of(kernel_fn)  # type: ignore[attr-defined]
    return batched_fn


class _Program:
    """The compiled computation of all blocks, for one kind of problem."""

    def __init__(
        self,
        kernel_fn: Callable[..., Any],
        devices: list[Any],
        static: Any,
        sizes: tuple[int, int],
        same: bool,
    ):
        self.kernel_fn = kernel_fn
        self.devices = devices
        self.static = static
        self.sizes = sizes
        self.same = same
        self.compiled = jax.jit(self.trace)
        # What results look like is found while tracing, for each set of shapes.
        self.layouts: dict[Any, blocks.Layout] = {}

    def __call__(
        self, arrays: list[Any], row: int = 0, column: int = 0
    ) -> tuple[list[Any], blocks.Layout]:
        leaves = self.compiled(arrays, row, column)
        return leaves, self.layouts[_shapes(arrays)]

    def trace(self, arrays: list[Any], row: Any, column: Any) -> list[Any]:
        """All blocks, on all devices; `row` and `column` number the first ones."""
        share = len(self.devices)
        if share == 1:
            leaves, self.layouts[_shapes(arrays)] = self.local(arrays, row, column)
            return leaves

        by_row, everywhere = PartitionSpec("rows"), PartitionSpec()
        along = blocks.row_arrays(blocks.combine(arrays, self.static))
        found: list[blocks.Layout] = []

        def part(arrays: list[Any], row: Any, column: Any) -> list[Any]:
            before = blocks.count(blocks.combine(arrays, self.static)[1][0])
            before = jax.lax.axis_index("rows") * (before // self.sizes[0])
            return self.local(arrays, row + before, column)[0]

        def probe(arrays: list[Any]) -> list[Any]:
            leaves, layout = self.local(arrays, 0, 0)
            found.append(layout)
            return leaves

        # How results grow decides how they are shared, so it is needed first.
        jax.eval_shape(
            probe,
            [
                a[: a.shape[0] // share] if rows else a
                for a, rows in zip(arrays, along, strict=True)
            ],
        )
        layout = self.layouts[_shapes(arrays)] = found[0]
        mapped = jax.shard_map(
            part,
            mesh=Mesh(np.array(self.devices), ("rows",)),
            in_specs=(
                [by_row if rows else everywhere for rows in along],
                everywhere,
                everywhere,
            ),
            out_specs=[
                by_row if kind in ("pair", "row") else everywhere
                for kind in layout.kinds
            ],
            check_vma=False,
        )
        return mapped(arrays, jnp.asarray(row), jnp.asarray(column))

    def local(
        self, arrays: list[Any], row: Any, column: Any
    ) -> tuple[list[Any], blocks.Layout]:
        """All blocks of the rows of one device."""
        problem = blocks.combine(arrays, self.static)
        size1, size2 = self.sizes
        shape = (
            blocks.count(problem[1][0]) // size1,
            blocks.count(problem[2][0]) // size2,
        )
        found: list[blocks.Layout] = []

        def at(place: Any) -> list[Any]:
            i, j = place
            leaves, layout = self.block(problem, i, j, row, column)
            found.append(layout)
            return leaves

        leaves = jax.eval_shape(at, (0, 0))
        layout = found[0]
        # Where only the two batch axes are left, the mirror image of a block is its
        # transpose. What comes with the inputs may differ between the two.
        mirrored = (
            self.same
            and len(self.devices) == 1
            and not (problem[1][1] or problem[3])
            and shape[0] == shape[1] > 1
            and all(
                n == 2
                for kind, n in zip(layout.kinds, layout.ndims, strict=True)
                if kind == "pair"
            )
        )
        i, j = (
            np.triu_indices(shape[0]) if mirrored else np.indices(shape).reshape(2, -1)
        )
        grid = list(zip(layout.kinds, leaves, strict=True))

        # Blocks are written where they belong: besides the result there is one block.
        def write(joined: list[Any], place: Any) -> tuple[list[Any], None]:
            block = at(place)
            for k, (kind, _) in enumerate(grid):
                if mirrored and kind == "pair":
                    image = jnp.swapaxes(block[k], 0, 1)
                    joined[k] = blocks.put(kind, joined[k], image, *place[::-1])
                joined[k] = blocks.put(kind, joined[k], block[k], *place)
            return joined, None

        empty = [
            jnp.zeros(blocks.joined_shape(*one, shape), one[1].dtype) for one in grid
        ]
        joined, _ = jax.lax.scan(write, empty, (jnp.asarray(i), jnp.asarray(j)))
        return joined, layout

    def block(
        self, problem: Any, i: Any, j: Any, row: Any, column: Any
    ) -> tuple[list[Any], blocks.Layout]:
        """One block."""
        pairs, rows, columns, keys, args, shared = problem
        size1, size2 = self.sizes
        x1, cut1 = blocks.cut(rows, i, size1)
        x2, cut2 = blocks.cut(columns, j, size2)
        kwargs = {name: (cut1[name], cut2[name]) for name in cut1}
        for name, (key1, key2) in keys.items():
            kwargs[name] = (
                jax.random.fold_in(key1, row + i),
                jax.random.fold_in(key2, column + j),
            )
        if pairs is None:
            out = self.kernel_fn(x1, x2, *args, **shared, **kwargs)
        else:
            kernel = blocks.join_kernels(
                blocks.cut_pairs(pairs, i, size1, j, size2), x1, x2
            )
            out = self.kernel_fn(kernel, *args, **shared, **kwargs)
        return blocks.describe(out, _requested(args, shared))


def _on_host(
    program: _Program, problem: Any, n1: int, n2: int
) -> tuple[list[Any], blocks.Layout]:
    """Call the program for one block a device, and join in the host's memory."""
    pairs, rows, columns, *rest = problem
    size1, size2 = program.sizes
    share = len(program.devices)
    grid: list[list[Any]] = []
    layout: Any = None
    for i in range(n1 // (size1 * share)):
        grid.append([])
        for j in range(n2 // size2):
            arrays, _ = blocks.partition(
                (
                    blocks.cut_pairs(pairs, i, size1 * share, j, size2),
                    blocks.cut(rows, i, size1 * share),
                    blocks.cut(columns, j, size2),
                    *rest,
                )
            )
            leaves, layout = program(arrays, i * share, j)
            grid[-1].append(jax.device_get(leaves))
    host = jax.local_devices(backend="cpu")[0]
    joined = [
        blocks.join_on_host(kind, [[cell[k] for cell in line] for line in grid])
        for k, kind in enumerate(layout.kinds)
    ]
    return [jax.device_put(leaf, host) for leaf in joined], layout


def _requested(args: Any, shared: dict[str, Any]) -> Any:
    """The `get` argument, which comes first after the inputs if it has no name."""
    get = shared.get("get", args[0] if args else None)
    return get if isinstance(get, str) else None


def _same_flag(x1: Any, x2: Any, is_map: bool, same: bool) -> Any:
    if is_map:
        return jax.tree.leaves(x1, is_leaf=blocks.is_kernel)[0].x1_is_x2
    if same:
        return jnp.array(True)
    pairs = list(zip(jax.tree.leaves(x1), jax.tree.leaves(x2), strict=True))
    if any(jnp.shape(a) != jnp.shape(b) for a, b in pairs):
        return jnp.array(False)
    close = [jnp.all(jnp.abs(a - b) < SAME_INPUT) for a, b in pairs]
    return jnp.all(jnp.stack(close))


def _key_pair(rng: Any, x1: Any, x2: Any, same: bool) -> tuple[Any, Any]:
    if isinstance(rng, tuple):
        return rng
    return rng, rng if same else second_key(rng, x1, x2)


def _devices(device_count: int) -> list[Any]:
    local = jax.local_devices()
    if device_count == -1:
        return local
    if not 0 <= device_count <= len(local):
        raise ValueError(
            f"`device_count` must be -1 or from 0 to {len(local)}, the local devices; "
            f"got {device_count}."
        )
    return local[: max(device_count, 1)]


def _block_sizes(n1: int, n2: int, batch_size: int, devices: int) -> tuple[int, int]:
    """Rows and columns of a block."""
    if n1 % devices:
        raise ValueError(
            f"the {n1} samples of `x1` must divide among {devices} devices. Pass "
            "another `device_count`."
        )
    if batch_size == 0:
        # Equal blocks where possible: keys of samples count blocks.
        size = n1 // devices
        return size, size if n2 % size == 0 and devices > 1 else n2
    size = min(batch_size, max(math.gcd(n1, n2) // devices, 1))
    if size < batch_size:
        warnings.warn(
            f"`batch_size={batch_size}` is more than {n1} and {n2} samples on "
            f"{devices} devices allow; using {size}.",
            UserWarning,
            stacklevel=3,
        )
    if n1 % (size * devices) or n2 % size:
        raise ValueError(
            f"the {n1} samples of `x1` must be a multiple of blocks of {size} on "
            f"{devices} devices, and the {n2} of `x2` of blocks of {size}. Pass "
            "another `batch_size`."
        )
    return size, size


def _shapes(arrays: list[Any]) -> Any:
    return tuple((a.shape, str(a.dtype)) for a in arrays)
