"""A simulator and a neighbor list with the surface of the real ones."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jax_md import dataclasses
from jax_md.types import Simulator

SIDE = 6.0


@dataclasses.dataclass
class ToyState:
    position: Any
    momentum: Any
    force: Any
    rng: Any


@dataclasses.dataclass
class ToyList:
    """Neighbors within a cutoff and a skin, packed to the left; `N` marks no one."""

    idx: Any
    reference_position: Any
    overflow: Any
    max_occupancy: int = dataclasses.static_field()
    reach: float = dataclasses.static_field()
    skin: float = dataclasses.static_field()

    @property
    def did_buffer_overflow(self):
        return self.overflow

    def update(self, position, **unused):
        moved = separation(position, self.reference_position)
        rebuild = jnp.max(jnp.sum(moved**2, -1)) > (self.skin / 2) ** 2

        def build():
            idx, occupancy = neighbors_of(position, self.reach, self.max_occupancy)
            over = self.overflow | (occupancy > self.max_occupancy)
            return self.set(idx=idx, reference_position=position, overflow=over)

        return jax.lax.cond(rebuild, build, lambda: self)


class ToyListFns(NamedTuple):
    allocate: Any
    update: Any


def separation(a, b):
    d = a - b
    return d - SIDE * jnp.round(d / SIDE)


def neighbors_of(position, reach, capacity):
    n = len(position)
    d = separation(position[:, None], position[None])
    near = (jnp.sum(d**2, -1) < reach**2) & ~jnp.eye(n, dtype=bool)
    occupancy = jnp.max(jnp.sum(near, 1))
    idx = jnp.where(near, jnp.arange(n), n)
    return jnp.sort(idx, axis=1)[:, :capacity].astype(jnp.int32), occupancy


def toy_list(cutoff=1.0, skin=0.3, multiplier=1.0, log=None):
    reach = cutoff + skin

    def allocate(position, extra_capacity=0, **unused):
        n = len(position)
        _, occupancy = neighbors_of(position, reach, n)
        capacity = min(n - 1, int(occupancy * multiplier + extra_capacity))
        idx, _ = neighbors_of(position, reach, capacity)
        if log is not None:
            log.append(capacity)
        return ToyList(idx, position, jnp.asarray(False), capacity, reach, skin)

    return ToyListFns(
        allocate, lambda position, nbrs, **kw: nbrs.update(position, **kw)
    )


def slots(position, neighbor):
    n = len(position)
    if neighbor is None:
        return (jnp.arange(n) + jnp.arange(1, n)[:, None]) % n
    return neighbor.idx.T


def pair(position, other, n):
    """Overlap, unit vector and distance of particles with one other each."""
    d = separation(position, position.at[other].get(mode="fill", fill_value=0.0))
    r2 = jnp.where(other < n, jnp.sum(d**2, -1), 4.0)
    r = jnp.sqrt(jnp.where(r2 > 0, r2, 1.0))
    return jnp.maximum(1 - r, 0.0), d / r[:, None]


def energy(position, neighbor=None, strength=10.0, **unused):
    """Soft spheres of unit diameter."""
    n = len(position)

    def add(total, other):
        return total + jnp.sum(pair(position, other, n)[0] ** 2), None

    total = jnp.zeros((), position.dtype)
    return 0.25 * strength * jax.lax.scan(add, total, slots(position, neighbor))[0]


def force(position, neighbor=None, strength=10.0):
    """Slot by slot, so that empty slots at the end of a row change no bit."""
    n = len(position)

    def add(total, other):
        overlap, unit = pair(position, other, n)
        return total + strength * overlap[:, None] * unit, None

    return jax.lax.scan(add, jnp.zeros_like(position), slots(position, neighbor))[0]


def toy_simulator(dt=0.02, kT=0.5, gamma=0.0, log=None):
    """Velocity Verlet, with a kick of noise where ``gamma > 0``."""

    def init(key, position, **kwargs):
        key, split = jax.random.split(key)
        momentum = jnp.sqrt(kT) * jax.random.normal(split, position.shape)
        momentum = momentum.astype(position.dtype)
        return ToyState(position, momentum, force(position, **kwargs), key)

    def step(state, *, dt=dt, kT=kT, gamma=gamma, neighbor=None, strength=10.0):
        if log is not None:
            log.append("traced")
        key, split = jax.random.split(state.rng)
        noise = jax.random.normal(split, state.position.shape, state.position.dtype)
        p = state.momentum + 0.5 * dt * state.force
        decay = jnp.exp(-gamma * dt)
        p = p * decay + jnp.sqrt(kT * (1 - decay**2)) * noise
        position = jnp.mod(state.position + dt * p, SIDE)
        f = force(position, neighbor, strength)
        return ToyState(position, p + 0.5 * dt * f, f, key)

    return Simulator(init, step)


def start(n=40, seed=0, dtype=np.float64):
    """Particles near a grid; the most crowded one gets more neighbors later."""
    rng = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*[np.arange(7)] * 2), -1).reshape(-1, 2)[:n]
    return jnp.asarray(grid * SIDE / 7 + rng.normal(0, 0.02, (n, 2)), dtype)
