"""Build slot-major rows of neighbors with vector operations only.

Candidates of a particle are a few contiguous runs of the sorted order (see
`jax_md.partition.grid`). They are tested window by window, a window being a contiguous
load for each particle, into one bit per candidate; the rows are read off by popping set
bits, one per particle and turn. There is no array of all candidates, no array of all
pairs besides the result, and no scatter of pairs; memory is a few words per particle.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array

from .grid import Grid, Runs, Sorted, runs, sort_particles
from .kernels import Kernels
from .lanes import TooWide, split
from .sweep import Rows, heavy, in_parallel, lane_type, take

# Lanes of one block: long enough for threads to share the popping of bits.
BLOCK = 131072


class Room(NamedTuple):
    """Sizes of the buffers of a build."""

    slots: int  # neighbors of a particle
    places: int  # members of the continued columns
    window: int  # candidates of a window, up to the 32 bits of a word
    windows: int  # windows of a run


class Built(NamedTuple):
    """Rows, and the sizes that would have held everything."""

    rows: Rows
    slots: Array
    pairs: Array  # directed
    places: Array
    run: Array  # longest run


def build(
    position: Array,
    coordinate: Array,
    square_distance: Callable,
    square_radius: Any,
    grid: Grid,
    room: Room,
) -> Built:
    """Find all pairs within a radius.

    Args:
        position: Positions ``[n, d]``, what `square_distance` takes.
        coordinate: Hash coordinates ``[n, d]``.
        square_distance: Function of two points.
        square_radius: Pairs strictly below it are neighbors.
        grid: The cells.
        room: Sizes of the buffers.
    """
    n = position.shape[0]
    if n == 0:
        none, zero = jnp.zeros(0, jnp.int32), jnp.int32(0)
        rows = Rows(jnp.zeros((room.slots, 0), lane_type(n)), none, none, none)
        return Built(rows, zero, zero, zero, zero)
    sorted_ = sort_particles(coordinate, grid, room.places)
    search = _Search(position, sorted_, square_distance, square_radius, grid, room)
    if n <= 2 * BLOCK:
        slots, count, run = search.block(jnp.int32(0), n)
    else:

        def body(b: Array, carry: tuple) -> tuple:
            slots, count, run = carry
            start = jnp.minimum(b * BLOCK, n - BLOCK).astype(jnp.int32)
            part, part_count, part_run = search.block(start, BLOCK)
            zero = jnp.int32(0)
            slots = lax.dynamic_update_slice(slots, part, (zero, start))
            count = lax.dynamic_update_slice(count, part_count, (start,))
            return slots, count, jnp.maximum(run, part_run)

        empty = jnp.full((room.slots, n), n, lane_type(n)), jnp.zeros(n, jnp.int32)
        carry = (*empty, jnp.int32(0))
        slots, count, run = lax.fori_loop(0, -(-n // BLOCK), body, carry)
    lane = jnp.arange(n, dtype=jnp.int32)
    inverse = (
        jnp.zeros(n, jnp.int32)
        .at[sorted_.order]
        .set(lane, unique_indices=True, mode="promise_in_bounds")
    )
    occupancy, pairs = jnp.max(count), jnp.sum(count, dtype=jnp.int32)
    count = jnp.minimum(count, room.slots)
    rows = Rows(slots, count, sorted_.order, inverse)
    return Built(rows, occupancy, pairs, sorted_.needed, run)


class _Search:
    def __init__(
        self, position, sorted_: Sorted, square_distance, square_radius, grid, room
    ):
        self.sorted, self.grid, self.room = sorted_, grid, room
        self.n, d = position.shape
        point = jax.ShapeDtypeStruct((d,), position.dtype)

        def near(x: Any, y: Any) -> Any:
            return square_distance(x, y) < square_radius

        closed = jax.make_jaxpr(near)(point, point)
        own = take(position, sorted_.order)
        try:
            self.kernels = Kernels(closed, [(d,), (d,)], d)
            self.own = list(split(own).parts.flat)
        except TooWide:
            self.kernels, self.own = None, [own]
            self.mapped = jax.vmap(jax.vmap(near, (None, 0)))
        # Windows may reach over the end.
        pad = room.window
        member = jnp.concatenate([sorted_.member, jnp.zeros(pad, jnp.int32)])
        self.member = member
        self.others = [take(v, member) for v in self.own]

    def block(self, start: Array, size: int) -> tuple[Array, Array, Array]:
        """Rows ``[slots, size]``, their counts and the longest run."""
        cell = [lax.dynamic_slice_in_dim(c, start, size) for c in self.sorted.cell]
        where = runs(self.sorted, self.grid, cell)
        words, longest = self.test(start, size, where)
        count = jnp.sum(lax.population_count(words), axis=0, dtype=jnp.int32)
        return self.read(words, where, count, size), count, longest

    def test(self, start: Array, size: int, where: Runs) -> tuple[Array, Array]:
        """One word a window of each column, a bit per candidate: ``[words, size]``."""
        window, columns = self.room.window, where.first.shape[0]
        own = [lax.dynamic_slice_in_dim(v, start, size) for v in self.own]
        home = lax.dynamic_slice_in_dim(self.sorted.home, start, size)
        at = jnp.arange(window, dtype=jnp.int32)
        bit = jnp.uint32(1) << at.astype(jnp.uint32)
        limit = self.sorted.member.shape[0]

        def column(begin, end, w):
            first = jnp.minimum(begin + w * window, limit)
            hit = self.near(own, first, size) & (at < (end - first)[:, None])
            hit &= at != (home - first)[:, None]  # itself
            bits = jnp.where(hit, bit, jnp.uint32(0))
            return lax.reduce(bits, np.uint32(0), lax.bitwise_or, (1,))

        def windows(w, words):
            """Window `w` of all columns, and the longest run."""

            def body(k, carry):
                words, longest = carry
                k = in_parallel(k)
                begin, end = where.begin(k), where.end(k)
                length = jnp.max(end - begin)
                found = self._if_longer(length, w, lambda: column(begin, end, w), size)
                # Apart from its being written in place, which runs on one thread.
                found = lax.optimization_barrier(found)
                words = lax.dynamic_update_slice_in_dim(
                    words, found[None], w * columns + k, 0
                )
                return words, jnp.maximum(longest, length)

            return lax.fori_loop(0, columns, body, (words, jnp.int32(0)))

        words = jnp.zeros((self.room.windows * columns, size), jnp.uint32)
        words, longest = windows(0, words)
        if self.room.windows > 1:
            needed = jnp.minimum((longest + window - 1) // window, self.room.windows)
            words = lax.fori_loop(1, needed, lambda w, x: windows(w, x)[0], words)
        return words, longest

    def _if_longer(self, length, w, found, size) -> Array:
        """Few runs are longer than a window."""
        if isinstance(w, int):
            return found()
        none = jnp.zeros(size, jnp.uint32)
        return lax.cond(length > w * self.room.window, found, lambda: none)

    def near(self, own, first, size) -> Array:
        window = self.room.window
        others = [_windows(v, first, window) for v in self.others]
        if self.kernels is None:
            return self.mapped(own[0], others[0])
        lanes = (size, window)
        own = [jnp.broadcast_to(v[:, None], lanes) for v in own]
        return self.kernels([*own, *others], [], lanes)[0]

    def read(self, words: Array, where: Runs, count: Array, size: int) -> Array:
        """Pop the bits of every lane into rows, packed."""
        window, slots = self.room.window, self.room.slots
        total, columns = words.shape[0], where.first.shape[0]
        rows = jnp.full((slots, size), self.n, lane_type(self.n))
        if slots == 0:
            return rows
        lane = jnp.arange(size, dtype=jnp.int32)
        padded = jnp.concatenate([words, jnp.zeros((1, size), jnp.uint32)]).reshape(-1)

        def pop(k, carry):
            rows, left, word, at = carry
            k = in_parallel(k)
            word = word & (word - jnp.uint32(1))
            empty = word == 0
            hop, rest = _pop_first(left, total)
            at = lax.optimization_barrier(heavy(jnp.where(empty, hop, at)))
            left = [
                heavy(jnp.where(empty, a, b)) for a, b in zip(rest, left, strict=True)
            ]
            word = jnp.where(empty, take(padded, at * size + lane), word)
            word = lax.optimization_barrier(heavy(word))
            turn, column = (at // columns, at % columns) if total > columns else (0, at)
            begin = where.begin(jnp.minimum(column, columns - 1))
            found = word != 0
            place = begin + turn * window + _lowest(word)
            q = take(self.member, jnp.where(found, place, 0))
            row = heavy(jnp.where(found, q, self.n)).astype(rows.dtype)
            row = lax.optimization_barrier(row)
            rows = lax.dynamic_update_slice_in_dim(rows, row[None], k, 0)
            return rows, left, word, at

        none = jnp.zeros(size, jnp.uint32)
        start = (rows, _filled(words), none, jnp.full(size, total, jnp.int32))
        turns = jnp.minimum(jnp.max(count), slots)
        return lax.fori_loop(0, turns, pop, start)[0]


def _lowest(word: Array) -> Array:
    """Position of the lowest bit, 32 if there is none."""
    below = (word & (~word + jnp.uint32(1))) - jnp.uint32(1)
    return lax.population_count(below).astype(jnp.int32)


def _filled(words: Array) -> list[Array]:
    """A bit for each word ``[words, size]`` that is not zero, 32 to a vector."""
    bit = jnp.uint32(1) << (jnp.arange(words.shape[0], dtype=jnp.uint32) % 32)
    bits = jnp.where(words != 0, bit[:, None], jnp.uint32(0))
    return [
        lax.reduce(bits[k : k + 32], np.uint32(0), lax.bitwise_or, (0,))
        for k in range(0, words.shape[0], 32)
    ]


def _pop_first(left: list[Array], none: int) -> tuple[Array, list[Array]]:
    """Position of the first bit, and the bits without it."""
    first, rest = jnp.int32(none), []
    for k, bits in reversed(list(enumerate(left))):
        here = bits != 0
        first = jnp.where(here, _lowest(bits) + 32 * k, first)
        # Bits before these go first: what was to be popped here stays.
        rest = [jnp.where(here, b, r) for b, r in zip(left[k + 1 :], rest, strict=True)]
        rest = [bits & (bits - jnp.uint32(1)), *rest]
    return first, rest


def _windows(x: Array, first: Array, window: int) -> Array:
    """``x[first[l] + w]`` as ``[lanes, window]``: one contiguous load for each lane."""
    dimensions = lax.GatherDimensionNumbers(
        offset_dims=(1, *range(2, x.ndim + 1)),
        collapsed_slice_dims=(),
        start_index_map=(0,),
    )
    sizes = (window, *x.shape[1:])
    return lax.gather(x, first[:, None], dimensions, sizes, mode="promise_in_bounds")
