r"""Kernels of two atoms, and of two structures as sums over their atoms.

A kernel of descriptors is a function ``k(x1, x2) -> [n, m]`` of two batches ``[n, f]``
and ``[m, f]``. Atoms of different species do not share a function unless told to:

.. math:: K(S, S') = \sum_{i \in S} \sum_{j \in S'} c_{z_i z_j} k(x_i, x_j)

Source:
    A. P. Bartok, M. C. Payne, R. Kondor, G. Csanyi, Phys. Rev. Lett. 104, 136403
    (2010) (sums of local Gaussian processes).
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jax_md.wide import stax

Kernel = Callable[[Any, Any], Array]


class NetworkKernel:
    """The kernel of an infinitely wide network as a kernel of descriptors."""

    def __init__(self, kernel_fn: Callable, get: str, variance: Any):
        self.kernel_fn, self.get, self.variance = kernel_fn, get, variance

    def __call__(self, x1: Array, x2: Array) -> Array:
        """Return ``[n, m]``."""
        return self.variance * self.kernel_fn(x1, x2, self.get)

    def require_derivatives(self, order: int) -> None:
        """Refuse, with the layer to blame, if the kernel is too rough."""
        stax.require_derivatives(self.kernel_fn, self.get, order)


def network(
    kernel_fn: Callable[..., Any], get: str = "nngp", variance: Any = 1.0
) -> NetworkKernel:
    """The kernel of a wide network, for `fit`.

    Smooth nonlinearities with a closed form (`Erf`, `Sin`, `Rbf`, `Gelu`) suit forces;
    give the layers biases, or the kernel will be homogeneous in the descriptors.

    Args:
        kernel_fn: The third member of a network of `jax_md.wide.stax`, or of
            `jax_md.wide.monte_carlo_kernel_fn`.
        get: ``"nngp"`` for a Bayesian network, ``"ntk"`` for one trained by gradient
            descent.
        variance: Factor of the kernel, squared scale of the energy of an atom.

    Raises:
        ValueError: If `get` names neither.
    """
    if get not in ("nngp", "ntk"):
        raise ValueError(f'`get` must be "nngp" or "ntk"; got {get!r}. Pass one.')
    return NetworkKernel(kernel_fn, get, variance)


def rbf(length: Any = 1.0, variance: Any = 1.0) -> Kernel:
    r"""Gaussian kernel, :math:`s^2 \exp(-|x - x'|^2 / 2 f l^2)` of `f` descriptors.

    Args:
        length: Length, in units of the root mean square over the descriptors.
        variance: Squared scale of the energy of an atom.
    """

    def k(x1: Float[Array, "n f"], x2: Float[Array, "m f"]) -> Float[Array, "n m"]:
        f = x1.shape[-1]
        # By one matrix product; clipped, as rounding may leave less than nothing.
        cross = jnp.matmul(x1, x2.T, precision=jax.lax.Precision.HIGHEST)
        square = jnp.sum(x1 * x1, -1)[:, None] + jnp.sum(x2 * x2, -1)[None] - 2 * cross
        return variance * jnp.exp(-square / (2 * f * length**2))

    return k


class AtomKernel:
    """A kernel of atoms, made of kernels of descriptors and of species."""

    def __init__(
        self, kernel: Kernel | Mapping[int, Kernel], types: tuple, coupling: Any
    ):
        kinds = kernel if isinstance(kernel, Mapping) else {None: kernel}
        for k in kinds.values():
            _check_kernel(k)
        if isinstance(kernel, Mapping):
            missing = [t for t in types if t not in kernel]
            if missing:
                raise ValueError(
                    f"`kernel` has entries for the species {sorted(kernel)}, but the "
                    f"data holds {list(types)}. Add a kernel for {missing}."
                )
            if coupling is not None:
                raise ValueError(
                    "`coupling` joins species through one kernel; got a kernel for "
                    "each. Pass one kernel, or no `coupling`."
                )
        if coupling is not None and np.shape(coupling) != (len(types),) * 2:
            raise ValueError(
                f"`coupling` must be [{len(types)}, {len(types)}], for the species "
                f"{list(types)}; got shape {np.shape(coupling)}."
            )
        self.kernel, self.types, self.coupling = kernel, types, coupling

    def __call__(
        self, x1: Float[Array, "n f"], z1: Any, x2: Float[Array, "m f"], z2: Any
    ) -> Float[Array, "n m"]:
        """Return ``[n, m]`` for descriptors and species of two sets of atoms."""
        if isinstance(self.kernel, Mapping):
            total = jnp.zeros((x1.shape[0], x2.shape[0]), x1.dtype)
            for label in self.types:
                both = (z1 == label)[:, None] & (z2 == label)[None]
                total += jnp.where(both, self.kernel[label](x1, x2), 0)
            return total
        k = self.kernel(x1, x2)
        if len(self.types) == 1:
            return k
        if self.coupling is None:
            return jnp.where(z1[:, None] == z2[None], k, 0)
        rows, columns = (self.one_hot(z, k.dtype) for z in (z1, z2))
        return k * (rows @ jnp.asarray(self.coupling, k.dtype) @ columns.T)

    def one_hot(self, z: Int[Array, " n"], dtype: Any) -> Float[Array, "n t"]:
        """One where an atom is of a species."""
        return (z[:, None] == jnp.asarray(self.types)).astype(dtype)

    def diagonal(self, x: Float[Array, "n f"], z: Array) -> Float[Array, " n"]:
        """The kernel of each atom with itself, ``[n]``."""
        return jax.vmap(lambda x, z: self(x[None], z[None], x[None], z[None])[0, 0])(
            x, z
        )

    def require_derivatives(self, order: int) -> None:
        """Refuse a kernel that is known to be too rough for forces."""
        kernel = self.kernel
        for k in kernel.values() if isinstance(kernel, Mapping) else (kernel,):
            if isinstance(k, NetworkKernel):
                k.require_derivatives(order)


def structure_kernel(
    kernel: Kernel | Mapping[int, Kernel],
    x1: Float[Array, "n f"],
    x2: Float[Array, "m f"],
    species1: Any = None,
    species2: Any = None,
    coupling: Any = None,
) -> Float[Array, ""]:
    """Covariance of the energies of two structures, a sum over pairs of atoms.

    Equal to the kernel of the network with a `GlobalSumPool` over atoms.

    Args:
        kernel: Kernel of descriptors, or one for each species.
        x1: Descriptors of the atoms of one structure.
        x2: Those of the other.
        species1: Species of the atoms of the first; one and the same by default.
        species2: Species of the second.
        coupling: Factors between species, ``[t, t]``; by default different species
            have nothing in common.
    """
    z1, z2 = (
        np.zeros(len(x), int) if z is None else np.asarray(z)
        for x, z in ((x1, species1), (x2, species2))
    )
    types = tuple(np.unique(np.concatenate([z1, z2])).tolist())
    return jnp.sum(AtomKernel(kernel, types, coupling)(x1, z1, x2, z2))


def _check_kernel(k: Any) -> None:
    if hasattr(k, "requirement"):
        raise TypeError(
            "`kernel` is the `kernel_fn` of a network, which has two kernels. Say "
            'which: `kernel_potential.network(kernel_fn, get="nngp")`.'
        )
    if not callable(k):
        raise TypeError(
            "`kernel` must be a function k(x1 [n, f], x2 [m, f]) -> [n, m], or a "
            f"dictionary from species to such functions; got {type(k).__name__}."
        )


def check_shape(kernel: AtomKernel, x: Array, z: Array) -> None:
    """Refuse a kernel whose value is not one number for each pair of atoms."""
    one, two = (
        (
            jax.ShapeDtypeStruct((n, x.shape[-1]), x.dtype),
            jax.ShapeDtypeStruct((n,), z.dtype),
        )
        for n in (2, 3)
    )
    kernels = kernel.kernel
    for k in kernels.values() if isinstance(kernels, Mapping) else (kernels,):
        out = jax.eval_shape(k, one[0], two[0])
        if getattr(out, "shape", None) != (2, 3):
            got = getattr(out, "shape", type(out).__name__)
            raise ValueError(
                "`kernel` must map batches [n, f] and [m, f] to [n, m]; for n = 2 and "
                f"m = 3 it gave {got}. A function of two single descriptors becomes "
                "one by `jax.vmap(jax.vmap(k, (None, 0)), (0, None))`."
            )
