r"""Gradients of equilibrium averages from fluctuations.

.. math::
    \frac{d\langle A \rangle}{d\theta} = \Big\langle \frac{\partial A}{\partial\theta}
    \Big\rangle - \frac{1}{k_B T} \left( \Big\langle A
    \frac{\partial U}{\partial\theta} \Big\rangle - \langle A \rangle
    \Big\langle \frac{\partial U}{\partial\theta} \Big\rangle \right)
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from .estimate import Estimate, leading_axis, of_blocks, over_samples
from .reweight import weighted


def fluctuation_gradient(
    energy_fn: Callable[[Any, Any], Array],
    observable: Callable[[Any, Any], Any],
    params: Any,
    snapshots: Any,
    kT: Any,
    blocks: int = 10,
    weights: Array | None = None,
    batch_size: int | None = None,
) -> Estimate:
    """Estimate the derivatives of averages with respect to parameters, with errors.

    Args:
        energy_fn: ``energy_fn(params, snapshot) -> []``.
        observable: ``observable(params, snapshot)``, a tree of arrays.
        params: Tree of arrays.
        snapshots: Equilibrium samples at `params`, a tree of arrays ``[t, ...]``, in
            the order of time.
        kT: Temperature (energy).
        blocks: Blocks of consecutive samples for the errors, each longer than the
            correlation of the samples.
        weights: Weights of the samples ``[t]``, where they were drawn at other
            parameters (see `reweight`); None for equal ones. Taken as constants.
        batch_size: Snapshots at once; None for all.

    Returns:
        The derivatives as `jax.jacobian` has them: the structure of the observable,
        each of its leaves a tree of the structure of `params`, with one standard error.

    Raises:
        ValueError: If there are fewer samples than blocks, or fewer than two blocks.

    Source:
        M. P. Allen, D. J. Tildesley, Computer Simulation of Liquids, 2nd ed. (2017),
        section 2.5, for fluctuations as responses.
    """

    def one(snapshot: Any) -> tuple[Any, Any, Any, Any]:
        A = jax.tree.map(jnp.asarray, observable(params, snapshot))
        dA = jax.jacobian(observable)(params, snapshot)
        dU = jax.grad(energy_fn)(params, snapshot)
        both = jax.tree.map(
            lambda a: jax.tree.map(lambda u: jnp.tensordot(a, u, 0), dU), A
        )
        return A, dA, dU, both

    samples = over_samples(one, snapshots, batch_size)
    count = leading_axis(snapshots)
    w = jnp.ones(count, jax.tree.leaves(samples)[0].dtype)
    if weights is not None:
        w = jax.lax.stop_gradient(jnp.asarray(weights, w.dtype)) * count

    def formula(means: Any) -> Any:
        A, dA, dU, both = jax.tree.map(lambda x: x / means[1].astype(x.dtype), means[0])

        def response(a: Array, da: Any, au: Any) -> Any:
            def of(da: Array, au: Array, u: Array) -> Array:
                T = jnp.asarray(kT, u.dtype)
                return da - (au - jnp.tensordot(a, u, 0)) / T

            return jax.tree.map(of, da, au, dU)

        return jax.tree.map(response, A, dA, both)

    parts = jax.tree.map(lambda x: weighted(w, x), samples)
    return of_blocks(formula, (parts, w), blocks)
