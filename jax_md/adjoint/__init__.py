"""How a rollout is differentiated: one function, the method as a value.

Knows nothing of particles: a step is any ``(params, state) -> state``.
"""

from .methods import Backprop as Backprop
from .methods import Checkpointed as Checkpointed
from .methods import Forward as Forward
from .methods import Hybrid as Hybrid
from .methods import Method as Method
from .methods import Reversible as Reversible
from .methods import Truncated as Truncated
from .reversible_step import ReversibleStep as ReversibleStep
from .rollout import rollout as rollout
