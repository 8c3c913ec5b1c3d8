"""What a run hands back: records, a report, and the errors that stop it."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jax_md import dataclasses


@dataclasses.dataclass
class Records:
    """Observables along a run, stacked; a pytree.

    Attributes:
        step: ``[t]``, the absolute steps of the records.
        value: What `observe` returned, every leaf ``[t, ...]``.
        conserved: ``[t]``, the conserved quantity, or None.
    """

    step: Any
    value: Any = None
    conserved: Any = None

    def __getitem__(self, name: str) -> Any:
        """``step``, ``conserved`` or an entry of a dictionary of observables."""
        if name in ("step", "conserved"):
            return getattr(self, name)
        return self.value[name]

    def __len__(self) -> int:
        return len(self.step)


@dataclasses.dataclass
class Report:
    """Account of a run; prints as a table.

    Attributes:
        steps: Steps taken in this call.
        last_step: Absolute index of the step that the state is at.
        particles: Number of particles.
        rebuilds: Neighbor-list rebuilds; None without a list.
        growths: How often a neighbor list was allocated anew with more room.
        compile_seconds: Spent in tracing and compiling.
        wall_seconds: Spent in all, compilation included.
        step_seconds: Spent in compiled steps.
        drift: Last minus first value of the conserved quantity, or None.
        fluctuation: Standard deviation of the conserved quantity, or None.
        fs_per_step: Femtoseconds a step, or None.
    """

    steps: int = dataclasses.static_field()
    last_step: int = dataclasses.static_field()
    particles: int = dataclasses.static_field()
    rebuilds: int | None = dataclasses.static_field()
    growths: int = dataclasses.static_field()
    compile_seconds: float = dataclasses.static_field()
    wall_seconds: float = dataclasses.static_field()
    step_seconds: float = dataclasses.static_field()
    drift: float | None = dataclasses.static_field(default=None)
    fluctuation: float | None = dataclasses.static_field(default=None)
    fs_per_step: float | None = dataclasses.static_field(default=None)

    @property
    def steps_per_second(self) -> float:
        """Without compilation, writing and checkpoints."""
        return self.steps / self.step_seconds if self.step_seconds else 0.0

    @property
    def atom_steps_per_second(self) -> float:
        """`steps_per_second` times the number of particles."""
        return self.steps_per_second * self.particles

    @property
    def ns_per_day(self) -> float | None:
        """Simulated nanoseconds a day, where the length of a step is known."""
        if self.fs_per_step is None:
            return None
        return self.steps_per_second * 86400 * self.fs_per_step * 1e-6

    def __str__(self) -> str:
        rows = [
            ("steps", f"{self.steps:,} (to step {self.last_step:,})"),
            ("particles", f"{self.particles:,}"),
        ]
        if self.rebuilds is not None:
            between = self.steps / max(self.rebuilds, 1)
            every = f", every {between:.1f} steps" if self.rebuilds else ""
            rows.append(("rebuilds", f"{self.rebuilds:,}{every}"))
            rows.append(("capacity growths", f"{self.growths}"))
        rows += [
            ("compile", f"{self.compile_seconds:.2f} s"),
            ("wall", f"{self.wall_seconds:.2f} s"),
            ("speed", f"{self.steps_per_second:,.1f} steps/s"),
            ("", f"{self.atom_steps_per_second:.3g} atom-steps/s"),
        ]
        if self.ns_per_day is not None:
            rows.append(("", f"{self.ns_per_day:.3g} ns/day"))
        if self.drift is not None:
            rows.append(("drift", f"{self.drift:.3g}"))
            rows.append(("fluctuation", f"{self.fluctuation:.3g}"))
        return "\n".join(f"{name:<17} {value}" for name, value in rows)


class Run(NamedTuple):
    """What `run` returns."""

    state: Any
    neighbors: Any
    records: Records | None
    report: Report


class SimulationDiverged(FloatingPointError):  # noqa: N818 (says what happened)
    """A state became infinite or not a number.

    Attributes:
        step: The first step whose result is not finite.
        particle: The first particle that is not, or None if the leaf is not per
            particle.
        leaf: The name of the first leaf that is not finite, such as ``"position"``.
        state: The last finite state, that of ``step - 1``.
        neighbors: The list that belongs to it, or None.
        run: A `Run` with that state and the records of the steps before.
    """

    run: Run | None = None

    def __init__(
        self,
        message: str,
        *,
        step: int,
        particle: int | None,
        leaf: str,
        state: Any = None,
        neighbors: Any = None,
    ):
        super().__init__(message)
        self.step = step
        self.particle = particle
        self.leaf = leaf
        self.state = state
        self.neighbors = neighbors


class NeighborListError(RuntimeError):
    """A neighbor list overflowed and could not be repaired.

    Attributes:
        step: The step it happened at.
        state: The state of that step, which is good.
    """

    def __init__(self, message: str, *, step: int, state: Any):
        super().__init__(message)
        self.step = step
        self.state = state


class RunInterrupted(KeyboardInterrupt):  # noqa: N818 (a KeyboardInterrupt)
    """SIGINT or SIGTERM arrived; the block at hand was finished first.

    Attributes:
        run: A `Run` with the state, list, records and report up to there.
        signal: The number of the signal.
    """

    def __init__(self, message: str, *, run: Run, signal: int):
        super().__init__(message)
        self.run = run
        self.signal = signal


def particle_count(state: Any) -> int:
    """Number of rows of the first leaf of the position."""
    leaf = jax.tree.leaves(state.position)[0]
    return int(np.shape(leaf)[0]) if np.ndim(leaf) else 1


def find_non_finite(state: Any, watched: Any = None) -> tuple[str, int | None] | None:
    """Name the first leaf of a state that is not finite, and the particle.

    Args:
        state: A pytree with ``.position``.
        watched: One boolean a leaf, which of them to look at; all by default.

    Returns:
        ``(leaf, particle)``, `particle` being None for a leaf that has no row a
        particle; or None where all is finite. Positions come first, then momenta and
        forces.
    """
    count = particle_count(state)
    first = {".position": 0, ".momentum": 1, ".force": 2}
    found = []
    for number, (path, leaf) in enumerate(jax.tree_util.tree_leaves_with_path(state)):
        if (watched is not None and not watched[number]) or not is_floating(leaf):
            continue
        bad = ~np.asarray(jnp.isfinite(leaf))
        if bad.any():
            name = jax.tree_util.keystr(path)
            rank = first.get("." + name.strip(".").partition(".")[0], 3)
            rows = bad.ndim and len(bad) == count
            found.append(
                (rank, name.strip("."), int(np.argwhere(bad)[0, 0]) if rows else None)
            )
    return min(found, key=lambda f: f[0])[1:] if found else None


def is_floating(leaf: Any) -> bool:
    """Whether a leaf can hold a NaN."""
    dtype = leaf.dtype if hasattr(leaf, "dtype") else jnp.result_type(leaf)
    return jnp.issubdtype(dtype, jnp.inexact)
