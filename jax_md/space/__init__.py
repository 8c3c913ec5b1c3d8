"""Geometries: how points differ, move and repeat.

A space is a pair ``(displacement_fn, shift_fn)``. A displacement takes two points
``[d]``; `map_product`, `map_bond` and `map_neighbor` lift it to arrays of points.
"""

from jax_md.types import DisplacementFn as DisplacementFn
from jax_md.types import DisplacementOrMetricFn as DisplacementOrMetricFn
from jax_md.types import MetricFn as MetricFn
from jax_md.types import ShiftFn as ShiftFn
from jax_md.types import Space as Space
from jax_md.util import safe_mask as safe_mask

from .box import UnexpectedBoxException as UnexpectedBoxException
from .box import cartesian as cartesian
from .box import inverse as inverse
from .box import lattice as lattice
from .box import raw_transform as raw_transform
from .box import transform as transform
from .box import transform_jvp as transform_jvp
from .displacement import distance as distance
from .displacement import pairwise_displacement as pairwise_displacement
from .displacement import periodic_displacement as periodic_displacement
from .displacement import periodic_shift as periodic_shift
from .displacement import root_of_square as root_of_square
from .displacement import square_distance as square_distance
from .free import free as free
from .general import periodic_general as periodic_general
from .mapping import (
    canonicalize_displacement_or_metric as canonicalize_displacement_or_metric,
)
from .mapping import map_bond as map_bond
from .mapping import map_neighbor as map_neighbor
from .mapping import map_product as map_product
from .mapping import metric as metric
from .periodic import periodic as periodic
