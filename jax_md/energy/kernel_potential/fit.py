r"""Fitting a Gaussian process to energies, forces and stresses.

Three ways, for data y of covariance K and noise :math:`\Sigma`:

* ``solver="cholesky"``: :math:`\alpha = (K + \Sigma)^{-1} y` with the whole matrix;
* ``solver="cg"``: the same by conjugate gradients, whose products with K are made of
  directional derivatives of the kernel, so that memory grows as the data;
* ``environments=``: a subset of regressors, :math:`e(x) = \sum_m c_m k(x, x_m)` over m
  representative atoms, by a QR factorization of the stacked
  :math:`[\Sigma^{-1/2} K_{NM}; L_{MM}^T]`, which squares no condition number.

Source:
    C. E. Rasmussen, C. K. I. Williams, "Gaussian Processes for Machine Learning",
    MIT Press 2006, chapters 2 and 8.
    L. Foster et al., J. Mach. Learn. Res. 10, 857 (2009) (the stable QR form).
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.linalg import cho_solve, solve_triangular
from jaxtyping import Array, Float, Int

from jax_md import dataclasses

from .covariance import covariance, cross, spread
from .kernels import AtomKernel, check_shape
from .matrix_free import System, landmarks, require_convergence
from .observations import (
    DEFAULT_NOISE,
    Noise,
    Observation,
    Training,
    prepare,
)
from .select import select_environments
from .solve import check_factor, default_jitter


@dataclasses.dataclass
class KernelPotential:
    """A fitted potential; see `fit`, `energy_fn` and `variance_fn`.

    Attributes:
        x: Descriptors that kernels are centered on, standardized, ``[m, f]``.
        z: Species there, ``[m]``.
        beta: Weights of the kernels, ``[m]`` (energy).
        u: Directions of their derivatives, ``[m, f]``, or None.
        training: The data; without it there is neither `update` nor, unless the fit is
            sparse, a variance.
        alpha: Weights of the data, ``[p]``; None for sparse fits.
        lower: Factor of the covariance matrix of the data ``[p, p]``, or of the
            environments ``[m, m]``; None after conjugate gradients.
        upper: Triangular factor of the sparse fit, ``[m, m]``, and its right-hand side
            ``[m]``; else None.
        system: What conjugate gradients solve by; else None.
        mean: What is subtracted from descriptors, ``[f]``.
        scale: What they are divided by, ``[f]``.
        reference: Energy of a free atom of each species, ``[t]``.
        noise: Noise of the fit.
        jitter: Part of its diagonal that was added to the matrix.
        report: Numbers of the fit, such as iterations and residual.
        kernel: Kernel of atoms.
        descriptor_fn: Makes the descriptors.
        solver: ``"cholesky"``, ``"cg"`` or ``"sparse"``.
    """

    x: Float[Any, "m f"]
    z: Int[Any, " m"]
    beta: Float[Any, " m"]
    u: Float[Any, "m f"] | None
    training: Training | None
    alpha: Float[Any, " p"] | None
    lower: Float[Any, "p p"] | None
    upper: tuple[Any, Any] | None
    system: System | None
    mean: Float[Any, " f"]
    scale: Float[Any, " f"]
    reference: Float[Any, " t"]
    noise: Noise
    jitter: Any
    report: dict[str, Any]
    kernel: AtomKernel = dataclasses.static_field()
    descriptor_fn: Callable = dataclasses.static_field()
    solver: str = dataclasses.static_field()


def fit(
    kernel: Callable | Mapping[int, Callable],
    descriptor_fn: Callable[..., Array],
    observations: Iterable[Observation] | Training,
    *,
    noise: Noise | tuple = DEFAULT_NOISE,
    solver: str = "cholesky",
    environments: int | Any | None = None,
    selection: str = "variance",
    coupling: Any = None,
    standardize: bool | tuple[Any, Any] = True,
    reference: Any = "fit",
    jitter: float | None = None,
    tolerance: float | None = None,
    max_iterations: int = 2000,
    seed: int = 0,
) -> KernelPotential:
    """Fit a Gaussian process over local descriptors.

    Args:
        kernel: ``k(x1 [n, f], x2 [m, f]) -> [n, m]`` of standardized descriptors, as
            `network` and `rbf` make; or a dictionary from species to such functions.
        descriptor_fn: ``descriptor_fn(R, **kwargs) -> [n, f]``, such as
            `jax_md.nn.behler_parrinello_symmetry_functions`.
        observations: What `observation` or `prepare` make.
        noise: Standard deviations, a `Noise` or a tuple in its order.
        solver: ``"cholesky"`` or ``"cg"``.
        environments: For a sparse fit: how many atoms of the data represent all, or
            their positions among the atoms of the data.
        selection: How they are selected, see `select_environments`.
        coupling: Factors between species, ``[t, t]``, positive semidefinite; by
            default different species have nothing in common.
        standardize: As in `prepare`.
        reference: As in `prepare`.
        jitter: Part of its diagonal that is added to the matrix, against rounding.
        tolerance: Residual of conjugate gradients, relative to the data; by default
            1e-10, or 1e-4 without 64-bit types.
        max_iterations: Their largest number.
        seed: Of a random selection.

    Returns:
        A `KernelPotential`. Within `jit`, a full fit of prepared data by Cholesky
        cannot tell of a singular matrix: its weights are NaN then.

    Raises:
        ValueError: If shapes do not fit, the kernel is too rough for forces, or the
            matrix is singular; the message then says which jitter would do.
    """
    noise = Noise(*noise)
    if solver not in ("cholesky", "cg"):
        raise ValueError(f'`solver` must be "cholesky" or "cg"; got {solver!r}.')
    if isinstance(observations, Training):
        training = observations
    else:
        training = prepare(
            descriptor_fn, observations, standardize=standardize, reference=reference
        )
    atoms = AtomKernel(kernel, training.types, coupling)
    check_shape(atoms, training.x, training.z)
    if training.has_slopes:
        atoms.require_derivatives(1)
    jitter = default_jitter(training.y.dtype) if jitter is None else jitter
    blank = KernelPotential(
        x=training.x,
        z=training.z,
        beta=training.y,
        u=None,
        training=training,
        alpha=None,
        lower=None,
        upper=None,
        system=None,
        mean=training.mean,
        scale=training.scale,
        reference=training.reference,
        noise=noise,
        jitter=jitter,
        report={},
        kernel=atoms,
        descriptor_fn=descriptor_fn,
        solver="sparse" if environments is not None else solver,
    )
    if environments is not None:
        return _fit_sparse(
            blank, _environments(atoms, training, environments, selection, seed)
        )
    if solver == "cg":
        if tolerance is None:
            tolerance = 1e-10 if np.finfo(training.y.dtype).bits > 32 else 1e-4
        limits = {"tolerance": tolerance, "max_iterations": max_iterations}
        return _fit_iterative(blank, training, None, limits)
    return _fit_dense(blank, training)


def update(
    potential: KernelPotential, observations: Iterable[Observation] | Training
) -> KernelPotential:
    """Add observations to a fit, without doing it all again.

    The factor of a matrix of p data is extended by those of r new ones at the cost of
    their covariances with the old, a sparse one by a QR factorization of ``m + r``
    rows; conjugate gradients start from the old weights. Standardization, reference
    energies, noise and environments stay.

    Args:
        potential: What `fit` or `update` returned.
        observations: New ones.

    Raises:
        ValueError: If the potential was loaded without its data, or new species come.
    """
    old = potential.training
    if old is None:
        raise ValueError(
            "this potential holds no training data to add to; fit it anew, or save it "
            "with its data (`save(..., with_training=True)`)."
        )
    if isinstance(observations, Training):
        new = observations
    else:
        new = prepare(
            potential.descriptor_fn,
            observations,
            standardize=(potential.mean, potential.scale),
            reference=potential.reference,
            types=old.types,
        )
    kernel = potential.kernel
    if new.has_slopes:
        kernel.require_derivatives(1)
    both = dataclasses.replace(
        old,
        groups=old.groups + new.groups,
        y=np.concatenate([old.y, new.y]),
        is_independent=old.is_independent and new.is_independent,
    )
    grown = dataclasses.replace(potential, training=both)
    if potential.solver == "sparse":
        return _solve_sparse(grown, new, potential.upper)
    if potential.solver == "cg":
        assert potential.alpha is not None
        start = np.concatenate([potential.alpha, np.zeros_like(new.y)])
        limits = {k: potential.report[k] for k in ("tolerance", "max_iterations")}
        return _fit_iterative(grown, both, start, limits)
    return _extend_dense(grown, old, new)


def _noisy(potential: KernelPotential, training: Training, K: Array) -> Array:
    variance = training.deviation(potential.noise) ** 2
    return K + jnp.diag(variance + potential.jitter * jnp.diagonal(K))


def _weights(training: Training, lower: Array) -> dict[str, Any]:
    """What the weights of the data amount to, as fields of a potential."""
    alpha = cho_solve((lower, True), training.y)
    beta, u = spread(training, alpha)
    x, z = training.x, training.z
    return {"lower": lower, "alpha": alpha, "beta": beta, "u": u, "x": x, "z": z}


def _fit_dense(potential: KernelPotential, training: Training) -> KernelPotential:
    @jax.jit
    def solve(training: Training) -> Any:
        K = _noisy(potential, training, covariance(potential.kernel, training))
        return K, _weights(training, jnp.linalg.cholesky(K))

    K, found = solve(training)
    check_factor(found["lower"], K, "the data")
    return dataclasses.replace(potential, **found)


def _extend_dense(
    potential: KernelPotential, old: Training, new: Training
) -> KernelPotential:
    kernel = potential.kernel

    @jax.jit
    def solve(old: Training, new: Training, both: Training, L: Array) -> Any:
        between = covariance(kernel, old, new)
        side = solve_triangular(L, between, lower=True)
        # The Schur complement of the old data is what the new ones still add.
        rest = _noisy(potential, new, covariance(kernel, new)) - side.T @ side
        low = jnp.linalg.cholesky(rest)
        top = jnp.concatenate([L, jnp.zeros_like(between)], 1)
        lower = jnp.concatenate([top, jnp.concatenate([side.T, low], 1)])
        return rest, low, _weights(both, lower)

    rest, low, found = solve(old, new, potential.training, potential.lower)
    check_factor(low, rest, "the new data")
    return dataclasses.replace(potential, **found)


def _fit_iterative(
    potential: KernelPotential, training: Training, start: Any, limits: dict
) -> KernelPotential:
    kernel = potential.kernel

    @jax.jit
    def solve(training: Training, marks: Training, start: Any) -> Any:
        training = jax.tree.map(jnp.asarray, training)
        system = System.make(kernel, training, marks, potential.noise, potential.jitter)
        alpha, *how = system.solve(kernel, training, training.y, start, **limits)
        beta, u = spread(training, alpha)
        x, z = training.x, training.z
        found = {"alpha": alpha, "beta": beta, "u": u, "x": x, "z": z}
        return {**found, "system": system}, how

    start = jnp.zeros_like(training.y) if start is None else jnp.asarray(start)
    found, (iterations, residual) = solve(training, landmarks(kernel, training), start)
    report = {"iterations": int(iterations), "residual": float(residual), **limits}
    require_convergence(report["residual"], report["iterations"], limits)
    return dataclasses.replace(potential, report=report, **found)


def _environments(
    kernel: AtomKernel, training: Training, wanted: Any, method: str, seed: int
) -> Any:
    total = training.x.shape[0]
    if np.ndim(wanted) == 0:
        return select_environments(
            training.x, training.z, int(wanted), method, kernel=kernel, seed=seed
        )
    chosen = np.asarray(wanted)
    integral = np.issubdtype(chosen.dtype, np.integer)
    if not integral or chosen.ndim != 1 or np.any((chosen < 0) | (chosen >= total)):
        raise ValueError(
            "`environments` must be a number, or positions among the atoms of the "
            f"data, integers from 0 to {total - 1}; got {chosen.dtype} of shape "
            f"{chosen.shape}."
        )
    return chosen


def _fit_sparse(potential: KernelPotential, chosen: Any) -> KernelPotential:
    training = potential.training
    assert training is not None
    if not np.min(training.deviation(potential.noise)) > 0:
        raise ValueError(
            "a sparse fit weighs data by their `noise`, which must be positive; got "
            f"{potential.noise}."
        )
    x, z = (jnp.asarray(np.asarray(a)[chosen]) for a in (training.x, training.z))

    @jax.jit
    def own(x: Array, z: Array) -> tuple[Array, Array]:
        K = potential.kernel(x, z, x, z)
        K = K + potential.jitter * jnp.diag(jnp.diagonal(K))
        return jnp.linalg.cholesky(K), K

    lower, K = own(x, z)
    check_factor(lower, K, "the environments")
    prior = (lower.T, jnp.zeros(len(x), lower.dtype))
    return _solve_sparse(
        dataclasses.replace(potential, x=x, z=z, lower=lower, u=None), training, prior
    )


def _solve_sparse(
    potential: KernelPotential, new: Training, known: Any
) -> KernelPotential:
    """Add rows of data to a triangular system, of the prior or of data before."""

    @jax.jit
    def solve(sources: Any, new: Training, known: Any) -> Any:
        rows = cross(potential.kernel, sources, new.groups).T
        deviation = new.deviation(potential.noise)
        rows = jnp.concatenate([rows / deviation[:, None], known[0]])
        target = jnp.concatenate([new.y / deviation, known[1]])
        q, r = jnp.linalg.qr(rows)
        target = q.T @ target
        return (r, target), solve_triangular(r, target)

    upper, beta = solve((potential.x, potential.z), new, known)
    return dataclasses.replace(potential, upper=upper, beta=beta)
