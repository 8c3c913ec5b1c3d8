"""Reading trajectories: frames on demand, slices without loading, stacked fields."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from .frame import Frame
from .structure import Structure

HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"


class Source(Protocol):
    """What a file format has to offer."""

    steps: np.ndarray  # [t]
    times: np.ndarray | None  # [t]
    static: dict[str, Any]  # species, mass, charge, pbc, symbols
    names: tuple[str, ...]  # of what `stack` knows

    def stack(self, name: str, rows: np.ndarray) -> np.ndarray | None:
        """``[len(rows), ...]``, or None if the file has nothing of that name."""
        ...

    def close(self) -> None:
        """Release the file."""
        ...


class Trajectory:
    """Frames of a file, read when they are asked for.

    ``trajectory[i]`` is a `Frame`, ``trajectory[a:b:c]`` another `Trajectory` of the
    same file, ``trajectory["position"]`` an array ``[t, n, d]``; observables are found
    by name in the same way. A context manager.
    """

    def __init__(self, source: Source, rows: np.ndarray | None = None):
        self._source = source
        self._rows = np.arange(len(source.steps)) if rows is None else rows

    @property
    def step(self) -> np.ndarray:
        """``[t]``, the steps of the frames."""
        return self._source.steps[self._rows]

    @property
    def time(self) -> np.ndarray | None:
        """``[t]``, the times of the frames, where the file has them."""
        times = self._source.times
        return None if times is None else times[self._rows]

    @property
    def position(self) -> np.ndarray:
        """``[t, n, d]``, real coordinates."""
        return self["position"]

    @property
    def velocity(self) -> np.ndarray | None:
        """``[t, n, d]``, or None."""
        return self._source.stack("velocity", self._rows)

    @property
    def force(self) -> np.ndarray | None:
        """``[t, n, d]``, or None."""
        return self._source.stack("force", self._rows)

    @property
    def box(self) -> np.ndarray | None:
        """``[t, d, d]``, columns are lattice vectors, or None."""
        return self._source.stack("box", self._rows)

    @property
    def names(self) -> tuple[str, ...]:
        """The names that ``trajectory[name]`` understands."""
        return self._source.names

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[Frame]:
        return (self[i] for i in range(len(self)))

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, str):
            found = self._source.stack(index, self._rows)
            if found is None:
                raise KeyError(f"no {index!r} in this trajectory; it has {self.names}.")
            return found
        rows = self._rows[index]
        return Trajectory(self._source, rows) if rows.ndim else self._frame(rows)

    def _frame(self, row: Any) -> Frame:
        rows = np.asarray(row).reshape(1)

        def one(name: str) -> Any:
            found = self._source.stack(name, rows)
            return None if found is None else found[0]

        known = ("position", "velocity", "force", "box")
        times = self._source.times
        return Frame(
            step=int(self._source.steps[row]),
            time=None if times is None else float(times[row]),
            **{name: one(name) for name in known},
            observables={n: one(n) for n in self.names if n not in known},
        )

    def structure(self, index: int) -> Structure:
        """Return a frame as a `Structure`, for ASE and for files."""
        frame, static = self[index], self._source.static
        mass = static.get("mass")
        momentum = None
        if frame.velocity is not None and mass is not None:
            momentum = frame.velocity * mass[:, None]
        return Structure(
            position=frame.position, box=frame.box, momentum=momentum, **static
        )

    def close(self) -> None:
        """Close the file; slices of this trajectory end with it."""
        self._source.close()

    def __enter__(self) -> "Trajectory":
        return self

    def __exit__(self, *error: Any) -> None:
        self.close()


def read_trajectory(path: str | Path, group: str | None = None) -> Trajectory:
    """Open an H5MD or extended XYZ trajectory.

    A file whose writer was killed is read up to its last complete frame; a file that
    is being written, up to its present one.

    Args:
        path: The file; which format it has is seen from its content.
        group: H5MD: the particles group, if there are several.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no trajectory.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"`path` must name a trajectory; {path} is no file.")
    with open(path, "rb") as file:
        is_hdf5 = file.read(8) == HDF5_SIGNATURE
    if is_hdf5:
        from .h5md_source import H5MDSource

        return Trajectory(H5MDSource(path, group))
    from .xyz import XYZSource

    return Trajectory(XYZSource(path))
