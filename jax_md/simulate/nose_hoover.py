r"""A chain of Nosé-Hoover thermostats, coupled to some kinetic energy.

The first link feels twice the kinetic energy less its target, each further link the one
before it:

.. math::
    \dot p_0 = 2K - N_\mathrm{dof} kT - p_0 p_1 / Q_1, \quad
    \dot p_k = p_{k-1}^2 / Q_{k-1} - kT - p_k p_{k+1} / Q_{k+1}

A half step is split symmetrically (Suzuki-Yoshida), each substep sweeping down the
chain, scaling the momenta, and sweeping up again.

Source:
    G. J. Martyna, M. L. Klein, M. Tuckerman, J. Chem. Phys. 97, 2635 (1992);
    G. J. Martyna, M. E. Tuckerman, D. J. Tobias, M. L. Klein, Mol. Phys. 87, 1117
    (1996).
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jax_md import dataclasses

# Weights of symmetric compositions, as tabulated in OpenMM. Seven are of sixth order
# (H. Yoshida, Phys. Lett. A 150, 262 (1990)); three and five, which go by the names of
# Suzuki and Yoshida, too, are of second order like one, with smaller constants.
SUZUKI_YOSHIDA_WEIGHTS = {
    1: np.array([1.0]),
    3: np.array([0.828981543588751, -0.657963087177502, 0.828981543588751]),
    5: np.array(
        [
            0.2967324292201065,
            0.2967324292201065,
            -0.186929716880426,
            0.2967324292201065,
            0.2967324292201065,
        ]
    ),
    7: np.array(
        [
            0.784513610477560,
            0.235573213359357,
            -1.17767998417887,
            1.31518632068391,
            -1.17767998417887,
            0.235573213359357,
            0.784513610477560,
        ]
    ),
}


@dataclasses.dataclass
class NoseHooverChain:
    """State of a chain of thermostats; one number a link."""

    position: Float[Array, " c"]
    momentum: Float[Array, " c"]
    mass: Float[Array, " c"]
    tau: Float[Array, ""]
    kinetic_energy: Float[Array, ""]
    degrees_of_freedom: int = dataclasses.static_field()


@dataclasses.dataclass
class NoseHooverChainFns:
    """The functions of a chain: see `nose_hoover_chain`."""

    initialize: Callable = dataclasses.static_field()
    half_step: Callable = dataclasses.static_field()
    update_mass: Callable = dataclasses.static_field()


def _masses(dof: int, kT: Array, tau: Array, length: int) -> Array:
    count = np.ones(length)
    count[0] = dof
    return jnp.asarray(count, kT.dtype) * kT * tau**2


def nose_hoover_chain(
    dt: Any, chain_length: int, chain_steps: int, sy_steps: int, tau: Any
) -> NoseHooverChainFns:
    """Build the functions that move a chain of thermostats.

    Args:
        dt: Time step of the simulation.
        chain_length: Links of the chain, at least 1.
        chain_steps: Equal parts into which a half step is cut.
        sy_steps: Substeps of each part: 1, 3 or 5, of second order, or 7, of sixth.
        tau: Period of the thermostat (time, not steps).

    Returns:
        ``(initialize, half_step, update_mass)``:

        - ``initialize(degrees_of_freedom, kinetic_energy, kT) -> chain``
        - ``half_step(momentum, chain, kT, dt=dt) -> momentum, chain`` moves by half of
          `dt`. It reads and updates ``chain.kinetic_energy``.
        - ``update_mass(chain, kT) -> chain`` finds the masses for a new temperature.

    Raises:
        ValueError: If a count is out of range.
    """
    if chain_length < 1 or chain_steps < 1:
        raise ValueError(
            "`chain_length` and `chain_steps` must be at least 1; got "
            f"{chain_length} and {chain_steps}."
        )
    if sy_steps not in SUZUKI_YOSHIDA_WEIGHTS:
        raise ValueError(
            f"`sy_steps` must be one of {sorted(SUZUKI_YOSHIDA_WEIGHTS)}; got "
            f"{sy_steps}."
        )
    fractions = np.tile(SUZUKI_YOSHIDA_WEIGHTS[sy_steps] / chain_steps, chain_steps)

    def initialize(
        degrees_of_freedom: int, kinetic_energy: Any, kT: Any
    ) -> NoseHooverChain:
        K = jnp.asarray(kinetic_energy)
        rest = jnp.zeros(chain_length, K.dtype)
        period = jnp.asarray(tau, K.dtype)
        Q = _masses(degrees_of_freedom, jnp.asarray(kT, K.dtype), period, chain_length)
        return NoseHooverChain(rest, rest, Q, period, K, int(degrees_of_freedom))

    def update_mass(chain: NoseHooverChain, kT: Any) -> NoseHooverChain:
        kT = jnp.asarray(kT, chain.mass.dtype)
        Q = _masses(chain.degrees_of_freedom, kT, chain.tau, chain_length)
        return dataclasses.replace(chain, mass=Q)

    def substep(d: Array, carry: tuple, Q: list, dof: int, kT: Array) -> tuple:
        p, xi, K, scale = carry
        p = list(p)
        last = chain_length - 1

        def pull(m: int) -> Array:
            return 2 * K - dof * kT if m == 0 else p[m - 1] ** 2 / Q[m - 1] - kT

        def move(m: int) -> None:
            if m == last:
                p[m] = p[m] + d / 4 * pull(m)
            else:
                s = jnp.exp(-d / 8 * p[m + 1] / Q[m + 1])
                p[m] = s * (s * p[m] + d / 4 * pull(m))

        for m in range(last, -1, -1):
            move(m)
        s = jnp.exp(-d / 2 * p[0] / Q[0])
        K, scale = K * s**2, scale * s
        xi = [x + d / 2 * y / q for x, y, q in zip(xi, p, Q, strict=True)]
        for m in range(last + 1):
            move(m)
        return tuple(p), tuple(xi), K, scale

    def half_step(
        momentum: Any, chain: NoseHooverChain, kT: Any, dt: Any = dt
    ) -> tuple[Any, NoseHooverChain]:
        dtype = chain.momentum.dtype
        kT, dt = jnp.asarray(kT, dtype), jnp.asarray(dt, dtype)
        Q, dof = list(chain.mass), chain.degrees_of_freedom
        one = jnp.ones((), dtype)
        K = jnp.asarray(chain.kinetic_energy, dtype)
        carry = tuple(chain.momentum), tuple(chain.position), K, one
        # A loop, not an unrolled program: the links are scalars, and hundreds of them
        # would take longer to compile than the force.
        carry, _ = jax.lax.scan(
            lambda carry, d: (substep(d, carry, Q, dof, kT), None),
            carry,
            dt * jnp.asarray(fractions, dtype),
        )
        p, xi, K, scale = carry
        momentum = jax.tree.map(lambda x: x * scale.astype(x.dtype), momentum)
        chain = dataclasses.replace(
            chain, momentum=jnp.stack(p), position=jnp.stack(xi), kinetic_energy=K
        )
        return momentum, chain

    return NoseHooverChainFns(initialize, half_step, update_mass)


def chain_energy(chain: NoseHooverChain, kT: Any) -> Array:
    r"""Energy of a chain, :math:`\sum_k p_k^2/2Q_k + N kT \xi_0 + kT \sum_{k>0} \xi_k`.

    Args:
        chain: The chain.
        kT: Temperature it is held at (energy).
    """
    kinetic = jnp.sum(chain.momentum**2 / chain.mass) / 2
    xi = chain.position
    dof = chain.degrees_of_freedom
    return kinetic + jnp.asarray(kT, xi.dtype) * (dof * xi[0] + jnp.sum(xi[1:]))


def default_nhc_kwargs(tau: Any, overrides: Mapping | None) -> dict[str, Any]:
    """Return the options of a chain, those in `overrides` replacing the defaults.

    Args:
        tau: Default period (time).
        overrides: Some of ``chain_length``, ``chain_steps``, ``sy_steps``, ``tau``.
            Keys that are not strings are ignored, as scripts have come to pass them.

    Raises:
        TypeError: If a string in `overrides` is no option.
    """
    options = {"chain_length": 3, "chain_steps": 2, "sy_steps": 3, "tau": tau}
    for key, value in (overrides or {}).items():
        if not isinstance(key, str):
            continue
        if key not in options:
            raise TypeError(
                f"a chain of thermostats has no option `{key}`; it has "
                f"{', '.join(f'`{name}`' for name in options)}."
            )
        options[key] = value
    return options
