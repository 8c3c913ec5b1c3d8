r"""Derivatives of a minimum, from the minimum alone.

At a minimum of :math:`E(\theta, R)` in ``R`` the slope :math:`\nabla_R E` vanishes, and
stays zero as the parameters change, hence

.. math:: H \, dR = -\partial_\theta \nabla_R E \; d\theta, \qquad H = \nabla_R^2 E.

How the minimum was found does not matter. The memory is that of one state, the linear
system is solved from products with :math:`H`, and since :math:`H` is symmetric the same
solver serves both modes.

Source:
    M. Blondel et al., Advances in Neural Information Processing Systems 35 (2022),
    arXiv:2105.15183, section 2; S. S. Schoenholz, E. D. Cubuk, NeurIPS 2020,
    arXiv:1912.04232, for packings.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_derivatives import SymbolicZero
from jaxtyping import Array, Bool, Float

from .flat import Leaves, differentiable, merge, split, strong, trace
from .implicit_solve import FlatDirections, flat_directions, pack, solve, unpack
from .methods import check_count


class Minimum(NamedTuple):
    """A minimum and how well it was found.

    Attributes:
        position: Where it is, a tree as the start. Derivatives are those of the
            minimum, and NaN unless `converged`.
        residual: Largest entry of the gradient of the energy there.
        converged: Whether `residual` is within the tolerance.
    """

    position: Any
    residual: Float[Array, ""]
    converged: Bool[Array, ""]

    def raise_if_unconverged(self) -> None:
        """Raise `RuntimeError` unless all minima have been reached; waits for them."""
        if np.all(np.asarray(self.converged)):
            return
        worst = float(np.max(np.asarray(self.residual)))
        raise RuntimeError(
            "the solver did not reach a minimum: the gradient of the energy has an "
            f"entry of {worst:.3g}, which is above `tolerance`, and derivatives are "
            "NaN. Give the solver more steps or a smaller tolerance of its own, or "
            "pass a larger `tolerance` to `adjoint.minimum`."
        )


def minimum(
    energy_fn: Callable[[Any, Any], Any],
    params: Any,
    start: Any,
    solver: Callable[[Callable[[Any], Any], Any], Any],
    *,
    tolerance: Any = None,
    linear_steps: int | None = None,
) -> Minimum:
    r"""Minimize an energy; differentiable with respect to its parameters.

    Derivatives are with respect to every floating-point array of `params` and of what
    `energy_fn` closes over, in both modes and to any order. They do not go through the
    solver, and none are with respect to `start`.

    Any tree of arrays can be minimized over: positions, or fractional positions beside
    a box or a strain. An energy may use a neighbor list, closed over or among the
    parameters, that holds all pairs which count at the minimum.

    Directions in which the energy is flat, such as a shift of all particles, a turn of
    a cluster or the moves of a rattler, are left out: along them the minimum stays
    where it is. A loss of the energy alone needs no linear system, as
    ``energy_fn(params, jax.lax.stop_gradient(found.position))`` has the same gradient.

    Where a derivative cannot be trusted it is NaN, under `jax.jit` as well: if the
    solver did not reach the tolerance, if the linear system was not solved, or if a
    parameter tilts a direction in which the energy is flat.

    Args:
        energy_fn: ``energy_fn(params, R)``, a scalar (energy).
        params: Tree of arrays.
        start: Tree of arrays that the solver starts from.
        solver: ``solver(energy_of_R, start) -> R``, such as
            ``minimize.until_converged(minimize.fire_descent, shift_fn)``. It need not
            be differentiable, nor even traceable where this is called outside of
            transformations that trace.
        tolerance: Largest entry of the gradient that counts as zero (energy / unit of
            the variable); the square root of the precision by default. The error of the
            minimum is that over the least curvature.
        linear_steps: Most products with the Hessian in each of up to five rounds of the
            linear solver; by default ten for each number in `start`, and a hundred.

    Returns:
        The minimum, with its residual.

    Raises:
        TypeError: If `solver` is not callable or returns another tree or other dtypes,
            or if `start` holds anything but real floating-point numbers.
        ValueError: If the energy is not a real scalar, if the solver changes a shape,
            or if `tolerance` is not positive.

    Example:
        >>> def energy_fn(k, x):
        ...     return jnp.sum(k * x**2 / 2 - x)
        >>> def newton(energy_of_x, x):
        ...     return x - jax.grad(energy_of_x)(x) / jax.hessian(energy_of_x)(x)
        >>> def loss(k):
        ...     return minimum(energy_fn, k, 0.0, newton).position
        >>> jax.grad(loss)(2.0)  # of 1 / k
        Array(-0.25, dtype=float32, weak_type=True)
    """
    if not callable(solver):
        raise TypeError(
            "`solver` must be a function `(energy_of_R, start) -> R`, such as "
            "`minimize.until_converged(minimize.fire_descent, shift_fn)`; got "
            f"{type(solver).__name__}."
        )
    start = jax.tree.map(strong, start)
    x = jax.tree.leaves(start)
    if not x or not all(jnp.issubdtype(leaf.dtype, jnp.floating) for leaf in x):
        raise TypeError(
            "`start` must be a tree of real floating-point arrays, the variables to "
            f"minimize over; got dtypes {[str(leaf.dtype) for leaf in x]}."
        )
    if linear_steps is None:
        linear_steps = 10 * sum(leaf.size for leaf in x) + 100
    linear_steps = check_count("linear_steps", linear_steps)
    if tolerance is None:
        tolerance = max(float(jnp.finfo(leaf.dtype).eps) ** 0.5 for leaf in x)
    elif isinstance(tolerance, int | float) and not tolerance > 0:
        raise ValueError(f"`tolerance` must be positive; got {tolerance}.")

    params = jax.tree.map(strong, params)
    flat = trace(energy_fn, params, start)
    _check_energy(flat.shape)
    theta = [*jax.tree.leaves(params), *map(strong, flat.consts)]
    given = len(jax.tree.leaves(params))

    def energy_of(theta: Leaves, x: Leaves) -> Array:
        (value,) = flat.call(theta[given:], [*theta[:given], *x])
        return value

    fixed = [jax.lax.stop_gradient(t) for t in theta]

    def energy_of_position(R: Any) -> Array:
        R = jax.tree.map(jnp.asarray, R)
        _check_like("`energy_of_R` must be called with", R, start, dtypes=False)
        return energy_of(fixed, jax.tree.map(strong, jax.tree.leaves(R), dtypes))

    dtypes = [leaf.dtype for leaf in x]
    found = solver(energy_of_position, jax.lax.stop_gradient(start))
    found = jax.tree.map(strong, found)
    _check_like("`solver` must return", found, start)
    x = [jax.lax.stop_gradient(leaf) for leaf in jax.tree.leaves(found)]

    slope = jax.grad(energy_of, argnums=1)(fixed, x)
    residual = jnp.max(jnp.stack([jnp.max(jnp.abs(g), initial=0) for g in slope]))
    converged = residual <= tolerance
    mask = differentiable(theta)
    inside, rest = split(mask, theta)

    def energy_inside(inside: Leaves, rest: Leaves, x: Leaves) -> Array:
        return energy_of(merge(mask, inside, rest), x)

    x = _attach(energy_inside, linear_steps, inside, x, rest, converged)
    position = jax.tree.unflatten(jax.tree.structure(start), x)
    return Minimum(position, residual, converged)


def _attach(
    energy_of: Callable,
    steps: int,
    theta: Leaves,
    x: Leaves,
    rest: Leaves,
    converged: Any,
) -> Leaves:
    """Return the minimum `x` with its derivatives with respect to `theta`.

    Args:
        energy_of: ``energy_of(theta, rest, x)``; closes over nothing traced.
        steps: Most products in a round of the linear solver.
        theta: Parameters that have derivatives.
        x: Minimum.
        rest: Parameters that have none.
        converged: Whether `x` is a minimum.
    """

    @jax.custom_jvp
    def located(theta: Leaves, x: Leaves, rest: Leaves, converged: Any) -> Leaves:
        return x

    def rule(primals: Any, tangents: Any) -> tuple[Leaves, Leaves]:
        theta, _, rest, converged = primals
        x = located(*primals)  # with its own derivatives, for those of higher order
        moved = [not isinstance(t, SymbolicZero) for t in tangents[0]]
        active, still = split(moved, theta)
        dots = split(moved, tangents[0])[0]
        if not active:
            return x, [jnp.zeros_like(leaf) for leaf in x]

        def slope(active: Leaves, x: Leaves) -> Array:
            theta = merge(moved, active, still)
            return pack(jax.grad(energy_of, argnums=2)(theta, rest, x))

        flat, sound = _survey(slope, active, x)
        sound &= converged
        _, hessian = jax.linearize(lambda x: slope(active, x), x)
        _, force = jax.jvp(lambda active: -slope(active, x), (active,), (dots,))
        # A factor, whose transpose is the same factor; `where` would become a zero.
        force = force * jnp.where(sound, 1, jnp.nan).astype(force.dtype)

        def across(least_squares: bool) -> Callable:
            return lambda product, b: solve(product, flat, b, steps, least_squares)

        # What pulls at the minimum can pull along flat directions, a parameter cannot.
        dx = jax.lax.custom_linear_solve(
            lambda v: hessian(unpack(v, x)),
            force,
            solve=across(least_squares=False),
            transpose_solve=across(least_squares=True),
            symmetric=True,
        )
        return x, unpack(dx, x)

    located.defjvp(rule, symbolic_zeros=True)
    return located(theta, x, rest, converged)


def _survey(slope: Callable, active: Leaves, x: Leaves) -> tuple[FlatDirections, Array]:
    """Find flat directions, and whether the parameters leave them flat.

    Each array of parameters is varied in a random direction. One direction is enough:
    of an array that tilts, those that do not are a hyperplane, which chance misses, and
    comes within a fraction of with no more than that probability. Arrays are varied one
    by one, so that a small tilt is not lost beside the force of a stiff one.
    """
    active = [jax.lax.stop_gradient(t) for t in active]
    x = [jax.lax.stop_gradient(leaf) for leaf in x]
    here, hessian = jax.linearize(lambda x: slope(active, x), x)
    flat = flat_directions(lambda v: hessian(unpack(v, x)), x, here)
    keys = jax.random.split(jax.random.key(1), len(active))
    probe = [
        jax.random.normal(key, t.shape, t.dtype)
        for key, t in zip(keys, active, strict=True)
    ]
    _, pull = jax.linearize(lambda active: slope(active, x), active)
    eps, length = jnp.finfo(here.dtype).eps, jnp.linalg.norm(pack(x))

    def leaves_flat(k: Array) -> Array:
        one = [jnp.where(k == i, p, 0) for i, p in enumerate(probe)]
        force = pull(one)
        tilt = jnp.linalg.norm(force - flat.remove(force))
        # Where forces cancel, as in a crystal, what is left of them is rounding.
        pairs = zip(one, active, strict=True)
        change = sum(jnp.linalg.norm(p) / _size(t) for p, t in pairs)
        noise = 100 * eps * flat.size * length * change
        return tilt <= eps**0.75 * jnp.linalg.norm(force) + noise

    return flat, jnp.all(jax.lax.map(leaves_flat, jnp.arange(len(active))))


def _size(parameter: Array) -> Array:
    """Norm of a parameter; infinite for zero, of which no change is small."""
    norm = jnp.linalg.norm(parameter)
    return jnp.where(norm > 0, norm, jnp.inf)


def _check_energy(shape: Any) -> None:
    leaves = jax.tree.leaves(shape)
    if len(leaves) == 1 and leaves[0].shape == ():
        if jnp.issubdtype(leaves[0].dtype, jnp.floating):
            return
    got = [f"{leaf.dtype}{list(leaf.shape)}" for leaf in leaves]
    raise ValueError(
        "`energy_fn(params, R)` must return a real scalar, the energy; got "
        f"{', '.join(got) or 'nothing'}."
    )


def _check_like(what: str, got: Any, expected: Any, dtypes: bool = True) -> None:
    want, have = jax.tree.structure(expected), jax.tree.structure(got)
    if want != have:
        raise TypeError(
            f"{what} variables of the structure of `start`, {want}; got {have}. A "
            "minimizer's state holds them as `state.position`."
        )
    for a, b in zip(jax.tree.leaves(expected), jax.tree.leaves(got), strict=True):
        if jnp.shape(a) != jnp.shape(b):
            raise ValueError(
                f"{what} variables of the shapes of `start`; got {jnp.shape(b)} for "
                f"{jnp.shape(a)}."
            )
        if dtypes and a.dtype != b.dtype:
            raise TypeError(
                f"{what} variables of the dtypes of `start`; got {b.dtype} for "
                f"{a.dtype}."
            )
