"""Structures from and to ASE, and through it every file format that ASE knows.

ASE keeps lattice vectors as rows, this package as columns; `_columns` is the one place
where the two meet.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np

from ._extras import need
from .structure import Structure, box_matrix


def _columns(rows: Any) -> np.ndarray:
    return np.ascontiguousarray(np.asarray(rows).T)


_rows = _columns  # a transposition is its own inverse


def from_ase(atoms: Any, dtype: Any = np.float64) -> Structure:
    """Read an ``ase.Atoms`` as plain arrays.

    Args:
        atoms: An ``ase.Atoms``.
        dtype: Of the floating-point arrays.

    Returns:
        The structure: real coordinates, atomic numbers as species, box columns as
        lattice vectors. `momentum` and `charge` are None where the atoms have none.
        Momenta are in ASE's units.

    Raises:
        ValueError: If a position or the cell is not finite, naming the atom.
    """
    position = np.asarray(atoms.positions, dtype)
    _refuse_non_finite(position, "atoms")
    cell = np.asarray(atoms.cell)
    if not np.isfinite(cell).all():
        raise ValueError(f"the cell must be finite; got\n{cell}")
    charge = atoms.arrays.get("initial_charges")
    momentum = atoms.arrays.get("momenta")
    return Structure(
        position=position,
        box=_columns(cell).astype(dtype) if cell.any() else None,
        species=np.asarray(atoms.numbers, np.int32),
        mass=np.asarray(atoms.get_masses(), dtype),
        momentum=None if momentum is None else np.asarray(momentum, dtype),
        charge=None if charge is None else np.asarray(charge, dtype),
        symbols=tuple(atoms.get_chemical_symbols()),
        pbc=tuple(bool(p) for p in atoms.pbc),
    )


def to_ase(structure: Structure) -> Any:
    """Make an ``ase.Atoms`` of a structure.

    Args:
        structure: In one to three dimensions; missing coordinates become zero and
            missing axes non-periodic. Species that are not given become ``X``.

    Returns:
        The ``ase.Atoms``.

    Raises:
        ImportError: If ase is missing.
        ValueError: If the position is not ``[n, d]`` with ``d <= 3``.
    """
    ase = need("ase", "`io.to_ase`")
    position = np.asarray(structure.position, np.float64)
    if position.ndim != 2 or position.shape[1] > 3:
        raise ValueError(
            f"`position` must have shape [n, d], d <= 3; got {position.shape}."
        )
    n, d = position.shape
    pbc = tuple(structure.pbc)[:d] + (False,) * (3 - d)
    cell = np.zeros((3, 3))
    if structure.box is not None:
        cell[:d, :d] = _rows(box_matrix(structure.box, d))
    numbers = structure.species
    if numbers is None and structure.symbols is None:
        numbers = np.zeros(n, int)
    named: dict[str, Any] = (
        {"symbols": structure.symbols} if numbers is None else {"numbers": numbers}
    )
    atoms = ase.Atoms(positions=_in_space(position), cell=cell, pbc=pbc, **named)
    if structure.mass is not None:
        mass = np.asarray(structure.mass, np.float64)
        atoms.set_masses(np.broadcast_to(mass.reshape(-1), (n,)))
    if structure.momentum is not None:
        atoms.set_momenta(_in_space(structure.momentum))
    if structure.charge is not None:
        charge = np.asarray(structure.charge, np.float64)
        atoms.set_initial_charges(np.broadcast_to(charge, (n,)))
    return atoms


def _in_space(v: Any) -> np.ndarray:
    v = np.asarray(v, np.float64)
    return np.pad(v, ((0, 0), (0, 3 - v.shape[1])))


@overload
def read(path: str | Path, index: int = -1, format: str | None = None) -> Structure: ...
@overload
def read(
    path: str | Path, index: str | slice, format: str | None = None
) -> list[Structure]: ...
def read(
    path: str | Path, index: int | str | slice = -1, format: str | None = None
) -> Structure | list[Structure]:
    """Read one or more structures from any file that ASE reads.

    Args:
        path: The file.
        index: Which frames: an integer, the last one by default, gives a structure; a
            slice or a string such as ``":"`` or ``"::10"`` gives a list.
        format: ASE's name of the format; by default from name and content.

    Returns:
        A `Structure`, or a list of them.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the format is unknown, if the file is truncated or cannot be
            parsed, or if a position is not finite.
        IndexError: If it has no frame `index`.
    """
    ase_io = need("ase.io", "`io.read`")
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"`path` must name a file to read; {path} is none.")
    if path.stat().st_size == 0:
        raise ValueError(f"{path} is empty.")
    _refuse_unknown_format(format)
    try:
        found = ase_io.read(path, index=index, format=format)
    except ase_io.formats.UnknownFileTypeError as error:
        raise ValueError(
            f"the format of {path} is unknown to ASE. Give `format=` one of: {_known()}"
        ) from error
    except Exception as error:
        if isinstance(index, int) and isinstance(error, IndexError | StopIteration):
            frames = _count(ase_io, path, format)
            if frames is not None and not -frames <= index < frames:
                raise IndexError(
                    f"{path} has {frames} frames; `index` is {index}."
                ) from error
        raise ValueError(
            f"{path} could not be read as {format or 'the format that its name says'}; "
            f"it may be truncated. ASE says {type(error).__name__}: {error}"
        ) from error
    frames = found if isinstance(found, list) else [found]
    for number, atoms in enumerate(frames):
        where = f"{path}, frame {number}" if len(frames) > 1 else str(path)
        _refuse_non_finite(atoms.positions, where)
    structures = [from_ase(atoms) for atoms in frames]
    return structures if isinstance(found, list) else structures[0]


def write(
    path: str | Path,
    structure: Structure | Sequence[Structure],
    format: str | None = None,
    **options: Any,
) -> None:
    """Write one or more structures in any format that ASE writes.

    Args:
        path: The file; it is replaced unless ``append=True`` is among the options.
        structure: One, or a sequence of them for formats that hold many.
        format: ASE's name of the format; by default from the name.
        **options: Passed to ``ase.io.write``.

    Raises:
        ValueError: If the format is unknown, or a position is not finite.
        FileNotFoundError: If the folder does not exist.
    """
    ase_io = need("ase.io", "`io.write`")
    path = Path(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"the folder {path.parent} of `path` does not exist.")
    _refuse_unknown_format(format)
    several = not isinstance(structure, Structure)
    frames = [to_ase(s) for s in (structure if several else [structure])]
    for atoms in frames:
        _refuse_non_finite(atoms.positions, "`structure`")
    try:
        ase_io.write(path, frames if several else frames[0], format=format, **options)
    except ase_io.formats.UnknownFileTypeError as error:
        raise ValueError(
            f"no format is known by the name of {path}. Give `format=` one of: "
            f"{_known()}"
        ) from error


def _refuse_non_finite(position: np.ndarray, where: str) -> None:
    bad = ~np.isfinite(position).all(axis=-1)
    if bad.any():
        first = int(np.argmax(bad))
        raise ValueError(
            f"positions must be finite; in {where} particle {first} is at "
            f"{position[first]} ({int(bad.sum())} such in all)."
        )


def _refuse_unknown_format(format: str | None) -> None:
    formats = need("ase.io.formats", "reading and writing structures")
    if format is not None and format not in formats.ioformats:
        raise ValueError(
            f"`format` must be a format of ASE; got {format!r}. Known: {_known()}"
        )


def _known() -> str:
    return ", ".join(sorted(need("ase.io.formats", "a list of formats").ioformats))


def _count(ase_io: Any, path: Path, format: str | None) -> int | None:
    try:
        return len(ase_io.read(path, index=":", format=format))
    except Exception:
        return None
