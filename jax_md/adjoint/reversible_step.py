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
            integers have to come back so themselves. Real numbers beside integers,
            sums over the trajectory among them, have to come back up to rounding.
        tangent_step: A step to differentiate in place of `forward`; None where
            `forward` itself has the right derivatives.
        begin: ``begin(params, state) -> state``, what `rollout` does to the first
            state, such as computing again what is derived from the rest with these
            parameters; None for nothing.
        shared: Arrays that steps need but do not change, such as a neighbor list; they
            are not differentiated. None, or a third argument of the three functions;
            the inverse then returns ``(state, shared)``, with what the step that it
            undid may be differentiated with: the neighbor list as it was updated.
        renew: ``renew(params, state, shared) -> shared``: that of a window of `Hybrid`,
            from the state at its start and the first `shared`.
        settle: ``settle(params, state) -> state``: the state of the integers that are
            nearest to its real numbers, for who changes the latter; None where real
            numbers do not follow from integers.
    """

    forward: Callable[..., Any]
    inverse: Callable[..., Any]
    tangent_step: Callable[..., Any] | None = None
    begin: Callable[[Any, Any], Any] | None = None
    shared: Any = None
    renew: Callable[[Any, Any, Any], Any] | None = None
    settle: Callable[[Any, Any], Any] | None = None

    def __call__(self, params: Any, state: Any) -> Any:
        """Step forward."""
        if self.shared is None:
            return self.forward(params, state)
        return self.forward(params, state, self.shared)
