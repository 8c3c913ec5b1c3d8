r"""Global self-attention in the limit of many heads and channels.

With :math:`\alpha = \sigma_q \sigma_k` and :math:`\beta = \sigma_o \sigma_v` for the
weights of queries, keys, outputs and values, `K` the kernel of the inputs and
:math:`\tilde K` that with positional embeddings:

- scores divided by the number of key channels, queries and keys with one weight: the
  scores become constants :math:`G = \zeta(\alpha \tilde K)`, and
  :math:`K' = \beta^2 G_1 K G_2^T + \sigma_b^2`;
- divided by its square root, with independent weights: the scores stay random. For
  :math:`\zeta(x) = x`, :math:`K' = \alpha^2 \beta^2 S \tilde K + \sigma_b^2` with
  :math:`S = \sum \tilde K K` over all pairs of positions.

Source:
    J. Hron et al., ICML 2020 (arXiv:2006.10540).
"""

import math
from collections.abc import Callable
from enum import Enum
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jax_md.wide import layout
from jax_md.wide.kernel import Kernel
from jax_md.wide.stax.diagonal import Bool, Diagonal
from jax_md.wide.stax.embedding import Embedding, PositionalEmbedding
from jax_md.wide.stax.requirements import (
    LayerAndMask,
    layer,
    requires,
    shaped,
    supports_masking,
)

Array = jax.Array


class AttentionMechanism(Enum):
    """What turns scores into weights of the values."""

    SOFTMAX = "SOFTMAX"
    IDENTITY = "IDENTITY"
    ABS = "ABS"
    RELU = "RELU"

    def __call__(self, scores: Array, kept: Array | None = None) -> Array:
        """Return weights for scores whose last axis counts the keys.

        Args:
            scores: ``[..., queries, keys]``.
            kept: Boolean ``[..., 1, keys]``, True for keys that are not masked.
        """
        if self is AttentionMechanism.SOFTMAX:
            return jax.nn.softmax(scores, axis=-1, where=kept)
        if self is AttentionMechanism.ABS:
            scores = jnp.abs(scores)
        elif self is AttentionMechanism.RELU:
            scores = jnp.where(scores > 0, scores, jnp.zeros((), scores.dtype))
        return (
            scores
            if kept is None
            else jnp.where(kept, scores, jnp.zeros((), scores.dtype))
        )


def _member(kind: type[Enum], value: Any, name: str) -> Any:
    if isinstance(value, kind):
        return value
    try:
        return kind(value.upper())
    except (ValueError, AttributeError):
        names = ", ".join(m.name for m in kind)
        raise ValueError(
            f"`{name}` must be one of {names}; got {value!r}. Pass one of them."
        ) from None


