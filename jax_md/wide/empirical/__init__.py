"""Kernels of finite networks: any function of parameters and inputs."""

from .implementation import NtkImplementation as NtkImplementation
from .kernel import empirical_kernel_fn as empirical_kernel_fn
from .modules import get_apply_fn_and_params as get_apply_fn_and_params
from .nngp import empirical_nngp_fn as empirical_nngp_fn
from .ntk import empirical_ntk_fn as empirical_ntk_fn
from .products import empirical_ntk_vp_fn as empirical_ntk_vp_fn
