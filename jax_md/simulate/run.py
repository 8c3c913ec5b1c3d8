"""The loop around a simulator: run many steps safely, record, write and resume.

`run` compiles blocks of steps (`chunk`). A block is committed only if everything in its
final state is finite and no neighbor list overflowed on the way; if one did, the block
ends at the good state before, and goes on with a list that has more room.
"""

import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from .console import Signals, progress_bar
from .loop import Loop, next_multiple
from .report import Run, RunInterrupted, SimulationDiverged


def run(
    simulator: Any,
    state: Any,
    steps: int,
    *,
    neighbor_fn: Any = None,
    neighbors: Any = None,
    observe: Callable | Mapping[str, Callable] | None = None,
    every: int = 100,
    conserved: Callable | None = None,
    writer: Any = None,
    writer_every: int | None = None,
    checkpoint: str | Path | None = None,
    checkpoint_every: int | None = None,
    restart: bool = False,
    start: int = 0,
    progress: bool | None = None,
    fs_per_step: float | None = None,
    **run_time: Any,
) -> Run:
    """Run a simulation.

    The step is ``simulator.step(state, **run_time)``, followed, where a list is used,
    by ``neighbors.update(state.position)``; the step then also gets ``neighbor=``, and
    the update ``box=`` where the state has a box or one is among `run_time`.

    A list that overflows is allocated anew with more room and the run goes on from the
    last good state, with the result of a run that had the room from the start. A state
    that is not finite stops the run.

    Observables are evaluated every `every` steps inside the compiled loop. A function
    gets the state, and by parameter name whatever it asks for of ``neighbor`` (or
    ``neighbors``), ``step`` and the run-time parameters, as in
    ``lambda state, neighbor, kT: ...``; ``**kwargs`` receive all but the step.

    Args:
        simulator: Any ``Simulator`` or ``Minimizer``; its ``step`` is what is used.
        state: What its ``init`` returned: a pytree with ``.position``.
        steps: How many steps to take, from `start` on.
        neighbor_fn: What allocates neighbor lists (``NeighborListFns``).
        neighbors: A list to begin with; by default one is allocated.
        observe: A function of the state, or a dictionary of such functions.
        every: Steps between records. Records are taken at absolute steps that are
            multiples of it, and at step 0.
        conserved: A function like `observe` of a scalar that should stay constant; the
            report has its drift.
        writer: An object with ``write(step, state)``, such as ``io.H5MDWriter``.
        writer_every: Steps between frames; `every` by default.
        checkpoint: A file that holds, at the end and every `checkpoint_every` steps,
            all that is needed to go on.
        checkpoint_every: Steps between checkpoints; only at the end by default.
        restart: Whether to continue from `checkpoint`, where that exists, up to step
            ``start + steps``. Everything after it, bit by bit, is what an uninterrupted
            run gives. Frames of `writer` that are later than the checkpoint are
            dropped (``writer.truncate(step)``).
        start: The absolute step index of `state`.
        progress: Whether to show a bar; by default if standard error is a terminal.
        fs_per_step: Femtoseconds a step, for ns/day.
        **run_time: Parameters of the step such as ``kT``. A callable is a schedule: it
            gets the absolute step index, traced, and returns the value at that step.
            Changed values do not compile anew, other schedules do.

    Returns:
        ``Run(state, neighbors, records, report)``; `records` is None without `observe`
        and `conserved`.

    Raises:
        SimulationDiverged: If a state is not finite. Names the step and the particle,
            carries the last finite state, and saves it as ``checkpoint + ".diverged"``,
            so that the checkpoint itself stays the last scheduled one.
        NeighborListError: If a list overflowed and there is no `neighbor_fn`, or if it
            could not be repaired.
        RunInterrupted: On SIGINT (Ctrl-C) and SIGTERM, after the block at hand and a
            checkpoint. It is a KeyboardInterrupt and carries a `Run`.
        ValueError: If an argument is out of range, or `state` is not finite.

    Example:
        >>> simulator = simulate.nvt_langevin(energy_fn, shift_fn, dt=1e-3, kT=1.0)
        >>> state = simulator.init(key, R, neighbor=neighbors)
        >>> result = simulate.run(
        ...     simulator, state, 10_000, neighbor_fn=neighbor_fn,
        ...     observe={"kT": lambda s: quantity.temperature(momentum=s.momentum)},
        ...     kT=lambda step: 1.0 - 5e-5 * step,
        ... )
        >>> print(result.report)
    """
    writer_every = every if writer_every is None else writer_every
    _check(
        steps,
        start,
        every=every,
        writer_every=writer_every,
        checkpoint_every=checkpoint_every,
    )
    if restart and checkpoint is None:
        raise ValueError("`restart=True` needs `checkpoint`, the file to go on from.")
    if "neighbor" in run_time:
        raise ValueError("give the list as `neighbors=`; `neighbor=` is set by `run`.")
    if checkpoint_every is not None and checkpoint is None:
        raise ValueError("`checkpoint_every` needs `checkpoint`, a file to write.")
    began = time.perf_counter()
    loop = Loop(
        simulator,
        state,
        neighbor_fn=neighbor_fn,
        observe=observe,
        conserved=conserved,
        every=every,
        run_time=run_time,
        start=start,
    )
    last = start + steps
    path = None if checkpoint is None else Path(checkpoint)
    resumed = False
    if restart and path is not None and path.is_file():
        resumed = True
        loop.load(path, neighbors)
    else:
        loop.begin(neighbors)
    first = loop.step
    if first > last:
        raise ValueError(
            f"{path} is at step {first}, beyond the last step {last} that `start` and "
            "`steps` ask for."
        )
    if restart and hasattr(writer, "truncate"):
        writer.truncate(first if resumed else start - 1)
    written = first if resumed or start else None  # the last step that has a frame

    def result() -> Run:
        wall = time.perf_counter() - began
        return loop.result(steps=loop.step - first, wall=wall, fs=fs_per_step)

    def save() -> None:
        if path is not None:
            loop.save(path)

    intervals = [
        *([writer_every] if writer is not None else []),
        *([checkpoint_every] if checkpoint_every is not None else []),
    ]
    with Signals() as signals, progress_bar(progress, first - start, steps) as bar:
        while True:
            if writer is not None and loop.step % writer_every == 0:
                if written != loop.step:
                    writer.write(loop.step, loop.state)
                    written = loop.step
            if signals.caught is not None:
                save()
                name = signal.Signals(signals.caught).name
                raise RunInterrupted(
                    f"{name} at step {loop.step} of {last}; "
                    + (f"{path} is saved." if path else "no `checkpoint` was given."),
                    run=result(),
                    signal=signals.caught,
                )
            due = checkpoint_every is not None and loop.step % checkpoint_every == 0
            if loop.step >= last and loop.recorded():
                break
            if due and loop.step > first and loop.recorded():
                save()
            stop = min([last, *(next_multiple(loop.step, n) for n in intervals)])
            try:
                loop.advance(stop)
            except SimulationDiverged as error:
                error.run = result()
                if path is not None:
                    loop.save(path.with_name(path.name + ".diverged"))
                raise
            bar.update(loop.step - start - bar.n)
            if fs_per_step is not None and loop.step_seconds:
                pace = (loop.step - first) / loop.step_seconds
                bar.set_postfix_str(f"{pace * fs_per_step * 0.0864:.3g} ns/day")
    save()
    return result()


def _check(steps: int, start: int, **intervals: int | None) -> None:
    for name, value in {"steps": steps, "start": start}.items():
        if int(value) != value or value < 0:
            raise ValueError(f"`{name}` must be a whole number >= 0; got {value}.")
    if start + steps >= 2**31 - 1:
        raise ValueError("`start + steps` must stay below 2**31 - 1.")
    for name, value in intervals.items():
        if value is not None and (int(value) != value or value < 1):
            raise ValueError(f"`{name}` must be a whole number >= 1; got {value}.")
