"""Extended XYZ trajectories, through ASE, one frame appended at a time.

A frame is written with one system call. A reader, or a writer that continues a file,
leaves out a last frame that a killed writer left incomplete.
"""

import io as std_io
import re
import warnings
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ._extras import need
from .ase import from_ase, to_ase
from .frame import Extract, checked_path, refuse_step_back
from .structure import Structure

STEP = re.compile(rb"\bstep=(-?\d+)")
TIME = re.compile(rb"\btime=([-+.\deE]+)")


class XYZWriter:
    """Append frames to an extended XYZ file; a context manager.

    ASE writes eight decimals, which is enough to look at but not to continue from: for
    numbers to the last bit use `H5MDWriter` or a checkpoint. Velocities are stored as
    momenta, so `mass` matters.

    Args:
        path: The file.
        mode: ``"w"`` replaces a file, ``"x"`` refuses to, ``"a"`` continues it.
        fields: Which of ``position``, ``velocity`` and ``force`` to write.
        box: The box of states that have none: scalar, ``[d]`` or ``[d, d]`` with
            lattice vectors as columns, or a function of the state.
        fractional_coordinates: Whether positions of the state are fractions of the box;
            real ones are written.
        pbc: Which directions are periodic; all of them, if there is a box, by default.
        dt: Length of a step, for ``time``.
        observables: Functions of the state by name, evaluated at each frame.
        species: ``[n]`` atomic numbers.
        symbols: Chemical symbols, one an atom, instead of `species`.
        mass: ``[n]`` or scalar.

    Raises:
        ImportError: If ase is missing.
        FileExistsError: If ``mode="x"`` and there is a file.
        ValueError: If an option is wrong.
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
        symbols: Iterable[str] | None = None,
        mass: Any = None,
    ):
        need("ase", "`io.XYZWriter`")
        self._path = checked_path(path, mode)
        self._extract = Extract(
            fields=fields,
            box=box,
            fractional_coordinates=fractional_coordinates,
            dt=dt,
            observables=observables,
        )
        self._pbc, self._species, self._mass = pbc, species, mass
        self._symbols = None if symbols is None else tuple(symbols)
        self._last: int | None = None
        if mode != "a" or not self._path.exists():
            self._path.write_bytes(b"")
        self._file = open(self._path, "r+b", buffering=0)
        self._cut(None)

    def write(
        self,
        step: int,
        state: Any,
        *,
        time: float | None = None,
        observables: Mapping[str, Any] | None = None,
    ) -> None:
        """Append a frame.

        Args:
            step: Step index, larger than that of the frame before.
            state: A state with ``.position`` ``[n, d]``, or the positions themselves.
            time: Overrides ``step * dt``.
            observables: Values by name.

        Raises:
            ValueError: If the step does not increase, or a position is not finite.
        """
        refuse_step_back(step, self._last)
        frame = self._extract(step, state, time, observables)
        n, d = frame.position.shape
        pbc = frame.box is not None if self._pbc is None else self._pbc
        mass = None if self._mass is None else np.asarray(self._mass).reshape(-1)
        structure = Structure(
            position=frame.position,
            box=frame.box,
            species=self._species,
            mass=mass,
            symbols=self._symbols,
            pbc=tuple(bool(p) for p in np.broadcast_to(pbc, (d,))),
        )
        atoms = to_ase(structure)
        if frame.velocity is not None:
            atoms.set_velocities(np.pad(frame.velocity, ((0, 0), (0, 3 - d))))
        if frame.force is not None:
            single = need("ase.calculators.singlepoint", "`io.XYZWriter`")
            atoms.calc = single.SinglePointCalculator(
                atoms, forces=np.pad(frame.force, ((0, 0), (0, 3 - d)))
            )
        atoms.info["step"] = frame.step
        if frame.time is not None:
            atoms.info["time"] = frame.time
        for name, value in frame.observables.items():
            atoms.info[name] = value if value.ndim else value.item()
        text = std_io.StringIO()
        need("ase.io", "`io.XYZWriter`").write(text, atoms, format="extxyz")
        self._file.write(text.getvalue().encode())
        self._last = frame.step

    def truncate(self, step: int) -> None:
        """Drop all frames after `step`, so that a restart writes none twice."""
        self._cut(step)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> "XYZWriter":
        return self

    def __exit__(self, *error: Any) -> None:
        self.close()

    def _cut(self, step: int | None) -> None:
        frames, end = scan(self._path)
        keep = [f for f in frames if step is None or f.step <= step]
        self._file.truncate(keep[-1].end if keep else 0)
        self._file.seek(0, std_io.SEEK_END)
        self._last = keep[-1].step if keep else None


class XYZSource:
    """The reading side; see `Trajectory`."""

    def __init__(self, path: Path):
        self._frames, end = scan(path)
        size = path.stat().st_size
        if end < size:
            warnings.warn(
                f"the last frame of {path} is incomplete and left out; its writer was "
                "killed or is still at it.",
                stacklevel=4,
            )
        if size and not self._frames and end == size:
            raise ValueError(f"{path} holds no frame.")
        self._file = open(path, "rb")
        self._read = need("ase.io", "reading extended XYZ").read
        self.steps = np.asarray([f.step for f in self._frames], np.int64)
        times = [f.time for f in self._frames]
        self.times = None if None in times or not times else np.asarray(times)
        self.names: tuple[str, ...] = ("position",)
        self.static: dict[str, Any] = {}
        if self._frames:
            first = self._contents(0)
            self.names = tuple(k for k, v in first.items() if v is not None)
            structure = from_ase(self._atoms(0))
            self.static = {
                name: getattr(structure, name)
                for name in ("species", "mass", "charge", "symbols", "pbc")
            }

    def stack(self, name: str, rows: np.ndarray) -> np.ndarray | None:
        """Parse the rows that are asked for."""
        if name not in self.names:
            return None
        return np.stack([self._contents(int(row))[name] for row in rows])

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _atoms(self, row: int) -> Any:
        frame = self._frames[row]
        self._file.seek(frame.begin)
        text = self._file.read(frame.end - frame.begin).decode()
        return self._read(std_io.StringIO(text), format="extxyz")

    def _contents(self, row: int) -> dict[str, Any]:
        atoms = self._atoms(row)
        structure = from_ase(atoms)
        results = dict(atoms.calc.results) if atoms.calc is not None else {}
        force = results.pop("forces", None)
        if np.shape(results.get("stress")) == (6,):  # the format has its own notation
            voigt = need("ase.stress", "reading extended XYZ")
            results["stress"] = voigt.voigt_6_to_full_3x3_stress(results["stress"])
        info = {k: v for k, v in atoms.info.items() if k not in ("step", "time")}
        return {
            "position": structure.position,
            "velocity": structure.velocity,
            "force": force,
            "box": structure.box,
            **{k: np.asarray(v) for k, v in (results | info).items()},
        }


class Place:
    """Where a frame is in the file."""

    __slots__ = ("begin", "end", "step", "time")

    def __init__(self, begin: int, end: int, step: int, time: float | None):
        self.begin, self.end, self.step, self.time = begin, end, step, time


def scan(path: Path) -> tuple[list[Place], int]:
    """Find the complete frames of a file, and where the last of them ends.

    Raises:
        ValueError: If the file is not in XYZ format.
    """
    frames: list[Place] = []
    end = 0
    with open(path, "rb") as file:
        while head := file.readline():
            if not head.strip() and head.endswith(b"\n"):
                end = file.tell() if end == file.tell() - len(head) else end
                continue
            begin = file.tell() - len(head)
            if not head.strip().isdigit():
                raise ValueError(
                    f"{path} is no XYZ trajectory: at byte {begin} a number of atoms "
                    f"was expected; got {head[:40]!r}."
                )
            comment = file.readline()
            last = comment
            for _ in range(int(head)):
                last = file.readline()
            if not last.endswith(b"\n"):
                break
            end = file.tell()
            step, time = STEP.search(comment), TIME.search(comment)
            frames.append(
                Place(
                    begin,
                    end,
                    int(step[1]) if step else len(frames),
                    float(time[1]) if time else None,
                )
            )
    return frames, end
