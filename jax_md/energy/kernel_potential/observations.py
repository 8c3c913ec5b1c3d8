r"""What a fit is made of: structures, what is known of them, and linear functionals.

Energies, forces and stresses are linear functionals of the energy :math:`e(x)` of an
atom with descriptors x. With the values :math:`v_i = e(x_i)` and the slopes
:math:`g_i = \nabla e(x_i)`

.. math::
    E = \sum_i v_i, \qquad
    F = - \sum_i (\partial x_i / \partial R)^T g_i, \qquad
    \sigma = - \frac1V \sum_i (\partial x_i / \partial \epsilon)^T g_i .

Structures of one shape, with the same known of them, form a group of arrays.
"""

import functools
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jax_md import dataclasses, quantity, space


@dataclasses.dataclass
class Observation:
    """One structure and what is known of it; made by `observation`."""

    position: Float[Array, "n d"]
    energy: Any
    force: Any
    stress: Any
    species: Any
    box: Any
    kwargs: dict[str, Any]


class Noise(NamedTuple):
    """Standard deviations of the data around the model.

    Attributes:
        energy: Of the energy per atom (energy).
        force: Of a component of a force (energy / length).
        stress: Of a component of the stress (energy / volume).
    """

    energy: Any = 1e-3
    force: Any = 1e-2
    stress: Any = 1e-3


DEFAULT_NOISE = Noise()


def observation(
    position: Float[Array, "n d"],
    *,
    energy: Any = None,
    force: Any = None,
    stress: Any = None,
    species: Any = None,
    box: Any = None,
    **kwargs: Any,
) -> Observation:
    """Describe a structure and what is known of it.

    Args:
        position: Positions, ``[n, d]``, as the descriptor function takes them.
        energy: Energy of the structure.
        force: Forces, ``[n, d]``.
        stress: Stress, ``[d, d]`` (energy / volume), with the sign of
            `jax_md.quantity.stress`: positive under compression. Needs `box`.
        species: Labels, ``[n]``; passed to the descriptor function.
        box: Box; passed to the descriptor function where its space takes one.
        **kwargs: Passed to the descriptor function, such as ``neighbor=``.

    Raises:
        ValueError: If shapes do not fit, or nothing is known.
    """
    # A fit loses digits: it is done in the widest type that is enabled.
    position = jnp.asarray(position, jnp.result_type(float))
    if position.ndim != 2:
        raise ValueError(f"`position` must be [n, d]; got shape {position.shape}.")
    n, d = position.shape
    wanted = {"energy": (), "force": (n, d), "stress": (d, d), "species": (n,)}
    given = {"energy": energy, "force": force, "stress": stress, "species": species}
    for name, value in given.items():
        if value is not None and np.shape(value) != wanted[name]:
            raise ValueError(
                f"`{name}` must have shape {wanted[name]} beside `position` of shape "
                f"{(n, d)}; got {np.shape(value)}."
            )
    if energy is None and force is None and stress is None:
        raise ValueError(
            "an observation must know something: give `energy`, `force` or `stress`."
        )
    if stress is not None and box is None:
        raise ValueError("`stress` needs `box`, whose volume it is divided by.")
    given = {k: None if v is None else jnp.asarray(v) for k, v in given.items()}
    box = None if box is None else jnp.asarray(box)
    return Observation(position=position, box=box, kwargs=kwargs, **given)


@dataclasses.dataclass
class Group:
    """Structures of one shape: ``g`` of them with ``n`` atoms and ``p`` data each.

    Attributes:
        x: Descriptors, standardized, ``[g, n, f]``.
        z: Species, ``[g, n]``.
        jacobian: How they follow the coordinates whose conjugates are known, with sign
            and volume, ``[g, n, f, q]``; None where only energies are.
        has_energy: Whether the first datum of each structure is its energy.
        kinds: Which of energy, force and stress are known, and how many numbers each.
    """

    x: Float[Any, "g n f"]
    z: Int[Any, "g n"]
    jacobian: Float[Any, "g n f q"] | None
    has_energy: bool = dataclasses.static_field()
    kinds: tuple[tuple[str, int], ...] = dataclasses.static_field()

    @property
    def rows(self) -> int:
        """Data of one structure."""
        return sum(count for _, count in self.kinds)


