"""A simulator with the inverse of its step."""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import jax.numpy as jnp

from jax_md import adjoint


@dataclasses.dataclass(frozen=True)
class ReversibleSimulator:
    """A simulator and the inverse of its step; unpacks as ``init, step, inverse``.

    Attributes:
        init: ``init(key, R, ...) -> state``.
        step: ``step(state, **kwargs) -> state``.
        undo: ``undo(state, **kwargs) -> (state, neighbors)``: the state that `step`
            took to its argument, and the neighbor list of the force on the way, None
            without one.
        settle: ``settle(state) -> state`` rounds positions and momenta to the lattice.
        refresh: ``refresh(state, **kwargs) -> state`` computes again what a state holds
            that follows from its positions; None where there is nothing.
    """

    init: Callable[..., Any]
    step: Callable[..., Any]
    undo: Callable[..., Any]
    settle: Callable[[Any], Any]
    refresh: Callable[..., Any] | None = None

    def __iter__(self) -> Iterator[Callable]:
        return iter((self.init, self.step, self.inverse))

    def inverse(self, state: Any, **kwargs: Any) -> Any:
        """The state that `step` took to this one."""
        return self.undo(state, **kwargs)[0]

    def for_adjoint(
        self, keywords: Callable[[Any], dict], neighbors: Any = None
    ) -> adjoint.ReversibleStep:
        """Return the step and its inverse as functions of parameters and a state.

        Args:
            keywords: ``keywords(params)``, the keywords of the step, such as
                ``lambda params: dict(sigma=params)``.
            neighbors: Neighbor list that the energy takes as ``neighbor``, with room
                for all of the run. Inside a step it is brought up to date from the one
                list that a window of `adjoint.Hybrid` starts with, and that is this
                one in all other methods, so that a force depends on nothing that the
                way back does not know. Positions that have left the skin of that list
                are searched for neighbors at every step: choose windows that end before
                that.
        """
        own = [] if neighbors is None else [neighbors]

        def bound(fn: Callable) -> Callable:
            def call(params: Any, state: Any, *shared: Any) -> Any:
                kwargs = dict(keywords(params))
                if shared:
                    kwargs["neighbor"] = shared[0]
                return fn(state, **kwargs)

            return call

        def renew(params: Any, state: Any, shared: Any) -> Any:
            # Built at these positions even if they are within the skin of the list.
            unknown = jnp.full_like(shared.reference_position, jnp.nan)
            return shared.set(reference_position=unknown).update(state.position)

        refresh = None if self.refresh is None else bound(self.refresh)

        def begin(params: Any, state: Any) -> Any:
            assert refresh is not None
            return refresh(params, state, *own)

        def settle(params: Any, state: Any) -> Any:
            state = self.settle(state)
            return state if refresh is None else begin(params, state)

        return adjoint.ReversibleStep(
            bound(self.step),
            bound(self.inverse if neighbors is None else self.undo),
            begin=None if refresh is None else begin,
            shared=neighbors,
            renew=None if neighbors is None else renew,
            settle=settle,
        )
