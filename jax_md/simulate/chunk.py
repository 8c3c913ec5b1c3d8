"""The compiled part of a run: many steps, their records, and whether they are good.

A block is a list of stops, absolute step numbers, that are reached one after the other
by a single loop with a traced trip count. So one compilation serves blocks of every
length, the remainder of a run included. A block ends early, at a good state, when a
neighbor list overflows: what follows would be computed with missing neighbors.
"""

import functools
import inspect
from collections.abc import Callable, Hashable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

RECORD_BYTES = 2**25  # of records held on the device, before they go to the host
MAX_STOPS = 64
PROBED_PARTICLES = 64  # looked at to see whether a list was rebuilt


class Block(NamedTuple):
    """Result of some steps."""

    state: Any
    neighbors: Any
    step: Any  # the absolute step it ended at
    stops: Any  # how many stops were completed, records included
    records: Any  # [MAX_STOPS, ...]
    rebuilds: Any
    overflow: Any
    finite: Any


class Program(NamedTuple):
    """What is compiled: everything here is static and hashable."""

    step_fn: Callable
    observers: tuple[tuple[str, Callable], ...]
    schedules: tuple[tuple[str, Callable], ...]
    constants: tuple[tuple[str, Hashable], ...]
    watched: tuple[bool, ...]


def overflowed(neighbors: Any) -> Any:
    """Whether a list misses neighbors: its buffers or its cells are too small."""
    flags = [
        jnp.any(jnp.asarray(flag) != 0)
        for name in ("did_buffer_overflow", "cell_size_too_small")
        if (flag := getattr(neighbors, name, None)) is not None
    ]
    return functools.reduce(jnp.logical_or, flags, jnp.asarray(False))


def list_keywords(state: Any, values: dict[str, Any]) -> dict[str, Any]:
    """What a list needs beside positions: the box, where it is not fixed."""
    box = values.get("box", getattr(state, "box", None))
    return {} if box is None else {"box": box}


def observer(fn: Callable) -> Callable:
    """Adapt an observable to ``f(state, neighbors, values)``.

    The first argument is the state. A parameter named ``neighbor``, ``neighbors``,
    ``step`` or as a run-time parameter receives that; a second positional parameter
    of any other name receives the list; ``**kwargs`` receives all but the step.
    """
    parameters = list(inspect.signature(fn).parameters.values())
    named = {p.name for p in parameters[1:]}
    takes_all = any(p.kind is p.VAR_KEYWORD for p in parameters)

    def call(state: Any, neighbors: Any, values: dict[str, Any]) -> Any:
        known = {"neighbors": neighbors, **values}
        if neighbors is not None:
            known["neighbor"] = neighbors
        every = {k: v for k, v in known.items() if k not in ("step", "neighbors")}
        chosen = {k: v for k, v in known.items() if k in named}
        if takes_all:
            chosen = {**every, **chosen}
        second = next(iter(parameters[1:2]), None)
        positional = (
            second is not None
            and second.kind in (second.POSITIONAL_ONLY, second.POSITIONAL_OR_KEYWORD)
            and second.default is second.empty
            and second.name not in known
        )
        return fn(state, *([neighbors] if positional else []), **chosen)

    return call


