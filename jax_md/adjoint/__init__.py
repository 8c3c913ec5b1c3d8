"""Derivatives of rollouts, the method as a value, and of minima.

Knows nothing of particles: a step is any ``(params, state) -> state``.
"""

from .implicit import Minimum as Minimum
from .implicit import minimum as minimum
from .methods import Backprop as Backprop
from .methods import Checkpointed as Checkpointed
from .methods import Forward as Forward
from .methods import Method as Method
from .methods import Reversible as Reversible
from .methods import Truncated as Truncated
from .reversible_step import ReversibleStep as ReversibleStep
from .rollout import rollout as rollout
