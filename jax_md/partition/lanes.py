"""Evaluate a function of one pair on many pairs at once, component by component.

`jax.vmap` would carry a displacement as an array ``[lanes, 3]``, and the compiler then
breaks the pair function into a kernel for every reduction over the short axis. Here
each component of a small value is an array of its own, ``[lanes]``, so that nothing but
elementwise operations on long vectors is left, which fuse (on a CPU this is two to
forty times faster). Values that do not depend on the pair (parameters) stay as they
are. Operations without a rule here are mapped with `jax.vmap` and taken apart again, so
every function can be evaluated; `TooWide` says that one is better mapped as a whole.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.core import ClosedJaxpr, Literal

# Beyond this many components a value is a feature vector, better kept contiguous.
WIDEST = 64

ELEMENTWISE = frozenset(
    """abs acos acosh add add_any and asin asinh atan atan2 atanh cbrt ceil clamp clz
    convert_element_type copy copy_p cos cosh digamma div eq erf erf_inv erfc exp exp2
    expm1 floor ge gt imag integer_pow is_finite le lgamma log log1p logistic lt max
    min mul ne neg nextafter not or population_count pow real reduce_precision rem
    round rsqrt select_n shift_left shift_right_arithmetic shift_right_logical sign sin
    sinh sqrt square stop_gradient sub tan tanh xor""".split()
)
_FOLDS = {
    "reduce_sum": lax.add,
    "reduce_prod": lax.mul,
    "reduce_max": lax.max,
    "reduce_min": lax.min,
    "reduce_and": lax.bitwise_and,
    "reduce_or": lax.bitwise_or,
}


class TooWide(Exception):  # noqa: N818 (a signal between two functions, not an error)
    """A value has more components than is sensible to keep apart."""


class Lanes:
    """A value per lane: an object array, of the shape of the value, of lane vectors."""

    def __init__(self, parts: np.ndarray):
        if parts.size > WIDEST:
            raise TooWide
        self.parts = parts

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the value that the parts make up."""
        return self.parts.shape


def structs(avals: Any) -> list[jax.ShapeDtypeStruct]:
    """Shapes and dtypes of abstract values."""
    return [jax.ShapeDtypeStruct(a.shape, a.dtype) for a in avals]


def literal(v: Any) -> np.ndarray:
    """Value of a literal of a jaxpr, in its dtype."""
    return np.asarray(v.val, v.aval.dtype)


def object_array(shape: tuple[int, ...], values: Sequence[Any]) -> np.ndarray:
    """Array of objects, none of which numpy looks into."""
    parts = np.empty(len(values), dtype=object)
    for k, value in enumerate(values):
        parts[k] = value
    return parts.reshape(shape)


def split(x: Any, lane_rank: int = 1) -> Lanes:
    """Take an array ``[*lanes, *shape]`` apart into the components of ``shape``."""
    shape = x.shape[lane_rank:]
    if not shape:
        return Lanes(object_array((), [x]))
    if np.prod(shape) > WIDEST:
        raise TooWide
    whole = (slice(None),) * lane_rank
    return Lanes(object_array(shape, [x[(*whole, *i)] for i in np.ndindex(*shape)]))


def join(value: Lanes) -> jax.Array:
    """Put components together again, as ``[*lanes, *shape]``."""
    parts = value.parts.reshape(-1)
    if value.shape == ():
        return parts[0]
    return jnp.stack(list(parts), axis=-1).reshape((*parts[0].shape, *value.shape))


def _apart(value: Any) -> np.ndarray:
    """The components of a value of either kind."""
    if isinstance(value, Lanes):
        return value.parts
    if value.size > WIDEST:
        raise TooWide
    if value.shape == ():
        return object_array((), [value])
    return object_array(value.shape, [value[i] for i in np.ndindex(*value.shape)])


def evaluate(
    closed: ClosedJaxpr, inputs: Sequence[Any], lanes: tuple[int, ...]
) -> list[Lanes]:
    """Evaluate a jaxpr of one pair on all lanes.

    Args:
        closed: The function of one pair.
        inputs: Per argument a `Lanes`, or an array that is the same for every lane.
        lanes: Shape of a lane vector.

    Returns:
        The results, each a `Lanes` with vectors of shape ``lanes``.

    Raises:
        TooWide: If a value that differs from lane to lane has over `WIDEST` components.
    """
    outputs = _run(closed.jaxpr, closed.consts, inputs, lanes)

    def full(x: Any) -> jax.Array:
        return jnp.broadcast_to(x, lanes)

    return [
        Lanes(object_array(parts.shape, [full(x) for x in parts.reshape(-1)]))
        for parts in map(_apart, outputs)
    ]


