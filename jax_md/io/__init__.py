"""Structures, trajectories, checkpoints and the ASE bridge, in plain arrays."""

from .ase import from_ase as from_ase
from .ase import read as read
from .ase import to_ase as to_ase
from .ase import write as write
from .checkpoint import Checkpoint as Checkpoint
from .checkpoint import load_checkpoint as load_checkpoint
from .checkpoint import save_checkpoint as save_checkpoint
from .frame import Frame as Frame
from .h5md import H5MDWriter as H5MDWriter
from .lammps import read_eam as read_eam
from .structure import Structure as Structure
from .structure import box_matrix as box_matrix
from .structure import is_upper_triangular as is_upper_triangular
from .structure import standard_form as standard_form
from .structure import standard_rotation as standard_rotation
from .trajectory import Trajectory as Trajectory
from .trajectory import read_trajectory as read_trajectory
from .xyz import XYZWriter as XYZWriter


def __getattr__(name: str):  # the calculator subclasses one of ase, which is an extra
    if name == "Calculator":
        from .calculator import Calculator

        return Calculator
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