@layer
@supports_masking(remask_kernel=True)
def GlobalSelfAttention(
    n_chan_out: int,
    n_chan_key: int,
    n_chan_val: int,
    n_heads: int,
    linear_scaling: bool = True,
    W_key_std: float = 1.0,
    W_value_std: float = 1.0,
    W_query_std: float = 1.0,
    W_out_std: float = 1.0,
    b_std: float | None = None,
    attention_mechanism: str = AttentionMechanism.SOFTMAX.name,
    pos_emb_type: str = PositionalEmbedding.NONE.name,
    pos_emb_p_norm: float = 2,
    pos_emb_decay_fn: Callable[[Any], Any] | None = None,
    n_chan_pos_emb: int | None = None,
    W_pos_emb_std: float = 1.0,
    val_pos_emb: bool = False,
    batch_axis: int = 0,
    channel_axis: int = -1,
) -> LayerAndMask:
    """Attention of every position to every other.

    Args:
        n_chan_out: Channels out.
        n_chan_key: Channels of keys and queries, for each head.
        n_chan_val: Channels of values, for each head.
        n_heads: Number of heads.
        linear_scaling: Divide scores by `n_chan_key`, with one weight for queries and
            keys; else by its square root, with two. The kernel of the latter is known
            for the mechanism ``"IDENTITY"`` only.
        W_key_std: Standard deviation of the weights of keys.
        W_value_std: Standard deviation of the weights of values.
        W_query_std: Standard deviation of the weights of queries.
        W_out_std: Standard deviation of the weights of outputs.
        b_std: Standard deviation of the biases of outputs; None for no biases.
        attention_mechanism: ``"SOFTMAX"``, ``"IDENTITY"``, ``"ABS"`` or ``"RELU"``.
        pos_emb_type: ``"NONE"``, ``"SUM"`` or ``"CONCAT"``: random embeddings of the
            positions, trained as weights are.
        pos_emb_p_norm: The power `p` in the distance of positions.
        pos_emb_decay_fn: Covariance of the embeddings of two positions as a function of
            the sum over axes of their distances to the power `p`; None for independent
            embeddings.
        n_chan_pos_emb: Channels of the embeddings; None for those of the inputs.
        W_pos_emb_std: Standard deviation of the embeddings.
        val_pos_emb: Whether values see the embeddings too.
        batch_axis: Batch axis of the inputs.
        channel_axis: Channel axis of the inputs.

    Returns:
        ``(init_fn, apply_fn, kernel_fn)``; parameters ``(query, key, value, out, bias,
        embeddings)``, None for those that are not there: `query` is None where it is
        `key`.
    """
    zeta = _member(AttentionMechanism, attention_mechanism, "attention_mechanism")
    kind = _member(PositionalEmbedding, pos_emb_type, "pos_emb_type")
    embedding = Embedding(
        kind, pos_emb_p_norm, pos_emb_decay_fn, n_chan_pos_emb, W_pos_emb_std
    )

    def shape_fn(shape: Any) -> tuple[int, ...]:
        axis = channel_axis % len(shape)
        embedding.check(shape[axis])
        return (*shape[:axis], n_chan_out, *shape[axis + 1 :])

    def spatial(shape: Any) -> tuple[int, ...]:
        own = (batch_axis % len(shape), channel_axis % len(shape))
        return tuple(n for i, n in enumerate(shape) if i not in own)

    def draw(rng: Array, shape: Any) -> Any:
        keys = jax.random.split(rng, 6)
        batch, channel = batch_axis % len(shape), channel_axis % len(shape)
        C = shape[channel]
        joined = C
        if kind is PositionalEmbedding.CONCAT:
            joined += embedding.width(C)
        to_value = joined if val_pos_emb else C
        normal = jax.random.normal
        query = None
        if not linear_scaling:
            query = normal(keys[0], (n_heads, joined, n_chan_key))
        key = normal(keys[1], (n_heads, joined, n_chan_key))
        value = normal(keys[2], (n_heads, to_value, n_chan_val))
        out = normal(keys[3], (n_chan_val * n_heads, n_chan_out))
        bias = None
        if b_std is not None:
            width = [1] * len(shape)
            width[channel] = n_chan_out
            bias = normal(keys[4], tuple(width))
        noise = None
        if kind is not PositionalEmbedding.NONE:
            size = list(shape)
            size[batch], size[channel] = 1, embedding.width(C)
            noise = normal(keys[5], tuple(size))
        return query, key, value, out, bias, noise

    def apply_fn(params: Any, inputs: Array, *, mask: Any = None, **unused: Any) -> Any:
        query, key, value, out, bias, noise = params
        x = jnp.moveaxis(inputs, (batch_axis, channel_axis), (0, -1))
        moved = x.shape
        x = x.reshape(moved[0], -1, moved[-1])
        kept = None
        if mask is not None:
            kept = jnp.broadcast_to(~mask, inputs.shape)
            kept = jnp.moveaxis(kept, (batch_axis, channel_axis), (0, -1))
            kept = kept.any(-1).reshape(moved[0], -1)
        if noise is not None:
            noise = jnp.moveaxis(noise, (batch_axis, channel_axis), (0, -1))
            noise = noise.reshape(-1, noise.shape[-1])
        y = embedding.join(x, noise, spatial(inputs.shape))
        if kept is not None:
            y = jnp.where(kept[..., None], y, jnp.zeros((), y.dtype))
        v = y if val_pos_emb else x

        w = key if query is None else query
        q = jnp.einsum("nac,hck->nhak", y, w) * (W_query_std / y.shape[-1] ** 0.5)
        k = jnp.einsum("nac,hck->nhak", y, key) * (W_key_std / y.shape[-1] ** 0.5)
        scores = jnp.einsum("nhak,nhbk->nhab", q, k)
        scores = scores / (n_chan_key if linear_scaling else n_chan_key**0.5)
        G = zeta(scores, None if kept is None else kept[:, None, None, :])
        v = jnp.einsum("nbc,hcv->nhbv", v, value) * (W_value_std / v.shape[-1] ** 0.5)
        out = out.reshape(n_chan_val, n_heads, n_chan_out)
        z = jnp.einsum("nhab,nhbv,vho->nao", G, v, out)
        z = z * (W_out_std / (n_heads * n_chan_val) ** 0.5)
        z = z.reshape(moved[:-1] + (n_chan_out,))
        z = jnp.moveaxis(z, (0, -1), (batch_axis, channel_axis))
        return z if bias is None else z + b_std * bias

    @requires(
        batch_axis=batch_axis,
        channel_axis=channel_axis,
        diagonal_spatial=Diagonal(input=Bool.NO),
    )
    def kernel_fn(k: Kernel, **unused: Any) -> Kernel:
        if not linear_scaling and zeta is not AttentionMechanism.IDENTITY:
            raise NotImplementedError(
                "with `linear_scaling=False` the kernel is known for "
                f'`attention_mechanism="IDENTITY"` only; got {zeta.name}. Use that, or '
                "`linear_scaling=True`."
            )
        if k.ntk is not None and not k.has_ntk:
            k = k.replace(ntk=jnp.zeros_like(k.nngp))  # embeddings add to it
        rule = _constant_scores if linear_scaling else _random_scores
        model = _Model(
            embedding,
            val_pos_emb,
            zeta,
            W_query_std * W_key_std,
            W_out_std * W_value_std,
            0.0 if b_std is None else b_std**2,
        )
        return rule(k, model).replace(is_gaussian=True)

    def mask_fn(mask: Any, input_shape: Any) -> Array:
        return jnp.all(mask, axis=channel_axis, keepdims=True)

    return shaped(shape_fn, draw), apply_fn, kernel_fn, mask_fn


