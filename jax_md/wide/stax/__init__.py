"""Layers and networks as triples ``(init_fn, apply_fn, kernel_fn)``.

`init_fn` and `apply_fn` are the finite network, `kernel_fn` its limit of infinite
width: covariances of the outputs at initialization (``"nngp"``) and the kernel of
training by gradient descent (``"ntk"``).
"""

from .combinators import parallel as parallel
from .combinators import repeat as repeat
from .combinators import serial as serial
from .dense import Dense as Dense
from .diagonal import Bool as Bool
from .diagonal import Diagonal as Diagonal
from .elementwise import ABRelu as ABRelu
from .elementwise import Abs as Abs
from .elementwise import Erf as Erf
from .elementwise import Gelu as Gelu
from .elementwise import LeakyRelu as LeakyRelu
from .elementwise import RectifiedMonomial as RectifiedMonomial
from .elementwise import Relu as Relu
from .elementwise import Sigmoid_like as Sigmoid_like
from .elementwise import Sign as Sign
from .masking import MaskedArray as MaskedArray
from .masking import unmask_fn as unmask_fn
from .requirements import layer as layer
from .requirements import requires as requires
from .requirements import supports_masking as supports_masking
from .smoothness import require_derivatives as require_derivatives
