"""Derivatives of rollouts, the method as a value, and of minima.

Beside it, estimators of the gradients of averages: of random paths by their scores, of
equilibrium by reweighting or fluctuations. All take the parameters first:
``energy_fn(params, R)``, ``observable(params, R)``, ``loss(params, result)``.

Knows nothing of particles: a step is any ``(params, state) -> state``.
"""

from .diagnose import diagnose as diagnose
from .diagnosis import Diagnosis as Diagnosis
from .estimate import Estimate as Estimate
from .fluctuation import fluctuation_gradient as fluctuation_gradient
from .forecast import Forecast as Forecast
from .forecast import forecast as forecast
from .implicit import Minimum as Minimum
from .implicit import minimum as minimum
from .losses import Labelled as Labelled
from .losses import force_matching as force_matching
from .losses import relative_entropy as relative_entropy
from .methods import Backprop as Backprop
from .methods import Checkpointed as Checkpointed
from .methods import Forward as Forward
from .methods import Hybrid as Hybrid
from .methods import Method as Method
from .methods import Reversible as Reversible
from .methods import Truncated as Truncated
from .not_differentiable import NotDifferentiable as NotDifferentiable
from .reversible_step import ReversibleStep as ReversibleStep
from .reweight import Ensemble as Ensemble
from .reweight import Fit as Fit
from .reweight import Reweighting as Reweighting
from .reweight import effective_sample_size as effective_sample_size
from .reweight import reweight as reweight
from .reweight import reweighted_fit as reweighted_fit
from .rollout import rollout as rollout
from .score import pathwise_gradient as pathwise_gradient
from .score import score_gradient as score_gradient
from .score import score_loss as score_loss
from .score_paths import brownian_log_prob as brownian_log_prob
from .score_paths import langevin_log_prob as langevin_log_prob
