"""Momenta to start from."""

from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array

from .operators import canonicalize_mass, dispatch_by_state, noise, safe_sqrt, spread

T = TypeVar("T", bound=Any)  # a state: a dataclass with the fields that are used


@dispatch_by_state
def initialize_momenta(state: T, key: Array, kT: Any, *, center: bool = True) -> T:
    r"""Draw Maxwell-Boltzmann momenta, normal with variance :math:`m k_B T`.

    Args:
        state: State with canonical masses.
        key: Random key; each leaf of the positions gets one of its own.
        kT: Temperature (energy).
        center: Whether to take off the mean momentum, so that the total is zero. A
            single particle keeps its momentum in either case.
    """
    leaves, structure = jax.tree.flatten(state.position)
    keys = jax.tree.unflatten(structure, list(jax.random.split(key, len(leaves))))

    def draw(key: Array, R: Any, m: Any) -> Array:
        dtype = jnp.result_type(R)
        width = safe_sqrt(jnp.asarray(m, dtype) * jnp.asarray(kT, dtype))
        p = width * noise(key, R)
        if center and p.ndim and p.shape[0] > 1:
            p = p - jnp.mean(p, axis=0, keepdims=True)
        return p

    mass = spread(state.mass, state.position)
    return state.set(momentum=jax.tree.map(draw, keys, state.position, mass))


def canonicalize_momenta(state: T, momenta: Any) -> T:
    """Set the momenta of a state to given ones, as they are.

    Args:
        state: State to change.
        momenta: Momenta of the structure of the positions; None leaves the state.

    Raises:
        ValueError: If the shapes are not those of the positions.
    """
    if momenta is None:
        return state
    leaves, structure = jax.tree.flatten(state.position)
    given = jax.tree.leaves(momenta)
    expected = [jnp.shape(R) for R in leaves]
    if [jnp.shape(p) for p in given] != expected:
        raise ValueError(
            f"`momenta` must have the shape of the positions, {expected}; got "
            f"{[jnp.shape(p) for p in given]}."
        )
    pairs = zip(given, leaves, strict=True)
    cast = [jnp.asarray(p, jnp.result_type(R)) for p, R in pairs]
    return state.set(momentum=jax.tree.unflatten(structure, cast))


def start(
    state: T, key: Array, kT: Any, momenta: Any = None, *, center: bool = True
) -> T:
    """Make masses canonical and set the momenta: the given ones, or drawn at `kT`."""
    state = canonicalize_mass(state)
    if momenta is not None:
        return canonicalize_momenta(state, momenta)
    # Passed on only where asked for: versions for other particles need not know it.
    options = {} if center else {"center": False}
    return initialize_momenta(state, key, kT, **options)
