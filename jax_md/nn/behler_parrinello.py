"""The symmetry functions under the address and the names that scripts import."""

from .symmetry_functions import angular_symmetry_functions as angular_symmetry_functions
from .symmetry_functions import (
    angular_symmetry_functions_neighbor_list as angular_symmetry_functions_neighbor_list,  # noqa: E501
)
from .symmetry_functions import (
    behler_parrinello_symmetry_functions as symmetry_functions,
)
from .symmetry_functions import (
    behler_parrinello_symmetry_functions_neighbor_list as symmetry_functions_neighbor_list,  # noqa: E501
)
from .symmetry_functions import radial_symmetry_functions as radial_symmetry_functions
from .symmetry_functions import (
    radial_symmetry_functions_neighbor_list as radial_symmetry_functions_neighbor_list,
)
from .symmetry_functions import (
    single_pair_angular_symmetry_function as single_pair_angular_symmetry_function,
)

__all__ = [
    "angular_symmetry_functions",
    "angular_symmetry_functions_neighbor_list",
    "radial_symmetry_functions",
    "radial_symmetry_functions_neighbor_list",
    "single_pair_angular_symmetry_function",
    "symmetry_functions",
    "symmetry_functions_neighbor_list",
]
