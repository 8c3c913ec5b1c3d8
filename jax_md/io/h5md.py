"""H5MD trajectories that survive the death of their writer.

The layout is that of H5MD 1.1: ``/particles/<group>`` with ``position``, ``velocity``,
``force`` and ``box/edges``, ``/observables/<name>``, each a group of ``step``, ``time``
and ``value``. All of them share one ``step``, which is written last: its length is the
number of complete frames, and readers look no further. The file is made under another
name and renamed, and frames are appended in HDF5's single-writer-multiple-readers mode:
metadata then reach the file in an order that leaves it readable at any moment.

Source:
    P. de Buyl, P. H. Colberg, F. Höfling, Comput. Phys. Commun. 185, 1546 (2014),
    doi:10.1016/j.cpc.2014.01.018.
"""

import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ._extras import need
from .frame import Extract, Frame, checked_path, refuse_step_back
from .h5md_layout import elements, is_open_for_writing, make_elements, rows_of
from .h5md_source import H5MDSource

LIBVER = ("v110", "v110")  # the oldest format that knows single-writer mode
COPIED_FRAMES = 64


class H5MDWriter:
    """Append frames to an H5MD file; a context manager.

    Args:
        path: The file.
        mode: ``"w"`` replaces a file, ``"x"`` refuses to, ``"a"`` continues it.
        fields: Which of ``position``, ``velocity`` and ``force`` to write.
        box: The box of states that have none (NVE, NVT): scalar, ``[d]`` or ``[d, d]``
            with lattice vectors as columns, or a function of the state.
        fractional_coordinates: Whether positions of the state are fractions of the box;
            real ones are written.
        pbc: Which directions are periodic; all of them, if there is a box, by default.
        dt: Length of a step, for ``time``; without it the time is the step.
        observables: Functions of the state by name, evaluated at each frame.
        species: ``[n]`` integers.
        mass: ``[n]`` or scalar.
        charge: ``[n]`` or scalar.
        group: Name of the particles group.
        author: Name of the author, kept in the file.
        compression: ``"gzip"``, ``"lzf"`` or None.

    Raises:
        ImportError: If h5py is missing.
        FileExistsError: If ``mode="x"`` and there is a file.
        ValueError: If an option is wrong, or a file to continue has another layout.
    """

    def __init__(
        self,
        path: str | Path,
        mode: str = "w",
        *,
        fields: Iterable[str] = ("position", "velocity"),
        box: Any = None,
        fractional_coordinates: bool = False,
        pbc: Any = None,
        dt: float | None = None,
        observables: Mapping[str, Callable] | None = None,
        species: Any = None,
        mass: Any = None,
        charge: Any = None,
        group: str = "all",
        author: str = "unknown",
        compression: str | None = None,
    ):
        self._h5py = need("h5py", "`io.H5MDWriter`")
        self._path = checked_path(path, mode)
        self._extract = Extract(
            fields=fields,
            box=box,
            fractional_coordinates=fractional_coordinates,
            dt=dt,
            observables=observables,
        )
        self._static = {"species": species, "mass": mass, "charge": charge}
        self._pbc, self._group, self._author = pbc, group, author
        self._compression = compression
        self._file: Any = None
        self._values: dict[str, Any] = {}
        self._last: int | None = None
        self._closed = False
        if mode == "a" and self._path.is_file():
            self._continue(None)

    def write(
        self,
        step: int,
        state: Any,
        *,
        time: float | None = None,
        observables: Mapping[str, Any] | None = None,
    ) -> None:
        """Append a frame; when this returns, a reader sees it.

        Args:
            step: Step index, larger than that of the frame before.
            state: A state with ``.position`` ``[n, d]``, or the positions themselves.
            time: Overrides ``step * dt``.
            observables: Values by name, the same names in every frame.

        Raises:
            ValueError: If the step does not increase, or the frame does not have the
                shapes and names of the first one.
        """
        if self._closed:
            raise ValueError(f"the writer of {self._path} is closed.")
        refuse_step_back(step, self._last)
        frame = self._extract(step, state, time, observables)
        if not self._file:
            fixed = not self._extract.box_changes(state)
            self._create(frame, fixed_box=fixed)
            self._open()
        if not self._file.swmr_mode:
            self._file.swmr_mode = True
        values = _values(frame, self._has_edges)
        self._check(values)
        for name, dataset in self._values.items():
            _append(dataset, values[name])
        _append(self._time, frame.step if frame.time is None else frame.time)
        _append(self._step, frame.step)  # last: it says that the frame is complete
        self._last = frame.step

    def truncate(self, step: int) -> None:
        """Drop all frames after `step`, so that a restart writes none twice."""
        if self._last is not None and self._last > step:
            self._continue(step)

    def close(self) -> None:
        """Close the file."""
        self._closed = True
        if self._file is not None:
            self._file.close()
            self._file = None

    def __enter__(self) -> "H5MDWriter":
        return self

    def __exit__(self, *error: Any) -> None:
        self.close()

    @property
    def _has_edges(self) -> bool:
        return "box/edges" in self._values

    def _create(self, frame: Frame, fixed_box: bool) -> None:
        n, d = frame.position.shape
        pbc = frame.box is not None if self._pbc is None else self._pbc
        boundary = np.where(np.broadcast_to(pbc, (d,)), "periodic", "none")
        partial = self._path.with_name(f".{self._path.name}.{os.getpid()}.partial")
        with self._h5py.File(partial, "w", libver=LIBVER) as file:
            about = file.create_group("h5md")
            about.attrs["version"] = np.array([1, 1])
            about.create_group("author").attrs["name"] = np.bytes_(self._author)
            creator = about.create_group("creator")
            creator.attrs["name"] = np.bytes_("jax_md")
            creator.attrs["version"] = np.bytes_("0.1")
            particles = file.create_group(f"particles/{self._group}")
            box = particles.create_group("box")
            box.attrs["dimension"] = d
            box.attrs["boundary"] = boundary.astype("S8")
            if fixed_box and frame.box is not None:
                box["edges"] = rows_of(frame.box)
            for name, value in self._static.items():
                if value is not None:
                    particles[name] = np.broadcast_to(np.asarray(value).squeeze(), (n,))
            values = _values(frame, not fixed_box)
            time = np.float64 if frame.time is not None else np.int64
            make_elements(
                file,
                self._group,
                {k: (v.shape, v.dtype) for k, v in values.items()},
                time,
                self._compression,
            )
        os.replace(partial, self._path)

    def _open(self) -> None:
        self._file = self._h5py.File(self._path, "r+", libver=LIBVER)
        self._values, self._step, self._time = elements(self._file, self._group)
        self._last = int(self._step[-1]) if len(self._step) else None

    def _continue(self, step: int | None) -> None:
        """Open a file for appending, without the frames after `step`.

        A file that was not closed, or that has something to drop, is copied and
        renamed, so that there is no moment at which a kill would harm it. (HDF5 itself
        refuses to append to a file that was not closed.)
        """
        if self._file is not None:
            self._file.close()
            self._file = None
        source = H5MDSource(self._path, self._group)
        steps = source.steps
        keep = len(steps) if step is None else int(np.sum(steps <= step))
        found, _, _ = elements(source.file, self._group)
        whole = all(len(d) == keep for d in found.values())
        if not whole or keep < len(steps) or is_open_for_writing(self._path):
            partial = self._path.with_name(f".{self._path.name}.{os.getpid()}.partial")
            with self._h5py.File(partial, "w", libver=LIBVER) as target:
                _copy(source.file, target, self._group, keep)
            source.close()
            os.replace(partial, self._path)
        source.close()
        self._open()

    def _check(self, values: dict[str, np.ndarray]) -> None:
        if set(values) != set(self._values):
            raise ValueError(
                f"every frame of {self._path} must hold {sorted(self._values)}; got "
                f"{sorted(values)}."
            )
        for name, value in values.items():
            if value.shape != self._values[name].shape[1:]:
                raise ValueError(
                    f"`{name}` must have shape {self._values[name].shape[1:]}, as in "
                    f"the other frames of {self._path}; got {value.shape}."
                )


