r"""How probable a sampled path is, step by step, as a function of the parameters.

Of a path only the positions are looked at. Where they are given, the noise of every
step can be solved for, so the path is as probable as its noise:

.. math::
    \ln p = -\tfrac12 \sum_k |\xi_k|^2 - \sum_k \ln w_k + \text{const}

with the widths `w` of the steps. The start belongs to no step; it must not depend on
the parameters.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from jax_md.types import DisplacementFn


def brownian_log_prob(
    energy_fn: Callable[..., Array],
    dt: Any,
    kT: Any,
    gamma: Any = 0.1,
    mass: Any = 1.0,
    displacement_fn: DisplacementFn | None = None,
) -> Callable[..., Array]:
    """Return the probability of each step of `simulate.brownian`.

    Args:
        energy_fn: ``energy_fn(params, R, **kwargs) -> []``.
        dt: Time step.
        kT: Temperature (energy).
        gamma: Friction rate (1 / time), scalar or ``[n, 1]``.
        mass: Scalar, ``[n]`` or ``[n, 1]``.
        displacement_fn: Displacement of two points ``[d]``; None in free space. A step
            is taken for the shortest way between two positions.

    Returns:
        ``log_prob(params, R, *, dt, kT, gamma, **kwargs) -> [t]`` of a path
        ``[t + 1, n, d]``, the start included: the logarithm of the density of each step
        in real space. Keywords go to the energy; their arrays have an entry for each
        step, ``[t, ...]``.
    """

    def log_prob(
        params: Any,
        R: Array,
        *,
        dt: Any = dt,
        kT: Any = kT,
        gamma: Any = gamma,
        **kwargs: Any,
    ) -> Array:
        dR = _moves(displacement_fn, R)
        m, dt, kT, gamma = _arrays(R, mass, dt, kT, gamma)
        reach = dt / (m * gamma)
        width = jnp.sqrt(2 * kT * reach)
        noise = (dR - reach * _forces(energy_fn, params, R[:-1], kwargs)) / width
        return _log_normal(noise, width)

    return log_prob


def langevin_log_prob(
    energy_fn: Callable[..., Array],
    dt: Any,
    kT: Any,
    gamma: Any = 0.1,
    mass: Any = 1.0,
    displacement_fn: DisplacementFn | None = None,
) -> Callable[..., Array]:
    r"""Return the probability of each step of `simulate.nvt_langevin` (B A O A B).

    With `P` the momentum between kick and friction, `P'` that between friction and
    kick, and `c` the factor of the friction,

    .. math::
        R_{k+1} = R_k + \frac{dt}{2m} (P_k + P'_k), \quad P'_k = c P_k + w \xi_k,
        \quad P_{k+1} = P'_k + dt F(R_{k+1})

    so the positions determine `P'`, then the next `P`, and with them the noise. Each
    momentum is a difference of positions minus the momentum before it, and rounding
    errors of the positions divided by the time step add up: take float64 where they are
    not far below the thermal momentum.

    Args:
        energy_fn: ``energy_fn(params, R, **kwargs) -> []``.
        dt: Time step.
        kT: Temperature (energy).
        gamma: Friction rate (1 / time), scalar or ``[n, 1]``; not zero.
        mass: Scalar, ``[n]`` or ``[n, 1]``.
        displacement_fn: Displacement of two points ``[d]``; None in free space.

    Returns:
        ``log_prob(params, (R, momentum), *, dt, kT, gamma, **kwargs) -> [t]`` of a path
        of positions ``[t + 1, n, d]``, the start included, and the momentum of the
        start ``[n, d]``. Arrays in the keywords have an entry for each position,
        ``[t + 1, ...]``.

    Source:
        B. Leimkuhler, C. Matthews, Appl. Math. Res. Express 2013, 34 (2013), for the
        splitting.
    """

    def log_prob(
        params: Any,
        path: tuple[Array, Array],
        *,
        dt: Any = dt,
        kT: Any = kT,
        gamma: Any = gamma,
        **kwargs: Any,
    ) -> Array:
        R, momentum = path
        dR = _moves(displacement_fn, R)
        m, dt, kT, gamma = _arrays(R, mass, dt, kT, gamma)
        F = _forces(energy_fn, params, R, kwargs)
        c = jnp.exp(-gamma * dt)
        w = jnp.sqrt(-m * kT * jnp.expm1(-2 * gamma * dt))

        def step(P: Array, given: tuple[Array, Array]) -> tuple[Array, Array]:
            dR, F = given
            after = 2 * m * dR / dt - P
            return after + dt * F, (after - c * P) / w

        # The last force acts after the last noise.
        _, noise = jax.lax.scan(step, momentum + dt / 2 * F[0], (dR, F[1:]))
        return _log_normal(noise, dt * w / (2 * m))

    return log_prob


def _arrays(R: Array, mass: Any, *rest: Any) -> list[Array]:
    """Mass and parameters in the dtype of the positions, masses by particle."""
    mass = jnp.asarray(mass, R.dtype)
    mass = mass[:, None] if mass.ndim == 1 else mass
    return [mass, *(jnp.asarray(x, R.dtype) for x in rest)]


def _moves(displacement_fn: DisplacementFn | None, R: Array) -> Array:
    """The real-space moves from each position to the next, ``[t, n, d]``."""
    if jnp.ndim(R) != 3 or len(R) < 2:
        raise ValueError(
            "a path must hold the positions before and after each step, "
            f"[t + 1, n, d]; got the shape {jnp.shape(R)}."
        )
    if displacement_fn is None:
        return R[1:] - R[:-1]
    return jax.vmap(jax.vmap(displacement_fn))(R[1:], R[:-1])


def _forces(energy_fn: Callable, params: Any, R: Array, kwargs: dict) -> Array:
    slope = jax.grad(energy_fn, argnums=1)
    return -jax.vmap(lambda R, kwargs: slope(params, R, **kwargs))(R, kwargs)


def _log_normal(noise: Array, width: Array) -> Array:
    """Logarithm of the density of normal moves, summed over all but the first axis."""
    each = -jnp.square(noise) / 2 - jnp.log(width) - math.log(2 * math.pi) / 2
    return jnp.sum(each, axis=tuple(range(1, each.ndim)))
