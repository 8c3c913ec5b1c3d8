"""What forces and stresses say beyond what is known of them beforehand.

Forces of any potential add up to zero, those of a free molecule have no torque, and a
stress is symmetric. Such combinations of data have no variance under any kernel. A
model with noise does not know that they have no noise, either: it takes them for
evidence that there is none, the more the smaller the noise, without limit.
"""

import numpy as np
from jax.core import Tracer

from jax_md import dataclasses

from .observations import Group, Training


def independent(training: Training) -> Training:
    """Leave out combinations of data that are zero for every potential.

    The forces of each structure, and its stress, become orthonormal combinations of
    themselves, as many as the descriptors follow. Fits stay what they are, up to
    rounding, if noise and `jitter` are; the likelihood is that of what the data say.

    Args:
        training: What `prepare` made.

    Returns:
        The same data, with fewer numbers in each structure.

    Raises:
        ValueError: If `training` is traced, as its numbers decide on shapes.
    """
    if training.is_independent:
        return training
    if isinstance(training.y, Tracer):
        raise ValueError(
            "`training` is traced, and how many of its data are independent depends on "
            "their values. Pass `independent(training)`, made outside of `jit`."
        )
    groups, targets, at = [], [], 0
    for group in training.groups:
        g = group.x.shape[0]
        y = np.asarray(training.y)[at : at + g * group.rows].reshape(g, group.rows)
        at += g * group.rows
        group, y = _project(group, y)
        groups.append(group)
        targets.append(y.reshape(-1))
    return dataclasses.replace(
        training,
        groups=tuple(groups),
        y=np.concatenate(targets),
        is_independent=True,
    )


def _project(group: Group, y: np.ndarray) -> tuple[Group, np.ndarray]:
    if group.jacobian is None:
        return group, y
    kinds, columns = [], []
    own = [(kind, count) for kind, count in group.kinds if kind != "energy"]
    data = [y[:, :1]] if group.has_energy else []
    first, at = len(group.kinds) - len(own), 0
    for kind, count in own:
        jacobian = np.asarray(group.jacobian)[..., at : at + count]
        values = y[:, first + at : first + at + count]
        at += count
        axes = _axes(jacobian)
        kinds.append((kind, axes.shape[-1]))
        columns.append(np.einsum("gifq,gqr->gifr", jacobian, axes))
        data.append(np.einsum("gq,gqr->gr", values, axes))
    kept = dataclasses.replace(
        group,
        jacobian=np.concatenate(columns, -1),
        kinds=(*group.kinds[:first], *kinds),
    )
    return kept, np.concatenate(data, 1)


def _axes(jacobian: np.ndarray) -> np.ndarray:
    """Orthonormal directions that descriptors follow, ``[g, q, r]``.

    As many for every structure of a group as for that which has most.
    """
    g, q = jacobian.shape[0], jacobian.shape[-1]
    _, size, rows = np.linalg.svd(jacobian.reshape(g, -1, q), full_matrices=False)
    floor = np.sqrt(np.finfo(size.dtype).eps) * size[:, :1]
    rank = max(1, int(np.max(np.sum(size > floor, 1))))
    return np.swapaxes(rows[:, :rank], 1, 2)