@functools.lru_cache(maxsize=16)
def compiled(program: Program) -> Callable[..., Block]:
    """Compile ``advance(state, neighbors, step, stops, keep, count, traced)``.

    The cache is what lets a second run with other parameters of the same kind start
    at once.
    """
    observers = [(name, observer(fn)) for name, fn in program.observers]

    def values(step: Any, traced: dict) -> dict[str, Any]:
        planned = {name: fn(step) for name, fn in program.schedules}
        return {**dict(program.constants), **traced, **planned}

    def record(state: Any, neighbors: Any, step: Any, traced: dict) -> Any:
        known = {"step": step, **values(step, traced)}
        return {
            name: jax.tree.map(jnp.asarray, call(state, neighbors, known))
            for name, call in observers
        }

    def one(state: Any, neighbors: Any, step: Any, traced: dict) -> tuple[Any, Any]:
        keywords = values(step, traced)
        if neighbors is None:
            return program.step_fn(state, **keywords), None
        state = program.step_fn(state, **keywords, neighbor=neighbors)
        # The box that the next step will see.
        keywords = list_keywords(state, values(step + 1, traced))
        return state, neighbors.update(state.position, **keywords)

    def advance(
        state: Any,
        neighbors: Any,
        step: Any,
        stops: Any,
        keep: Any,
        count: Any,
        traced: dict,
    ) -> Block:
        _check_step(one, state, neighbors, step, traced)
        shapes = jax.eval_shape(record, state, neighbors, step, traced)
        size = stop_count(shapes)
        buffer = jax.tree.map(lambda s: jnp.zeros((size, *s.shape), s.dtype), shapes)

        def good(neighbors: Any) -> Any:
            return True if neighbors is None else ~overflowed(neighbors)

        def inner(carry: tuple) -> tuple:
            state, neighbors, step, rebuilds = carry
            before = _probe(neighbors)
            state, neighbors = one(state, neighbors, step, traced)
            rebuilt = jnp.any(_probe(neighbors) != before)
            return state, neighbors, step + 1, rebuilds + rebuilt.astype(jnp.int32)

        def outer(carry: tuple) -> tuple:
            k, buffer, inside = carry
            stop = stops[k]
            inside = jax.lax.while_loop(
                lambda c: (c[2] < stop) & good(c[1]), inner, inside
            )
            state, neighbors, step, _ = inside
            done = (step == stop) & good(neighbors)
            buffer = jax.lax.cond(
                done & keep[k],
                lambda: jax.tree.map(
                    lambda b, r: b.at[k].set(r),
                    buffer,
                    record(state, neighbors, step, traced),
                ),
                lambda: buffer,
            )
            return k + done.astype(jnp.int32), buffer, inside

        inside = (state, neighbors, step, jnp.zeros((), jnp.int32))
        k, buffer, (state, neighbors, step, rebuilds) = jax.lax.while_loop(
            lambda c: (c[0] < count) & good(c[2][1]),
            outer,
            (jnp.zeros((), jnp.int32), buffer, inside),
        )
        overflow = ~jnp.asarray(good(neighbors))
        finite = [
            jnp.all(jnp.isfinite(leaf))
            for leaf, watch in zip(jax.tree.leaves(state), program.watched, strict=True)
            if watch
        ]
        finite = functools.reduce(jnp.logical_and, finite, jnp.asarray(True))
        return Block(state, neighbors, step, k, buffer, rebuilds, overflow, finite)

    return jax.jit(advance)


def record_structure(
    program: Program, state: Any, neighbors: Any, step: int, traced: dict
) -> Any:
    """Shapes of one record, without compiling anything."""
    stops = np.zeros(MAX_STOPS, np.int32)
    block = jax.eval_shape(
        compiled(program),
        state,
        neighbors,
        np.int32(step),
        stops,
        stops.astype(bool),
        np.int32(0),
        traced,
    )
    return jax.tree.map(
        lambda s: jax.ShapeDtypeStruct(s.shape[1:], s.dtype), block.records
    )


def stop_count(shapes: Any) -> int:
    """How many records of these shapes are held on the device at once."""
    size = sum(s.size * s.dtype.itemsize for s in jax.tree.leaves(shapes))
    return max(1, min(MAX_STOPS, RECORD_BYTES // max(1, size)))


def _probe(neighbors: Any) -> Any:
    reference = jax.tree.leaves(getattr(neighbors, "reference_position", None))
    if not reference or not jnp.ndim(reference[0]):
        return jnp.zeros(())
    return reference[0][:: max(1, len(reference[0]) // PROBED_PARTICLES)]


def _check_step(
    one: Callable, state: Any, neighbors: Any, step: Any, traced: dict
) -> None:
    """Say which leaf a step changes in kind, before `while_loop` does it at length."""
    after = jax.eval_shape(one, state, neighbors, step, traced)
    for what, old, new in zip(
        ("state", "neighbors"), (state, neighbors), after, strict=True
    ):
        if jax.tree.structure(old) != jax.tree.structure(new):
            raise TypeError(
                f"a step must return a {what} of the structure it was given; got\n"
                f"{jax.tree.structure(new)}\ninstead of\n{jax.tree.structure(old)}"
            )
        for (path, a), b in zip(
            jax.tree_util.tree_leaves_with_path(old), jax.tree.leaves(new), strict=True
        ):
            a_kind = (jnp.shape(a), a.dtype if hasattr(a, "dtype") else b.dtype)
            if a_kind != (b.shape, b.dtype):
                raise TypeError(
                    f"a step must keep shapes and dtypes; leaf "
                    f"`{jax.tree_util.keystr(path).strip('.')}` of the {what} was "
                    f"{a_kind[1]}{list(a_kind[0])} and became {b.dtype}{list(b.shape)}."
                )
