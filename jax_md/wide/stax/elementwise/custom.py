"""Nonlinearities without a closed form of their own here: the user's, or quadrature."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jax_md.wide.stax.elementwise.layer import elementwise
from jax_md.wide.stax.elementwise.quadrature import derivative, expectation
from jax_md.wide.stax.requirements import Layer, layer, supports_masking
from jax_md.wide.stax.smoothness import unknown

Array = jax.Array


@layer
@supports_masking(remask_kernel=True)
def Elementwise(
    fn: Callable[[Any], Any] | None = None,
    nngp_fn: Callable[[Any, Any, Any], Any] | None = None,
    d_nngp_fn: Callable[[Any, Any, Any], Any] | None = None,
) -> Layer:
    r"""Nonlinearity with a kernel that the user supplies.

    How smooth it is, `with_smoothness` can declare; forces ask for it.

    Args:
        fn: The nonlinearity, on arrays; None if only kernels are wanted.
        nngp_fn: ``nngp_fn(cov12, var1, var2)``, scalars to a scalar: the expectation
            of ``fn(u) * fn(v)``; None if only the finite network is wanted.
        d_nngp_fn: Its derivative in ``cov12``; None to derive it automatically.

    Raises:
        ValueError: If both `fn` and `nngp_fn` are None.
        NotImplementedError: On use of the one that is None.
    """
    if fn is None and nngp_fn is None:
        raise ValueError(
            "`Elementwise` needs `fn`, `nngp_fn` or both; got neither. Pass `fn` for "
            "a finite network, `nngp_fn` for kernels."
        )

    def apply(x: Array) -> Array:
        if fn is None:
            raise NotImplementedError(
                "`apply_fn` of `Elementwise` needs `fn`; got None. Pass it."
            )
        return fn(x)

    def moments(p: Array, q: Array, c: Array) -> tuple[Array, Array]:
        if nngp_fn is None:
            raise NotImplementedError(
                "`kernel_fn` of `Elementwise` needs `nngp_fn`; got None. Pass it, or "
                "use `ElementwiseNumerical(fn, deg)`."
            )
        slope_fn = jax.grad(nngp_fn) if d_nngp_fn is None else d_nngp_fn
        shape = jnp.broadcast_shapes(p.shape, q.shape, c.shape)
        args = [jnp.broadcast_to(x, shape).reshape(-1) for x in (c, p, q)]
        T, slope = (jax.vmap(f)(*args).reshape(shape) for f in (nngp_fn, slope_fn))
        return T, slope

    return elementwise(apply, moments, unknown("Elementwise"))


@layer
@supports_masking(remask_kernel=True)
def ElementwiseNumerical(
    fn: Callable[[Any], Any],
    deg: int,
    df: Callable[[Any], Any] | None = None,
) -> Layer:
    r"""Nonlinearity with a kernel by Gauss-Hermite quadrature.

    Derivatives of the kernel are expectations of their own and not derivatives of the
    quadrature, so they are right also where inputs coincide, if they exist there: a
    smooth `fn` is declared as such by `with_smoothness`, which forces ask for.

    Args:
        fn: The nonlinearity, on arrays.
        deg: Nodes in each of two directions; the error falls exponentially for analytic
            functions, and as a power of `deg` for those with kinks.
        df: Its derivative; None to derive it automatically.
    """
    fns = (fn, derivative(fn) if df is None else df)

    def moments(p: Array, q: Array, c: Array) -> tuple[Array, Array]:
        T = expectation(fns, fns, deg, p, q, c)
        return T, expectation(fns[1:], fns[1:], deg, p, q, c)

    return elementwise(fn, moments, unknown("ElementwiseNumerical"))
