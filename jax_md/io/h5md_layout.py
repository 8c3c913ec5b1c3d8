"""The layout of H5MD files: where what is, and what grows.

H5MD has lattice vectors as rows of ``edges``; `rows_of` and `columns_of` are where that
meets the columns of this package.
"""

from pathlib import Path
from typing import Any

import numpy as np

CHUNK_BYTES = 2**16  # of one chunk; a frame rewrites the chunk that it is in


def make_elements(
    file: Any, group: str, shapes: dict, time: Any, compression: str | None
) -> None:
    """Make the growing datasets of a file, all with one step and one time."""
    step = time_dataset = None
    for name, (shape, dtype) in shapes.items():
        place = file.create_group(_place(group, name))
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        frames = 1 if compression else max(1, min(1024, CHUNK_BYTES // max(1, size)))
        place.create_dataset(
            "value",
            shape=(0, *shape),
            maxshape=(None, *shape),
            chunks=(frames, *shape),
            dtype=dtype,
            compression=compression if shape else None,
        )
        if step is None:
            step = place.create_dataset(
                "step", shape=(0,), maxshape=(None,), chunks=(1024,), dtype=np.int64
            )
            time_dataset = place.create_dataset(
                "time", shape=(0,), maxshape=(None,), chunks=(1024,), dtype=time
            )
        else:
            place["step"], place["time"] = step, time_dataset


def elements(file: Any, group: str) -> tuple[dict[str, Any], Any, Any]:
    """Find the datasets of a file that grow, and the step and time of positions."""
    found: dict[str, Any] = {}
    particles = file[f"particles/{group}"]
    places = {name: particles[name] for name in particles if name != "box"}
    if "edges" in particles.get("box", ()):
        places["box/edges"] = particles["box/edges"]
    places |= {f"observables/{k}": v for k, v in file.get("observables", {}).items()}
    for name, place in places.items():
        if hasattr(place, "keys") and "value" in place and "step" in place:
            found[name] = place["value"]
    position = places.get("position", {})
    return found, position.get("step"), position.get("time")


def _place(group: str, name: str) -> str:
    return name if name.startswith("observables/") else f"particles/{group}/{name}"


def is_open_for_writing(path: Path) -> bool:
    """Whether a writer has an HDF5 file open, or was killed while it had."""
    with open(path, "rb") as file:
        superblock = file.read(12)
    return len(superblock) == 12 and superblock[8] in (2, 3) and superblock[11] != 0


def columns_of(edges: Any) -> np.ndarray:
    """The box, with lattice vectors as columns, of edges."""
    edges = np.asarray(edges)
    if edges.ndim == 1:
        return np.diag(edges)
    return np.swapaxes(edges, -1, -2)


def rows_of(box: np.ndarray) -> np.ndarray:
    """The edges, with lattice vectors as rows, of a box."""
    return np.ascontiguousarray(np.swapaxes(box, -1, -2))
