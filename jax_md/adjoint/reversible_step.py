"""A step that comes with its exact inverse."""

from collections.abc import Callable
from typing import Any, NamedTuple


class ReversibleStep(NamedTuple):
    """A step ``(params, state) -> state`` that can be undone bit for bit.

    A state holds integers, which are moved exactly, and floating-point numbers, which
    are functions of them and carry the derivatives. Called, it steps forward, so that
    it serves every method.

    Attributes:
        forward: The step.
        inverse: Its inverse: integers of a state come back bit for bit. States without
            integers have to come back so themselves.
        tangent_step: A step to differentiate in place of `forward`; None where
            `forward` itself has the right derivatives.
    """

    forward: Callable[[Any, Any], Any]
    inverse: Callable[[Any, Any], Any]
    tangent_step: Callable[[Any, Any], Any] | None = None

    def __call__(self, params: Any, state: Any) -> Any:
        """Step forward."""
        return self.forward(params, state)
