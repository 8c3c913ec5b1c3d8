"""The sums under symmetry functions, over lists of any format or all particles."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float

from jax_md import partition, space, util

from .angular_sums import Shapes, angular_sums


class Kinds:
    """Which neighbors belong to which block."""

    def __init__(self, species: Any, types: Sequence[int] | None):
        if species is not None and np.ndim(species) != 1:
            raise ValueError(
                "`species` must be None or integer labels [n]; got shape "
                f"{np.shape(species)}."
            )
        self.species = species
        if types is None and species is not None:
            if isinstance(species, Tracer):
                raise ValueError(
                    "`species` is traced, so that the number of its labels is not "
                    "known. Name them: `types=(0, 1)`."
                )
            types = np.unique(np.asarray(species)).tolist()
        self.types = None if types is None else tuple(types)

    def __call__(self, species: Any, n: int, dtype: Any) -> Float[Array, "n t"]:
        """One where a particle is of a type, ``[n, types]``."""
        labels = self.species if species is None else species
        if self.types is None or len(self.types) == 1 and labels is None:
            if labels is not None:
                raise ValueError(
                    "`species` is given at call time, but the symmetry functions were "
                    "made without. Name the labels there: `types=(0, 1)`."
                )
            return jnp.ones((n, 1), dtype)
        if labels is None or np.shape(labels) != (n,):
            got = "None" if labels is None else f"shape {np.shape(labels)}"
            raise ValueError(
                f"`species` must hold a label for each of the {n} particles; got {got}."
            )
        same = jnp.asarray(labels)[:, None] == jnp.asarray(self.types)
        return same.astype(dtype)


def _vector(name: str, value: Any) -> Any:
    value = value if util.is_array(value) else np.asarray(value)
    if value.ndim != 1 or len(value) == 0:
        raise ValueError(
            f"`{name}` must be a vector with one entry for each function; got shape "
            f"{value.shape}."
        )
    return value


class Radial:
    """Sums over neighbors: a block for each type."""

    def __init__(self, displacement, species, etas, cutoff_distance, types, cutoff_fn):
        self.metric = space.canonicalize_displacement_or_metric(displacement)
        self.kinds = Kinds(species, types)
        self.etas = _vector("etas", etas)
        self.cutoff = partial(cutoff_fn, cutoff_distance=cutoff_distance)

    def __call__(self, R, neighbor, *, species=None, **kwargs) -> Array:
        """Descriptors ``[n, types * etas]``."""
        n = R.shape[0]
        kinds = self.kinds(species, n, R.dtype)
        etas = jnp.asarray(self.etas, R.dtype)
        metric = partial(self.metric, **kwargs)

        def of_pair(dr: Array, etas: Array) -> Array:
            dr = jnp.asarray(dr, R.dtype)
            return jnp.exp(-etas * (dr * dr)[..., None]) * self.cutoff(dr)[..., None]

        if isinstance(neighbor, partition.NeighborList):

            def add(x: Any, y: Any, etas: Array) -> Array:
                return y[1][:, None] * of_pair(metric(x[0], y[0]), etas)

            out = partition.neighbor_sum(add, (R, kinds), etas, neighbor)
        else:
            others = _others(n)
            dr = space.map_neighbor(metric)(R, R[others])
            out = jnp.einsum("nkt,nkm->ntm", kinds[others], of_pair(dr, etas))
        return out.reshape(n, -1)


class Angular:
    """Sums over pairs of neighbors: a block for each pair of types."""

    def __init__(
        self, displacement, species, shapes, cutoff_distance, types, cutoff_fn
    ):
        self.displacement = displacement
        self.kinds = Kinds(species, types)
        names = ("etas", "lambdas", "zetas")
        shapes = Shapes(*(_vector(a, x) for a, x in zip(names, shapes, strict=True)))
        if len({len(x) for x in shapes}) > 1:
            raise ValueError(
                "`etas`, `lambdas` and `zetas` vary together and must be of one "
                f"length; got {[len(x) for x in shapes]}."
            )
        self.shapes = shapes
        self.cutoff_distance = cutoff_distance
        self.cutoff = partial(cutoff_fn, cutoff_distance=cutoff_distance)

    def __call__(self, R, neighbor, *, species=None, **kwargs) -> Array:
        """Descriptors ``[n, pairs of types * etas]``."""
        n = R.shape[0]
        kinds = self.kinds(species, n, R.dtype)
        d = partial(self.displacement, **kwargs)
        if isinstance(neighbor, partition.NeighborList):
            rows = _rows(neighbor)
            valid = rows < n
            # An empty slot shows the particle to itself, which is masked below.
            rows = jnp.where(valid, rows, jnp.arange(n, dtype=rows.dtype)[:, None])
        else:
            rows = _others(n)
            valid = np.ones(rows.shape, bool)
        dR = jnp.asarray(space.map_neighbor(d)(R, R[rows]), R.dtype)
        if dR.ndim != 3:
            raise ValueError(
                "angular symmetry functions need a displacement [d] of two points; the "
                "function given returns a distance."
            )
        dR = jnp.where(valid[..., None], dR, self.cutoff_distance)
        dR, kinds = jnp.swapaxes(dR, 0, 1), kinds[rows.T]
        return angular_sums(dR, kinds, self.shapes, self.cutoff)


def _others(n: int) -> np.ndarray:
    """All particles but itself, for each, ``[n, n - 1]``."""
    return np.arange(n - 1) + (np.arange(n - 1) >= np.arange(n)[:, None])


def _rows(neighbor: partition.NeighborList) -> Array:
    """Rows ``[n, k]`` without self pairs, masked and edited entries respected."""
    if neighbor.rows is not None:
        rows = neighbor.dense_idx
        dense = neighbor.format is partition.Dense
        return rows[:, : neighbor.max_occupancy] if dense else rows
    if neighbor.is_ordered:
        raise ValueError(
            "a masked or edited list of format OrderedSparse holds each pair once and "
            "has no neighbors per particle; use format Dense or Sparse."
        )
    i, j, valid = neighbor.pairs
    n = neighbor.n
    if valid.ndim == 2:
        return jnp.where(valid, j, n)
    i = jnp.where(valid, i, n)
    order = jnp.argsort(i, stable=True)
    i, j = i[order], j[order]
    place = jnp.arange(len(i)) - jnp.searchsorted(i, i)
    width = neighbor.rows_.slots.shape[0]
    return jnp.full((n, width), n, j.dtype).at[i, place].set(j, mode="drop")
