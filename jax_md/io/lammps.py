"""Potential files in the formats that LAMMPS distributes, read into plain arrays.

Embedded-atom potentials come as *funcfl* (one element, ``.eam``) or *setfl* (several,
``.eam.alloy``; with densities for each pair of elements, ``.eam.fs``). `read_eam` tells
them apart by their content.
"""

import os
import pathlib
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

# Hartree times Bohr radius in eV * Angstrom, with the digits that LAMMPS uses, since
# they are part of what a funcfl file means.
FUNCFL_COULOMB = 27.2 * 0.529

SYMBOLS = (
    "H He Li Be B C N O F Ne Na Mg Al Si P S Cl Ar K Ca Sc Ti V Cr Mn Fe Co Ni Cu "
    "Zn Ga Ge As Se Br Kr Rb Sr Y Zr Nb Mo Tc Ru Rh Pd Ag Cd In Sn Sb Te I Xe Cs Ba "
    "La Ce Pr Nd Pm Sm Eu Gd Tb Dy Ho Er Tm Yb Lu Hf Ta W Re Os Ir Pt Au Hg Tl Pb "
    "Bi Po At Rn Fr Ra Ac Th Pa U Np Pu Am Cm Bk Cf Es Fm Md No Lr Rf Db Sg Bh Hs "
    "Mt Ds Rg Cn Nh Fl Mc Lv Ts Og "
).split()


class EamTables(NamedTuple):
    """Tabulated functions of an embedded-atom potential of ``s`` elements.

    Tables start at zero. Units are those of the file: Angstrom and eV for ``metal``.

    Attributes:
        comment: The comment lines, usually with the citation.
        elements: Chemical symbols, in the order of the tables.
        atomic_number: ``[s]``.
        mass: ``[s]`` (mass).
        lattice_constant: ``[s]`` (length).
        lattice: Name of the ground-state lattice of each element.
        d_rho: Spacing of the embedding tables (density).
        d_r: Spacing of the radial tables (length).
        cutoff: Distance beyond which atoms do not interact (length).
        embedding: Embedding energy of the density, ``[s, n_rho]`` (energy).
        density: Density that an atom of the first element brings to one of the second
            at a distance, ``[s, s, n_r]``.
        pair: Distance times pair energy, ``[s, s, n_r]`` (length * energy).
    """

    comment: str
    elements: tuple[str, ...]
    atomic_number: np.ndarray
    mass: np.ndarray
    lattice_constant: np.ndarray
    lattice: tuple[str, ...]
    d_rho: float
    d_r: float
    cutoff: float
    embedding: np.ndarray
    density: np.ndarray
    pair: np.ndarray


def read_eam(file: Any) -> EamTables:
    """Read an embedded-atom potential.

    Args:
        file: A path, or an open text file.

    Returns:
        The tables; see `EamTables`.

    Raises:
        ValueError: If the file is neither funcfl nor setfl, or ends early.

    Source:
        The formats are described under ``pair_style eam`` in the LAMMPS manual; M. S.
        Daw, M. I. Baskes, Phys. Rev. B 29, 6443 (1984) for the model.
    """
    if isinstance(file, str | os.PathLike):
        name, text = str(file), pathlib.Path(file).read_text(errors="replace")
    else:
        name, text = str(getattr(file, "name", "the file")), file.read()
    lines = text.splitlines()
    if _names(lines) is not None:
        return _read_setfl(name, lines)
    if len(lines) > 2 and _header(lines[1]) and len(lines[2].split()) >= 5:
        return _read_funcfl(name, lines)
    raise ValueError(
        f"`{name}` is no embedded-atom potential: expected a setfl file, whose fourth "
        "line is the number of elements and their names, or a funcfl file, whose "
        "second line is the atomic number, mass, lattice constant and lattice."
    )


def _read_funcfl(name: str, lines: Sequence[str]) -> EamTables:
    number, mass, constant, lattice = _header(lines[1])
    n_rho, d_rho, n_r, d_r, cutoff = _grid(name, lines[2])
    values = _numbers(name, lines[3:])
    _check_count(name, "the functions F(rho), Z(r) and rho(r)", values, n_rho + 2 * n_r)
    embedding, charge, density = np.split(
        values[: n_rho + 2 * n_r], [n_rho, n_rho + n_r]
    )
    known = 0 < number <= len(SYMBOLS)
    return EamTables(
        comment=lines[0].strip(),
        elements=(SYMBOLS[number - 1] if known else str(number),),
        atomic_number=np.array([number]),
        mass=np.array([mass]),
        lattice_constant=np.array([constant]),
        lattice=(lattice,),
        d_rho=d_rho,
        d_r=d_r,
        cutoff=cutoff,
        embedding=embedding[None],
        density=density[None, None],
        pair=FUNCFL_COULOMB * charge[None, None] ** 2,
    )