def _run(jaxpr: Any, consts: Any, inputs: Any, lanes: tuple[int, ...]) -> list[Any]:
    known: dict[Any, Any] = {}

    def read(var: Any) -> Any:
        if isinstance(var, Literal):
            return literal(var)
        return known[var]

    for variables, values in ((jaxpr.constvars, consts), (jaxpr.invars, inputs)):
        known.update(zip(variables, values, strict=True))
    for eqn in jaxpr.eqns:
        outputs = _apply(eqn, [read(v) for v in eqn.invars], lanes)
        known.update(zip(eqn.outvars, outputs, strict=True))
    return [read(v) for v in jaxpr.outvars]


# Calls whose body may be inlined: derivatives have been taken before we come here.
_CALLS = frozenset(
    """pjit jit closed_call core_call custom_jvp_call custom_vjp_call
    custom_vjp_call_jaxpr checkpoint remat remat2 custom_lin""".split()
)


def _inner(eqn: Any) -> tuple[Any, Any] | None:
    """The body of a call, as a jaxpr and its constants."""
    name, params = eqn.primitive.name, eqn.params
    if name == "tangent_rule":  # of `jax_md.space.box`: a value with a rule of its own
        avals = [jax.ShapeDtypeStruct(v.aval.shape, v.aval.dtype) for v in eqn.invars]
        closed = jax.make_jaxpr(params["value"])(*avals)
        return closed.jaxpr, closed.consts
    if name in _CALLS:
        for key in ("jaxpr", "call_jaxpr", "fun_jaxpr"):
            if key in params:
                inner = params[key]
                return getattr(inner, "jaxpr", inner), getattr(inner, "consts", ())
    return None


def _apply(eqn: Any, values: list[Any], lanes: tuple[int, ...]) -> list[Any]:
    name, params = eqn.primitive.name, eqn.params
    if (inner := _inner(eqn)) is not None:
        return _run(*inner, values, lanes)
    if not any(isinstance(v, Lanes) for v in values):
        out = eqn.primitive.bind(*values, **params)
        return list(out) if eqn.primitive.multiple_results else [out]
    if name in ELEMENTWISE:
        return [_elementwise(eqn, values, lanes)]
    if name in _FOLDS:
        return [_fold(_FOLDS[name], values[0], params["axes"])]
    if name == "dot_general":
        a, b = values
        return [_dot(a, b, params["dimension_numbers"], eqn.outvars[0].aval.dtype)]
    if name in _RESHAPES:
        return _RESHAPES[name](values, params, eqn)
    return _mapped(eqn, values, lanes)


def _elementwise(eqn: Any, values: list[Any], lanes: tuple[int, ...]) -> Lanes:
    shape = eqn.outvars[0].aval.shape
    operands = []
    for value in values:
        parts = _apart(value)
        # A scalar, or axes of length one where the other operand has more.
        operands.append(np.broadcast_to(parts, shape))

    def bind(*parts: Any) -> Any:
        # Operands that are uniform stay scalars as long as possible, but a primitive
        # wants equal shapes.
        if any(jnp.ndim(p) for p in parts):
            parts = tuple(
                p if jnp.shape(p) == lanes else jnp.broadcast_to(p, lanes)
                for p in parts
            )
        return eqn.primitive.bind(*parts, **eqn.params)

    flat = zip(*(op.reshape(-1) for op in operands), strict=True)
    return Lanes(object_array(shape, [bind(*parts) for parts in flat]))


def _fold(op: Callable, value: Lanes, axes: tuple[int, ...]) -> Lanes:
    parts = value.parts
    for axis in sorted(axes, reverse=True):
        rows = np.moveaxis(parts, axis, 0)
        kept = rows.shape[1:]
        total, *others = rows.reshape(len(rows), -1)
        for row in others:
            pairs = zip(total, row, strict=True)
            total = object_array((len(row),), [op(a, b) for a, b in pairs])
        parts = total.reshape(kept)
    return Lanes(parts)


