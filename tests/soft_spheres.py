"""Small systems of soft spheres, summed over all pairs, for tests of dynamics."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jax_md import space


class System(NamedTuple):
    """A configuration and the functions of its space."""

    energy_fn: Callable
    displacement_fn: Callable
    shift_fn: Callable
    position: Any
    box: Any


def pair_sum(displacement_fn: Callable) -> Callable:
    """Sum ``epsilon (1 - r / sigma)^4`` over touching pairs of different particles."""

    def energy_fn(R, sigma=1.0, epsilon=1.0, **kwargs):
        dR = space.map_product(displacement_fn)(R, R, **kwargs)
        square = space.square_distance(dR)
        touching = (square < sigma**2) & ~jnp.eye(len(R), dtype=bool)
        r = jnp.sqrt(jnp.where(touching, square, 1))
        # The power makes second derivatives smooth enough for finite differences.
        return epsilon * jnp.sum(jnp.where(touching, (1 - r / sigma) ** 4, 0)) / 2

    return energy_fn


TILTED = jnp.array([[1.0, 0.2, 0.1], [0.0, 0.9, -0.1], [0.0, 0.0, 1.1]])


def soft_spheres(kind: str, n=8, dim=3, side=2.3, dtype=jnp.float64) -> System:
    """Random positions in a space: free, periodic, general or fractional.

    All perpendicular widths are above 2, twice the range of the spheres, so that the
    energy has no jump at the edge of a minimum image.
    """
    s = jax.random.uniform(jax.random.key(7), (n, dim), dtype)
    if kind == "free":
        box, fns = side, space.free()
    elif kind == "periodic":
        box, fns = side, space.periodic(side)
    else:
        box = (side * TILTED[:dim, :dim]).astype(dtype)
        fns = space.periodic_general(box, fractional_coordinates=kind == "fractional")
    R = s if kind == "fractional" else space.raw_transform(box, s)
    return System(pair_sum(fns[0]), *fns, R, box)


SPACES = ("free", "periodic", "general", "fractional")
