r"""Sums over the neighbors of a graph: the layer of graph networks.

With `P[i, j]` the weight of the edge from node `i` to node `j`, a sample's activations
become :math:`y_j = \sum_i x_i P_{ij}`, and the kernel
:math:`P_1^T K(x_1, x_2) P_2`.

Source:
    S. Du et al., NeurIPS 2019 (arXiv:1905.13192).
"""

import string
from collections.abc import Callable, Sequence
from enum import Enum
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jax_md.wide.kernel import Kernel
from jax_md.wide.stax.diagonal import Bool, Diagonal
from jax_md.wide.stax.requirements import (
    Layer,
    layer,
    requires,
    shaped,
    supports_masking,
)

Array = jax.Array


class AggregateImplementation(Enum):
    """How a pattern is given: all weights, or a list of edges."""

    DENSE = "DENSE"
    SPARSE = "SPARSE"


@layer
@supports_masking(remask_kernel=True)
def Aggregate(
    aggregate_axis: int | Sequence[int] | None = None,
    batch_axis: int = 0,
    channel_axis: int = -1,
    to_dense: Callable[[Any], Any] = lambda p: p,
    implementation: str = AggregateImplementation.DENSE.name,
) -> Layer:
    """Sum over incoming edges; the graph is given at call time as ``pattern``.

    ``apply_fn(params, inputs, pattern=P)`` and ``kernel_fn(x1, x2, pattern=(P1, P2))``;
    None stands for no aggregation.

    Args:
        aggregate_axis: Axes of the nodes; None for all position axes.
        batch_axis: Batch axis of the inputs.
        channel_axis: Channel axis of the inputs.
        to_dense: Makes what ``"DENSE"`` takes of a pattern in a form of one's own.
        implementation: ``"DENSE"``: a pattern is ``[N, *nodes, *nodes]``, senders
            first. ``"SPARSE"``: integers ``[N, edges, number of axes, 2]``, sender and
            receiver of edges of weight 1; repeated edges count as often as they are
            there, negative ones not at all. With one axis ``[N, edges, 2]`` will do.
    """
    kind = _as_implementation(implementation)

    def node_axes(ndim: int) -> tuple[int, ...]:
        own = (batch_axis % ndim, channel_axis % ndim)
        if aggregate_axis is None:
            return tuple(i for i in range(ndim) if i not in own)
        given = aggregate_axis
        given = (given,) if isinstance(given, int) else tuple(given)
        axes = tuple(i % ndim for i in given)
        if set(axes) & set(own):
            raise ValueError(
                f"`aggregate_axis` must not hold the batch axis {batch_axis} or the "
                f"channel axis {channel_axis}; got {aggregate_axis}. Name axes of "
                "nodes."
            )
        return axes

    def dense(pattern: Any, nodes: tuple[int, ...], dtype: Any) -> Array:
        if kind is AggregateImplementation.DENSE:
            pattern = jnp.asarray(to_dense(pattern), dtype)
        else:
            pattern = dense_pattern(jnp.asarray(pattern), nodes, dtype)
        if pattern.shape[1:] != nodes + nodes:
            raise ValueError(
                f"`pattern` must have shape [samples, *nodes, *nodes] with nodes "
                f"{nodes}; got {pattern.shape}. Give every sample the weights of all "
                "pairs of nodes."
            )
        return pattern

    def apply_fn(
        params: Any, inputs: Array, *, pattern: Any = None, **unused: Any
    ) -> Array:
        if pattern is None:
            return inputs
        axes = node_axes(inputs.ndim)
        nodes = tuple(inputs.shape[i] for i in axes)
        if kind is AggregateImplementation.SPARSE:
            return _sum_over_edges(
                inputs, jnp.asarray(pattern), axes, batch_axis % inputs.ndim
            )
        P = dense(pattern, nodes, inputs.dtype)
        names = list(string.ascii_lowercase[: inputs.ndim])
        senders = "".join(names[i] for i in axes)
        batch = names[batch_axis]
        out = [c.upper() if i in axes else c for i, c in enumerate(names)]
        return jnp.einsum(
            f"{''.join(names)},{batch}{senders}{senders.upper()}->{''.join(out)}",
            inputs,
            P,
            precision=lax.Precision.HIGHEST,
        )

    @requires(
        batch_axis=batch_axis,
        channel_axis=channel_axis,
        diagonal_spatial=Diagonal(Bool.NO, Bool.NO),
    )
    def kernel_fn(k: Kernel, *, pattern: Any = (None, None), **unused: Any) -> Kernel:
        first, second = pattern
        if first is None and second is None:
            return k
        if first is None or second is None:
            raise NotImplementedError(
                "`pattern` must be a pair of two patterns or of two None; got one of "
                "each. Pass the pattern of both batches (twice the same for `x2=None`)."
            )
        axes = node_axes(len(k.shape1))
        dtype = k.nngp.dtype
        patterns = {
            i: dense(p, tuple(shape[a] for a in axes), dtype)
            for i, p, shape in ((1, first, k.shape1), (2, second, k.shape2))
        }
        at = [k.spatial_axes.index(a) for a in axes]

        def aggregate(x: Array, n_batch: int, i: int, j: int) -> Array:
            letters = string.ascii_lowercase
            n = (x.ndim - n_batch) // 2
            left, right = list(letters[:n]), list(letters[n : 2 * n])
            batch = "yz"[:n_batch]

            def joined(left: list[str], right: list[str]) -> str:
                pairs = zip(left, right, strict=True)
                return batch + "".join(a + b for a, b in pairs)

            def edges(side: list[str]) -> str:
                nodes = "".join(side[a] for a in at)
                return nodes + nodes.upper()

            def received(side: list[str]) -> list[str]:
                return [c.upper() if a in at else c for a, c in enumerate(side)]

            return jnp.einsum(
                f"{batch[0]}{edges(left)},{joined(left, right)},"
                f"{batch[-1]}{edges(right)}->{joined(received(left), received(right))}",
                patterns[i],
                x,
                patterns[j],
                precision=lax.Precision.HIGHEST,
            )

        return k.linear(aggregate)

    return shaped(lambda shape: shape), apply_fn, kernel_fn


