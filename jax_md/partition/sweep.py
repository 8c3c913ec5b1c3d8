"""The loop under every neighbor sum: slot by slot, a vector of particles at a time.

Rows are stored slot-major: ``slots[k, l]`` is the k-th neighbor of lane ``l``,
packed towards small ``k``, with ``n`` where there is none. Lanes are particles in an
order that keeps neighbors close in memory, ``order[l]`` being the particle of lane
``l``. A sweep adds up ``f(x_i, x_j, e_ij, t)`` over the slots of each lane; it never
holds anything of the size of the list besides the list, and it visits no slot that is
empty throughout a block of lanes, so spare capacity costs memory only.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.core import jaxpr_as_fun
from jaxtyping import Array, Int, Integer

from .kernels import Kernels
from .lanes import WIDEST, Lanes, TooWide, join, object_array, split, structs

# Pairs that one turn of the loop over slots works on, or numbers of feature vectors:
# few enough for vectors of them to stay in the caches, and no fewer than XLA's CPU
# backend needs to share a vector among threads, which is 512 kB.
TURN = 131072
# Slots that are added up while in registers, and the operations that the code of their
# sum may have; beyond, the compiler would not unroll it into vector instructions.
DEPTH, UNROLLED = 8, 160


class Rows(NamedTuple):
    """A full, symmetric list of neighbors without self pairs, slot-major."""

    slots: Integer[Array, "k n"]  # lane of the neighbor, n where there is none
    count: Int[Array, " n"]  # neighbors of each lane
    order: Int[Array, " n"]  # particle of each lane
    inverse: Int[Array, " n"]  # lane of each particle


PairFn = Callable[[list, list, list, list], list]


def lane_type(n: int) -> Any:
    """The integers that slots are stored as: half the memory where they are few.

    A list is read at every step, and kept for every step that is differentiated.
    """
    return jnp.uint16 if n < 2**16 else jnp.int32


def take(x: Any, index: Any) -> Any:
    """``x[index]`` along the first axis for indices known to be in bounds."""
    # A negative index is out of bounds here: not to look for one saves a comparison.
    return x.at[index].get(mode="promise_in_bounds", wrap_negative_indices=False)


def in_parallel(counter: Array) -> Array:
    """Return the counter of a loop, in a way that keeps the loop on all threads.

    XLA's CPU backend turns a loop of elementwise operations into one function that runs
    on one thread, however long its vectors are; one that sorts something it leaves
    alone. Two numbers take no time to sort.
    """
    return lax.sort(jnp.stack([counter, counter + 1]))[0]


def heavy(x: Array) -> Array:
    """The same integers, in a way that makes their kernel worth several threads.

    XLA's CPU backend shares a kernel among threads by the operations it counts, and an
    access to memory it counts for little. These operations cancel when the kernel is
    compiled.
    """
    masks = np.arange(1, 32, dtype=np.uint32) * np.uint32(0x9E3779B1)
    for mask in (*masks, np.bitwise_xor.reduce(masks)):
        x = x ^ mask.astype(x.dtype)
    return x


def element(x: Any) -> jax.ShapeDtypeStruct:
    """Shape and dtype of the entry of one particle."""
    return jax.ShapeDtypeStruct(x.shape[1:], x.dtype)


def _slot_element(x: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(x.shape[2:], x.dtype)


def sweep(
    f: PairFn,
    nodes: Sequence[Any],
    edges: Sequence[Any],
    params: Sequence[Any],
    rows: Rows,
    mask: PairFn | None = None,
    dense: bool = False,
) -> list[Array]:
    """Sum ``f`` over the neighbors of each particle.

    Args:
        f: Function of flat lists ``(nodes_i, nodes_j, edges_ij, params)`` of one pair,
            returning a list of arrays. It closes over no tracer.
        nodes: Arrays ``[n, ...]``, in the order of the particles.
        edges: Arrays ``[k, n, ...]``, in the order of the slots.
        params: Arrays that are the same for all pairs.
        rows: The list.
        mask: Function of the same lists to one boolean: pairs that count.
        dense: Work on all slots at once (for accelerators) instead of one by one.

    Returns:
        Arrays ``[n, ...]`` in the order of the particles.
    """
    shapes = (
        [element(x) for x in nodes],
        [element(x) for x in nodes],
        [_slot_element(x) for x in edges],
        [jax.ShapeDtypeStruct(x.shape, x.dtype) for x in params],
    )
    flat = [len(group) for group in shapes]

    def both(*leaves: Any) -> list:
        groups, at = [], 0
        for size in flat:
            groups.append(list(leaves[at : at + size]))
            at += size
        out = [jnp.asarray(x) for x in f(*groups)]
        return [*out, mask(*groups)[0]] if mask is not None else out

    closed = jax.make_jaxpr(both)(*(s for group in shapes for s in group))
    outputs = structs(closed.out_avals)
    outputs = outputs[:-1] if mask is not None else outputs
    if not outputs or rows.slots.size == 0:
        n = rows.slots.shape[1]
        return [jnp.zeros((n, *o.shape), o.dtype) for o in outputs]
    layouts = (_Components, _Mapped)
    for layout in layouts:
        try:
            values = layout(closed, nodes, edges, params, rows, dense)
            run = _Sweep(values, rows, mask, dense)
            return run.total()
        except TooWide:
            if layout is layouts[-1]:
                raise
    raise AssertionError("unreachable")


class _Components:
    """Node values as one vector per component (see `jax_md.partition.lanes`)."""

    def __init__(self, closed, nodes, edges, params, rows, dense):
        self.params = list(params)
        self.shapes = [o.shape for o in closed.out_avals]
        self.dtypes = [o.dtype for o in closed.out_avals]
        self.sizes = [int(np.prod(s)) for s in self.shapes]
        if max(self.sizes, default=0) > WIDEST:
            raise TooWide
        self.own = [take(p, rows.order) for x in nodes for p in split(x).parts.flat]
        self.edges = [p for x in edges for p in split(x, 2).parts.flat]
        shapes = [x.shape[1:] for x in nodes] * 2 + [x.shape[2:] for x in edges]
        self.kernels = Kernels(closed, shapes, len(self.own), store=not dense)
        self.operations, self.breadth = self.kernels.operations, 1

    def terms(self, x: list, y: list, e: list, lanes: tuple[int, ...]) -> list[Array]:
        x = [jnp.broadcast_to(v, lanes) for v in x]
        return self.kernels([*x, *y, *e], self.params, lanes)

    def accumulators(self, *lanes: int) -> list[Array]:
        pairs = zip(self.sizes, self.dtypes, strict=True)
        return [jnp.zeros(lanes, d) for size, d in pairs for _ in range(size)]

    def collect(self, vectors: list[Array], inverse: Array) -> list[Array]:
        vectors, values = [take(v, inverse) for v in vectors], []
        for shape, size in zip(self.shapes, self.sizes, strict=True):
            parts, vectors = vectors[:size], vectors[size:]
            values.append(join(Lanes(object_array(shape, parts))))
        return values


class _Mapped:
    """Node values as they come, ``[n, ...]``: for feature vectors."""

    def __init__(self, closed, nodes, edges, params, rows, dense):
        self.params = list(params)
        self.call = jaxpr_as_fun(closed)
        self.shapes = [o.shape for o in closed.out_avals]
        self.dtypes = [o.dtype for o in closed.out_avals]
        self.own = [take(x, rows.order) for x in nodes]
        self.edges = list(edges)
        self.operations = UNROLLED
        entries = [*(x.shape[1:] for x in nodes), *self.shapes]
        self.breadth = max(int(np.prod(shape)) for shape in entries)

    def terms(self, x: list, y: list, e: list, lanes: tuple[int, ...]) -> list[Array]:
        axes = (0,) * (2 * len(x) + len(e)) + (None,) * len(self.params)
        call = self.call
        for _ in lanes:
            call = jax.vmap(call, axes)
        x = [jnp.broadcast_to(v, lanes + v.shape[len(lanes) :]) for v in x]
        return list(call(*x, *y, *e, *self.params))

    def accumulators(self, *lanes: int) -> list[Array]:
        pairs = zip(self.shapes, self.dtypes, strict=True)
        return [jnp.zeros((*lanes, *shape), dtype) for shape, dtype in pairs]

    def collect(self, vectors: list[Array], inverse: Array) -> list[Array]:
        return [take(v, inverse) for v in vectors]


class _Sweep:
    """The loops, for either layout of the values."""

    def __init__(self, layout: Any, rows: Rows, mask: PairFn | None, dense: bool):
        self.layout, self.rows, self.dense = layout, rows, dense
        self.masked = mask is not None
        self.capacity, self.n = rows.slots.shape
        # The sentinel reads one more entry: any, since what comes of it is dropped.
        self.others = [jnp.concatenate([v, v[:1]]) for v in layout.own]
        if self.masked:
            layout.shapes, layout.dtypes = layout.shapes[:-1], layout.dtypes[:-1]
            if hasattr(layout, "sizes"):
                layout.sizes = layout.sizes[:-1]

    def total(self) -> list[Array]:
        n = self.n
        if self.dense:
            sums = self.turn(self.layout.own, 0, n, 0, self.capacity)
            sums = [jnp.sum(x, axis=0, dtype=x.dtype) for x in sums]
            return self.layout.collect(sums, self.rows.inverse)
        depth = min(self.depth(), self.capacity)
        size = min(n, max(1, TURN // (depth * self.layout.breadth)))
        blocks = -(-n // size)
        if blocks * size > 1.1 * n:
            # Rather fewer blocks than a last one that mostly repeats.
            blocks = max(1, n // size)
            size = -(-n // blocks)
        if size == n:
            sums = self.block(0, n, depth)
        else:

            def body(b: Array, sums: list[Array]) -> list[Array]:
                # The last block reaches back instead of over the end.
                start = jnp.minimum(b * size, n - size)
                part = self.block(start, size, depth)
                return [
                    lax.dynamic_update_slice_in_dim(s, p, start, 0)
                    for s, p in zip(sums, part, strict=True)
                ]

            sums = lax.fori_loop(0, blocks, body, self.layout.accumulators(n))
        return self.layout.collect(sums, self.rows.inverse)

    def depth(self) -> int:
        """How many slots are added up at a time, a power of two."""
        kernel = self.layout.operations + 3 * len(self.layout.shapes) + 4
        return 2 ** max(0, min(DEPTH, UNROLLED // kernel).bit_length() - 1)

    def block(self, start: Any, size: int, depth: int) -> list[Array]:
        def cut(v: Array) -> Array:
            return lax.dynamic_slice_in_dim(v, start, size)

        own = [cut(v) for v in self.layout.own]
        longest = jnp.max(cut(self.rows.count))
        pairs = TURN // self.layout.breadth
        # Of few particles, half of the slots: their vectors are most of the memory. The
        # last turn reaches back by whole groups, so that these do not depend on the
        # capacity, nor does any bit of the sum.
        groups = 1
        if self.capacity % depth == 0:
            most = min(pairs // (size * depth), self.capacity // (2 * depth))
            groups = max(1, most)
        width = groups * depth

        def body(turn: Array, sums: list[Array]) -> list[Array]:
            part = self.turn(own, start, size, in_parallel(turn) * width, width)
            part = _sum_together([x.reshape(groups, depth, *x.shape[1:]) for x in part])
            for g in range(groups):
                sums = [s + p[g] for s, p in zip(sums, part, strict=True)]
            return sums

        turns = lax.div(longest + (width - 1), jnp.asarray(width, longest.dtype))
        return lax.fori_loop(0, turns, body, self.layout.accumulators(size))

    def turn(
        self, own: list[Array], start: Any, size: int, first: Any, width: int
    ) -> list[Array]:
        """What the slots from `first` to `first + width` add to a block of lanes."""
        at = jnp.minimum(first, self.capacity - width)

        def cut(v: Array) -> Array:
            # Indices of one type, whatever the width of a Python integer is.
            index = [jnp.int32(i) for i in (at, start, *(0,) * (v.ndim - 2))]
            return lax.dynamic_slice(v, index, (width, size, *v.shape[2:]))

        j = cut(self.rows.slots).astype(jnp.int32)
        # Where the last turn reaches back, its first slots were there before.
        valid = (j < self.n) & (at + jnp.arange(width)[:, None] >= first)
        own = [v[None] for v in own]
        y = [take(v, heavy(j)) for v in self.others]
        terms = self.layout.terms(own, y, [cut(v) for v in self.layout.edges], j.shape)
        if self.masked:
            valid &= terms[-1]
            terms = terms[:-1]

        def kept(x: Array) -> Array:
            where = valid.reshape(valid.shape + (1,) * (x.ndim - valid.ndim))
            return jnp.where(where, x, jnp.zeros((), x.dtype))

        return [kept(x) for x in terms]


def _sum_together(terms: list[Array]) -> list[Array]:
    """Sums over the second axis, as the results of one kernel.

    A reduction of several operands is the one elementwise kernel of XLA's CPU backend
    that has several results: what they share is computed once, in registers.
    """

    def add(x: tuple, y: tuple) -> tuple:
        return tuple(a + b for a, b in zip(x, y, strict=True))

    if len({x.shape for x in terms}) > 1:
        return [jnp.sum(x, axis=1, dtype=x.dtype) for x in terms]
    zeros = tuple(np.zeros((), x.dtype) for x in terms)
    return list(lax.reduce(tuple(terms), zeros, add, (1,)))
