"""Infinitely wide networks: their kernels, and what follows from them.

The interface of the neural-tangents library: `stax` builds networks as triples
``(init_fn, apply_fn, kernel_fn)``.

Example:
    >>> from jax_md.wide import stax
    >>> _, _, kernel_fn = stax.serial(stax.Dense(512), stax.Erf(), stax.Dense(1))
    >>> kernel_fn(x1, x2, get=("nngp", "ntk"))  # doctest: +SKIP
"""

from . import stax as stax
from .kernel import Kernel as Kernel