def _read_setfl(name: str, lines: Sequence[str]) -> EamTables:
    elements = _names(lines)
    assert elements is not None
    s = len(elements)
    if len(lines) < 5:
        raise ValueError(
            f"`{name}` ends before its fifth line, the sizes of the tables."
        )
    n_rho, d_rho, n_r, d_r, cutoff = _grid(name, lines[4])
    starts = [k for k, line in enumerate(lines) if k > 4 and _header(line)]
    if len(starts) != s:
        raise ValueError(
            f"`{name}` names {s} elements ({', '.join(elements)}) but holds the "
            f"headers (number, mass, lattice constant, lattice) of {len(starts)}: "
            "it is truncated or damaged."
        )
    headers = [_header(lines[k]) for k in starts]
    ends = [*starts[1:], len(lines)]
    blocks = [
        _numbers(name, lines[a + 1 : b]) for a, b in zip(starts, ends, strict=True)
    ]
    n_pairs = s * (s + 1) // 2 * n_r
    # An .eam.fs file has a density for each pair of elements. Whichever count fits.
    found = sum(map(len, blocks))
    rows = s if s > 1 and found >= s * (n_rho + s * n_r) + n_pairs else 1
    size = n_rho + rows * n_r
    for element, block in zip(elements, blocks, strict=True):
        last = element == elements[-1]
        _check_count(
            name,
            f"the functions of {element}" + (" and the pairs" if last else ""),
            block,
            size + (n_pairs if last else 0),
        )
    density = np.stack([b[n_rho:size].reshape(rows, n_r) for b in blocks])
    pair = np.zeros((s, s, n_r))
    stored = blocks[-1][size : size + n_pairs].reshape(-1, n_r)
    a, b = np.tril_indices(s)  # row by row, as the file lists them
    pair[a, b] = pair[b, a] = stored
    number, mass, constant, lattice = zip(*headers, strict=True)
    return EamTables(
        comment="\n".join(line.strip() for line in lines[:3]),
        elements=elements,
        atomic_number=np.array(number),
        mass=np.array(mass),
        lattice_constant=np.array(constant),
        lattice=lattice,
        d_rho=d_rho,
        d_r=d_r,
        cutoff=cutoff,
        embedding=np.stack([b[:n_rho] for b in blocks]),
        density=np.broadcast_to(density, (s, s, n_r)).copy(),
        pair=pair,
    )


def _names(lines: Sequence[str]) -> tuple[str, ...] | None:
    """The elements on the fourth line of a setfl file; None if it is none."""
    words = lines[3].split() if len(lines) > 3 else []
    if len(words) < 2 or not words[0].isdigit() or int(words[0]) != len(words) - 1:
        return None
    return tuple(words[1:]) if all(w[0].isalpha() for w in words[1:]) else None


_HEADER = re.compile(r"\s*(\d+)\s+(\S+)\s+(\S+)\s+([A-Za-z]\S*)\s*$")


def _header(line: str) -> Any:
    """Atomic number, mass, lattice constant and lattice; None if it is no header."""
    match = _HEADER.match(line)
    if not match:
        return None
    try:
        mass, constant = (_number(match[k]) for k in (2, 3))
    except ValueError:
        return None
    return int(match[1]), mass, constant, match[4]


def _grid(name: str, line: str) -> tuple[int, float, int, float, float]:
    try:
        n_rho, d_rho, n_r, d_r, cutoff = map(_number, line.split()[:5])
    except ValueError:
        raise ValueError(
            f"`{name}`: expected the sizes of the tables (n_rho, d_rho, n_r, d_r, "
            f"cutoff); got {line!r}."
        ) from None
    return int(n_rho), d_rho, int(n_r), d_r, cutoff


def _number(word: str) -> float:
    return float(word.replace("D", "E").replace("d", "e"))


def _numbers(name: str, lines: Sequence[str]) -> np.ndarray:
    try:
        return np.array([_number(word) for line in lines for word in line.split()])
    except ValueError as error:
        raise ValueError(
            f"`{name}`: expected numbers only in the tables; {error}."
        ) from (None)


def _check_count(name: str, what: str, values: np.ndarray, expected: int) -> None:
    if len(values) < expected:
        raise ValueError(
            f"`{name}` is truncated: {what} take {expected} values, got {len(values)}."
        )
