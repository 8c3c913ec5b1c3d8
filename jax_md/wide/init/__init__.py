"""Initializers for deep and recurrent networks, from their mean field theory."""

from .critical import Critical as Critical
from .critical import critical as critical
from .critical import gaussian as gaussian
from .critical import normal as normal
from .gated import GatedInit as GatedInit
from .gated import gated_critical_init as gated_critical_init
from .orthogonal import conv_orthogonal as conv_orthogonal
from .orthogonal import delta_orthogonal as delta_orthogonal
from .orthogonal import orthogonal as orthogonal
