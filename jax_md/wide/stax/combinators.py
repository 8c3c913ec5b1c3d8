"""Networks out of layers: one after another, side by side, many times."""

from collections.abc import Iterable
from functools import reduce
from typing import Any

import jax

from jax_md.wide.stax.requirements import (
    Layer,
    Requirement,
    before,
    layer,
    output_shape,
    requirement_of,
    shaped,
)
from jax_md.wide.stax.smoothness import SMOOTH, smoothest_common, smoothness_of


def _split(rng: Any, n: int) -> list[Any]:
    return [None] * n if rng is None else list(jax.random.split(rng, n))


def _chained(rng: jax.Array, n: int) -> list[jax.Array]:
    """Keys of parameters in a row, by the schedule of `jax.example_libraries.stax`.

    The parameters of a layer do not depend on how many come after it.
    """
    keys = []
    for _ in range(n):
        rng, key = jax.random.split(rng)
        keys.append(key)
    return keys


def _keyed(rng: Any) -> dict[str, Any]:
    return {} if rng is None else {"rng": rng}


def _row(requirements: Iterable[Any]) -> Any:
    """Return the requirement of layers in a row.

    None to follow is not the same as a layer that needs nothing: what leaves the last
    layer may still be diagonal.
    """
    last_first = list(requirements)[::-1] or [Requirement()]
    return reduce(lambda after, this: before(this, after), last_first)


@layer
def serial(*layers: Layer) -> Layer:
    """Compose layers one after another.

    Args:
        *layers: Triples ``(init_fn, apply_fn, kernel_fn)``; none for the identity.

    Returns:
        A triple. Its parameters are a list with those of each layer; ``rng`` given to
        `apply_fn` is split among the layers.
    """
    inits = [init for init, _, _ in layers]
    applies = [apply for _, apply, _ in layers]
    kernels = [kernel for _, _, kernel in layers]

    def shape_fn(shape: Any) -> Any:
        for init in inits:
            shape = output_shape(init, shape)
        return shape

    def init_fn(rng: jax.Array, input_shape: Any) -> tuple[Any, list[Any]]:
        params, shape = [], input_shape
        for init, key in zip(inits, _chained(rng, len(inits)), strict=True):
            shape, p = init(key, shape)
            params.append(p)
        return shape, params

    def apply_fn(params: Any, inputs: Any, *, rng: Any = None, **kwargs: Any) -> Any:
        keys = _split(rng, len(applies))
        for apply, p, key in zip(applies, params, keys, strict=True):
            inputs = apply(p, inputs, **_keyed(key), **kwargs)
        return inputs

    def kernel_fn(k: Any, **kwargs: Any) -> Any:
        for kernel in kernels:
            k = kernel(k, **kwargs)
        return k

    init_fn.output_shape = shape_fn  # type: ignore[attr-defined]
    kernel_fn.requirement = _row(map(requirement_of, kernels))  # type: ignore[attr-defined]
    kernel_fn.smoothness = smoothest_common(map(smoothness_of, kernels))  # type: ignore[attr-defined]
    return init_fn, apply_fn, kernel_fn


