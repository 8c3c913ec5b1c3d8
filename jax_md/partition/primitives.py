"""What the primitives under `neighbor_sum` and `neighbor_total` have in common.

Their operands are nodes ``[n, ...]``, edges ``[k, n, ...]``, parameters, and the four
arrays of a list (`jax_md.partition.sweep.Rows`), one after the other.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.core import ShapedArray
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

# A parameter with more entries is a table; its gradient is scattered, not summed up
# from a copy of the table for each particle.
TABLE = 64


def is_zero(tangent: Any) -> bool:
    """Whether a tangent, which may be a plain Python number, is known to vanish."""
    dtype = getattr(tangent, "dtype", None)
    return isinstance(tangent, ad.Zero) or dtype == jax.dtypes.float0


def no_tangent(value: Any) -> ad.Zero:
    """The tangent of what does not move."""
    return ad.Zero(jax.typeof(value).to_tangent_aval())


def fill(given: tuple[bool, ...], values: Any, absent: Any) -> list:
    """The next of `values` where given, else the entry of `absent`."""
    values = iter(values)
    return [next(values) if g else z for g, z in zip(given, absent, strict=True)]


def pick(given: tuple[bool, ...], values: Any) -> list:
    """The entries of `values` where given."""
    return [v for g, v in zip(given, values, strict=True) if g]


def refuse_edge_tangents(live: tuple[bool, ...]) -> None:
    """Raise `TypeError` if anything is to be differentiated in edges."""
    if any(live):
        raise TypeError(
            "`edges` of a neighbor sum are data of the list (image shifts) and cannot "
            "be differentiated; pass what depends on parameters through `params` or "
            "`nodes`."
        )


def has_table(given: tuple[bool, ...], params: Any) -> bool:
    """Whether one of the parameters given is a table."""
    return any(g and p.size > TABLE for g, p in zip(given, params, strict=True))


def plain_jvp(apply, primals, tangents, live, **params):
    """Ordinary differentiation of the plain sum, for gradients of tables."""

    def g(*moving: Any) -> list:
        return apply(*fill(live, moving, primals), **params)

    return jax.jvp(g, pick(live, primals), pick(live, tangents))


def _batch(primitive: Primitive) -> Callable:
    def rule(args, dims, **params):
        """One system after the other: each has as many slots to visit as it needs."""
        mapped = tuple(d is not None for d in dims)
        moving = [
            jnp.moveaxis(x, d, 0)
            for x, d, m in zip(args, dims, mapped, strict=True)
            if m
        ]

        def one(moving: list) -> list:
            return primitive.bind(*fill(mapped, moving, args), **params)

        out = lax.map(one, moving)
        return out, [0] * len(out)

    return rule


@partial(jax.jit, static_argnums=(0, 1))
def _compiled(apply: Callable, params: tuple, *args: Any) -> list:
    return apply(*args, **dict(params))


def install(
    primitive: Primitive, apply: Callable, jvp: Callable, transpose: Callable
) -> None:
    """Give a primitive its rules.

    Its parameters are hashable and equal for equal programs, so that a call outside
    `jit` is compiled once.
    """

    def impl(*args: Any, **params: Any) -> list:
        return _compiled(apply, tuple(params.items()), *args)

    def abstract(*args: Any, **params: Any) -> list:
        structs = [jax.ShapeDtypeStruct(x.shape, x.dtype) for x in args]
        shapes = jax.eval_shape(lambda *x: apply(*x, **params, dense=True), *structs)
        return [ShapedArray(s.shape, s.dtype) for s in shapes]

    primitive.def_impl(impl)
    primitive.def_abstract_eval(abstract)
    mlir.register_lowering(primitive, mlir.lower_fun(apply, multiple_results=True))
    for platform in ("cuda", "rocm", "tpu"):
        mlir.register_lowering(
            primitive,
            mlir.lower_fun(
                lambda *x, **p: apply(*x, **p, dense=True), multiple_results=True
            ),
            platform=platform,
        )
    ad.primitive_jvps[primitive] = jvp
    ad.primitive_transposes[primitive] = transpose
    batching.primitive_batchers[primitive] = _batch(primitive)
