"""The host's side of a run: commit good blocks, repair lists, collect records."""

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from . import chunk
from . import neighbors as lists
from . import restart as restarts
from .report import (
    NeighborListError,
    Records,
    Report,
    Run,
    SimulationDiverged,
    find_non_finite,
    is_floating,
    particle_count,
)

FIRST_BLOCK = 128  # steps; later ones are as long as BLOCK_SECONDS
BLOCK_SECONDS = 0.5


class Loop:
    """The state of a run on the host; every method leaves it good."""

    def __init__(
        self,
        simulator: Any,
        state: Any,
        *,
        neighbor_fn: Any,
        observe: Any,
        conserved: Callable | None,
        every: int,
        run_time: dict[str, Any],
        start: int,
    ):
        state = jax.tree.map(
            lambda x: x if isinstance(x, jax.Array) else jnp.asarray(x), state
        )
        _refuse_non_finite(state)
        self.state = state
        self.neighbor_fn = neighbor_fn
        self.neighbors: Any = None
        self.allocation: lists.Allocation | None = None
        self.step = start
        self.every = every
        self.observe = observe
        self.record_steps: list[int] = []
        self.records: list[Any] = []
        # A run that continues another leaves the record at `start` to that one.
        self.recorded_to = start if start else -1
        self.rebuilds = self.growths = 0
        self.compile_seconds = self.step_seconds = 0.0
        self.block_steps = FIRST_BLOCK
        self.run_time = run_time
        schedules, self.traced, constants = _split(run_time)
        self.program = chunk.Program(
            step_fn=simulator.step,
            observers=_observers(observe, conserved),
            schedules=schedules,
            constants=constants,
            watched=tuple(
                is_floating(leaf) and bool(jnp.isfinite(leaf).all())
                for leaf in jax.tree.leaves(state)
            ),
        )

    def begin(self, neighbors: Any) -> None:
        """Get a list that is valid at the first position."""
        if neighbors is not None:
            keywords = chunk.list_keywords(self.state, self.values())
            self.neighbors = neighbors.update(self.state.position, **keywords)
            if chunk.overflowed(self.neighbors):
                self.grow()
        elif self.neighbor_fn is not None:
            self.neighbors, self.allocation = lists.first_list(
                self.neighbor_fn, self.state, self.values()
            )
        self.compile()

    def load(self, path: Path, neighbors: Any) -> None:
        """Continue from a checkpoint."""
        saved = restarts.load(
            path, self.state, self.neighbor_fn, neighbors, self.record_shapes
        )
        self.state, self.neighbors, self.step = saved.state, saved.neighbors, saved.step
        self.allocation = saved.allocation
        self.record_steps, self.records = saved.record_steps, saved.records
        if self.record_steps:
            self.recorded_to = self.record_steps[-1]
        self.rebuilds, self.growths = saved.rebuilds, saved.growths
        self.compile()

    def save(self, path: Path) -> None:
        """Write a checkpoint."""
        restarts.save(
            path,
            restarts.Saved(
                state=self.state,
                neighbors=self.neighbors,
                allocation=self.allocation,
                step=self.step,
                record_steps=self.record_steps,
                records=[self.stacked()] if self.records else [],
                rebuilds=self.rebuilds,
                growths=self.growths,
            ),
        )

    def values(self) -> dict[str, Any]:
        """The run-time parameters at the present step."""
        return {
            name: value(self.step) if callable(value) else value
            for name, value in self.run_time.items()
        }

    def record_shapes(self, neighbors: Any) -> Any:
        """Structure and shapes of one record."""
        return chunk.record_structure(
            self.program, self.state, neighbors, self.step, self.traced
        )

    def compile(self) -> None:
        """Compile for the shapes at hand, by running no step."""
        began = time.perf_counter()
        self.capacity = chunk.stop_count(self.record_shapes(self.neighbors))
        jax.block_until_ready(self.call([], []))
        self.compile_seconds += time.perf_counter() - began

    def call(self, stops: list[int], keep: list[bool]) -> chunk.Block:
        """Run the compiled block from the present state."""
        padded = np.zeros(chunk.MAX_STOPS, np.int32)
        kept = np.zeros(chunk.MAX_STOPS, bool)
        padded[: len(stops)], kept[: len(keep)] = stops, keep
        return chunk.compiled(self.program)(
            self.state,
            self.neighbors,
            np.int32(self.step),
            padded,
            kept,
            np.int32(len(stops)),
            self.traced,
        )

    def plan(self, stop: int) -> tuple[list[int], list[bool]]:
        """Stops up to `stop` at the latest, and at which of them to record."""
        stop = min(stop, self.step + self.block_steps)
        if not self.program.observers:
            return [stop], [False]
        first = (
            self.step if not self.recorded() else next_multiple(self.step, self.every)
        )
        stops = list(range(first, stop + 1, self.every))[: self.capacity]
        keep = [True] * len(stops)
        if len(stops) < self.capacity and (not stops or stops[-1] < stop):
            stops, keep = [*stops, stop], [*keep, False]
        return stops, keep

    def recorded(self) -> bool:
        """Whether the record of the present step, if one is due, is taken."""
        return (
            not self.program.observers
            or self.step % self.every != 0
            or self.recorded_to == self.step
        )

    def advance(self, stop: int) -> None:
        """Take steps, at most to `stop`; commit them if they are good.

        Raises:
            SimulationDiverged: With this loop at the last finite state.
            NeighborListError: If a list overflowed for good, with it at that step.
        """
        stops, keep = self.plan(stop)
        began = time.perf_counter()
        block = jax.block_until_ready(self.call(stops, keep))
        seconds = time.perf_counter() - began
        if not block.finite:
            self.raise_diverged(int(block.step))
        taken = int(block.step) - self.step
        self.state, self.neighbors = block.state, block.neighbors
        self.step += taken
        self.step_seconds += seconds
        self.rebuilds += int(block.rebuilds)
        done = [k for k in range(int(block.stops)) if keep[k]]
        if done:
            self.record_steps += [stops[k] for k in done]
            self.recorded_to = stops[done[-1]]
            rows = np.asarray(done)
            self.records.append(
                jax.tree.map(lambda r: np.asarray(r)[rows], block.records)
            )
        if seconds > 0 and taken:
            pace = BLOCK_SECONDS * taken / seconds
            self.block_steps = int(np.clip(pace, 1, 4 * self.block_steps))
        if block.overflow:
            self.grow()
            self.compile()

    def grow(self) -> None:
        """Replace the list by one that has room for the present state."""
        if self.neighbor_fn is None:
            raise NeighborListError(
                f"the neighbor list overflowed at step {self.step}, and without "
                "`neighbor_fn` no larger one can be allocated.",
                step=self.step,
                state=self.state,
            )
        try:
            self.neighbors, self.allocation = lists.larger_list(
                self.neighbor_fn, self.state, self.neighbors, self.values()
            )
        except RuntimeError as error:
            raise NeighborListError(
                f"at step {self.step} {error}", step=self.step, state=self.state
            ) from error
        self.growths += 1

    def raise_diverged(self, bad: int) -> None:
        """Bisect to the first step that is not finite, and raise."""
        while bad - self.step > 1:
            middle = (self.step + bad) // 2
            block = self.call([middle], [False])
            if block.finite:
                self.state, self.neighbors = block.state, block.neighbors
                self.step = middle
            else:
                bad = middle
        block = self.call([bad], [False])
        found = find_non_finite(block.state, self.program.watched)
        leaf, particle = found or ("the state", None)
        where = f"`{leaf}`" + ("" if particle is None else f" of particle {particle}")
        raise SimulationDiverged(
            f"{where} is not finite after step {bad}. {_describe(self.state, particle)}"
            "The last finite state is the error's `.state`. Usual causes are a time "
            "step that is too long, and particles that overlap at the start.",
            step=bad,
            particle=particle,
            leaf=leaf,
            state=self.state,
            neighbors=self.neighbors,
        )

    def stacked(self) -> Any:
        """All records as one tree of arrays ``[t, ...]``."""
        if len(self.records) > 1:
            self.records = [jax.tree.map(lambda *r: np.concatenate(r), *self.records)]
        return self.records[0]

    def result(self, *, steps: int, wall: float, fs: float | None) -> Run:
        """What there is so far."""
        records, drift, fluctuation = None, None, None
        if self.program.observers:
            if self.records:
                found = self.stacked()
            else:
                shapes = self.record_shapes(self.neighbors)
                found = jax.tree.map(lambda s: np.zeros((0, *s.shape), s.dtype), shapes)
            value = found.get("value")
            if isinstance(self.observe, Mapping):
                value = {name: found[f"/{name}"] for name in self.observe}
            records = Records(
                step=np.asarray(self.record_steps, np.int32),
                value=value,
                conserved=found.get("conserved"),
            )
            if records.conserved is not None and len(records):
                drift, fluctuation = _drift(records.conserved)
        report = Report(
            steps=steps,
            last_step=self.step,
            particles=particle_count(self.state),
            rebuilds=None if self.neighbors is None else self.rebuilds,
            growths=self.growths,
            compile_seconds=self.compile_seconds,
            wall_seconds=wall,
            step_seconds=self.step_seconds,
            drift=drift,
            fluctuation=fluctuation,
            fs_per_step=fs,
        )
        return Run(self.state, self.neighbors, records, report)


