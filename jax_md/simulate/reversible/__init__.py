"""Dynamics on an integer lattice, reversible to the last bit.

=========================  ===========  ==============================================
ensemble                   splitting    what undoing it takes
=========================  ===========  ==============================================
`nve_reversible`           A B A        nothing
`nvt_langevin_reversible`  B A O A B    noise drawn again, `lost_bits` of the friction
`nvt_nose_hoover_reversible`  N A B A N  `lost_bits` of the scaling
=========================  ===========  ==============================================
"""

from .langevin import NVTLangevinReversibleState as NVTLangevinReversibleState
from .langevin import nvt_langevin_reversible as nvt_langevin_reversible
from .nose_hoover import LatticeChain as LatticeChain
from .nose_hoover import NVTNoseHooverReversibleState as NVTNoseHooverReversibleState
from .nose_hoover import nvt_nose_hoover_reversible as nvt_nose_hoover_reversible
from .nose_hoover import (
    nvt_nose_hoover_reversible_invariant as nvt_nose_hoover_reversible_invariant,
)
from .nve import NVEReversibleState as NVEReversibleState
from .nve import nve_reversible as nve_reversible
from .simulator import ReversibleSimulator as ReversibleSimulator