class _Model(NamedTuple):
    """What the kernel of attention depends on."""

    embedding: Embedding
    val_pos_emb: bool
    zeta: AttentionMechanism
    alpha: Any
    beta: Any
    bias: Any


def _flat(x: Array, n_batch: int) -> Array:
    """Turn ``[*batch, H, H, W, W]`` into ``[*batch, HW, HW]``."""
    n = (x.ndim - n_batch) // 2
    order = [n_batch + 2 * i + copy for copy in range(2) for i in range(n)]
    x = x.transpose((*range(n_batch), *order))
    size = math.prod(x.shape[n_batch : n_batch + n])
    return x.reshape((*x.shape[:n_batch], size, size))


def _unflat(x: Array, n_batch: int, spatial: tuple[int, ...]) -> Array:
    x = x.reshape(x.shape[:n_batch] + spatial + spatial)
    return layout.interleave(x, n_batch)


def _kept(k: Kernel, i: int) -> Array | None:
    """Return which positions of batch `i` are not masked, ``[N, positions]``."""
    mask, shape = (k.mask1, k.shape1) if i == 1 else (k.mask2, k.shape2)
    kept = k.kept(mask, shape)
    return None if kept is None else kept.reshape(kept.shape[0], -1)


def _embedder(k: Kernel, model: _Model) -> Callable[[Array, int, int, int], Array]:
    """Return the map from a flat kernel to that of inputs with embeddings."""
    if model.embedding.kind is PositionalEmbedding.NONE:
        return lambda x, *_: x
    R = model.embedding.covariance(k.spatial_shape1).astype(k.nngp.dtype)
    channels = k.shape1[k.channel_axis]

    def embed(x: Array, n_batch: int, i: int, j: int) -> Array:
        own = R.reshape((1,) * n_batch + R.shape)
        for side, copy in ((i, 0), (j, 1)):
            kept = _kept(k, side)
            if kept is None:
                continue
            n, size = kept.shape
            shape = [1] * x.ndim
            shape[0 if copy == 0 or n_batch == 1 else 1] = n
            shape[n_batch + copy] = size
            own = jnp.where(kept.reshape(shape), own, jnp.zeros((), own.dtype))
        return model.embedding.mix(x, own, channels)

    return embed


