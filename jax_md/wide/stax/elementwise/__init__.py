"""Nonlinearities, each with the closed form of its kernel."""

from .relu import ABRelu as ABRelu
from .relu import Abs as Abs
from .relu import LeakyRelu as LeakyRelu
from .relu import RectifiedMonomial as RectifiedMonomial
from .relu import Relu as Relu
from .relu import Sign as Sign
from .sigmoid import Erf as Erf
from .sigmoid import Gelu as Gelu
from .sigmoid import Sigmoid_like as Sigmoid_like