def _values(frame: Frame, edges: bool) -> dict[str, np.ndarray]:
    found = {"position": frame.position}
    if frame.velocity is not None:
        found["velocity"] = frame.velocity
    if frame.force is not None:
        found["force"] = frame.force
    if edges:
        if frame.box is None:
            raise ValueError(f"the state of step {frame.step} has no box, others had.")
        found["box/edges"] = rows_of(frame.box)
    return found | {f"observables/{k}": v for k, v in frame.observables.items()}


def _append(dataset: Any, value: Any) -> None:
    count = len(dataset)
    dataset.resize(count + 1, axis=0)
    dataset[count] = value
    dataset.flush()


def _copy(source: Any, target: Any, group: str, keep: int) -> None:
    found, step, time = elements(source, group)
    source.copy("h5md", target)
    particles = target.create_group(f"particles/{group}")
    for item in source[f"particles/{group}"].values():
        if not hasattr(item, "keys"):
            source.copy(item, particles)
    box = particles.create_group("box")
    for name, value in source[f"particles/{group}/box"].attrs.items():
        box.attrs[name] = value
    if "box/edges" not in found and "edges" in source[f"particles/{group}/box"]:
        box["edges"] = source[f"particles/{group}/box/edges"][()]
    make_elements(
        target,
        group,
        {k: (d.shape[1:], d.dtype) for k, d in found.items()},
        time.dtype,
        found["position"].compression,
    )
    made, new_step, new_time = elements(target, group)
    pairs = [(d, made[k]) for k, d in found.items()]
    for old, new in [*pairs, (time, new_time), (step, new_step)]:
        new.resize(keep, axis=0)
        frames = max(1, min(keep, COPIED_FRAMES))
        for first in range(0, keep, frames):
            new[first : first + frames] = old[first : min(keep, first + frames)]