@dataclasses.dataclass
class Training:
    """Observations as arrays, ready for any kernel; made by `prepare`.

    Attributes:
        groups: Structures by shape.
        y: What is known, less the reference energies, ``[p]``.
        mean: What was subtracted from descriptors, ``[f]``.
        scale: What they were divided by, ``[f]``.
        reference: Energy of a free atom of each species, ``[t]``.
        types: Labels of the species, in order.
        descriptor_fn: Makes the descriptors.
        is_independent: Whether forces and stresses are `independent` combinations.
    """

    groups: tuple[Group, ...]
    y: Float[Any, " p"]
    mean: Float[Any, " f"]
    scale: Float[Any, " f"]
    reference: Float[Any, " t"]
    types: tuple = dataclasses.static_field()
    descriptor_fn: Callable = dataclasses.static_field()
    is_independent: bool = dataclasses.static_field(default=False)

    @property
    def has_slopes(self) -> bool:
        """Whether forces or stresses are known."""
        return any(group.jacobian is not None for group in self.groups)

    @property
    def x(self) -> Float[Any, "a f"]:
        """Descriptors of all atoms."""
        return jnp.concatenate([g.x.reshape(-1, g.x.shape[-1]) for g in self.groups])

    @property
    def z(self) -> Int[Any, " a"]:
        """Species of all atoms."""
        return jnp.concatenate([g.z.reshape(-1) for g in self.groups])

    def deviation(self, noise: Noise) -> Float[Array, " p"]:
        """Standard deviation of each datum."""
        parts = []
        for group in self.groups:
            own = {**noise._asdict(), "energy": noise.energy * group.x.shape[1]}
            row = [jnp.broadcast_to(own[kind], (m,)) for kind, m in group.kinds]
            parts.append(jnp.tile(jnp.concatenate(row), group.x.shape[0]))
        return jnp.concatenate(parts).astype(self.y.dtype)


def prepare(
    descriptor_fn: Callable[..., Array],
    observations: Iterable[Observation],
    *,
    standardize: bool | tuple[Any, Any] = True,
    reference: Any = "fit",
    types: tuple | None = None,
) -> Training:
    """Evaluate descriptors and their derivatives, and gather the data.

    The derivatives of all descriptors by all coordinates are kept where forces are
    known: memory grows as the square of the atoms of such a structure.

    Args:
        descriptor_fn: ``descriptor_fn(R, **kwargs) -> [n, f]``, twice differentiable.
        observations: What `observation` makes.
        standardize: Whether to shift and scale every descriptor to mean zero and
            variance one over all atoms; or ``(mean, scale)`` to use, ``[f]`` each.
        reference: Energies of free atoms, ``[t]``, subtracted beforehand; ``"fit"`` for
            those that fit the energies best, None for zero.
        types: Labels of the species; those in the data, sorted, by default.

    Raises:
        ValueError: If there are no observations, or descriptors have no shape that
            fits.
    """
    observations = list(observations)
    if not observations:
        raise ValueError("`observations` is empty; expected one at least.")
    gathered: dict[Any, list[int]] = {}
    for at, seen in enumerate(observations):
        leaves, tree = jax.tree.flatten(seen)
        shapes = tuple((jnp.shape(x), jnp.result_type(x)) for x in leaves)
        gathered.setdefault((tree, shapes), []).append(at)
    groups, targets = [], []
    for indices in gathered.values():
        members = [observations[i] for i in indices]
        stacked = jax.tree.map(lambda *x: np.stack(x), *members)
        group, y = _group(descriptor_fn, stacked)
        groups.append(group)
        targets.append(y)
    found = np.unique(np.concatenate([np.ravel(np.asarray(g.z)) for g in groups]))
    types = tuple(found.tolist()) if types is None else types
    unknown = set(found.tolist()) - set(types)
    if unknown:
        raise ValueError(
            f"`species` holds the labels {sorted(unknown)}, which are not among those "
            f"of the potential, {list(types)}. Fit anew with all of them."
        )
    # Bookkeeping is done in numpy, where no operation has to be compiled first.
    counts = [np.sum(g.z[..., None] == np.asarray(types), 1) for g in groups]
    free = _references(groups, targets, counts, reference, len(types))
    mean, scale = _standards(groups, standardize)
    ready = []
    for group in groups:
        jacobian = group.jacobian
        if jacobian is not None:
            jacobian = jacobian / scale[:, None]
        x = (group.x - mean) / scale
        ready.append(dataclasses.replace(group, x=x, jacobian=jacobian))
    for i, (group, count) in enumerate(zip(groups, counts, strict=True)):
        if group.has_energy:
            targets[i][:, 0] -= count @ free
    return Training(
        groups=tuple(ready),
        y=np.concatenate([y.reshape(-1) for y in targets]),
        mean=mean,
        scale=scale,
        reference=free,
        types=types,
        descriptor_fn=descriptor_fn,
    )


def describe(
    descriptor_fn: Callable, R: Any, species: Any, box: Any, kwargs: dict
) -> Array:
    """Descriptors; the box goes along where the space of the function takes one."""
    kwargs = {k: v for k, v in kwargs.items() if v is not None}
    if species is not None:
        kwargs["species"] = species
    if box is not None:
        try:
            return descriptor_fn(R, box=box, **kwargs)
        except space.UnexpectedBoxException:
            pass
    return descriptor_fn(R, **kwargs)


