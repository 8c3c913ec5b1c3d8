r"""Losses that fit an energy to data: its forces, or its equilibrium distribution.

=====================  ===========================================================
`force_matching`       :math:`\langle |F_\theta(R) - F|^2 \rangle` over the data
`relative_entropy`     :math:`\int p \ln (p / p_\theta)`, data against the model
=====================  ===========================================================
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

from .estimate import over_samples
from .reweight import Ensemble, reweight


class Labelled(NamedTuple):
    """Snapshots with the forces that a fit should find, and maybe energies.

    Attributes:
        snapshots: Positions ``[t, n, d]``.
        force: ``[t, n, d]`` (energy / length).
        energy: ``[t]``, or None.
    """

    snapshots: Array
    force: Array
    energy: Array | None = None


def force_matching(
    energy_fn: Callable[[Any, Any], Array],
    force_weight: float = 1.0,
    energy_weight: float = 0.0,
    batch_size: int | None = None,
) -> Callable[[Any, Labelled], Array]:
    r"""Return the mean square error of forces, and of energies if they have a weight.

    .. math::
        L = w_F \, \overline{(F_\theta - F)^2} + w_E \, \overline{(U_\theta - U)^2}

    The mean of the forces is over all components, that of the energies over snapshots.
    If the forces of the data are those of a finer model, averaged over what was left
    out, the minimum is the many-body potential of mean force.

    Args:
        energy_fn: ``energy_fn(params, R) -> []``.
        force_weight: Weight of the forces.
        energy_weight: Weight of the energies.
        batch_size: Snapshots at once; None for all.

    Returns:
        ``loss(params, data) -> []`` of `Labelled` data.

    Raises:
        ValueError: When called, if energies have a weight but the data have none, or if
            the forces do not have the shape of the positions.

    Source:
        F. Ercolessi, J. B. Adams, Europhys. Lett. 26, 583 (1994); W. G. Noid et al.,
        J. Chem. Phys. 128, 244114 (2008).
    """

    def loss(params: Any, data: Labelled) -> Array:
        if energy_weight and data.energy is None:
            raise ValueError(
                "`energy_weight` is not zero, but the data have no energies: give "
                "`Labelled(snapshots, force, energy)`."
            )
        shapes = [jnp.shape(x) for x in (data.snapshots, data.force)]
        if shapes[0] != shapes[1]:
            raise ValueError(
                f"`force` must have the shape of the positions, {shapes[0]}; got "
                f"{shapes[1]}."
            )

        def one(sample: Labelled) -> tuple[Array, Array]:
            U, slope = jax.value_and_grad(energy_fn, 1)(params, sample.snapshots)
            square = jnp.mean(jnp.square(slope + sample.force))
            off = jnp.zeros_like(U) if sample.energy is None else U - sample.energy
            return square, jnp.square(off)

        force, energy = over_samples(one, data, batch_size)
        return force_weight * jnp.mean(force) + energy_weight * jnp.mean(energy)

    return loss


def relative_entropy(
    energy_fn: Callable[[Any, Any], Array], kT: Any, batch_size: int | None = None
) -> Callable[[Any, tuple[Any, Ensemble]], Array]:
    r"""Return the relative entropy of data with respect to a model's equilibrium.

    .. math::
        S(\theta) = \frac{\langle U_\theta \rangle_\text{data}}{k_B T}
            + \ln \frac{Z_\theta}{Z_{\theta_0}} + \text{const}, \qquad
        \nabla_\theta S = \frac{1}{k_B T} \left(
            \langle \nabla_\theta U_\theta \rangle_\text{data}
            - \langle \nabla_\theta U_\theta \rangle_\theta \right)

    It is convex where the energy is linear in the parameters, and least where the model
    has the averages of the data of every :math:`\partial U / \partial \theta`. What
    is left out does not depend on the parameters; it depends on the ensemble, so values
    can be compared for one ensemble only.

    Args:
        energy_fn: ``energy_fn(params, snapshot) -> []``.
        kT: Temperature of data and model (energy).
        batch_size: Snapshots at once; None for all.

    Returns:
        ``loss(params, (data, ensemble)) -> []``: snapshots of the data ``[t, ...]``,
        and an `Ensemble` of the model, which is reweighted to `params`.

    Source:
        M. S. Shell, J. Chem. Phys. 129, 144108 (2008).
    """
    reweighting = reweight(energy_fn, kT, batch_size)

    def loss(params: Any, result: tuple[Any, Ensemble]) -> Array:
        data, ensemble = result
        U = over_samples(lambda x: energy_fn(params, x), data, batch_size)
        ratios = reweighting.log_ratios(params, ensemble)
        # Energies in the data are large and nearly the same: less their mean in the
        # ensemble, a constant, they keep their digits.
        level = jnp.mean(ensemble.energy)
        free = jax.nn.logsumexp(ratios) - jnp.log(ratios.size)
        return jnp.mean(U - level) / jnp.asarray(kT, U.dtype) + free

    return loss
