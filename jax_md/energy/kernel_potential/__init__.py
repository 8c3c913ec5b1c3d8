"""Gaussian-process potentials: local kernels, among them those of wide networks.

The energy is a sum over atoms of a Gaussian process over descriptors of their
surroundings, fitted to energies, forces and stresses::

    kernel = kernel_potential.network(kernel_fn, get="ntk")
    potential = kernel_potential.fit(kernel, descriptor_fn, observations)
    energy_fn = kernel_potential.energy_fn(potential)
    variance_fn = kernel_potential.variance_fn(potential)
    force_variance_fn = kernel_potential.force_variance_fn(potential)
"""

from .evidence import log_marginal_likelihood as log_marginal_likelihood
from .fit import KernelPotential as KernelPotential
from .fit import fit as fit
from .fit import update as update
from .independent import independent as independent
from .kernels import network as network
from .kernels import rbf as rbf
from .kernels import structure_kernel as structure_kernel
from .observations import Noise as Noise
from .observations import Observation as Observation
from .observations import Training as Training
from .observations import observation as observation
from .observations import prepare as prepare
from .predict import energy_fn as energy_fn
from .predict import force_variance_fn as force_variance_fn
from .predict import variance_fn as variance_fn
from .select import select_environments as select_environments
from .storage import load as load
from .storage import save as save