@functools.partial(jax.jit, static_argnums=0)  # compiled once for updates of one shape
def _derivatives(
    descriptor_fn: Callable, seen: Observation
) -> tuple[Array, Array | None]:
    """Descriptors ``[g, n, f]`` of stacked observations, and their Jacobian."""
    _, n, d = seen.position.shape
    dtype = seen.position.dtype

    def one(seen: Observation) -> tuple[Array, Array | None]:
        def descriptors(R: Array, strain: Array) -> Array:
            kwargs = dict(seen.kwargs)
            if seen.stress is not None:
                kwargs["perturbation"] = strain
            return describe(descriptor_fn, R, seen.species, seen.box, kwargs)

        at = (seen.position, jnp.eye(d, dtype=dtype))
        if seen.force is None and seen.stress is None:
            return descriptors(*at), None
        x, push = jax.linearize(descriptors, *at)
        null = [jnp.zeros_like(a) for a in at]
        parts = []
        if seen.force is not None:
            basis = jnp.eye(n * d, dtype=dtype).reshape(-1, n, d)
            along = jax.lax.map(lambda t: push(t, null[1]), basis, batch_size=32)
            parts.append(-along)
        if seen.stress is not None:
            basis = jnp.eye(d * d, dtype=dtype).reshape(-1, d, d)
            along = jax.lax.map(lambda t: push(null[0], t), basis)
            parts.append(-along / quantity.volume(d, seen.box))
        return x, jnp.moveaxis(jnp.concatenate(parts), 0, -1)

    first = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape[1:], a.dtype), seen)
    out = jax.eval_shape(one, first)[0]
    if out.ndim != 2 or out.shape[0] != n:
        raise ValueError(
            f"`descriptor_fn` must return one row for each of the {n} atoms, "
            f"[{n}, f]; got shape {out.shape}."
        )
    return jax.lax.map(one, seen)


def _group(descriptor_fn: Callable, seen: Observation) -> tuple[Group, Any]:
    """Descriptors, Jacobian and data ``[g, p]`` of stacked observations."""
    g, n, d = seen.position.shape
    dtype = seen.position.dtype
    kinds = [("energy", 1)] if seen.energy is not None else []
    kinds += [("force", n * d)] if seen.force is not None else []
    kinds += [("stress", d * d)] if seen.stress is not None else []
    x, jacobian = _derivatives(descriptor_fn, seen)
    z = np.zeros((g, n), np.int32) if seen.species is None else np.asarray(seen.species)
    values = {"energy": seen.energy, "force": seen.force, "stress": seen.stress}
    wide = jnp.promote_types(jnp.result_type(float), dtype)
    data = [np.reshape(values[kind], (g, -1)).astype(wide) for kind, _ in kinds]
    group = Group(
        x=np.asarray(x, wide),
        z=z,
        jacobian=None if jacobian is None else np.asarray(jacobian, wide),
        has_energy=seen.energy is not None,
        kinds=tuple(kinds),
    )
    return group, np.concatenate(data, 1)


def _standards(groups: list[Group], standardize: Any) -> tuple[Any, Any]:
    flat = [g.x.reshape(-1, g.x.shape[-1]) for g in groups]
    widths = {x.shape[1] for x in flat}
    if len(widths) > 1:
        raise ValueError(
            f"`descriptor_fn` gives {sorted(widths)} descriptors, depending on the "
            "structure; expected as many for all. Name the species it has to tell "
            "apart (`types=`)."
        )
    x = np.concatenate(flat)
    f = x.shape[1]
    if isinstance(standardize, tuple):
        mean, scale = (np.asarray(a, x.dtype) for a in standardize)
        if mean.shape != (f,) or scale.shape != (f,):
            raise ValueError(
                f"`standardize` must be (mean, scale) of shape ({f},) each; got "
                f"{mean.shape} and {scale.shape}."
            )
        return mean, scale
    if not standardize:
        return np.zeros(f, x.dtype), np.ones(f, x.dtype)
    deviation = np.std(x, 0)
    # A descriptor that never changes in the data says nothing: it stays as it is.
    size = np.max(np.abs(x), 0)
    constant = deviation <= 1e3 * np.finfo(x.dtype).eps * np.maximum(size, 1e-300)
    return np.mean(x, 0), np.where(constant, 1, deviation)


def _references(
    groups: list[Group], targets: list, counts: list, reference: Any, t: int
) -> Any:
    dtype = targets[0].dtype
    if reference is None:
        return np.zeros(t, dtype)
    if not isinstance(reference, str):
        given = np.asarray(reference, dtype)
        if given.shape != (t,):
            raise ValueError(
                f"`reference` must hold one energy for each of the {t} species; got "
                f"shape {given.shape}."
            )
        return given
    if reference != "fit":
        raise ValueError(
            f'`reference` must be "fit", None or energies [t]; got {reference!r}.'
        )
    known = [i for i, g in enumerate(groups) if g.has_energy]
    if not known:
        return np.zeros(t, dtype)
    atoms = np.concatenate([counts[i] for i in known]).astype(dtype)
    energies = np.concatenate([targets[i][:, 0] for i in known])
    return np.linalg.lstsq(atoms, energies, rcond=None)[0].astype(dtype)