def _as_implementation(name: Any) -> AggregateImplementation:
    if isinstance(name, AggregateImplementation):
        return name
    try:
        return AggregateImplementation(name.upper())
    except (ValueError, AttributeError):
        raise ValueError(
            f'`implementation` must be "DENSE" or "SPARSE"; got {name!r}. Pass one.'
        ) from None


def _flat_edges(pattern: Array, nodes: tuple[int, ...]) -> tuple[Array, Array, Array]:
    """Return senders, receivers (one number for all axes) and which edges count."""
    if pattern.ndim == 3 and len(nodes) == 1:
        pattern = jnp.expand_dims(pattern, -2)
    real = jnp.all(pattern >= 0, axis=(-2, -1))
    strides = [1]
    for n in reversed(nodes[1:]):
        strides.append(strides[-1] * n)
    weights = jnp.asarray(strides[::-1], pattern.dtype).reshape(1, 1, -1, 1)
    flat = jnp.sum(jnp.maximum(pattern, 0) * weights, axis=-2)
    return flat[..., 0], flat[..., 1], real


def dense_pattern(pattern: Array, nodes: tuple[int, ...], dtype: Any) -> Array:
    """Return the weights ``[N, *nodes, *nodes]`` of edges ``[N, edges, axes, 2]``."""
    senders, receivers, real = _flat_edges(pattern, nodes)
    size = 1
    for n in nodes:
        size *= n

    def one(senders: Array, receivers: Array, real: Array) -> Array:
        zeros = jnp.zeros((size, size), dtype)
        return zeros.at[senders, receivers].add(real.astype(dtype))

    weights = jax.vmap(one)(senders, receivers, real)
    return weights.reshape(weights.shape[:1] + nodes + nodes)


def _sum_over_edges(
    x: Array, pattern: Array, axes: tuple[int, ...], batch_axis: int
) -> Array:
    """Gather from senders and add to receivers, without a matrix of all pairs."""
    order = (batch_axis, *axes)
    rest = tuple(i for i in range(x.ndim) if i not in order)
    moved = x.transpose(order + rest)
    nodes = moved.shape[1 : 1 + len(axes)]
    flat = moved.reshape(moved.shape[0], -1, *moved.shape[1 + len(axes) :])
    senders, receivers, real = _flat_edges(pattern, nodes)

    def one(x: Array, senders: Array, receivers: Array, real: Array) -> Array:
        weight = real.astype(x.dtype).reshape((-1,) + (1,) * (x.ndim - 1))
        return jnp.zeros_like(x).at[receivers].add(x[senders] * weight)

    out = jax.vmap(one)(flat, senders, receivers, real).reshape(moved.shape)
    inverse = sorted(range(x.ndim), key=(order + rest).__getitem__)
    return out.transpose(inverse)
