"""Predictions of wide networks: trained by gradient descent, or Bayesian."""

from .ensemble import gradient_descent_mse_ensemble as gradient_descent_mse_ensemble
from .gaussian import Gaussian as Gaussian
from .gp_inference import gp_inference as gp_inference
from .gradient_descent import ODEState as ODEState
from .gradient_descent import gradient_descent as gradient_descent
from .gradient_descent_mse import gradient_descent_mse as gradient_descent_mse
from .learning_rate import max_learning_rate as max_learning_rate
