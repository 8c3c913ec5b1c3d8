"""Infinitely wide networks: their kernels, and what follows from them.

The interface of the neural-tangents library: `stax` builds networks as triples
``(init_fn, apply_fn, kernel_fn)``, `predict` trains them in closed form, the
``empirical_*`` functions give the kernels of finite networks. Beyond it: `meanfield`,
the theory of signals in deep networks, and `init`, initialisers that follow from it.

Example:
    >>> from jax_md.wide import stax
    >>> _, _, kernel_fn = stax.serial(stax.Dense(512), stax.Erf(), stax.Dense(1))
    >>> kernel_fn(x1, x2, get=("nngp", "ntk"))  # doctest: +SKIP
"""

# Functions named as their modules (`batch`, `linearize`) must be bound after both.
from . import init as init
from . import meanfield as meanfield
from . import predict as predict
from . import stax as stax
from .batch import batch as batch
from .empirical import NtkImplementation as NtkImplementation
from .empirical import empirical_kernel_fn as empirical_kernel_fn
from .empirical import empirical_nngp_fn as empirical_nngp_fn
from .empirical import empirical_ntk_fn as empirical_ntk_fn
from .empirical import empirical_ntk_vp_fn as empirical_ntk_vp_fn
from .empirical import get_apply_fn_and_params as get_apply_fn_and_params
from .kernel import Kernel as Kernel
from .linearize import linearize as linearize
from .linearize import taylor_expand as taylor_expand
from .monte_carlo import monte_carlo_kernel_fn as monte_carlo_kernel_fn


def __getattr__(name: str):
    """Say why the one module of neural-tangents that is missing here is missing."""
    if name == "experimental":
        raise AttributeError(
            "`experimental`, the empirical kernels of TensorFlow functions "
            "(`empirical_ntk_fn_tf`, `get_apply_fn_and_params`), is not carried. Pass "
            "a JAX function to `empirical_ntk_fn`; of modules of Flax, "
            "`wide.get_apply_fn_and_params` makes one."
        )
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
