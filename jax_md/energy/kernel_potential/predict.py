"""Energies and variances of a fitted potential."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.scipy.linalg import solve_triangular
from jaxtyping import Array, Float

from jax_md import dataclasses, util

from .covariance import block, covariance, cross, influence
from .fit import KernelPotential
from .matrix_free import halves
from .observations import Group


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

    After conjugate gradients every call solves a system for each atom, to the tolerance
    of the fit, which `report` holds; within `jit` a variance that this does not reach
    is NaN. Where variances are wanted often, fit by Cholesky or with environments.

    Args:
        potential: What `fit` returned.
        species: Labels, ``[n]``; needed where the data has several.

    Returns:
        ``variance(R, neighbor=None, **kwargs) -> (total [], per_atom [n])`` (energy
        squared), keywords as in `energy_fn`.

    Raises:
        ValueError: If a full fit was loaded without its data, or conjugate gradients
            do not reach the tolerance of the fit.
    """
    _require_data(potential)
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
        if p.solver == "sparse":
            assert p.upper is not None
            k = p.kernel(p.x, p.z, x, z)
            kept = solve_triangular(p.upper[0], k, trans="T")
            C = C + kept.T @ kept
        else:
            assert p.training is not None
            k = cross(p.kernel, (x, z), p.training.groups).T
        a, b = _halves(p, k)
        C = C - a.T @ b
        # Rounding may leave a little less than nothing.
        total = jnp.maximum(jnp.sum(C), 0)
        each = jnp.maximum(jnp.diagonal(C), 0)
        return total.astype(R.dtype), each.astype(R.dtype)

    return variance


def force_variance_fn(
    potential: KernelPotential, species: Any = None
) -> Callable[..., Array]:
    r"""The variance that a fit leaves to forces.

    That of component q is :math:`J_q^T (\partial_1 \partial_2 C) J_q` with the
    covariance C of local energies, as in `variance_fn`, and the derivatives J of
    descriptors. Fits know forces where energies are uncertain by a constant, and miss
    them where energies happen to be right: where dynamics must be trusted, ask this.

    All derivatives of the descriptors of a structure are written out: memory grows as
    the square of its atoms.

    Args:
        potential: What `fit` returned.
        species: Labels, ``[n]``; needed where the data has several.

    Returns:
        ``variance(R, neighbor=None, **kwargs) -> [n, d]`` (force squared), keywords as
        in `energy_fn`.

    Raises:
        ValueError: As in `variance_fn`, or if the kernel is too rough for forces.

    Source:
        J. Vandermause et al., npj Comput. Mater. 6, 20 (2020) (labels where the force
        on an atom is uncertain).
    """
    _require_data(potential)
    potential.kernel.require_derivatives(1)
    default, labels = potential, species

    def variance(
        R: Float[Array, "n d"],
        neighbor: Any = None,
        *,
        species: Any = None,
        potential: KernelPotential | None = None,
        **kwargs: Any,
    ) -> Float[Array, "n d"]:
        p = default if potential is None else potential
        species = labels if species is None else species

        def descriptors(R: Array) -> tuple[Array, Array]:
            return _atoms(p, R, neighbor, species, kwargs)

        x, push, z = jax.linearize(descriptors, R, has_aux=True)
        basis = jnp.eye(R.size, dtype=R.dtype).reshape(-1, *R.shape)
        jacobian = -jax.lax.map(push, basis, batch_size=32)
        wide = p.x.dtype
        member = Group(
            x=x.astype(wide),
            z=z,
            jacobian=jnp.moveaxis(jacobian, 0, -1).astype(wide),
            has_energy=False,
            kinds=(("force", R.size),),
        )
        left = jnp.diagonal(block(p.kernel, member, member))
        alone = jax.tree.map(lambda a: a[None], member)
        if p.solver == "sparse":
            assert p.upper is not None
            k = cross(p.kernel, (p.x, p.z), (alone,))
            left += jnp.sum(solve_triangular(p.upper[0], k, trans="T") ** 2, 0)
        else:
            assert p.training is not None
            new = dataclasses.replace(p.training, groups=(alone,), y=None)
            k = covariance(p.kernel, p.training, new)
        a, b = _halves(p, k)
        left -= jnp.sum(a * b, 0)
        # Rounding may leave a little less than nothing.
        return jnp.maximum(left, 0).reshape(R.shape).astype(R.dtype)

    return variance


def _halves(p: KernelPotential, k: Float[Array, "p n"]) -> tuple[Array, Array]:
    """Factors a, b of what is known of n quantities, ``a.T @ b``."""
    if p.solver == "cg":
        assert p.system is not None and p.training is not None
        training = jax.tree.map(jnp.asarray, p.training)
        limits = {name: p.report[name] for name in ("tolerance", "max_iterations")}
        return halves(p.system, p.kernel, training, k, **limits)
    assert p.lower is not None
    known = solve_triangular(p.lower, k, lower=True)
    return known, known


def _require_data(p: KernelPotential) -> None:
    if p.solver != "sparse" and p.training is None:
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
