r"""L-BFGS: a quasi-Newton method, by optax.

The optimizer needs a vector space, and positions on a torus or in a unit cube are none.
So it works on the real-space displacement ``u`` from where it started, with the energy
``E(shift(R_0, u))``: positions move through the shift of the space alone.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jax_md import dataclasses
from jax_md.simulate import operators
from jax_md.types import EnergyFn, Minimizer, Position, ShiftFn


@dataclasses.dataclass
class LBFGSState:
    """State of L-BFGS; `value` and `gradient` are those at `position`."""

    position: Position
    value: Float[Array, ""]
    gradient: Position
    displacement: Position
    reference_position: Position
    optimizer: Any

    @property
    def force(self) -> Position:
        """Minus the gradient, in real space."""
        return jax.tree.map(jnp.negative, self.gradient)


def _optax() -> Any:
    try:
        import optax
    except ImportError as error:
        raise ImportError(
            '`minimize.lbfgs` needs optax: pip install "jax-md[nn]".'
        ) from error
    return optax


def _largest_move(updates: Any) -> Array:
    """Norm of the longest displacement of a particle."""
    longest = [
        jnp.max(jnp.sum(jnp.square(u), axis=-1) if u.ndim else jnp.square(u))
        for u in jax.tree.leaves(updates)
    ]
    return operators.safe_sqrt(jnp.max(jnp.stack(longest)))


def lbfgs(
    energy_fn: EnergyFn,
    shift_fn: ShiftFn,
    memory_size: int = 10,
    max_linesearch_steps: int = 20,
    max_move: Any = None,
) -> Minimizer:
    """Minimize by L-BFGS with a zoom line search (strong Wolfe conditions).

    Near a minimum this takes far fewer evaluations than FIRE. A step evaluates the
    energy and its gradient once for each trial of the line search, mostly once.

    Args:
        energy_fn: Energy of the positions; a force does not do.
        shift_fn: Shift function of the space, or a tree of them.
        memory_size: Pairs of displacements and gradients to keep.
        max_linesearch_steps: Most trials in a step.
        max_move: Longest displacement of a particle in a step, trials included
            (length). Set it to half of the skin of a neighbor list, or less; None sets
            no bound.

    Returns:
        ``(init, step)``: ``init(R, **kwargs)`` and ``step(state, **kwargs)``. Keywords
        go to the energy and the shift. A list passed as ``neighbor=`` may be updated
        between steps, but the energy itself has to stay what it was: after a change of
        its parameters, start anew with ``init(state.position, ...)``.

    Raises:
        ImportError: If optax is missing.
        ValueError: From ``init``, if `energy_fn` does not return a scalar.

    Source:
        D. C. Liu, J. Nocedal, Math. Program. 45, 503 (1989).
    """
    optax = _optax()

    def bounded() -> Any:
        def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
            longest = _largest_move(updates)
            limit = jnp.asarray(max_move, longest.dtype)
            scale = jnp.where(longest > limit, limit / longest, 1)
            return jax.tree.map(lambda u: u * scale.astype(u.dtype), updates), state

        return optax.GradientTransformation(lambda params: optax.EmptyState(), update)

    optimizer = optax.chain(
        optax.scale_by_lbfgs(memory_size),
        optax.scale(-1.0),
        *([] if max_move is None else [bounded()]),
        optax.scale_by_zoom_linesearch(
            max_linesearch_steps,
            # The bound holds for trials only if they do not reach beyond the update.
            max_learning_rate=None if max_move is None else 1.0,
            initial_guess_strategy="one",
        ),
    )

    def moved(R: Position, u: Position, kwargs: dict) -> Position:
        return jax.tree.map(
            lambda shift, R, u: shift(R, u, **kwargs).astype(R.dtype),
            operators.spread(shift_fn, R),
            R,
            u,
        )

    def energy_of(R: Position, kwargs: dict) -> Callable:
        dtype = jnp.result_type(*jax.tree.leaves(R))

        def value_fn(u: Position) -> Array:
            E = jnp.asarray(energy_fn(moved(R, u, kwargs), **kwargs))
            if E.ndim:
                raise ValueError(
                    "`energy_fn` must return a scalar, the energy that the line search "
                    f"compares; got shape {E.shape}."
                )
            return E.astype(dtype)

        return value_fn

    def init(R: Position, **kwargs: Any) -> LBFGSState:
        R = operators.as_arrays(R)
        u = jax.tree.map(jnp.zeros_like, R)
        value, gradient = jax.value_and_grad(energy_of(R, kwargs))(u)
        return LBFGSState(R, value, gradient, u, R, optimizer.init(u))

    def step(state: LBFGSState, **kwargs: Any) -> LBFGSState:
        value_fn = energy_of(state.reference_position, kwargs)
        updates, memory = optimizer.update(
            state.gradient,
            state.optimizer,
            state.displacement,
            value=state.value,
            grad=state.gradient,
            value_fn=value_fn,
        )
        u = optax.apply_updates(state.displacement, updates)
        search = memory[-1]
        new = LBFGSState(
            position=moved(state.reference_position, u, kwargs),
            value=search.value,
            gradient=search.grad,
            displacement=u,
            reference_position=state.reference_position,
            optimizer=memory,
        )
        new = jax.tree.map(lambda a, b: jnp.asarray(a, b.dtype), new, state)
        # At a stationary point there is no direction to search along.
        still = _largest_move(state.gradient) == 0
        return jax.tree.map(lambda a, b: jnp.where(still, b, a), new, state)

    return Minimizer(jax.jit(init), jax.jit(step))
