"""The elementary moves that integrators are made of.

=================  ======================================================  ======
operator           move                                                    letter
=================  ======================================================  ======
`kick`             ``p <- p + dt F``                                       B
`drift`            ``R <- shift(R, dt p / m)``                             A
`thermalize`       ``p <- exp(-gamma dt) p + noise``                       O
`refresh`          ``F <- force(R)``
=================  ======================================================  ======

`kick`, `drift` and `thermalize` are `momentum_step`, `position_step` and
`stochastic_step`. They dispatch on the type of ``state.position``, so that a new kind
of particle brings its own by ``@drift.register(RigidBody)``. The plain versions act on
arrays and on any tree of arrays. Parameters are cast to the dtype of what they act on:
a step never changes a dtype, whatever the type of `dt`.

A state is a dataclass with the fields ``position, momentum, force, mass``; `thermalize`
also needs ``rng``.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array

from jax_md import dataclasses, quantity
from jax_md.types import ForceFn, ShiftFn

T = TypeVar("T", bound=Any)  # a state: a dataclass with the fields that are used


class dispatch_by_state:  # noqa: N801 (a decorator, used as a function)
    """A function of a state that depends on the type of ``state.position``.

    Decorates the version for arrays and plain trees. ``register(PositionType)``
    decorates another version and returns it unchanged; it serves subclasses, too.
    """

    def __init__(self, fn: Callable):
        self._fn = fn
        self._registry: dict[type, Callable] = {}
        self.__doc__ = fn.__doc__
        self.__name__ = fn.__name__

    @property
    def fn(self) -> Callable:
        """The version for arrays and plain trees."""
        return self._fn

    def __call__(self, state: Any, *args: Any, **kwargs: Any) -> Any:
        """Call the version for the type of ``state.position``."""
        for kind in type(state.position).__mro__:
            if kind in self._registry:
                return self._registry[kind](state, *args, **kwargs)
        return self._fn(state, *args, **kwargs)

    def register(self, kind: type) -> Callable[[Callable], Callable]:
        """Return a decorator that adds the version for positions of type `kind`."""

        def add(fn: Callable) -> Callable:
            self._registry[kind] = fn
            return fn

        return add


def spread(prefix: Any, tree: Any) -> Any:
    """Repeat the leaves of a tree prefix, such as one mass, over a whole tree."""
    return jax.tree.map(
        lambda leaf, branch: jax.tree.map(lambda _: leaf, branch), prefix, tree
    )


def as_arrays(tree: Any) -> Any:
    """Turn the leaves of a tree into jax arrays, whatever arrays they are."""
    return jax.tree.map(jnp.asarray, tree)


def safe_sqrt(x: Array) -> Array:
    """Square root whose derivative at zero is zero instead of infinite.

    A bath at ``kT = 0`` or without friction makes no noise, and that must not turn the
    gradients with respect to masses into 0 * inf.
    """
    positive = x > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, x, 1)), 0)


def noise(key: Array, like: Any) -> Array:
    """Draw standard normal numbers of the shape and dtype of an array."""
    # Flat: on a CPU, JAX draws the same numbers ten times slower as [n, 3].
    flat = jax.random.normal(key, (jnp.size(like),), jnp.result_type(like))
    return flat.reshape(jnp.shape(like))


def velocity(state: Any) -> Any:
    """Velocities of a state, momentum over mass, leaf by leaf."""
    mass = spread(state.mass, state.momentum)
    return jax.tree.map(lambda p, m: p / jnp.asarray(m, p.dtype), state.momentum, mass)


@dispatch_by_state
def canonicalize_mass(state: T) -> T:
    """Shape masses so that they divide momenta.

    Args:
        state: State whose mass is a number or an array ``[]``, ``[n]`` or ``[n, 1]``,
            or a tree of them that is a prefix of the positions.

    Returns:
        The state with masses ``[]`` or ``[n, 1]`` in the dtype of the positions.

    Raises:
        ValueError: If a mass has another shape.
    """

    def canonical(mass: Any, branch: Any) -> Array:
        leaf = jax.tree.leaves(branch)[0]
        mass = jnp.asarray(mass, jnp.result_type(leaf))
        if mass.ndim == 0 or (mass.ndim == 2 and mass.shape[1] == 1):
            return mass
        if mass.ndim == 1:
            return mass[:, None]
        raise ValueError(
            "`mass` must be a scalar or have the shape [n] or [n, 1]; got "
            f"{mass.shape}."
        )

    return state.set(mass=jax.tree.map(canonical, state.mass, state.position))


@dispatch_by_state
def momentum_step(state: T, dt: Any) -> T:
    """Add the impulse of the forces, ``p <- p + dt F`` (kick, B).

    Args:
        state: State to move.
        dt: Time for which the forces act.
    """

    def kicked(p: Array, f: Array) -> Array:
        return p + jnp.asarray(dt, p.dtype) * f.astype(p.dtype)

    return state.set(momentum=jax.tree.map(kicked, state.momentum, state.force))


@dispatch_by_state
def position_step(state: T, shift_fn: ShiftFn, dt: Any, **kwargs: Any) -> T:
    """Move along the velocities, ``R <- shift(R, dt p / m)`` (drift, A).

    Args:
        state: State to move.
        shift_fn: Shift function of the space, or a tree of them that is a prefix of
            the positions.
        dt: Time for which to move.
        **kwargs: Passed to `shift_fn`.
    """

    def moved(shift: Callable, R: Array, p: Array, m: Any) -> Array:
        dR = jnp.asarray(dt, p.dtype) * p / jnp.asarray(m, p.dtype)
        return shift(R, dR, **kwargs).astype(R.dtype)

    R = state.position
    shift, mass = spread(shift_fn, R), spread(state.mass, R)
    return state.set(position=jax.tree.map(moved, shift, R, state.momentum, mass))


@dispatch_by_state
def stochastic_step(state: T, dt: Any, kT: Any, gamma: Any) -> T:
    r"""Exchange momentum with a bath, exactly (thermalize, O).

    .. math:: p \leftarrow e^{-\gamma dt} p + \sqrt{m k_B T (1 - e^{-2\gamma dt})}\,\xi

    Args:
        state: State to move; its key is split.
        dt: Time in contact with the bath.
        kT: Temperature of the bath (energy), scalar or ``[n, 1]``.
        gamma: Friction rate (1 / time), scalar or ``[n, 1]``, or a tree of them.
    """
    rng, draw = jax.random.split(state.rng)
    leaves, structure = jax.tree.flatten(state.momentum)
    keys = jax.tree.unflatten(structure, list(jax.random.split(draw, len(leaves))))

    def exchanged(p: Array, m: Any, rate: Any, key: Array) -> Array:
        m, T, x = (jnp.asarray(y, p.dtype) for y in (m, kT, rate))
        x = x * jnp.asarray(dt, p.dtype)
        # expm1: 1 - exp(-2x) would lose most digits where the friction is weak.
        width = safe_sqrt(-m * T * jnp.expm1(-2 * x))
        return jnp.exp(-x) * p + width * noise(key, p)

    mass, rate = spread(state.mass, state.momentum), spread(gamma, state.momentum)
    momentum = jax.tree.map(exchanged, state.momentum, mass, rate, keys)
    return state.set(momentum=momentum, rng=rng)


kick = momentum_step
drift = position_step
thermalize = stochastic_step


def refresh(state: T, force_fn: ForceFn, **kwargs: Any) -> T:
    """Evaluate the forces at the positions of a state.

    Args:
        state: State to refresh.
        force_fn: Force function.
        **kwargs: Passed to `force_fn`.
    """
    force = force_fn(state.position, **kwargs)
    # Who moves on from these positions comes after the force: a neighbor list is then
    # renewed in place, where it would be copied lest the force read the new one.
    position, force = jax.lax.optimization_barrier((state.position, force))
    return state.set(position=position, force=force)


@dispatch_by_state
def kinetic_energy(state: Any) -> Array:
    """Kinetic energy of a state."""
    return quantity.kinetic_energy(momentum=state.momentum, mass=state.mass)


@dispatch_by_state
def temperature(state: Any) -> Array:
    """Instantaneous temperature of a state, in units of energy."""
    return quantity.temperature(momentum=state.momentum, mass=state.mass)


def velocity_verlet(
    force_fn: ForceFn, shift_fn: ShiftFn, dt: Any, state: T, **kwargs: Any
) -> T:
    """Take one step of velocity Verlet, a symmetric and symplectic step (B A B).

    Args:
        force_fn: Force function, evaluated once.
        shift_fn: Shift function of the space.
        dt: Time step.
        state: State with position, momentum, force (at the position) and mass.
        **kwargs: Passed to `force_fn` and `shift_fn`.

    Source:
        W. C. Swope, H. C. Andersen, P. H. Berens, K. R. Wilson, J. Chem. Phys. 76, 637
        (1982).
    """
    state = kick(state, dt / 2)  # B
    state = drift(state, shift_fn, dt, **kwargs)  # A
    state = refresh(state, force_fn, **kwargs)
    return kick(state, dt / 2)  # B


@dataclasses.dataclass
class Normal:
    """Normal distribution of a given mean and variance."""

    mean: Array
    var: Array

    def sample(self, key: Array) -> Array:
        """Draw one sample of the shape of the mean."""
        mean = jnp.asarray(self.mean)
        return mean + safe_sqrt(jnp.asarray(self.var)) * noise(key, mean)

    def log_prob(self, x: Array) -> Array:
        """Logarithm of the density at `x`, per component."""
        z = jnp.square(x - self.mean) / self.var
        return -(z + jnp.log(2 * jnp.pi * self.var)) / 2
