"""The contract of a layer: ``(init_fn, apply_fn, kernel_fn)`` and who may follow whom.

A layer is written as a function that returns plain functions; `layer` makes its
`kernel_fn` accept arrays as well as kernels, `requires` states what it needs of the
kernel it is given, `supports_masking` threads masks through.

- ``init_fn(rng, input_shape) -> (output_shape, params)``
- ``apply_fn(params, inputs, **kwargs) -> outputs``
- ``kernel_fn(x1_or_kernel, x2=None, get=None, **kwargs) -> kernel or arrays``
"""

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Any, NamedTuple

import jax

from jax_md.wide.get import Get, canonicalize_get, select
from jax_md.wide.kernel import Kernel, is_kernel
from jax_md.wide.stax.diagonal import Bool, Diagonal
from jax_md.wide.stax.inputs import input_kernel, is_array_like
from jax_md.wide.stax.masking import MaskedArray, as_masked, map_nested
from jax_md.wide.stax.smoothness import SMOOTH, Smoothness, unknown

_Fn = Callable[..., Any]
Layer = tuple[_Fn, _Fn, _Fn]
# What a function under `supports_masking` returns: a layer, and where its masks go.
LayerAndMask = tuple[_Fn, _Fn, _Fn, _Fn]


class Requirement(NamedTuple):
    """What a layer, or a composition, needs of the kernel it is given.

    Attributes:
        batch_axis: Batch axis of the activations; None for any.
        channel_axis: Channel axis of the activations; None for any.
        diagonal_batch: Whether equal samples suffice in self-covariances.
        diagonal_spatial: Whether equal positions suffice.
    """

    batch_axis: int | None = None
    channel_axis: int | None = None
    diagonal_batch: Diagonal = Diagonal()
    diagonal_spatial: Diagonal = Diagonal()


def _either(a: int | None, b: int | None) -> int | None:
    return b if a is None else a


def beside(a: Requirement, b: Requirement) -> Requirement:
    """Return the requirement of two layers that share an input."""
    return Requirement(
        _either(a.batch_axis, b.batch_axis),
        _either(a.channel_axis, b.channel_axis),
        a.diagonal_batch & b.diagonal_batch,
        a.diagonal_spatial & b.diagonal_spatial,
    )


def merge(requirement: Any) -> Requirement:
    """Reduce the requirements of branches to that of the input they share."""
    if isinstance(requirement, Requirement):
        return requirement
    first, *rest = (merge(r) for r in requirement)
    for other in rest:
        first = beside(first, other)
    return first


def before(a: Any, b: Any) -> Any:
    """Return the requirement of a layer `a` followed by a layer `b`.

    Both are a `Requirement`, or a tuple of them with one entry for each input.
    """
    if not isinstance(a, Requirement):
        if isinstance(b, Requirement):
            return tuple(before(x, b) for x in a)
        return tuple(before(x, y) for x, y in zip(a, b, strict=True))
    b = merge(b)
    return Requirement(
        _either(a.batch_axis, b.batch_axis),
        _either(a.channel_axis, b.channel_axis),
        a.diagonal_batch >> b.diagonal_batch,
        a.diagonal_spatial >> b.diagonal_spatial,
    )


def requirement_of(kernel_fn: Callable[..., Any]) -> Any:
    """Return what `kernel_fn` was declared to need; nothing by default."""
    return getattr(kernel_fn, "requirement", Requirement())


def output_shape(init_fn: Callable[..., Any], shape: Any) -> Any:
    """Return the shape that `init_fn` gives, without drawing parameters."""
    if hasattr(init_fn, "output_shape"):
        return init_fn.output_shape(shape)
    found = []

    def draw(key: jax.Array) -> Any:
        shape_out, params = init_fn(key, shape)
        found.append(shape_out)
        return params

    jax.eval_shape(draw, jax.random.PRNGKey(0))
    return found[0]


def shaped(shape_fn: Callable[[Any], Any], draw: Callable[..., Any] | None = None):
    """Make an `init_fn` of a shape rule and a function that draws parameters.

    Args:
        shape_fn: ``shape_fn(input_shape) -> output_shape``.
        draw: ``draw(rng, input_shape) -> params``; None for no parameters.
    """

    def init_fn(rng: jax.Array, input_shape: Any) -> tuple[Any, Any]:
        shape = shape_fn(input_shape)
        return shape, () if draw is None else draw(rng, input_shape)

    init_fn.output_shape = shape_fn  # type: ignore[attr-defined]
    return init_fn