def _drift(conserved: Any) -> tuple[float, float]:
    """Last minus first value, and the standard deviation; the worst of a batch."""
    series = np.asarray(conserved, np.float64).reshape(len(conserved), -1)
    change = series[-1] - series[0]
    worst = int(np.argmax(np.abs(change)))
    return float(change[worst]), float(np.std(series[:, worst]))


def next_multiple(step: int, interval: int) -> int:
    """The first multiple of `interval` after `step`."""
    return (step // interval + 1) * interval


def _refuse_non_finite(state: Any) -> None:
    found = find_non_finite(state)
    if found is None:
        return
    leaf, particle = found
    if leaf.partition(".")[0].partition("[")[0] in ("position", "momentum", "force"):
        raise ValueError(
            f"`state` must be finite at the start; `{leaf}` is not"
            + (f", first at particle {particle}." if particle is not None else ".")
        )


def _describe(state: Any, particle: int | None) -> str:
    if particle is None:
        return ""
    parts = []
    for name in ("position", "force"):
        value = getattr(state, name, None)
        if hasattr(value, "shape") and np.ndim(value) == 2:
            row = np.array2string(np.asarray(value)[particle], precision=4)
            parts.append(f"{name} {row}")
    return f"One step earlier it had {' and '.join(parts)}. " if parts else ""


def _observers(observe: Any, conserved: Callable | None) -> tuple:
    found: list[tuple[str, Callable]] = []
    if isinstance(observe, Mapping):
        if reserved := {"step", "conserved"} & set(observe):
            raise ValueError(
                f"`observe` may not use the names {sorted(reserved)}: `records` has "
                "entries of those names already."
            )
        found += [(f"/{name}", fn) for name, fn in observe.items()]
    elif observe is not None:
        found.append(("value", observe))
    if conserved is not None:
        found.append(("conserved", conserved))
    for name, fn in found:
        if not callable(fn):
            raise TypeError(
                f"`observe` must be a function or a dictionary of functions; "
                f"{name.strip('/')!r} is {type(fn).__name__}."
            )
    return tuple(found)


def _split(run_time: dict[str, Any]) -> tuple[tuple, dict, tuple]:
    """Separate schedules, traced values and values that only Python understands."""
    schedules, traced, constants = [], {}, []
    for name, value in run_time.items():
        if callable(value):
            schedules.append((name, value))
        elif all(_numeric(leaf) for leaf in jax.tree.leaves(value)):
            traced[name] = value
        else:
            try:
                hash(value)
            except TypeError as error:
                raise TypeError(
                    f"`{name}` must hold arrays and numbers, be a schedule "
                    f"`f(step)`, or be hashable; got {type(value).__name__}."
                ) from error
            constants.append((name, value))
    return tuple(schedules), traced, tuple(constants)


def _numeric(leaf: Any) -> bool:
    return isinstance(leaf, bool | int | float | complex | jax.Array | np.ndarray) or (
        isinstance(leaf, np.generic) and leaf.dtype.kind in "biufc"
    )
