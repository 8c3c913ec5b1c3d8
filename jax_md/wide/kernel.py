"""The record that travels through an infinitely wide network.

For two batches of inputs it holds the covariances of the activations after a layer
(NNGP kernel), the neural tangent kernel, and the self-covariances that nonlinearities
need. There is no channel axis: channels are independent and equally distributed.

Source:
    J. Lee et al., ICLR 2018 (arXiv:1711.00165); A. Jacot et al., NeurIPS 2018
    (arXiv:1806.07572); R. Novak et al., ICLR 2020 (arXiv:1912.02803).
"""

import builtins
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jax_md import dataclasses
from jax_md.wide import layout
from jax_md.wide.contraction import DotNumbers, check_axes, contract, label
from jax_md.wide.indexing import expand_index, index_mask, indexed_shape, take

Array = jax.Array


@dataclasses.dataclass
class Kernel:
    """Covariances of the activations of two batches after a layer.

    Attributes:
        nngp: Covariance ``[N1, N2, H, H, W, W]`` between samples and positions;
            ``[N1, N2, H, W]`` where `diagonal_spatial`.
        ntk: Neural tangent kernel in the same layout; a scalar zero before the first
            trainable layer, None where it was not asked for.
        cov1: Self-covariance of the first batch, ``[N1, H, H, W, W]``; with a second
            batch axis where not `diagonal_batch`.
        cov2: The same of the second batch; None where that is the first batch.
        x1_is_x2: Boolean scalar: the two batches are equal.
        is_gaussian: The activations are Gaussian: an affine layer came last.
        is_reversed: Kept for the interface; always False, position axes are in order.
        is_input: Kept for the interface; the record describes the inputs themselves.
        diagonal_batch: Self-covariances are kept between equal samples only.
        diagonal_spatial: Covariances are kept between equal positions only.
        shape1: Shape of the activations of the first batch.
        shape2: Shape of the activations of the second batch.
        batch_axis: Batch axis of the activations, not negative.
        channel_axis: Channel axis of the activations, not negative.
        mask1: Boolean, True where the first activations are masked, broadcastable to
            `shape1`; None without masking.
        mask2: The same for the second.
    """

    nngp: Array
    ntk: Array | None
    cov1: Array
    cov2: Array | None
    x1_is_x2: Array
    is_gaussian: bool = dataclasses.static_field(default=False)
    is_reversed: bool = dataclasses.static_field(default=False)
    is_input: bool = dataclasses.static_field(default=False)
    diagonal_batch: bool = dataclasses.static_field(default=True)
    diagonal_spatial: bool = dataclasses.static_field(default=False)
    shape1: tuple[int, ...] = dataclasses.static_field(default=())
    shape2: tuple[int, ...] = dataclasses.static_field(default=())
    batch_axis: int = dataclasses.static_field(default=0)
    channel_axis: int = dataclasses.static_field(default=-1)
    mask1: Array | None = None
    mask2: Array | None = None

    def replace(self, **changes: Any) -> "Kernel":
        """Return a copy with the named fields replaced."""
        return dataclasses.replace(self, **changes)

    def asdict(self) -> dict[str, Any]:
        """Return the fields by name, arrays uncopied."""
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}

    def astuple(self) -> tuple[Any, ...]:
        """Return the fields in order, arrays uncopied."""
        return dataclasses.unpack(self)

    # Views

    @property
    def n_batch_self(self) -> int:
        """Number of batch axes of `cov1` and `cov2`."""
        return 1 if self.diagonal_batch else 2

    @property
    def spatial_axes(self) -> tuple[int, ...]:
        """Axes of the activations that are neither batch nor channel, in order."""
        own = (self.batch_axis, self.channel_axis)
        return tuple(i for i in range(len(self.shape1)) if i not in own)

    @property
    def spatial_shape1(self) -> tuple[int, ...]:
        """Sizes of the position axes of the first activations."""
        return tuple(self.shape1[i] for i in self.spatial_axes)

    @property
    def spatial_shape2(self) -> tuple[int, ...]:
        """Sizes of the position axes of the second activations."""
        return tuple(self.shape2[i] for i in self.spatial_axes)

    @property
    def has_ntk(self) -> bool:
        """Whether `ntk` is an array, neither None nor the scalar zero of the inputs."""
        return self.ntk is not None and self.ntk.ndim > 0

    def map_ntk(self, fn: Callable[[Array], Array]) -> Array | None:
        """Apply `fn` to `ntk` where it is an array; return it as it is otherwise."""
        if self.ntk is None or not self.has_ntk:
            return self.ntk
        return fn(self.ntk)

    def variances(self) -> tuple[Array, Array]:
        """Return the variances ``[N1, *positions]`` and ``[N2, *positions]``."""
        var1 = layout.variance(self.cov1, self.diagonal_batch, self.diagonal_spatial)
        if self.cov2 is None:
            return var1, var1
        return var1, layout.variance(
            self.cov2, self.diagonal_batch, self.diagonal_spatial
        )

    def linear(
        self, fn: Callable[[Array, int, int, int], Array], **changes: Any
    ) -> "Kernel":
        """Apply one linear map to every covariance.

        Args:
            fn: ``fn(x, n_batch, i, j)`` maps a covariance with ``n_batch`` batch axes
                between inputs ``i`` and ``j`` (1 or 2).
            **changes: Other fields to replace.
        """
        n_self = self.n_batch_self
        second = 1 if self.cov2 is None else 2
        nngp, ntk = self.nngp, self.map_ntk(lambda ntk: fn(ntk, 2, 1, second))
        if self.has_ntk:
            # One after the other: what a map needs besides its result, it needs once.
            nngp, ntk = jax.lax.optimization_barrier((nngp, ntk))
        return self.replace(
            nngp=fn(nngp, 2, 1, second),
            ntk=ntk,
            cov1=fn(self.cov1, n_self, 1, 1),
            cov2=None if self.cov2 is None else fn(self.cov2, n_self, 2, 2),
            **changes,
        )

    # Arithmetic: the record of `a x + b` for constants, given that of `x`

    def __mul__(self, other: Any) -> "Kernel":
        """Return the record of the activations times a constant."""
        square = other**2
        return self.linear(lambda x, *_: x * square)

    __rmul__ = __mul__

    def __truediv__(self, other: Any) -> "Kernel":
        """Return the record of the activations divided by a constant."""
        return self * (1.0 / other)

    def __add__(self, other: Any) -> "Kernel":
        """Return the record of the activations plus a random sign times a constant."""
        square = other**2
        return self.replace(
            nngp=self.nngp + square,
            cov1=self.cov1 + square,
            cov2=None if self.cov2 is None else self.cov2 + square,
        )

    __radd__ = __add__
    __sub__ = __add__

    def __neg__(self) -> "Kernel":
        """Return the record of minus the activations, which is the same."""
        return self

    __pos__ = __neg__

    def dot_general(
        self,
        other1: Any,
        other2: Any,
        is_lhs: bool,
        dimension_numbers: DotNumbers,
        precision: Any = jax.lax.Precision.HIGHEST,
    ) -> "Kernel":
        """Return the record of `jax.lax.dot_general` of the activations and constants.

        Shapes are left as they are.

        Args:
            other1: Constant that the first activations are multiplied with.
            other2: The same for the second; both None for no change.
            is_lhs: Whether the constants stand on the left.
            dimension_numbers: Axes contracted and shared, see `jax.lax.dot_general`.
            precision: See `jax.lax.dot_general`.

        Raises:
            NotImplementedError: If just one constant is None, or their numbers of axes
                differ.
            ValueError: If channels, or samples, are contracted.
        """
        if other1 is None and other2 is None:
            return self
        n_axes = None if other1 is None else jnp.ndim(other1)
        if other1 is None or other2 is None or jnp.ndim(other2) != n_axes:
            raise NotImplementedError(
                "`other1` and `other2` must be two tensors with as many axes each; got "
                f"{other1!r} and {other2!r}. Pass the identity for None."
            )
        names = label(
            len(self.shape1),
            jnp.ndim(other1),
            is_lhs,
            dimension_numbers,
            self.batch_axis,
            self.channel_axis,
        )
        check_axes(names)

        def times(x: Array, n_batch: int, first: Any, second: Any) -> Array:
            both = first, second
            spatial = self.diagonal_spatial
            return contract(x, both, names, n_batch, spatial, precision)

        n_self = self.n_batch_self
        return self.replace(
            nngp=times(self.nngp, 2, other1, other2),
            ntk=self.map_ntk(lambda ntk: times(ntk, 2, other1, other2)),
            cov1=times(self.cov1, n_self, other1, other1),
            cov2=None
            if self.cov2 is None
            else times(self.cov2, n_self, other2, other2),
            batch_axis=names.batch_axis,
            channel_axis=names.channel_axis,
        )

    # Rearrangement of samples and positions

    def __getitem__(self, idx: Any) -> "Kernel":
        """Return the record of ``activations[idx]``.

        Args:
            idx: Integers, slices, one list of positions, and an ellipsis over the
                axes of the activations.

        Raises:
            NotImplementedError: If `idx` selects channels or one sample by an integer.
        """
        full = expand_index(idx, len(self.shape1))
        on_channel = full[self.channel_axis]
        if not isinstance(on_channel, builtins.slice) or on_channel != slice(None):
            raise NotImplementedError(
                "`idx` must leave the channel axis whole, since a kernel has no "
                f"channels; got {on_channel} on axis "
                f"{self.channel_axis}. Use `:` there."
            )
        on_batch = full[self.batch_axis]
        if isinstance(on_batch, int):
            raise NotImplementedError(
                f"`idx` must keep the batch axis; got the integer {on_batch} on axis "
                f"{self.batch_axis}. Use a slice such as `{on_batch}:{on_batch + 1}`."
            )
        spatial = [full[i] for i in self.spatial_axes]
        if not self.diagonal_spatial:
            spatial = [i for i in spatial for _ in range(2)]

        removed = [i for i in self.spatial_axes if isinstance(full[i], int)]
        return self.linear(
            lambda x, n_batch, *_: take(x, (on_batch,) * n_batch + tuple(spatial)),
            shape1=indexed_shape(self.shape1, full),
            shape2=indexed_shape(self.shape2, full),
            batch_axis=self.batch_axis - sum(i < self.batch_axis for i in removed),
            channel_axis=self.channel_axis
            - sum(i < self.channel_axis for i in removed),
            mask1=index_mask(self.mask1, self.shape1, full),
            mask2=index_mask(self.mask2, self.shape2, full),
        )

    def slice(self, n1_slice: builtins.slice, n2_slice: builtins.slice) -> "Kernel":
        """Return the record of some samples of each batch.

        Args:
            n1_slice: Which samples of the first batch.
            n2_slice: Which samples of the second.
        """
        cov2 = self.cov1 if self.cov2 is None else self.cov2
        both = n1_slice, n2_slice
        before = (builtins.slice(None),) * self.batch_axis
        idx1, idx2 = (*before, n1_slice), (*before, n2_slice)
        return self.replace(
            nngp=self.nngp[both],
            ntk=self.map_ntk(lambda ntk: ntk[both]),
            cov1=self.cov1[(n1_slice,) * self.n_batch_self],
            cov2=cov2[(n2_slice,) * self.n_batch_self],
            # Other samples of the same batch are not the same samples.
            x1_is_x2=jnp.logical_and(self.x1_is_x2, n1_slice == n2_slice),
            shape1=indexed_shape(self.shape1, idx1),
            shape2=indexed_shape(self.shape2, idx2),
            mask1=index_mask(self.mask1, self.shape1, idx1),
            mask2=index_mask(self.mask2, self.shape2, idx2),
        )

    def reverse(self) -> "Kernel":
        """Return the covariances with the position axes in the opposite order."""
        return self.transpose(tuple(reversed(range(len(self.spatial_axes)))))

    def transpose(self, axes: Sequence[int] | None = None) -> "Kernel":
        """Permute the position axes of the covariances; shapes are left as they are.

        Args:
            axes: A permutation of ``range(number of position axes)``; None reverses.
        """
        if axes is None:
            return self.reverse()

        def permute(x: Array, n_batch: int, *_: int) -> Array:
            order = list(range(n_batch))
            for axis in axes:
                if self.diagonal_spatial:
                    order.append(n_batch + axis)
                else:
                    order += [n_batch + 2 * axis, n_batch + 2 * axis + 1]
            return x.transpose(order)

        return self.linear(permute)

    def mask(self, mask1: Array | None, mask2: Array | None) -> "Kernel":
        """Set the masks, and every covariance with a masked position to zero.

        Args:
            mask1: Boolean, True where masked, broadcastable to `shape1`, or None.
            mask2: The same for `shape2`.
        """
        keep1 = self.kept(mask1, self.shape1)
        keep2 = self.kept(mask2, self.shape2)
        keep = {1: keep1, 2: keep2}

        def zero(x: Array, n_batch: int, i: int, j: int) -> Array:
            # `cov2` is None where both batches are one, and so are their masks.
            left, right = keep[i], keep[j]
            for side, kept in enumerate((left, right)):
                if kept is None:
                    continue
                view = layout.pair_views(kept, kept, n_batch, self.diagonal_spatial)
                x = jnp.where(view[side], x, jnp.zeros((), x.dtype))
            return x

        return self.linear(zero, mask1=mask1, mask2=mask2)

    def kept(self, mask: Array | None, shape: tuple[int, ...]) -> Array | None:
        """Return where activations are not masked, as ``[N, *positions]``."""
        if mask is None:
            return None
        kept = ~jnp.all(mask, axis=self.channel_axis, keepdims=True)
        target = tuple(1 if i == self.channel_axis else n for i, n in enumerate(shape))
        kept = jnp.broadcast_to(kept, target)
        order = (self.batch_axis, *self.spatial_axes)
        return jnp.squeeze(
            kept.transpose((*order, self.channel_axis)), axis=len(shape) - 1
        )


def is_kernel(x: Any) -> bool:
    """Whether `x` is a `Kernel`, or a list or tuple of them to any depth."""
    if isinstance(x, list | tuple):
        return len(x) > 0 and all(is_kernel(y) for y in x)
    return isinstance(x, Kernel)
