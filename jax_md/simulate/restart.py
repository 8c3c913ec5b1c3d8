"""The checkpoint of a run: state, list, how the list was made, and records."""

from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jax_md import io

from .neighbors import Allocation, allocate

KIND = "simulate.run"


class Saved(NamedTuple):
    """What is needed to go on as if nothing had happened."""

    state: Any
    neighbors: Any
    allocation: Allocation | None
    step: int
    record_steps: list[int]
    records: list[Any]  # one stacked tree, or nothing
    rebuilds: int
    growths: int


def save(path: Path, saved: Saved) -> None:
    """Write a checkpoint, atomically."""
    how = saved.allocation
    io.save_checkpoint(
        path,
        {
            "state": saved.state,
            "neighbors": jax.tree.leaves(saved.neighbors),
            "allocation": {}
            if how is None
            else {
                "position": jax.tree.leaves(how.position),
                "keywords": dict(how.keywords),
            },
            "record_steps": np.asarray(saved.record_steps, np.int32),
            "records": [jax.tree.leaves(r) for r in saved.records],
        },
        kind=KIND,
        step=saved.step,
        extra_capacity=None if how is None else how.extra_capacity,
        rebuilds=saved.rebuilds,
        growths=saved.growths,
    )


def load(
    path: Path, state: Any, neighbor_fn: Any, neighbors: Any, record_shapes: Any
) -> Saved:
    """Read a checkpoint back.

    Args:
        path: The file.
        state: A state of the same structure.
        neighbor_fn: That of the run, or None.
        neighbors: The list the run was started with, or None.
        record_shapes: A function of a list, giving the structure of a record.

    Raises:
        ValueError: If the file is none of a run, or of a run that differs.
    """
    plain, meta = io.load_checkpoint(path)
    if meta.get("kind") != KIND:
        raise ValueError(f"{path} is a checkpoint, but not one of `simulate.run`.")
    how = None
    if meta["extra_capacity"] is not None:
        if neighbor_fn is None:
            raise ValueError(f"{path} is of a run with a list; give `neighbor_fn`.")
        position = jax.tree.structure(state.position).unflatten(
            plain["allocation"]["position"]
        )
        keywords = plain["allocation"].get("keywords", {})
        how = Allocation(position, meta["extra_capacity"], keywords)
        neighbors = allocate(neighbor_fn, how)
    elif plain.get("neighbors") and neighbors is None:
        raise ValueError(
            f"{path} is of a run that was given `neighbors`; give them again."
        )
    elif not plain.get("neighbors"):
        neighbors = None
    leaves, treedef = jax.tree.flatten(neighbors)
    like = {**plain, "state": state, "neighbors": leaves}
    if not leaves:
        like.pop("neighbors")
    tree, _ = io.load_checkpoint(path, like=like)
    wanted = jax.tree.structure(record_shapes(neighbors))
    records = []
    for stacked in plain.get("records", []):
        if len(stacked) != wanted.num_leaves:
            raise ValueError(
                f"{path} holds records of {len(stacked)} arrays; `observe` now gives "
                f"{wanted.num_leaves}."
            )
        records.append(wanted.unflatten([np.asarray(leaf) for leaf in stacked]))
    return Saved(
        state=tree["state"],
        neighbors=treedef.unflatten(tree.get("neighbors", [])),
        allocation=how,
        step=meta["step"],
        record_steps=[int(s) for s in plain["record_steps"]],
        records=records,
        rebuilds=meta["rebuilds"],
        growths=meta["growths"],
    )
