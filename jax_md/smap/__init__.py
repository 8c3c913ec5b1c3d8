"""Lifting functions of one bond, angle, pair or triplet to functions of a system."""

from jax_md.util import high_precision_sum as high_precision_sum

from .angle import angle as angle
from .bond import bond as bond
from .neighbor import pair_neighbor_list as pair_neighbor_list
from .pair import _diagonal_mask as _diagonal_mask
from .pair import pair as pair
from .parameters import Parameter as Parameter
from .parameters import ParameterTree as ParameterTree
from .parameters import ParameterTreeMapping as ParameterTreeMapping
from .parameters import _get_matrix_parameters as _get_matrix_parameters
from .parameters import _get_species_parameters as _get_species_parameters
from .torsion import torsion as torsion
from .triplet import triplet as triplet
