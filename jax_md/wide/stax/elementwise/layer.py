r"""The kernel rule of a nonlinearity applied to every unit.

With pre-activations `u`, `v` of covariance :math:`\begin{pmatrix} p & c \\ c & q
\end{pmatrix}`, a nonlinearity :math:`\phi` maps

.. math:: K' = T(p, q, c) = E[\phi(u) \phi(v)], \qquad
          \Theta' = \dot T(p, q, c) \, \Theta, \quad
          \dot T = E[\phi'(u) \phi'(v)] = \partial T / \partial c .
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jax_md.wide import layout
from jax_md.wide.kernel import Kernel
from jax_md.wide.stax.requirements import Layer, shaped
from jax_md.wide.stax.smoothness import SMOOTH, Smoothness

Array = jax.Array
# (p, q, c) -> (T, its derivative in c)
Moments = Callable[[Array, Array, Array], tuple[Array, Array]]


def elementwise(
    fn: Callable[[Array], Array],
    moments: Moments,
    smoothness: Smoothness = SMOOTH,
    before: Callable[[Kernel], None] | None = None,
) -> Layer:
    """Build a nonlinear layer.

    Args:
        fn: The nonlinearity, on arrays.
        moments: ``moments(p, q, c) -> (T, dT/dc)``; arrays that broadcast.
        smoothness: Derivatives that exist at coincident inputs; all by default.
        before: Called on the kernel that comes in, to check it further.
    """

    def apply_fn(params: Any, inputs: Any, **unused: Any) -> Any:
        del params
        return fn(inputs)

    def kernel_fn(k: Kernel, **unused: Any) -> Kernel:
        require_gaussian(k)
        if before is not None:
            before(k)
        return transform(k, moments)

    kernel_fn.smoothness = smoothness  # type: ignore[attr-defined]
    return shaped(lambda shape: shape), apply_fn, kernel_fn


def require_gaussian(k: Kernel) -> None:
    """Refuse a kernel of activations that are not Gaussian."""
    if not k.is_gaussian:
        raise ValueError(
            "this layer has a kernel for Gaussian inputs only, which an affine layer "
            "makes; got the inputs of the network, or what `Flatten`, `Dropout` or a "
            "nonlinearity left. Put `Dense`, `Conv` or another affine layer before it."
        )


def transform(k: Kernel, moments: Moments) -> Kernel:
    """Apply a nonlinearity to all covariances of `k`."""
    k = k.replace(nngp=_with_own(k))
    # Without a barrier the compiler evaluates a layer again in each of its consumers:
    # a deep network compiles for long, and its angles are computed several times. With
    # one at both ends, results take the place of what they are computed from.
    k = jax.lax.optimization_barrier(k)
    var1, var2 = k.variances()
    n_self = k.n_batch_self

    def of(x: Array, n_batch: int, left: Array, right: Array) -> tuple[Array, Array]:
        p, q = layout.pair_views(left, right, n_batch, k.diagonal_spatial)
        return moments(p, q, x)

    nngp, slope = of(k.nngp, 2, var1, var2)
    nngp, ntk = jax.lax.optimization_barrier((nngp, k.map_ntk(lambda ntk: slope * ntk)))
    return k.replace(
        nngp=nngp,
        ntk=ntk,
        cov1=of(k.cov1, n_self, var1, var1)[0],
        cov2=None if k.cov2 is None else of(k.cov2, n_self, var2, var2)[0],
        is_gaussian=False,
    )


def _with_own(k: Kernel) -> Array:
    """Return the covariances, those of a sample with itself from `cov1`.

    The two are equal but for rounding, which grows by the same factor in each layer as
    gradients do: in a deep chaotic network samples would drift away from themselves.
    """
    if k.cov2 is not None and k.nngp.shape[0] != k.nngp.shape[1]:
        return k.nngp
    if k.diagonal_batch:
        own = k.cov1[:, None]
        same = jnp.eye(k.cov1.shape[0], dtype=bool)
        same = same.reshape(same.shape + (1,) * (k.nngp.ndim - 2))
    else:
        own, same = k.cov1, jnp.ones((1,) * k.nngp.ndim, bool)
    if k.cov2 is None:
        return jnp.where(same, own, k.nngp)
    return _corrected(k.nngp, own, same & k.x1_is_x2)


@jax.custom_jvp
def _corrected(x: Array, value: Array, where: Array) -> Array:
    """Return `value` where asked, and `x` elsewhere, with the derivatives of `x`.

    Two batches that are equal in value stay two in derivatives.
    """
    return jnp.where(where, value, x)


@_corrected.defjvp
def _(primals: Any, tangents: Any) -> tuple[Array, Array]:
    return _corrected(*primals), tangents[0]
