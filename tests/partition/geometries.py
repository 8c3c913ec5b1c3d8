"""Spaces to partition, with the distances that numpy finds in them."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from jax_md import partition, space


class Geometry(NamedTuple):
    displacement: Callable
    box: Any  # what `neighbor_list` gets
    fractional: bool
    cell: np.ndarray  # lattice vectors as columns
    periodic: np.ndarray  # per axis
    spread: float  # positions fill this multiple of the cell
    wrapped: bool  # ... and lie inside of it

    def sample(self, n: int, seed: int, dtype: Any = jnp.float64) -> Any:
        d = len(self.cell)
        s = np.random.default_rng(seed).uniform(size=(n, d))
        s = s if self.wrapped else (s - 0.3) * self.spread
        return jnp.asarray(s if self.fractional else s @ self.cell.T, dtype)

    def distances(self, R: Any, cell: np.ndarray | None = None) -> np.ndarray:
        """All distances ``[n, n]``; infinite between a particle and itself."""
        cell = self.cell if cell is None else cell
        R = np.asarray(R, float)
        s = R if self.fractional else R @ np.linalg.inv(cell).T
        ds = s[:, None] - s[None]
        ds = ds - np.round(ds) * self.periodic
        D = np.linalg.norm(ds @ cell.T, axis=-1)
        np.fill_diagonal(D, np.inf)
        return D


def _tilted(sides: list[float], d: int) -> np.ndarray:
    tilt = np.array([[0.0, 2.1, -1.7], [0.0, 0.0, 2.4], [0.0, 0.0, 0.0]])
    return np.diag(sides[:d]) + tilt[:d, :d]


def geometry(name: str, d: int) -> Geometry:
    """One of `NAMES` in ``d`` dimensions; a cutoff of 2.4 has cells in most of them."""
    all_axes, cube = np.ones(d), 10.0 * np.eye(d)
    uneven = np.array([5.5, 19.0, 11.0][:d])
    sides = [9.0, 10.0, 11.0]
    if name == "free":
        return Geometry(space.free()[0], None, False, cube, 0 * all_axes, 1.5, False)
    if name == "free in a box":
        return Geometry(space.free()[0], 10.0, False, cube, 0 * all_axes, 2.5, False)
    if name == "periodic":
        fn = space.periodic(10.0)[0]
        return Geometry(fn, 10.0, False, cube, all_axes, 1.0, True)
    if name == "outside the box":
        fn = space.periodic(10.0)[0]
        return Geometry(fn, 10.0, False, cube, all_axes, 12.0, False)
    if name == "uneven":  # fewer than three cells along the first axis
        fn = space.periodic(uneven)[0]
        return Geometry(fn, uneven, False, np.diag(uneven), all_axes, 1.0, True)
    if name == "small":  # the cutoff is close to half the box
        fn = space.periodic(5.0)[0]
        return Geometry(fn, 5.0, False, 5.0 * np.eye(d), all_axes, 1.0, True)
    if name == "huge":
        fn = space.periodic(1e4)[0]
        return Geometry(fn, 1e4, False, 1e4 * np.eye(d), all_axes, 1e-3, False)
    if name == "slab":
        pbc = (True,) * (d - 1) + (False,)
        fn = space.periodic(10.0, pbc=pbc)[0]
        return Geometry(fn, 10.0, False, cube, np.array(pbc, float), 2.5, False)
    if name == "fractional":
        fn = space.periodic_general(10.0)[0]
        return Geometry(fn, 10.0, True, cube, all_axes, 1.0, True)
    cell = _tilted(sides, d)
    if name == "triclinic":
        fn = space.periodic_general(cell)[0]
        return Geometry(fn, cell, True, cell, all_axes, 1.0, True)
    if name == "triclinic outside":
        fn = space.periodic_general(cell, wrapped=False)[0]
        return Geometry(fn, cell, True, cell, all_axes, 5.0, False)
    if name == "triclinic real":
        fn = space.periodic_general(cell, fractional_coordinates=False)[0]
        return Geometry(fn, cell, False, cell, all_axes, 1.0, True)
    raise KeyError(name)


NAMES = (
    "free",
    "free in a box",
    "periodic",
    "outside the box",
    "uneven",
    "small",
    "huge",
    "slab",
    "fractional",
    "triclinic",
    "triclinic outside",
    "triclinic real",
)


def pair_matrix(neighbors: Any) -> np.ndarray:
    """Which pairs an `idx` holds, ``[n, n]``; each entry must be there once."""
    n, idx = neighbors.n, np.asarray(neighbors.idx)
    assert idx.dtype == np.int32
    if neighbors.format is partition.Dense:
        assert idx.shape == (n, neighbors.max_occupancy)
        i, j = np.repeat(np.arange(n), idx.shape[1]), idx.reshape(-1)
        valid = j < n
        assert np.all(np.diff((idx < n).astype(int), axis=1) <= 0), "not packed"
    else:
        assert idx.shape == (2, neighbors.max_occupancy)
        i, j = idx
        valid = i < n
        assert np.all((j < n) == valid)
        if neighbors.format is partition.OrderedSparse:
            assert np.all(i[valid] < j[valid])
    count = np.zeros((n, n), int)
    np.add.at(count, (i[valid], j[valid]), 1)
    assert count.max(initial=0) <= 1, "a pair is there twice"
    found = count > 0
    return found | found.T if neighbors.format is partition.OrderedSparse else found


def assert_pairs(neighbors: Any, distances: np.ndarray, radius: float) -> None:
    """The list holds the pairs below `radius`, but for what rounding decides."""
    near = distances < radius
    eps = float(np.finfo(neighbors.reference_position.dtype).eps)
    reach = np.abs(np.asarray(neighbors.reference_position)).max(initial=1)
    sure = np.abs(distances - radius) > 30 * eps * max(1.0, reach, radius)
    wrong = (pair_matrix(neighbors) != near) & sure
    assert not wrong.any(), f"{wrong.sum()} of {near.sum()} entries are wrong"
