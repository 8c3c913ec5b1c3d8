"""Layers and networks as triples ``(init_fn, apply_fn, kernel_fn)``.

`init_fn` and `apply_fn` are the finite network, `kernel_fn` its limit of infinite
width: covariances of the outputs at initialization (``"nngp"``) and the kernel of
training by gradient descent (``"ntk"``).
"""

from .aggregate import Aggregate as Aggregate
from .aggregate import AggregateImplementation as AggregateImplementation
from .attention import AttentionMechanism as AttentionMechanism
from .attention import GlobalSelfAttention as GlobalSelfAttention
from .combinators import parallel as parallel
from .combinators import repeat as repeat
from .combinators import serial as serial
from .conv import Conv as Conv
from .conv import ConvLocal as ConvLocal
from .conv import ConvTranspose as ConvTranspose
from .dense import Dense as Dense
from .diagonal import Bool as Bool
from .diagonal import Diagonal as Diagonal
from .dot_general import DotGeneral as DotGeneral
from .elementwise import ABRelu as ABRelu
from .elementwise import Abs as Abs
from .elementwise import Cos as Cos
from .elementwise import Elementwise as Elementwise
from .elementwise import ElementwiseNumerical as ElementwiseNumerical
from .elementwise import Erf as Erf
from .elementwise import Exp as Exp
from .elementwise import ExpNormalized as ExpNormalized
from .elementwise import Gabor as Gabor
from .elementwise import Gaussian as Gaussian
from .elementwise import Gelu as Gelu
from .elementwise import Hermite as Hermite
from .elementwise import LeakyRelu as LeakyRelu
from .elementwise import Monomial as Monomial
from .elementwise import Polynomial as Polynomial
from .elementwise import Rbf as Rbf
from .elementwise import RectifiedMonomial as RectifiedMonomial
from .elementwise import Relu as Relu
from .elementwise import Sigmoid_like as Sigmoid_like
from .elementwise import Sign as Sign
from .elementwise import Sin as Sin
from .embedding import PositionalEmbedding as PositionalEmbedding
from .fan import FanInConcat as FanInConcat
from .fan import FanInProd as FanInProd
from .fan import FanInSum as FanInSum
from .fan import FanOut as FanOut
from .masking import MaskedArray as MaskedArray
from .masking import unmask_fn as unmask_fn
from .normalization import LayerNorm as LayerNorm
from .pooling import AvgPool as AvgPool
from .pooling import GlobalAvgPool as GlobalAvgPool
from .pooling import GlobalSumPool as GlobalSumPool
from .pooling import SumPool as SumPool
from .requirements import layer as layer
from .requirements import requires as requires
from .requirements import supports_masking as supports_masking
from .resize import ImageResize as ImageResize
from .smoothness import Smoothness as Smoothness
from .smoothness import require_derivatives as require_derivatives
from .smoothness import with_smoothness as with_smoothness
from .structural import Dropout as Dropout
from .structural import Flatten as Flatten
from .structural import Identity as Identity
from .structural import Index as Index
from .structural import Slice as Slice
from .windows import Padding as Padding
