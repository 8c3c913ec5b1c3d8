"""Values that refuse the derivatives that a method cannot give, in plain words."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from .flat import differentiable, is_key


def refuse_derivatives(tree: Any, why: str) -> Any:
    """Return `tree`; differentiating it in either mode raises `TypeError`."""
    leaves, structure = jax.tree.flatten(tree)
    leaves = [x if is_key(x) else jnp.asarray(x) for x in leaves]
    pairs = zip(differentiable(leaves), leaves, strict=True)
    guarded = [_refused.bind(x, why=why) if smooth else x for smooth, x in pairs]
    return jax.tree.unflatten(structure, guarded)


def refuse_reverse(tree: Any, why: str) -> Any:
    """Return `tree`; reverse mode through it raises `TypeError`, forward mode works."""
    return jax.tree.map(lambda x: _forward_only.bind(x, why=why), tree)


def refuse_forward(leaves: Sequence[Any], why: str) -> list[Any]:
    """Return the arrays; forward mode raises `TypeError`, reverse mode works.

    Reverse mode, too, begins with tangents, but they are only written down, to be
    transposed. What is refused is to compute them.
    """

    # One leaf at a time, so that those without tangents stay so.
    @jax.custom_jvp
    def identity(x: Any) -> Any:
        return x

    @identity.defjvp
    def rule(primals: Any, tangents: Any) -> Any:
        return *primals, _reverse_only.bind(*tangents, why=why)

    mask = differentiable(leaves)
    pairs = zip(mask, leaves, strict=True)
    return [identity(x) if smooth else x for smooth, x in pairs]


# A primitive, so that whoever reads a program sees that it is meant to be refused.
_refused = Primitive("refused")
_refused.def_impl(lambda x, *, why: x)
_refused.def_abstract_eval(lambda x, *, why: x)


def _refuse(primals: Any, tangents: Any, *, why: str) -> Any:
    raise TypeError(why)


def _batch_refused(args: Any, dims: Any, *, why: str) -> Any:
    return _refused.bind(*args, why=why), dims[0]


ad.primitive_jvps[_refused] = _refuse
batching.primitive_batchers[_refused] = _batch_refused
mlir.register_lowering(_refused, lambda ctx, x, *, why: [x])

# Linear, and without a value.
_reverse_only = Primitive("reverse_only")
_reverse_only.def_abstract_eval(lambda x, *, why: x)


def _compute(*args: Any, why: str) -> Any:
    raise TypeError(why)


def _batch_tangents(args: Any, dims: Any, *, why: str) -> Any:
    return _reverse_only.bind(*args, why=why), dims[0]


_reverse_only.def_impl(_compute)
ad.deflinear2(_reverse_only, lambda cotangent, x, *, why: [cotangent])
batching.primitive_batchers[_reverse_only] = _batch_tangents
mlir.register_lowering(_reverse_only, lambda ctx, x, *, why: _compute(x, why=why))

# A primitive, since `linear_call` does not work under `vmap`.
_forward_only = Primitive("forward_only")
_forward_only.def_impl(lambda x, *, why: x)
_forward_only.def_abstract_eval(lambda x, *, why: x)


def _transpose(cotangent: Any, x: Any, *, why: str) -> Any:
    raise TypeError(why)


def _batch(args: Any, dims: Any, *, why: str) -> Any:
    return _forward_only.bind(*args, why=why), dims[0]


ad.deflinear2(_forward_only, _transpose)
batching.primitive_batchers[_forward_only] = _batch
mlir.register_lowering(_forward_only, lambda ctx, x, *, why: [x])
