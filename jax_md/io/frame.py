"""One frame of a trajectory, and how it is taken from the state of a simulation."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .structure import box_matrix

FIELDS = ("position", "velocity", "force")


class Frame(NamedTuple):
    """Plain arrays at one step, in real coordinates.

    Attributes:
        step: The step index.
        time: ``step`` times the time step, or None.
        position: ``[n, d]`` (length).
        velocity: ``[n, d]`` (length / time), or None.
        force: ``[n, d]`` (energy / length), or None.
        box: ``[d, d]`` (length), columns are lattice vectors, or None.
        observables: Scalars and arrays by name.
    """

    step: int
    time: float | None
    position: np.ndarray
    velocity: np.ndarray | None = None
    force: np.ndarray | None = None
    box: np.ndarray | None = None
    observables: Mapping[str, Any] = {}


class Extract:
    """Takes frames from states; the options that all writers share.

    Args:
        fields: Which of ``position``, ``velocity`` and ``force`` to take. A velocity
            is taken from a state without one as ``momentum / mass``.
        box: The box, if the state has none: scalar, ``[d]`` or ``[d, d]``, or a
            function of the state.
        fractional_coordinates: Whether positions of the state are fractions of the box.
        dt: Length of a step, for times.
        observables: Functions of the state whose values go into each frame.
    """

    def __init__(
        self,
        *,
        fields: Iterable[str],
        box: Any,
        fractional_coordinates: bool,
        dt: float | None,
        observables: Mapping[str, Callable] | None,
    ):
        self.fields = tuple(fields)
        if "position" not in self.fields or set(self.fields) - set(FIELDS):
            raise ValueError(
                f"`fields` must hold 'position' and none but {FIELDS}; got "
                f"{self.fields}."
            )
        self.box = box
        self.fractional_coordinates = fractional_coordinates
        self.dt = dt
        self.observables = dict(observables or {})

    def box_changes(self, state: Any) -> bool:
        """Whether each frame has a box of its own."""
        return callable(self.box) or (
            self.box is None and getattr(state, "box", None) is not None
        )

    def __call__(
        self, step: int, state: Any, time: float | None, observables: Mapping | None
    ) -> Frame:
        """Take a frame.

        Raises:
            ValueError: If a position is not finite or not ``[n, d]``, or if something
                that was asked for is missing.
        """
        position = np.asarray(getattr(state, "position", state))
        if position.ndim != 2:
            raise ValueError(
                f"`state.position` must be an array [n, d]; got shape {position.shape}."
            )
        n, d = position.shape
        box = self.box(state) if callable(self.box) else self.box
        box = getattr(state, "box", None) if box is None else box
        box = None if box is None else box_matrix(box, d)
        if self.fractional_coordinates:
            if box is None:
                raise ValueError(
                    "`fractional_coordinates=True` needs a box; give `box=`, an array "
                    "or a function of the state."
                )
            position = position @ box.T.astype(position.dtype)
        bad = ~np.isfinite(position).all(axis=1)
        if bad.any():
            raise ValueError(
                f"positions must be finite to be written; that of particle "
                f"{int(np.argmax(bad))} is not, at step {step}."
            )
        more = {name: fn(state) for name, fn in self.observables.items()}
        return Frame(
            step=int(step),
            time=step * self.dt if time is None and self.dt is not None else time,
            position=position,
            velocity=_velocity(state, n) if "velocity" in self.fields else None,
            force=_rows(state, "force") if "force" in self.fields else None,
            box=box,
            observables={
                k: np.asarray(v) for k, v in {**more, **(observables or {})}.items()
            },
        )


def _rows(state: Any, name: str) -> np.ndarray:
    value = getattr(state, name, None)
    if value is None:
        raise ValueError(
            f"`fields` has {name!r}, but the state, a {type(state).__name__}, has none."
        )
    return np.asarray(value)


def _velocity(state: Any, n: int) -> np.ndarray:
    if getattr(state, "velocity", None) is None and hasattr(state, "momentum"):
        mass = np.asarray(getattr(state, "mass", 1.0))
        momentum = _rows(state, "momentum")
        mass = mass.reshape(-1, 1) if mass.ndim else mass
        return momentum / mass.astype(momentum.dtype)
    return _rows(state, "velocity")


def refuse_step_back(step: int, last: int | None) -> None:
    """Raise if a frame of this step, or of a later one, is there already."""
    if last is not None and step <= last:
        raise ValueError(
            f"steps must increase from frame to frame; step {step} came after {last}. "
            "After a restart call `writer.truncate(step)` with the step it starts from."
        )


def checked_path(path: str | Path, mode: str) -> Path:
    """Check the path and mode of a writer."""
    path = Path(path)
    if mode not in ("w", "x", "a"):
        raise ValueError(f"`mode` must be 'w', 'x' or 'a'; got {mode!r}.")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"the folder {path.parent} of `path` does not exist.")
    if mode == "x" and path.exists():
        raise FileExistsError(f"{path} exists; use `mode='a'` or 'w'.")
    return path
