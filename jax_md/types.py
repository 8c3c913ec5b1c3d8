"""Types shared by all modules, and the names of the array axes.

Axis names used in shape annotations: ``n`` particles, ``d`` dimension, ``k`` neighbors
held, ``p`` pairs, ``s`` species, ``c`` chain, ``b`` replicas, ``t`` frames; ``*pairs``
is any shape, ``#n`` is n or 1.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax
from jaxtyping import Array, Float, PyTree

Box = Any  # scalar, [d] or upper-triangular [d, d]; columns are lattice vectors
Position = PyTree[Float[Array, "..."]]
PRNGKey = jax.Array


class DisplacementFn(Protocol):
    """``displacement(Ra, Rb, **kwargs)``: ``Ra - Rb`` of two points ``[d]``."""

    def __call__(self, Ra: Any, Rb: Any, /, **kwargs: Any) -> Any: ...


class MetricFn(Protocol):
    """``metric(Ra, Rb, **kwargs)``: the distance of two points ``[d]``."""

    def __call__(self, Ra: Any, Rb: Any, /, **kwargs: Any) -> Any: ...


DisplacementOrMetricFn = DisplacementFn | MetricFn


class ShiftFn(Protocol):
    """``shift(R, dR, **kwargs)``: positions moved by a real-space ``dR``."""

    def __call__(self, R: Any, dR: Any, /, **kwargs: Any) -> Any: ...


class EnergyFn(Protocol):
    """``energy(R, **kwargs)``: a scalar."""

    def __call__(self, R: Any, /, *args: Any, **kwargs: Any) -> Any: ...


class ForceFn(Protocol):
    """``force(R, **kwargs)``: a tree of the structure of ``R``."""

    def __call__(self, R: Any, /, *args: Any, **kwargs: Any) -> Any: ...


class Space(NamedTuple):
    """A geometry: how two points differ and how points move."""

    displacement: DisplacementFn
    shift: ShiftFn


class Simulator(NamedTuple):
    """An ensemble: ``init(key, R, ...) -> state`` and ``step(state, ...) -> state``.

    Unpacks as the pair ``init_fn, apply_fn``.
    """

    init: Callable[..., Any]
    step: Callable[..., Any]


class Minimizer(NamedTuple):
    """A descent: ``init(R, ...) -> state`` and ``step(state, ...) -> state``.

    Unpacks as the pair ``init_fn, apply_fn``.
    """

    init: Callable[..., Any]
    step: Callable[..., Any]
