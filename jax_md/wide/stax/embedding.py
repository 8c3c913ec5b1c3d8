"""Random vectors that tell attention at which position an input stands."""

import math
from collections.abc import Callable
from enum import Enum
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

Array = jax.Array


class PositionalEmbedding(Enum):
    """How random vectors, one for each position, join the inputs."""

    NONE = "NONE"
    SUM = "SUM"
    CONCAT = "CONCAT"


class Embedding(NamedTuple):
    """Positional embeddings: Gaussian with covariance ``std^2 R`` of positions."""

    kind: PositionalEmbedding
    p_norm: float
    decay_fn: Callable[[Any], Any] | None
    channels: int | None
    std: float

    def width(self, channels: int) -> int:
        """Return the channels of embeddings of inputs with so many."""
        return channels if self.channels is None else self.channels

    def check(self, channels: int) -> None:
        """Refuse a width that cannot be added to so many channels."""
        if self.kind is PositionalEmbedding.SUM and self.width(channels) != channels:
            raise ValueError(
                f"`n_chan_pos_emb` must be the number of channels in, {channels}, to "
                f"be added; got {self.channels}. Pass None, or "
                '`pos_emb_type="CONCAT"`.'
            )

    def covariance(self, spatial: tuple[int, ...]) -> Array:
        """Return `R` as ``[positions, positions]``."""
        n = math.prod(spatial)
        if self.decay_fn is None:
            return jnp.eye(n)
        grid = jnp.meshgrid(*map(jnp.arange, spatial), indexing="ij")
        where = jnp.stack([g.reshape(-1) for g in grid], axis=-1)
        gap = jnp.abs(where[:, None, :] - where[None, :, :])
        return self.decay_fn(jnp.sum(gap.astype(float) ** self.p_norm, axis=-1))

    def root(self, spatial: tuple[int, ...]) -> Array:
        """Return a square root of `R`."""
        R = self.covariance(spatial)
        if self.decay_fn is None:
            return R
        # The triangular root, where rounding leaves `R` definite, is that of
        # neural-tangents, whose parameters then mean the same here.
        triangular = jnp.linalg.cholesky(R)
        values, vectors = jnp.linalg.eigh(R)
        other = vectors * jnp.sqrt(jnp.maximum(values, 0))[None, :]
        return jnp.where(jnp.all(jnp.isfinite(triangular)), triangular, other)

    def mix(self, K: Array, R: Array, channels: int) -> Array:
        """Return the kernel of inputs with embeddings; `R` broadcasts against `K`."""
        if self.kind is PositionalEmbedding.NONE:
            return K
        added = self.std**2 * R
        if self.kind is PositionalEmbedding.SUM:
            return K + added
        share = channels / (channels + self.width(channels))
        return share * K + (1 - share) * added

    def join(self, x: Array, noise: Any, spatial: tuple[int, ...]) -> Array:
        """Return inputs ``[N, positions, C]`` with embeddings.

        The parameters `noise`, ``[positions, width]``, are independent.
        """
        if self.kind is PositionalEmbedding.NONE:
            return x
        root = self.root(spatial).astype(x.dtype)
        e = self.std * jnp.tensordot(root, noise.astype(x.dtype), 1)
        e = jnp.broadcast_to(e[None], x.shape[:1] + e.shape)
        if self.kind is PositionalEmbedding.SUM:
            return x + e
        return jnp.concatenate([x, e], axis=-1)