@layer
def parallel(*layers: Layer) -> Layer:
    """Put layers side by side, each with an input and an output of its own.

    Args:
        *layers: Triples; as many as there are inputs, such as `FanOut` gives.

    Returns:
        A triple that maps a list or tuple of inputs to one of outputs. Its parameters
        are a tuple with those of each layer; ``rng`` is split among them.
    """
    inits, applies, kernels = zip(*layers, strict=True)

    def check(inputs: Any) -> Any:
        if not isinstance(inputs, list | tuple) or len(inputs) != len(inits):
            got = len(inputs) if isinstance(inputs, list | tuple) else "one array"
            raise ValueError(
                f"`parallel` of {len(inits)} layers takes a list or tuple of as many "
                f"inputs; got {got}. Put `FanOut({len(inits)})` before it to feed "
                "all with the same."
            )
        return inputs

    def shape_fn(shape: Any) -> Any:
        return tuple(
            output_shape(i, s) for i, s in zip(inits, check(shape), strict=True)
        )

    def init_fn(rng: jax.Array, input_shape: Any) -> tuple[Any, tuple[Any, ...]]:
        keys = _split(rng, len(inits))
        out = [
            init(key, s)
            for init, key, s in zip(inits, keys, check(input_shape), strict=True)
        ]
        return tuple(shape for shape, _ in out), tuple(p for _, p in out)

    def apply_fn(params: Any, inputs: Any, *, rng: Any = None, **kwargs: Any) -> Any:
        keys = _split(rng, len(applies))
        outputs = [
            apply(p, x, **_keyed(key), **kwargs)
            for apply, p, x, key in zip(
                applies, params, check(inputs), keys, strict=True
            )
        ]
        return type(inputs)(outputs)

    def kernel_fn(ks: Any, **kwargs: Any) -> Any:
        return type(ks)(
            kernel(k, **kwargs) for kernel, k in zip(kernels, check(ks), strict=True)
        )

    init_fn.output_shape = shape_fn  # type: ignore[attr-defined]
    kernel_fn.requirement = tuple(map(requirement_of, kernels))  # type: ignore[attr-defined]
    kernel_fn.smoothness = smoothest_common(map(smoothness_of, kernels))  # type: ignore[attr-defined]
    return init_fn, apply_fn, kernel_fn


@layer
def repeat(layer: Layer, n: int) -> Layer:
    """Compose `n` copies of a layer through a compiled loop.

    Equal to ``serial(*[layer] * n)``, but compiled once for all copies.

    Args:
        layer: A triple that keeps the shape of its input.
        n: Number of copies, each with parameters of its own.

    Returns:
        A triple; its parameters are those of the layer, stacked along a leading axis.

    Raises:
        ValueError: If the layer changes the shape of its input.
    """
    init, apply, kernel = layer

    def shape_fn(shape: Any) -> Any:
        if n and tuple(output_shape(init, shape)) != tuple(shape):
            raise ValueError(
                "`repeat` needs a layer that keeps the shape of its input; got "
                f"{tuple(output_shape(init, shape))} from {tuple(shape)}. Use "
                "`serial(*[layer] * n)`, or give the layer as many channels as come in."
            )
        return shape

    def draw(rng: jax.Array, input_shape: Any) -> Any:
        def next_layer(key: jax.Array, _: None) -> tuple[jax.Array, Any]:
            key, own = jax.random.split(key)
            return key, init(own, input_shape)[1]

        return jax.lax.scan(next_layer, rng, None, length=n)[1]

    def apply_fn(params: Any, inputs: Any, *, rng: Any = None, **kwargs: Any) -> Any:
        if n == 0:
            return inputs
        # What is not an array, such as a flag, must not pass through the loop.
        if rng is None:
            return jax.lax.scan(
                lambda x, p: (apply(p, x, **kwargs), None), inputs, params
            )[0]
        keys = jax.random.split(rng, n)
        return jax.lax.scan(
            lambda x, pk: (apply(pk[0], x, rng=pk[1], **kwargs), None),
            inputs,
            (params, keys),
        )[0]

    def kernel_fn(k: Any, **kwargs: Any) -> Any:
        if n == 0:
            return k
        # The first copy fixes the structure: an array for the tangent kernel, the
        # flags after a layer.
        k = kernel(k, **kwargs)
        if n == 1:
            return k
        after = jax.eval_shape(lambda one: kernel(one, **kwargs), k)
        if jax.tree.structure(after) != jax.tree.structure(k):
            raise ValueError(
                "`repeat` needs a layer whose kernel has the same flags and shapes "
                f"after one copy and after two; got {jax.tree.structure(k)} and "
                f"{jax.tree.structure(after)}. Use `serial(*[layer] * n)`."
            )
        return jax.lax.scan(
            lambda one, _: (kernel(one, **kwargs), None), k, None, length=n - 1
        )[0]

    # Two copies need what any greater number needs.
    kernel_fn.requirement = _row([requirement_of(kernel)] * min(n, 2))  # type: ignore[attr-defined]
    kernel_fn.smoothness = smoothness_of(kernel) if n else SMOOTH  # type: ignore[attr-defined]
    return shaped(shape_fn, draw), apply_fn, kernel_fn