def _dot(a: Any, b: Any, dimension_numbers: Any, dtype: Any) -> Lanes:
    (contract_a, contract_b), (batch_a, batch_b) = dimension_numbers
    a, b = _apart(a), _apart(b)

    def arranged(x: np.ndarray, batch: Any, contract: Any, last: bool) -> tuple:
        free = [k for k in range(x.ndim) if k not in (*batch, *contract)]
        sizes = [x.shape[k] for k in free]
        shape = [
            int(np.prod([x.shape[k] for k in group])) for group in (batch, contract)
        ]
        order = (*batch, *contract, *free) if last else (*batch, *free, *contract)
        y = np.transpose(x, order)
        rows = int(np.prod(sizes))
        y = (
            y.reshape(shape[0], shape[1], rows)
            if last
            else y.reshape(shape[0], rows, shape[1])
        )
        return y, [x.shape[k] for k in batch], sizes

    left, batch_sizes, rows = arranged(a, batch_a, contract_a, last=False)
    right, _, columns = arranged(b, batch_b, contract_b, last=True)
    out = []
    for g in range(left.shape[0]):
        for i in range(left.shape[1]):
            for j in range(right.shape[2]):
                total = None
                for k in range(left.shape[2]):
                    term = jnp.multiply(left[g, i, k], right[g, k, j]).astype(dtype)
                    total = term if total is None else total + term
                out.append(jnp.zeros((), dtype) if total is None else total)
    return Lanes(object_array((*batch_sizes, *rows, *columns), out))


def _mapped(eqn: Any, values: list[Any], lanes: tuple[int, ...]) -> list[Any]:
    """Any other primitive: map it over the lanes, then take the results apart."""

    def bind(*args: Any) -> Any:
        return eqn.primitive.bind(*args, **eqn.params)

    axes = tuple(0 if isinstance(v, Lanes) else None for v in values)
    mapped = bind
    for _ in lanes:
        mapped = jax.vmap(mapped, axes)
    full = [
        join(
            Lanes(
                object_array(
                    v.shape, [jnp.broadcast_to(p, lanes) for p in v.parts.reshape(-1)]
                )
            )
        )
        if isinstance(v, Lanes)
        else v
        for v in values
    ]
    out = mapped(*full)
    out = list(out) if eqn.primitive.multiple_results else [out]
    return [split(x, len(lanes)) for x in out]


def _broadcast_in_dim(values: list[Any], params: Any, eqn: Any) -> list[Any]:
    shape, dims = params["shape"], params["broadcast_dimensions"]
    parts = values[0].parts
    kept = [1] * len(shape)
    for axis, dim in enumerate(dims):
        kept[dim] = parts.shape[axis]
    return [Lanes(np.broadcast_to(parts.reshape(kept), shape))]


def _concatenate(values: list[Any], params: Any, eqn: Any) -> list[Any]:
    return [Lanes(np.concatenate([_apart(v) for v in values], params["dimension"]))]


def _slice(values: list[Any], params: Any, eqn: Any) -> list[Any]:
    strides = params["strides"] or (1,) * values[0].parts.ndim
    bounds = zip(params["start_indices"], params["limit_indices"], strides, strict=True)
    return [Lanes(values[0].parts[tuple(slice(*b) for b in bounds)])]


def _reshape(values: list[Any], params: Any, eqn: Any) -> list[Any]:
    return [Lanes(values[0].parts.reshape(eqn.outvars[0].aval.shape))]


def _transpose(values: list[Any], params: Any, eqn: Any) -> list[Any]:
    return [Lanes(np.transpose(values[0].parts, params["permutation"]))]


def _reverse(values: list[Any], params: Any, eqn: Any) -> list[Any]:
    return [Lanes(np.flip(values[0].parts, params["dimensions"]))]


def _split(values: list[Any], params: Any, eqn: Any) -> list[Any]:
    cuts = np.cumsum(params["sizes"])[:-1]
    return [Lanes(p) for p in np.split(values[0].parts, cuts, params["axis"])]


_RESHAPES: dict[str, Callable] = {
    "broadcast_in_dim": _broadcast_in_dim,
    "concatenate": _concatenate,
    "expand_dims": _reshape,
    "reshape": _reshape,
    "rev": _reverse,
    "slice": _slice,
    "split": _split,
    "squeeze": _reshape,
    "transpose": _transpose,
}
