"""Nonlinearities, each with the closed form of its kernel."""

from .custom import Elementwise as Elementwise
from .custom import ElementwiseNumerical as ElementwiseNumerical
from .exponential import Cos as Cos
from .exponential import Exp as Exp
from .exponential import ExpNormalized as ExpNormalized
from .exponential import Gabor as Gabor
from .exponential import Gaussian as Gaussian
from .exponential import Rbf as Rbf
from .exponential import Sin as Sin
from .polynomial import Hermite as Hermite
from .polynomial import Monomial as Monomial
from .polynomial import Polynomial as Polynomial
from .relu import ABRelu as ABRelu
from .relu import Abs as Abs
from .relu import LeakyRelu as LeakyRelu
from .relu import RectifiedMonomial as RectifiedMonomial
from .relu import Relu as Relu
from .relu import Sign as Sign
from .sigmoid import Erf as Erf
from .sigmoid import Gelu as Gelu
from .sigmoid import Sigmoid_like as Sigmoid_like
