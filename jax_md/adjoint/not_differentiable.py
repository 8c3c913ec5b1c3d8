"""A step whose derivatives along a path are not those of its averages."""

from collections.abc import Callable
from typing import Any, NamedTuple

from .guard import refuse_derivatives


class NotDifferentiable(NamedTuple):
    """A step ``(params, state) -> state`` that refuses to be differentiated.

    For steps that decide: a move of Monte Carlo is accepted or not, and its derivative
    along the path leaves out how the decision changes. `rollout` finds most of them by
    itself, and says what it cannot find; this marks them all. Called, it steps.
    Differentiated in whatever way, with respect to what it is given or through what it
    returns, it raises `TypeError` where automatic differentiation would return a number
    that is silently wrong.

    Attributes:
        step: The step.
        why: What to say beside that the step has no derivative: the reason, and what to
            use in its place.

    Example:
        >>> @NotDifferentiable
        ... def step(kT, state):
        ...     spin, key = state
        ...     key, draw = jax.random.split(key)
        ...     accept = jax.random.uniform(draw) < jnp.exp(-2 * spin / kT)
        ...     return jnp.where(accept, -spin, spin), key
    """

    step: Callable[[Any, Any], Any]
    why: str = (
        "it decides between outcomes, and the derivative along one path leaves out how "
        "the decision changes. Differentiate averages in its place, by reweighting or "
        "by the score function"
    )

    def __call__(self, params: Any, state: Any) -> Any:
        """Take the step."""
        name = getattr(self.step, "__name__", type(self.step).__name__)
        why = f"`{name}` has no derivative along a path: {self.why}."
        params, state = refuse_derivatives((params, state), why)
        return refuse_derivatives(self.step(params, state), why)
