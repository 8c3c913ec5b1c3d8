"""Energies and variances of a fitted potential."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.scipy.linalg import solve_triangular
from jaxtyping import Array, Float

from jax_md import util

from .covariance import cross, influence
from .fit import KernelPotential


def energy_fn(
    potential: KernelPotential, species: Any = None, per_particle: bool = False
) -> Callable[..., Array]:
    """The energy of a fitted potential, for simulators and minimizers.

    It is one evaluation of the kernel between atoms and environments, so that its cost
    grows with the number of those and not with that of the data (a full fit has all
    atoms of the data for environments).

    Args:
        potential: What `fit` returned.
        species: Labels, ``[n]``; needed where the data has several.
        per_particle: Whether to return ``[n]`` energies instead of their sum.

    Returns:
        ``energy(R, neighbor=None, **kwargs)``, in the dtype of ``R``. ``species=`` and
        ``potential=`` can be given again; the list and the rest reach the descriptors.
    """
    default, labels = potential, species

    def energy(
        R: Float[Array, "n d"],
        neighbor: Any = None,
        *,
        species: Any = None,
        potential: KernelPotential | None = None,
        **kwargs: Any,
    ) -> Array:
        p = default if potential is None else potential
        species = labels if species is None else species
        x, z = _atoms(p, R, neighbor, species, kwargs)
        u = None if p.u is None else p.u.astype(x.dtype)
        sources = (p.x.astype(x.dtype), p.z)
        e = influence(p.kernel, (x, z), sources, p.beta.astype(x.dtype), u)
        e = (e + _reference(p, z, e.dtype)).astype(R.dtype)
        return e if per_particle else util.high_precision_sum(e)

    return energy


def variance_fn(
    potential: KernelPotential, species: Any = None
) -> Callable[..., tuple[Array, Array]]:
    r"""The variance that a fit leaves to energies.

    Local energies have the covariance :math:`C = k - k_* (K + \Sigma)^{-1} k_*^T` after
    a full fit, and :math:`k - k_M K_{MM}^{-1} k_M^T + k_M (R^T R)^{-1} k_M^T` after a
    sparse one. The total is the sum of C, each atom's is on its diagonal. Both can be
    differentiated, as a bias along the uncertainty asks for.

    Args:
        potential: What `fit` returned, by Cholesky or with environments.
        species: Labels, ``[n]``; needed where the data has several.

    Returns:
        ``variance(R, neighbor=None, **kwargs) -> (total [], per_atom [n])`` (energy
        squared), keywords as in `energy_fn`.

    Raises:
        ValueError: If there is no factor, after conjugate gradients or a load without
            the data.
    """
    _require_factor(potential)
    default, labels = potential, species

    def variance(
        R: Float[Array, "n d"],
        neighbor: Any = None,
        *,
        species: Any = None,
        potential: KernelPotential | None = None,
        **kwargs: Any,
    ) -> tuple[Array, Array]:
        p = default if potential is None else potential
        species = labels if species is None else species
        x, z = _atoms(p, R, neighbor, species, kwargs)
        x = x.astype(p.x.dtype)  # differences of large numbers: in the type of the fit
        C = p.kernel(x, z, x, z)
        assert p.lower is not None
        if p.solver == "sparse":
            assert p.upper is not None
            k = p.kernel(p.x, p.z, x, z)
            known = solve_triangular(p.lower, k, lower=True)
            kept = solve_triangular(p.upper[0], k, trans="T")
            C = C - known.T @ known + kept.T @ kept
        else:
            assert p.training is not None
            k = cross(p.kernel, (x, z), p.training)
            known = solve_triangular(p.lower, k.T, lower=True)
            C = C - known.T @ known
        # Rounding may leave a little less than nothing.
        total = jnp.maximum(jnp.sum(C), 0)
        each = jnp.maximum(jnp.diagonal(C), 0)
        return total.astype(R.dtype), each.astype(R.dtype)

    return variance


def _require_factor(p: KernelPotential) -> None:
    if p.solver == "cg":
        raise ValueError(
            "conjugate gradients leave no factor to compute a variance from. Fit with "
            '`solver="cholesky"`, or with `environments=` where there are many data.'
        )
    if p.solver == "cholesky" and p.training is None:
        raise ValueError(
            "the variance of a full fit needs its data, and this potential was saved "
            "without. Save it with `with_training=True`, or fit with `environments=`."
        )


def _atoms(
    p: KernelPotential, R: Any, neighbor: Any, species: Any, kwargs: dict
) -> tuple[Array, Array]:
    """Standardized descriptors and species."""
    n = R.shape[0]
    given = dict(kwargs)
    if species is not None:
        given["species"] = species
    args = (R,) if neighbor is None else (R, neighbor)
    x = p.descriptor_fn(*args, **given)
    if x.shape != (n, p.mean.shape[0]):
        raise ValueError(
            f"`descriptor_fn` must give [{n}, {p.mean.shape[0]}] descriptors, as in "
            f"the fit; got shape {x.shape}."
        )
    types = p.kernel.types
    if species is None:
        if len(types) > 1:
            raise ValueError(
                f"the potential knows the species {list(types)}: pass `species=`, "
                f"labels [{n}]."
            )
        species = np.full(n, types)
    elif np.shape(species) != (n,):
        raise ValueError(
            f"`species` must hold a label for each of the {n} atoms; got shape "
            f"{np.shape(species)}."
        )
    elif not isinstance(species, Tracer):
        unknown = set(np.unique(np.asarray(species)).tolist()) - set(types)
        if unknown:
            raise ValueError(
                f"`species` holds {sorted(unknown)}; the potential was fitted to "
                f"{list(types)} only."
            )
    x = (x - p.mean.astype(x.dtype)) / p.scale.astype(x.dtype)
    return x, jnp.asarray(species)


def _reference(p: KernelPotential, z: Array, dtype: Any) -> Array:
    free = p.reference.astype(dtype)
    return free[0] if len(p.kernel.types) == 1 else p.kernel.one_hot(z, dtype) @ free
