"""Potentials: pair functions and the energies of systems that are made of them."""

from importlib import import_module
from typing import Any

from jax_md.partition import NeighborList as NeighborList
from jax_md.partition import NeighborListFormat as NeighborListFormat
from jax_md.util import maybe_downcast as maybe_downcast

from ._promote import promote as promote
from .cutoff import multiplicative_isotropic_cutoff as multiplicative_isotropic_cutoff
from .cutoff import sharp_cutoff as sharp_cutoff
from .cutoff import smooth_cutoff as smooth_cutoff
from .eam import eam as eam
from .eam import eam_from_lammps_parameters as eam_from_lammps_parameters
from .eam import (
    eam_from_lammps_parameters_neighbor_list as eam_from_lammps_parameters_neighbor_list,  # noqa: E501
)
from .eam import eam_neighbor_list as eam_neighbor_list
from .eam import load_lammps_eam_parameters as load_lammps_eam_parameters
from .embedded_atom import EmbeddedAtom as EmbeddedAtom
from .embedded_atom import eam_from_file as eam_from_file
from .embedded_atom import embedded_atom_neighbor_list as embedded_atom_neighbor_list
from .embedded_atom import embedded_atom_pair as embedded_atom_pair
from .lennard_jones import lennard_jones as lennard_jones
from .lennard_jones import lennard_jones_neighbor_list as lennard_jones_neighbor_list
from .lennard_jones import lennard_jones_pair as lennard_jones_pair
from .morse import morse as morse
from .morse import morse_neighbor_list as morse_neighbor_list
from .morse import morse_pair as morse_pair
from .soft_sphere import soft_sphere as soft_sphere
from .soft_sphere import soft_sphere_neighbor_list as soft_sphere_neighbor_list
from .soft_sphere import soft_sphere_pair as soft_sphere_pair
from .spring import simple_spring as simple_spring
from .spring import simple_spring_bond as simple_spring_bond


def __getattr__(
    name: str,
) -> Any:  # PEP 562: with the kernels of networks, on first use
    if name == "kernel_potential":
        return import_module("jax_md.energy.kernel_potential")
    raise AttributeError(f"module 'jax_md.energy' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), "kernel_potential"})
