"""Quantities of one configuration: forces, temperature, stress, structure, packing."""

from collections.abc import Callable
from typing import Any

from jax_md.types import EnergyFn as EnergyFn
from jax_md.types import ForceFn as ForceFn
from jax_md.types import Simulator as Simulator

from .angle import cosine_angle_between_two_vectors as cosine_angle_between_two_vectors
from .angle import cosine_angles as cosine_angles
from .energy import count_dof as count_dof
from .energy import kinetic_energy as kinetic_energy
from .force import canonicalize_force as canonicalize_force
from .force import clipped_force as clipped_force
from .force import force as force
from .hopping import PHopCalculator as PHopCalculator
from .hopping import PHopState as PHopState
from .hopping import phop as phop
from .packing import box_from_parameters as box_from_parameters
from .packing import box_size_at_number_density as box_size_at_number_density
from .packing import box_size_at_volume_fraction as box_size_at_volume_fraction
from .packing import is_integer as is_integer
from .packing import nball_unit_volume as nball_unit_volume
from .packing import particle_volume as particle_volume
from .packing import volume_fraction as volume_fraction
from .stress import bulk_modulus as bulk_modulus
from .stress import pressure as pressure
from .stress import stress as stress
from .stress import volume as volume
from .structure import (
    average_pair_correlation_results as average_pair_correlation_results,
)
from .structure import pair_correlation as pair_correlation
from .structure import pair_correlation_neighbor_list as pair_correlation_neighbor_list
from .temperature import gamma_from_stokes_law_3d as gamma_from_stokes_law_3d
from .temperature import temperature as temperature

InitFn = Callable[..., Any]
ApplyFn = Callable[..., Any]
