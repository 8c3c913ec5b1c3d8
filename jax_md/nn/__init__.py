"""Parts of learned potentials: descriptors of the surroundings of a particle."""

from . import behler_parrinello as behler_parrinello
from .cutoff import cosine_cutoff as cosine_cutoff
from .cutoff import quintic_cutoff as quintic_cutoff
from .symmetry_functions import angular_symmetry_functions as angular_symmetry_functions
from .symmetry_functions import (
    angular_symmetry_functions_neighbor_list as angular_symmetry_functions_neighbor_list,  # noqa: E501
)
from .symmetry_functions import (
    behler_parrinello_symmetry_functions as behler_parrinello_symmetry_functions,
)
from .symmetry_functions import (
    behler_parrinello_symmetry_functions_neighbor_list as behler_parrinello_symmetry_functions_neighbor_list,  # noqa: E501
)
from .symmetry_functions import radial_symmetry_functions as radial_symmetry_functions
from .symmetry_functions import (
    radial_symmetry_functions_neighbor_list as radial_symmetry_functions_neighbor_list,
)
