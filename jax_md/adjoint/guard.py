"""Values that refuse the derivatives that a method cannot give, in plain words."""

from typing import Any

import jax
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir


def refuse_derivatives(tree: Any, why: str) -> Any:
    """Return `tree`; differentiating it in either mode raises `TypeError`."""

    @jax.custom_jvp
    def identity(tree: Any) -> Any:
        return tree

    @identity.defjvp
    def rule(primals: Any, tangents: Any) -> Any:
        raise TypeError(why)

    return identity(tree)


def refuse_reverse(tree: Any, why: str) -> Any:
    """Return `tree`; reverse mode through it raises `TypeError`, forward mode works."""
    return jax.tree.map(lambda x: _forward_only.bind(x, why=why), tree)


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
