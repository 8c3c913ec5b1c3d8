"""Simulators: pairs ``(init, step)`` that integrate the equations of motion.

A step is written as named operators (see `operators`); its parameters are keywords with
the factory's values as defaults, so each can be scheduled, batched or differentiated.
"""

from jax_md.util import static_cast as static_cast

from .brownian import BrownianState as BrownianState
from .brownian import brownian as brownian
from .langevin import NVTLangevinState as NVTLangevinState
from .langevin import nvt_langevin as nvt_langevin
from .momenta import canonicalize_momenta as canonicalize_momenta
from .momenta import initialize_momenta as initialize_momenta
from .nose_hoover import SUZUKI_YOSHIDA_WEIGHTS as SUZUKI_YOSHIDA_WEIGHTS
from .nose_hoover import NoseHooverChain as NoseHooverChain
from .nose_hoover import NoseHooverChainFns as NoseHooverChainFns
from .nose_hoover import default_nhc_kwargs as default_nhc_kwargs
from .nose_hoover import nose_hoover_chain as nose_hoover_chain
from .nve import NVEState as NVEState
from .nve import nve as nve
from .nvt_nose_hoover import NVTNoseHooverState as NVTNoseHooverState
from .nvt_nose_hoover import nvt_nose_hoover as nvt_nose_hoover
from .nvt_nose_hoover import nvt_nose_hoover_invariant as nvt_nose_hoover_invariant
from .operators import Normal as Normal
from .operators import canonicalize_mass as canonicalize_mass
from .operators import dispatch_by_state as dispatch_by_state
from .operators import drift as drift
from .operators import kick as kick
from .operators import kinetic_energy as kinetic_energy
from .operators import momentum_step as momentum_step
from .operators import position_step as position_step
from .operators import refresh as refresh
from .operators import stochastic_step as stochastic_step
from .operators import temperature as temperature
from .operators import thermalize as thermalize
from .operators import velocity_verlet as velocity_verlet
from .report import NeighborListError as NeighborListError
from .report import Records as Records
from .report import Report as Report
from .report import Run as Run
from .report import RunInterrupted as RunInterrupted
from .report import SimulationDiverged as SimulationDiverged
from .reversible import LatticeChain as LatticeChain
from .reversible import NVEReversibleState as NVEReversibleState
from .reversible import NVTLangevinReversibleState as NVTLangevinReversibleState
from .reversible import NVTNoseHooverReversibleState as NVTNoseHooverReversibleState
from .reversible import ReversibleSimulator as ReversibleSimulator
from .reversible import nve_reversible as nve_reversible
from .reversible import nvt_langevin_reversible as nvt_langevin_reversible
from .reversible import nvt_nose_hoover_reversible as nvt_nose_hoover_reversible
from .reversible import (
    nvt_nose_hoover_reversible_invariant as nvt_nose_hoover_reversible_invariant,
)
from .run import run as run
