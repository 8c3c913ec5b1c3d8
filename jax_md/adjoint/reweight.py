r"""Averages at new parameters from samples at old ones, differentiable.

.. math::
    \langle A \rangle_\theta = \sum_t w_t A_t, \qquad
    w_t \propto \exp\left(-\frac{U_\theta(R_t)}{k_B T}
        + \frac{U_{\theta_0}(R_t)}{k_B T_0}\right)

The samples stay where they are; what is differentiated are the weights. So no
trajectory is stored, and chaos does no harm. It holds while the weights are spread over
many of the samples; where they are not, samples at the new parameters have to be drawn.

Source:
    S. Thaler, J. Zavadlav, Nat. Commun. 12, 6884 (2021); R. H. Swendsen, A. M.
    Ferrenberg, Phys. Rev. Lett. 61, 2635 (1988) for the weights.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jax_md import dataclasses

from .estimate import Estimate, leading_axis, of_blocks, over_samples


@dataclasses.dataclass
class Ensemble:
    """Samples and the energies that they were sampled with; see `reweight`.

    Attributes:
        snapshots: Tree of arrays ``[t, ...]``, a snapshot each.
        energy: Energies at the parameters of the sampling, ``[t]``.
        kT: Temperature of the sampling (energy).
    """

    snapshots: Any
    energy: Float[Array, " t"]
    kT: Float[Array, ""]  # noqa: N815 (the field's own spelling)


class Reweighting(NamedTuple):
    """What can be done with an ensemble; see `reweight`."""

    collect: Callable[..., Ensemble]
    log_ratios: Callable[..., Array]
    weights: Callable[..., Array]
    average: Callable[..., Any]
    estimate: Callable[..., Estimate]
    is_stale: Callable[..., Array]


def effective_sample_size(weights: Float[Array, " t"]) -> Float[Array, ""]:
    """The number of equal weights that would give averages as certain as these do.

    Args:
        weights: Weights, not negative, ``[t]``; their sum does not matter.

    Source:
        L. Kish, Survey Sampling (1965): the square of the sum over the sum of squares.
    """
    w = jnp.asarray(weights)
    w = w / jnp.max(w)
    return jnp.square(jnp.sum(w)) / jnp.sum(jnp.square(w))


def reweight(
    energy_fn: Callable[[Any, Any], Array], kT: Any, batch_size: int | None = None
) -> Reweighting:
    """Make the functions that average over an ensemble at other parameters.

    Args:
        energy_fn: ``energy_fn(params, snapshot) -> []``. A snapshot is what the samples
            are: positions ``[n, d]``, or a tree of them and, say, a box.
        kT: Temperature (energy).
        batch_size: Snapshots at once; None for all.

    Returns:
        Functions that can be compiled; parameters come first, and each takes ``kT=`` as
        another temperature to look at (to ``collect``: that of the sampling).

        - ``collect(params, snapshots) -> Ensemble`` of samples at `params`;
        - ``log_ratios(params, ensemble) -> [t]``, by how much the logarithm of the
          Boltzmann factor has grown. The logarithm of their mean exponential is that of
          the ratio of the partition functions;
        - ``weights(params, ensemble) -> [t]``, with the sum one;
        - ``average(params, ensemble, observable)``, with ``observable(params,
          snapshot)`` a tree of arrays. Its gradient has the part of the observable and
          that of the weights; at the parameters of the sampling it is the fluctuation
          formula;
        - ``estimate(params, ensemble, observable, blocks=10) -> Estimate``, the same
          average with its error, for samples that are correlated in time;
        - ``is_stale(params, ensemble, threshold=0.7) -> []``, whether less than that
          fraction of the samples is still effective: time to draw new ones.
    """

    def collect(params: Any, snapshots: Any, *, kT: Any = kT) -> Ensemble:
        energy = jax.lax.stop_gradient(energies(params, snapshots))
        return Ensemble(snapshots, energy, jnp.asarray(kT, energy.dtype))

    def energies(params: Any, snapshots: Any) -> Array:
        return over_samples(lambda x: energy_fn(params, x), snapshots, batch_size)

    def log_ratios(params: Any, ensemble: Ensemble, *, kT: Any = kT) -> Array:
        U = energies(params, ensemble.snapshots)
        now, before = jnp.asarray(kT, U.dtype), ensemble.kT
        # At one temperature the difference comes first: it is what keeps its digits.
        return (ensemble.energy - U) / now + ensemble.energy * (1 / before - 1 / now)

    def weights(params: Any, ensemble: Ensemble, *, kT: Any = kT) -> Array:
        return jax.nn.softmax(log_ratios(params, ensemble, kT=kT))

    def values(params: Any, ensemble: Ensemble, observable: Callable) -> Any:
        return over_samples(
            lambda x: observable(params, x), ensemble.snapshots, batch_size
        )

    def average(
        params: Any, ensemble: Ensemble, observable: Callable, *, kT: Any = kT
    ) -> Any:
        w = weights(params, ensemble, kT=kT)
        A = values(params, ensemble, observable)
        return jax.tree.map(lambda x: jnp.tensordot(w.astype(x.dtype), x, 1), A)

    def estimate(
        params: Any,
        ensemble: Ensemble,
        observable: Callable,
        blocks: int = 10,
        *,
        kT: Any = kT,
    ) -> Estimate:
        w = weights(params, ensemble, kT=kT)
        A = values(params, ensemble, observable)
        samples = (jax.tree.map(lambda x: weighted(w, x), A), w)
        return of_blocks(
            lambda means: jax.tree.map(lambda x: x / means[1], means[0]),
            samples,
            blocks,
        )

    def is_stale(
        params: Any, ensemble: Ensemble, threshold: float = 0.7, *, kT: Any = kT
    ) -> Bool[Array, ""]:
        w = weights(params, ensemble, kT=kT)
        return ~(effective_sample_size(w) >= threshold * w.size)  # stale if not finite

    return Reweighting(collect, log_ratios, weights, average, estimate, is_stale)


def weighted(w: Array, x: Array) -> Array:
    """Multiply samples ``[t, ...]`` by weights ``[t]``."""
    return w.astype(x.dtype).reshape(-1, *[1] * (x.ndim - 1)) * x


class Fit(NamedTuple):
    """Result of `reweighted_fit`.

    Attributes:
        params: The last parameters.
        ensemble: The last samples drawn.
        history: Parameters before each update, a list.
        loss: Loss before each update, a list.
        effective: Fraction of the samples that was effective for it, a list.
        did_resample: Whether samples were drawn for it, a list.
    """

    params: Any
    ensemble: Ensemble
    history: list[Any]
    loss: list[float]
    effective: list[float]
    did_resample: list[bool]


def reweighted_fit(
    reweighting: Reweighting,
    sample: Callable[[Any, Array, Ensemble | None], Any],
    observable: Callable[[Any, Any], Any],
    loss: Callable[[Any, Any], Array],
    params: Any,
    optimizer: Any,
    updates: int,
    key: Array,
    threshold: float = 0.7,
) -> Fit:
    """Fit parameters to averages; samples are drawn again only when they are stale.

    Args:
        reweighting: Made by `reweight`.
        sample: ``sample(params, key, ensemble) -> snapshots`` of equilibrium, such as a
            simulation that goes on from the last snapshot of `ensemble`, which is None
            the first time. Called outside of ``jit``.
        observable: ``observable(params, snapshot)``, a tree of arrays.
        loss: ``loss(params, averages) -> []`` of the averages of the observable.
        params: Tree of arrays to start from.
        optimizer: An optax optimizer, or any object with ``init(params)`` and
            ``update(gradient, state, params) -> (change, state)``.
        updates: Number of updates.
        key: Random key; each sampling gets one of its own.
        threshold: Fraction of effective samples below which new ones are drawn.
    """

    @jax.jit
    def look(params: Any, ensemble: Ensemble) -> tuple[Any, Any, Any]:
        def of(params: Any) -> Array:
            return loss(params, reweighting.average(params, ensemble, observable))

        fraction = effective_sample_size(reweighting.weights(params, ensemble))
        fraction = fraction / leading_axis(ensemble.snapshots)
        return *jax.value_and_grad(of)(params), fraction

    collect = jax.jit(reweighting.collect)

    def drawn(params: Any, ensemble: Ensemble | None, turn: int) -> Ensemble:
        draw = jax.random.fold_in(key, turn)
        return collect(params, sample(params, draw, ensemble))

    ensemble = drawn(params, None, 0)
    state = optimizer.init(params)
    fit = Fit(params, ensemble, [], [], [], [])
    for turn in range(updates):
        value, slope, fraction = look(params, ensemble)
        # Also where the fraction is not a number.
        stale = turn > 0 and not fraction >= threshold
        if stale:
            ensemble = drawn(params, ensemble, turn)
            value, slope, fraction = look(params, ensemble)
        fit.history.append(params)
        fit.loss.append(float(value))
        fit.effective.append(float(fraction))
        fit.did_resample.append(stale or turn == 0)
        change, state = optimizer.update(slope, state, params)
        params = jax.tree.map(lambda p, c: p + c, params, change)
    return fit._replace(params=params, ensemble=ensemble)
