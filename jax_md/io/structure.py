"""A set of atoms as plain arrays, and its cell in upper-triangular form.

`box` has the lattice vectors as columns, as everywhere in this package. Any cell can be
rotated so that its box is upper triangular, which is the form that neighbor lists take:
with the QR decomposition :math:`b = Q^T u`, positions become ``Q r`` and the box ``u``.
"""

from typing import Any

import numpy as np

from jax_md import dataclasses


@dataclasses.dataclass
class Structure:
    """Atoms in real coordinates; a pytree whose static part is `symbols` and `pbc`.

    Units are those of where it came from: ASE's are Angstrom, eV and atomic mass
    units, hence momenta in ``sqrt(u eV)``.

    Attributes:
        position: ``[n, d]`` (length), real coordinates.
        box: ``[d, d]`` (length), columns are lattice vectors; None without a cell. A
            column of zeros stands for an axis without a lattice vector.
        species: ``[n]`` atomic numbers.
        mass: ``[n]``.
        momentum: ``[n, d]``, or None.
        charge: ``[n]`` (elementary charge), or None.
        symbols: One chemical symbol an atom.
        pbc: Which lattice directions are periodic.
    """

    position: Any
    box: Any = None
    species: Any = None
    mass: Any = None
    momentum: Any = None
    charge: Any = None
    symbols: tuple[str, ...] | None = dataclasses.static_field(default=None)
    pbc: tuple[bool, ...] = dataclasses.static_field(default=(False, False, False))

    @property
    def elements(self) -> tuple[int, ...]:
        """The atomic numbers that occur, in increasing order."""
        return tuple(int(z) for z in np.unique(_species(self)))

    @property
    def labels(self) -> Any:
        """``[n]`` int32, the index of each atom in `elements`.

        This is what energies take as ``species=``.
        """
        return np.unique(_species(self), return_inverse=True)[1].astype(np.int32)

    @property
    def velocity(self) -> Any:
        """``momentum / mass``, or None."""
        if self.momentum is None or self.mass is None:
            return None
        return self.momentum / self.mass[:, None]


def _species(structure: Structure) -> np.ndarray:
    if structure.species is None:
        raise ValueError("`structure.species` is None; give atomic numbers [n].")
    return np.asarray(structure.species)


def box_matrix(box: Any, d: int) -> np.ndarray:
    """Write a scalar, ``[d]`` or ``[d, d]`` box as a matrix.

    Raises:
        ValueError: If `box` has another shape.
    """
    box = np.asarray(box)
    if box.ndim == 0:
        return box * np.eye(d, dtype=box.dtype)
    if box.shape == (d,):
        return np.diag(box)
    if box.shape == (d, d):
        return box
    raise ValueError(
        f"`box` must be a scalar, a vector [{d}] or a matrix [{d}, {d}] whose columns "
        f"are lattice vectors; got shape {box.shape}."
    )


def is_upper_triangular(box: Any) -> bool:
    """Whether everything below the diagonal of a box matrix is exactly zero."""
    box = np.asarray(box)
    return box.ndim < 2 or not np.tril(box, -1).any()


def standard_rotation(box: Any) -> tuple[np.ndarray, np.ndarray]:
    """Rotate a box to upper-triangular form with a positive diagonal.

    Args:
        box: ``[d, d]``, columns are lattice vectors.

    Returns:
        ``(upper, rotation)`` with ``upper = rotation @ box``. The rotation is proper,
        so that a left-handed cell has a negative last diagonal entry.

    Raises:
        ValueError: If the lattice vectors are linearly dependent.
    """
    box = np.asarray(box)
    if is_upper_triangular(box) and (np.diag(box) > 0).all():
        return box, np.eye(len(box), dtype=box.dtype)
    q, upper = np.linalg.qr(box)
    diagonal = np.diag(upper)
    if (np.abs(diagonal) <= 1e-12 * np.abs(box).max()).any():
        raise ValueError(
            "the columns of `box` must be linearly independent lattice vectors; got\n"
            f"{box}"
        )
    sign = np.sign(diagonal)
    sign[-1] *= np.linalg.det(q) * np.prod(sign)  # a rotation, not a reflection
    sign = np.sign(sign)
    upper = np.triu(sign[:, None] * upper)
    return upper.astype(box.dtype), (sign[:, None] * q.T).astype(box.dtype)


def standard_form(structure: Structure) -> Structure:
    """Rotate a structure so that its box is upper triangular.

    Positions and momenta turn with the cell, so distances, energies and scalar
    products are unchanged; fractional positions are, too. A missing lattice vector of
    a non-periodic axis is filled in, orthogonal to the others and longer than the
    structure.

    Args:
        structure: With a box.

    Returns:
        The rotated structure. `standard_rotation` of its completed box gives the
        rotation itself; a structure in standard form is returned as it is.

    Raises:
        ValueError: If there is no box, if the vectors are dependent, or if one is
            missing along a periodic axis.
    """
    if structure.box is None:
        raise ValueError("`structure` has no box; there is nothing to rotate.")
    box = _completed(np.asarray(structure.box), structure)
    upper, rotation = standard_rotation(box)

    def turn(v: Any) -> Any:
        return None if v is None else np.asarray(v) @ rotation.T.astype(v.dtype)

    if (rotation == np.eye(len(box))).all():
        return dataclasses.replace(structure, box=box)
    return dataclasses.replace(
        structure,
        box=upper,
        position=turn(structure.position),
        momentum=turn(structure.momentum),
    )


def _completed(box: np.ndarray, structure: Structure) -> np.ndarray:
    missing = ~box.any(axis=0)
    if not missing.any():
        return box
    if (missing & np.asarray(structure.pbc, bool)).any():
        raise ValueError(
            f"axis {int(np.argmax(missing))} is periodic but has no lattice vector; "
            f"`pbc` is {structure.pbc}, `box` is\n{box}"
        )
    box = box.copy()
    position = np.asarray(structure.position)
    # The left singular vectors beyond the rank span what the lattice vectors do not.
    free = np.linalg.svd(box)[0][:, np.count_nonzero(~missing) :]
    for column, direction in zip(np.flatnonzero(missing), free.T, strict=True):
        direction = direction * (1 if direction.sum() > 0 else -1)
        box[:, column] = direction * (1 + np.ptp(position @ direction))
    return box