def _constant_scores(k: Kernel, model: _Model) -> Kernel:
    embed = _embedder(k, model)
    n_self = k.n_batch_self

    def weights(cov: Array, i: int) -> Array:
        flat = _flat(cov, n_self)
        own = flat if n_self == 1 else layout.pair_diagonal(flat, 0)
        kept = _kept(k, i)
        return model.zeta(
            model.alpha * embed(own, 1, i, i), None if kept is None else kept[:, None]
        )

    G = {1: weights(k.cov1, 1)}
    if k.cov2 is not None:
        G[2] = weights(k.cov2, 2)
    values = embed if model.val_pos_emb else (lambda x, *_: x)

    def attend(x: Array, n_batch: int, i: int, j: int) -> Array:
        flat = values(_flat(x, n_batch), n_batch, i, j)
        spec = "nab,nbc,ndc->nad" if n_batch == 1 else "nab,nmbc,mdc->nmad"
        flat = model.beta**2 * jnp.einsum(
            spec, G[i], flat, G[j], precision=jax.lax.Precision.HIGHEST
        )
        return _unflat(flat, n_batch, k.spatial_shape1)

    out = k.linear(attend)
    return _finish(k, out, model, lambda _, ntk: ntk + 2 * out.nngp)


def _finish(
    k: Kernel, out: Kernel, model: _Model, rule: Callable[[Array, Array], Array]
) -> Kernel:
    """Add biases, and the contributions of the layer's own weights to the NTK.

    These are in ``rule(ntk_in, ntk_out)``, the tangent kernel without biases.
    """
    if k.ntk is None or out.ntk is None:
        ntk = None
    else:
        ntk = rule(k.ntk, out.ntk) + model.bias
    return out.replace(
        nngp=out.nngp + model.bias,
        ntk=ntk,
        cov1=out.cov1 + model.bias,
        cov2=None if out.cov2 is None else out.cov2 + model.bias,
    )


def _random_scores(k: Kernel, model: _Model) -> Kernel:
    embed = _embedder(k, model)
    values = embed if model.val_pos_emb else (lambda x, *_: x)
    scale = (model.alpha * model.beta) ** 2

    def pairs(a: Array, b: Array) -> Array:
        return jnp.sum(a * b, axis=(-2, -1), keepdims=True)

    def attend(x: Array, n_batch: int, i: int, j: int) -> Array:
        flat = _flat(x, n_batch)
        seen, value = (f(flat, n_batch, i, j) for f in (embed, values))
        return _unflat(scale * pairs(seen, value) * seen, n_batch, k.spatial_shape1)

    def rule(ntk: Array, unused: Array) -> Array:
        second = 1 if k.cov2 is None else 2
        flat = _flat(k.nngp, 2)
        K, V = (f(flat, 2, 1, second) for f in (embed, values))
        # The embeddings are weights, so their covariance is their tangent kernel.
        T = _flat(ntk, 2)
        T, TV = (f(T, 2, 1, second) for f in (embed, values))
        total = (pairs(K, TV) + pairs(V, T)) * K + pairs(K, V) * (T + 4 * K)
        return _unflat(scale * total, 2, k.spatial_shape1)

    return _finish(k, k.linear(attend), model, rule)