def requires(**requirements: Any) -> Callable[..., Any]:
    """Declare what a `kernel_fn` needs of the kernel it is given.

    Args:
        **requirements: ``batch_axis`` and ``channel_axis`` of the activations (an
            integer), ``diagonal_batch`` and ``diagonal_spatial`` (a `Diagonal`).

    Returns:
        A decorator. The decorated function refuses kernels that do not fit, and tells
        the layers before it what to compute.

    Raises:
        TypeError: If a name is none of the four.
    """
    unknown = set(requirements) - set(Requirement._fields)
    if unknown:
        raise TypeError(
            f"`requires` takes {', '.join(Requirement._fields)}; got "
            f"{', '.join(sorted(unknown))}. Correct the name."
        )
    requirement = Requirement(**requirements)

    def decorate(kernel_fn: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(kernel_fn)
        def checked(k: Any, **kwargs: Any) -> Any:
            map_nested(lambda one: _check(requirement, one), k)
            return kernel_fn(k, **kwargs)

        checked.requirement = requirement  # type: ignore[attr-defined]
        return checked

    return decorate


def _check(requirement: Requirement, k: Kernel) -> None:
    for name in ("batch_axis", "channel_axis"):
        wanted, got = getattr(requirement, name), getattr(k, name)
        if wanted is not None and wanted % len(k.shape1) != got:
            raise ValueError(
                f"`{name}` of this layer is {wanted}, but the layers before it put it "
                f"on axis {got} of activations of shape {k.shape1}. Give all layers "
                f"the same `{name}`, or the first layer that of the inputs."
            )
    if k.diagonal_spatial and requirement.diagonal_spatial.input == Bool.NO:
        raise ValueError(
            "this layer mixes positions and needs covariances between all of them; "
            "got a kernel with `diagonal_spatial=True`. Compute that kernel with "
            "`diagonal_spatial=False`."
        )
    if k.diagonal_batch and not requirement.diagonal_batch.input:
        raise ValueError(
            "this layer mixes samples and needs covariances between all of them; got "
            "a kernel with `diagonal_batch=True`. Compute that kernel with "
            "`diagonal_batch=False`."
        )


def layer(layer_fn: Callable[..., Any]) -> Callable[..., Layer]:
    """Make a layer of a function that returns ``(init_fn, apply_fn, kernel_fn)``.

    The `kernel_fn` inside maps a `Kernel` to a `Kernel` (or lists of them, for layers
    with several inputs). The one returned also takes arrays, selects quantities with
    ``get`` and keeps the shapes in the kernel up to date.

    Args:
        layer_fn: A function of the hyper-parameters of the layer.

    Returns:
        A function of the same hyper-parameters that returns the triple.
    """

    @wraps(layer_fn)
    def make(*args: Any, **kwargs: Any) -> Layer:
        init_fn, apply_fn, kernel_fn = layer_fn(*args, **kwargs)
        known = _declared(kernel_fn, layer_fn)
        kernel_fn = _with_interface(init_fn, kernel_fn)
        kernel_fn.smoothness = known
        for fn in (init_fn, apply_fn, kernel_fn):
            fn.__name__ = layer_fn.__name__
        return init_fn, apply_fn, kernel_fn

    return make


def _declared(
    kernel_fn: Callable[..., Any], layer_fn: Callable[..., Any]
) -> Smoothness:
    """Return how smooth a layer is; ours are linear where they say nothing."""
    if hasattr(kernel_fn, "smoothness"):
        return kernel_fn.smoothness  # type: ignore[attr-defined]
    if layer_fn.__module__.startswith(__name__.rpartition(".")[0] + "."):
        return SMOOTH
    return unknown(layer_fn.__name__)


def _with_interface(
    init_fn: Callable[..., Any], inner: Callable[..., Any]
) -> Callable[..., Any]:
    """Give a Kernel-to-Kernel function the whole interface of a `kernel_fn`."""
    requirement = requirement_of(inner)

    def kernel_fn(
        x1_or_kernel: Any,
        x2: Any = None,
        get: Get = None,
        *,
        pattern: Any = None,
        mask_constant: float | None = None,
        diagonal_batch: bool | None = None,
        diagonal_spatial: bool | None = None,
        **kwargs: Any,
    ) -> Any:
        """Compute the kernel of this network between two batches of inputs.

        Args:
            x1_or_kernel: Inputs ``[N1, ..., C]``, or the kernel of the layers before;
                a list or tuple of these where the network has several inputs.
            x2: Inputs ``[N2, ..., C]``; None stands for `x1`.
            get: Names of the fields of `Kernel` to return: a string gives an array, a
                tuple a namedtuple, None the whole `Kernel`.
            pattern: Pair of aggregation patterns, see `Aggregate`.
            mask_constant: Entries of the inputs equal to this are masked.
            diagonal_batch: Keep self-covariances between equal samples only; None for
                whatever the network allows.
            diagonal_spatial: Keep covariances between equal positions only; None for
                whatever the network allows.
            **kwargs: Passed to the layers.
        """
        names, _ = canonicalize_get(get)
        if is_kernel(x1_or_kernel):
            if x2 is not None:
                raise ValueError(
                    "`x2` must be None where the first argument is a kernel, which "
                    "holds both batches; got an array. Drop it."
                )
            k = x1_or_kernel
        else:
            k = input_kernel(
                x1_or_kernel,
                x2,
                requirement,
                with_ntk=names is None or "ntk" in names,
                mask_constant=mask_constant,
                diagonal_batch=diagonal_batch,
                diagonal_spatial=diagonal_spatial,
            )
        if pattern is not None:
            kwargs["pattern"] = pattern
        shapes1 = output_shape(init_fn, map_nested(lambda one: one.shape1, k))
        shapes2 = output_shape(init_fn, map_nested(lambda one: one.shape2, k))
        out = inner(k, **kwargs)
        out = _set_shapes(out, shapes1, shapes2)
        if get is None:
            return out
        return map_nested(lambda one: select("AnalyticKernel", one.asdict(), get), out)

    kernel_fn.requirement = requirement  # type: ignore[attr-defined]
    return kernel_fn


def _set_shapes(k: Any, shape1: Any, shape2: Any) -> Any:
    if isinstance(k, list | tuple):
        return type(k)(_set_shapes(*one) for one in zip(k, shape1, shape2, strict=True))
    return k.replace(shape1=tuple(shape1), shape2=tuple(shape2))


def supports_masking(remask_kernel: bool) -> Callable[..., Any]:
    """Let a layer take masked inputs.

    Args:
        remask_kernel: Whether the layer can make something of nothing, so that kernels
            of masked positions must be set to zero after it.

    Returns:
        A decorator of layer functions. They return the triple, and may return a fourth
        function ``mask_fn(mask, input_shape) -> mask`` (identity by default). Their
        ``apply_fn`` is given arrays with zeros at masked entries and, as ``mask``, the
        mask itself.
    """

    def decorate(layer_fn: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(layer_fn)
        def make(*args: Any, **kwargs: Any) -> Layer:
            init_fn, apply_fn, kernel_fn, *rest = layer_fn(*args, **kwargs)
            mask_fn = rest[0] if rest else lambda mask, input_shape: mask
            return (
                init_fn,
                _masked_apply(apply_fn, mask_fn),
                _masked_kernel(init_fn, kernel_fn, mask_fn, remask_kernel),
            )

        # Users see the triple, whether or not `layer_fn` adds a function to it.
        signature = inspect.signature(layer_fn).replace(return_annotation=Layer)
        make.__signature__ = signature  # type: ignore[attr-defined]
        return make

    return decorate


def _masked_apply(
    apply_fn: Callable[..., Any], mask_fn: Callable[..., Any]
) -> Callable[..., Any]:
    @wraps(apply_fn)
    def masked(
        params: Any, inputs: Any, *, mask_constant: float | None = None, **kwargs: Any
    ) -> Any:
        inputs = map_nested(
            lambda x: (
                as_masked(x, mask_constant)
                if isinstance(x, MaskedArray) or is_array_like(x)
                else x
            ),
            inputs,
        )
        x = map_nested(lambda one: one.masked_value, inputs)
        mask = map_nested(lambda one: one.mask, inputs)
        is_masked = any(m is not None for m in _flat(mask))
        out = apply_fn(params, x, mask=mask, **kwargs)
        if not is_masked:
            return out
        out_mask = mask_fn(mask, map_nested(lambda one: one.shape, inputs))
        return _attach(out, out_mask)

    return masked


def _flat(x: Any) -> list[Any]:
    if isinstance(x, list | tuple):
        return [z for y in x for z in _flat(y)]
    return [x]


def _attach(out: Any, mask: Any) -> Any:
    if isinstance(out, list | tuple):
        return type(out)(_attach(o, m) for o, m in zip(out, mask, strict=True))
    if mask is None:
        return out
    return MaskedArray(MaskedArray(out, mask).filled(), mask)


def _masked_kernel(
    init_fn: Callable[..., Any],
    kernel_fn: Callable[..., Any],
    mask_fn: Callable[..., Any],
    remask: bool,
) -> Callable[..., Any]:
    @wraps(kernel_fn)
    def masked(k: Any, **kwargs: Any) -> Any:
        masks1 = map_nested(lambda one: one.mask1, k)
        masks2 = map_nested(lambda one: one.mask2, k)
        out = kernel_fn(k, **kwargs)
        if all(m is None for m in _flat(masks1) + _flat(masks2)):
            return out
        shapes1 = map_nested(lambda one: one.shape1, k)
        shapes2 = map_nested(lambda one: one.shape2, k)
        out = _set_shapes(
            out, output_shape(init_fn, shapes1), output_shape(init_fn, shapes2)
        )
        after1, after2 = (
            None if masks is None else mask_fn(masks, shapes)
            for masks, shapes in ((masks1, shapes1), (masks2, shapes2))
        )
        return _set_masks(out, after1, after2, remask)

    return masked


def _set_masks(out: Any, mask1: Any, mask2: Any, remask: bool) -> Any:
    if isinstance(out, list | tuple):
        return type(out)(
            _set_masks(*one, remask) for one in zip(out, mask1, mask2, strict=True)
        )
    return out.mask(mask1, mask2) if remask else out.replace(mask1=mask1, mask2=mask2)
