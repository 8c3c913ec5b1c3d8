"""Minimizers: pairs ``(init, step)`` that take positions to a minimum of an energy."""

from jax_md.types import Minimizer as Minimizer

from .converge import until_converged as until_converged
from .fire import FireDescentState as FireDescentState
from .fire import fire_descent as fire_descent
from .gradient_descent import gradient_descent as gradient_descent
from .lbfgs import LBFGSState as LBFGSState
from .lbfgs import lbfgs as lbfgs
