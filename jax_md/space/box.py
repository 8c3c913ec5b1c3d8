r"""Boxes as affine maps, and the frames in which fractional positions are read.

A box ``b`` is a scalar, a vector ``[d]`` or a matrix ``[d, d]`` whose columns are the
lattice vectors; a fractional position ``s`` has the real position ``b s``. The tangent
``t`` of a fractional position stands for the Cartesian displacement :math:`b\,ds`, so
that the gradient of an energy is a real-space force in either representation. Such a
tangent belongs to the box it is read in. Two identities on values move it between
frames, and everything else is ordinary differentiation:

==================  =========  ==============================================
operation           value      tangent
==================  =========  ==============================================
`lattice(b, s)`     ``s``      :math:`b^{-1} t`
`cartesian(b, s)`   ``s``      :math:`b\,t`
`transform(b, s)`   ``b s``    :math:`t + db\,\mathrm{lattice}(b, s)`
==================  =========  ==============================================

They are exact to every order, through changes of the box included.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
from jax.core import ShapedArray
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
from jaxtyping import Array


class UnexpectedBoxException(Exception):  # noqa: N818 (the name scripts catch)
    """Raised when ``box=`` reaches a space whose box was fixed at construction."""


def _expected_box(box: Any) -> ValueError:
    return ValueError(
        "`box` must be a scalar, a vector [d] or a matrix [d, d] whose columns are "
        f"lattice vectors; got shape {jnp.shape(box)}."
    )


def in_dtype_of(R: Any, box: Any) -> Array:
    """Return `box` in the floating dtype of positions, which a box never decides."""
    return jnp.asarray(box, jnp.result_type(R, 0.0))


def inverse(box: Any) -> Array:
    """Return the box of the inverse map, of the same kind as `box`.

    Args:
        box: Scalar, ``[d]`` or ``[d, d]``.

    Raises:
        ValueError: If `box` has more than two axes or is not square.
    """
    shape = jnp.shape(box)
    if len(shape) <= 1:
        return 1 / box
    if len(shape) != 2 or shape[0] != shape[1]:
        raise _expected_box(box)
    return _matrix_inverse(jnp.asarray(box))


def _matrix_inverse(m: Array) -> Array:
    # Adjugates rather than a LAPACK call: these are evaluated inside pair loops, where
    # plain arithmetic is hoisted by the compiler and a library call is not.
    size = m.shape[0]
    if size == 1:
        return 1 / m
    if size == 2:
        (a, b), (c, d) = m
        return jnp.array([[d, -b], [-c, a]]) / (a * d - b * c)
    if size == 3:
        rows = [jnp.cross(m[1], m[2]), jnp.cross(m[2], m[0]), jnp.cross(m[0], m[1])]
        return jnp.stack(rows, axis=1) / jnp.sum(m[0] * rows[0])
    return jnp.linalg.inv(m)


def raw_transform(box: Any, R: Any) -> Array:
    """Apply a box, ``out_i = sum_j box_ij R_j``, with ordinary derivatives.

    Args:
        box: Scalar, ``[d]`` or ``[d, d]``.
        R: Positions, ``[..., d]``.

    Raises:
        ValueError: If `box` is none of these.
    """
    shape = jnp.shape(box)
    if shape == () or shape == (1,):
        return R * jnp.reshape(box, ())
    if len(shape) == 1:
        return R * box
    if len(shape) != 2 or shape[0] != shape[1]:
        raise _expected_box(box)
    # A sum of scaled columns fuses into the loop around it; a dot does not.
    R, box = jnp.asarray(R), jnp.asarray(box)
    total = R[..., :1] * box[:, 0]
    for j in range(1, shape[0]):
        total = total + R[..., j : j + 1] * box[:, j]
    return total


# A primitive rather than `jax.custom_jvp`: the tangent rules below are not those of the
# values, and JAX takes for granted that they are. Where it differentiates a loop twice
# some releases (0.10.1) put the value in the place of a call whose rule they have used.
_ruled = Primitive("tangent_rule")


def _with_tangent(value: Callable, tangent: Callable, doc: str) -> Callable:
    """Make ``op(box, R)`` a function whose tangent rule is spelled out.

    Args:
        value: ``(box, R) -> out``.
        tangent: ``(box, R, dbox, dR) -> d out``, linear in ``dbox`` and ``dR``. For a
            box that does not change ``dbox`` is None.
        doc: Docstring of the function.
    """

    def op(box: Any, R: Any) -> Array:
        box, R = jnp.asarray(box), jnp.asarray(R)
        return _ruled.bind(box, R, value=value, tangent=tangent)

    op.__doc__ = doc
    return op


_ruled.def_impl(lambda box, R, *, value, tangent: value(box, R))


@_ruled.def_abstract_eval
def _abstract(box: Any, R: Any, *, value: Callable, tangent: Callable) -> Any:
    of = [jax.ShapeDtypeStruct(x.shape, x.dtype) for x in (box, R)]
    out = jax.eval_shape(value, *of)
    return ShapedArray(out.shape, out.dtype)


mlir.register_lowering(
    _ruled, mlir.lower_fun(lambda box, R, *, value, tangent: value(box, R), False)
)


def _jvp(primals: Any, tangents: Any, *, value: Callable, tangent: Callable) -> Any:
    out = _ruled.bind(*primals, value=value, tangent=tangent)
    dbox, dR = tangents
    fixed = isinstance(dbox, ad.Zero) or dbox.dtype == jax.dtypes.float0
    change = tangent(*primals, None if fixed else dbox, ad.instantiate_zeros(dR))
    return out, change.astype(out.dtype)


def _batch(args: Any, dims: Any, *, value: Callable, tangent: Callable) -> Any:
    value, tangent = _batched(value, dims), _batched(tangent, (*dims, *dims))
    return _ruled.bind(*args, value=value, tangent=tangent), 0


@cache  # one function for each layout, so that equal programs are equal
def _batched(fn: Callable, dims: tuple[int | None, ...]) -> Callable:
    return jax.vmap(fn, in_axes=dims)


ad.primitive_jvps[_ruled] = _jvp
batching.primitive_batchers[_ruled] = _batch


lattice = _with_tangent(
    lambda box, R: R,
    lambda box, R, dbox, dR: raw_transform(inverse(box), dR),
    "Fractional positions with a Cartesian tangent, now with a true tangent.",
)
cartesian = _with_tangent(
    lambda box, R: R,
    lambda box, R, dbox, dR: raw_transform(box, dR),
    "Fractional positions with a true tangent, now with a Cartesian one in `box`.",
)
_transform = _with_tangent(
    raw_transform,
    lambda box, R, dbox, dR: (
        dR if dbox is None else dR + raw_transform(dbox, lattice(box, R))
    ),
    "",
)


def transform(box: Any, R: Any) -> Array:
    """Real positions of fractional ones, whose tangents are Cartesian.

    The value is that of `raw_transform`. Derivatives with respect to `R` pass through
    untouched, those with respect to `box` are the true ones, to every order.

    Args:
        box: Scalar, ``[d]`` or ``[d, d]``.
        R: Fractional positions, ``[..., d]``.
    """
    R = jnp.asarray(R)
    dtype = jnp.result_type(R, box, 0.0)  # a Python scalar leaves that of `R`
    return _transform(jnp.asarray(box, dtype), R.astype(dtype))


def transform_jvp(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    """Value and tangent of `transform`, for rules registered elsewhere."""
    return jax.jvp(transform, primals, tangents)
