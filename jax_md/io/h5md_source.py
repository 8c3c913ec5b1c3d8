"""Reading H5MD trajectories, those of a killed writer among them."""

from pathlib import Path
from typing import Any

import numpy as np

from ._extras import need
from .h5md_layout import columns_of, elements, is_open_for_writing


class H5MDSource:
    """The reading side; see `Trajectory`."""

    def __init__(self, path: Path, group: str | None):
        h5py = need("h5py", "reading H5MD")
        self.file = _open_for_reading(h5py, path)
        groups = list(self.file.get("particles", ()))
        if group is None and len(groups) == 1:
            group = groups[0]
        if group is None or group not in groups:
            self.file.close()
            raise ValueError(
                f"`group` must be one of the particles groups of {path}, {groups}; got "
                f"{group!r}."
                if groups
                else f"{path} is an HDF5 file without `/particles`: no H5MD trajectory."
            )
        self.group = group
        particles = self.file[f"particles/{group}"]
        self._found, self._step, self._time = elements(self.file, group)
        if "position" not in self._found:
            self.file.close()
            raise ValueError(f"{path} has no positions in group {group!r}.")
        self.steps = _counter(self._step, len(self._found["position"]))
        count = len(self.steps)
        self.times = None if self._time is None else _counter(self._time, count)
        self.static = {
            name: particles[name][()] if name in particles else None
            for name in ("species", "mass", "charge")
        }
        boundary = np.asarray(particles["box"].attrs["boundary"]).astype(str).ravel()
        self.static["pbc"] = tuple(bool(b == "periodic") for b in boundary)
        self._fixed = particles["box"].get("edges")
        if isinstance(self._fixed, h5py.Group):
            self._fixed = None
        names = [k.removeprefix("observables/") for k in self._found if "box" not in k]
        has_box = self._fixed is not None or "box/edges" in self._found
        self.names = (*names, "box") if has_box else tuple(names)

    def stack(self, name: str, rows: np.ndarray) -> np.ndarray | None:
        """Read the rows of one element."""
        if name == "box":
            if self._fixed is not None:
                box = columns_of(self._fixed[()])
                return np.broadcast_to(box, (len(rows), *box.shape))
            name = "box/edges"
        dataset = self._found.get(name, self._found.get(f"observables/{name}"))
        if dataset is None:
            return None
        if len(dataset) < len(self.steps):
            raise ValueError(
                f"`{name}` has {len(dataset)} frames and `position` {len(self.steps)}; "
                "only elements with the steps of the positions can be read."
            )
        found = _take(dataset, rows)
        return columns_of(found) if name == "box/edges" else found

    def close(self) -> None:
        """Close the file."""
        self.file.close()


def _open_for_reading(h5py: Any, path: Path) -> Any:
    # Single-writer mode only where it is needed: it reads a damaged part again and
    # again, as if a writer were about to complete it.
    try:
        if is_open_for_writing(path):
            return h5py.File(path, "r", libver="latest", swmr=True)
        return h5py.File(path, "r")
    except OSError as error:
        raise ValueError(f"{path} is damaged or no HDF5 file: {error}") from error


def _counter(dataset: Any, count: int) -> np.ndarray:
    if dataset.ndim == 0:  # H5MD also allows an interval
        offset = dataset.attrs.get("offset", 0)
        return offset + dataset[()] * np.arange(count)
    return dataset[: min(count, len(dataset))]


def _take(dataset: Any, rows: np.ndarray) -> np.ndarray:
    if not len(rows):
        return np.zeros((0, *dataset.shape[1:]), dataset.dtype)
    stride = np.diff(rows)
    if len(rows) == 1:
        return dataset[int(rows[0])][None]
    if (stride == stride[0]).all() and stride[0] > 0:
        return dataset[int(rows[0]) : int(rows[-1]) + 1 : int(stride[0])]
    unique, inverse = np.unique(rows, return_inverse=True)  # h5py wants them sorted
    return dataset[unique][inverse]
