"""Boxes, positions and a smooth energy shared by the tests of spaces."""

import jax.numpy as jnp
import numpy as np

from jax_md import space

MATRIX = np.array([[2.1, 0.35, -0.2], [0.0, 1.9, 0.25], [0.0, 0.0, 2.3]])
SKEWED = np.array([[2.1, 0.35, -0.2], [0.1, 1.9, 0.25], [-0.15, 0.2, 2.3]])
BOXES = {
    "scalar": np.array(2.2),
    "vector": np.array([2.1, 1.9, 2.3]),
    "triangular": MATRIX,
    "general": SKEWED,
}
# A second box of the same kind, a few percent away.
DEFORMED = {
    "scalar": np.array(2.3),
    "vector": np.array([2.0, 2.05, 2.2]),
    "triangular": MATRIX @ np.array([[1.03, 0.05, 0], [0, 0.97, -0.02], [0, 0, 1.01]]),
    "general": SKEWED + 0.05 * np.random.default_rng(1).normal(size=(3, 3)),
}
FRACTIONS = np.random.default_rng(7).uniform(size=(5, 3))
# Of each pair (i < j) once, so that no displacement is of a point to itself.
I, J = np.triu_indices(len(FRACTIONS), 1)


def as_matrix(box):
    """The box as a matrix, by numpy alone."""
    box = np.asarray(box)
    return box if box.ndim == 2 else np.diag(np.broadcast_to(box, 3))


def energy(displacement_fn):
    """A smooth energy without symmetry, of positions ``[5, 3]``."""
    mapped = space.map_bond(displacement_fn)
    weight = jnp.asarray(1.0 + 0.1 * np.arange(len(I)))

    def energy_fn(R, **kwargs):
        dR = mapped(R[I], R[J], **kwargs)
        bias = jnp.sin(dR @ jnp.array([0.3, -0.2, 0.5], dR.dtype))
        w = weight.astype(dR.dtype)
        return jnp.sum(w * jnp.exp(-jnp.sum(dR**2, axis=-1)) + 0.1 * bias)

    return energy_fn


def central(f, x, step=1e-5):
    """Central differences of `f` in each element of `x`, in the last axes."""
    x = np.asarray(x, float)
    columns = []
    for index in np.ndindex(x.shape):
        change = np.zeros_like(x)
        change[index] = step
        columns.append((np.asarray(f(x + change)) - f(x - change)) / (2 * step))
    return np.reshape(np.stack(columns, axis=-1), columns[0].shape + x.shape)
