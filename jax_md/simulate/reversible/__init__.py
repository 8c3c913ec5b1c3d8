"""Dynamics on an integer lattice, reversible to the last bit.

============================  =========  ==========================================
ensemble                      splitting  kept to undo it, a component and step
============================  =========  ==========================================
`nve_reversible`              A B A      nothing
`nvt_langevin_reversible`     B A O A B  ``2 gamma dt`` bits; noise is drawn again
`nvt_nose_hoover_reversible`  N A B A N  ``dt |u_0| / tau`` bits, less on balance
============================  =========  ==========================================

**Neighbor lists.** Floating-point sums depend on their order, and the order on the list
and so on the way by which positions were reached, which a walk back does not know. So a
step brings the list that it is given up to date itself, always from that one list: the
force is a function of the positions and of the list given. Within the skin of that list
nothing is built; beyond, a list is built in every step, which keeps the memory of
`jax_md.adjoint.Reversible` constant and takes two to three times as long.
`jax_md.adjoint.Hybrid` builds the list to start from anew at each stored state: with
windows that end before the skin is used up, lists are built as rarely as in plain
dynamics. A list without room for the pairs makes momenta and derivatives NaN, and is
named by ``state.raise_if_failed()``.
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
