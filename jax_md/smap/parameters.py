"""How a parameter given for a system becomes one value for each interaction.

A parameter may be one number, one value a particle (combined into one a pair), one a
pair, one a pair of species, or a tree of any of these. `resolve` reads the forms once,
for pairs from all particles and from neighbor lists alike, and sorts them by where the
values have to travel: with the particles, beside them, or not at all.

============  =======================================  ==============================
kind          given as                                 value of the pair (i, j)
============  =======================================  ==============================
``STATIC``    a Python number                          itself
``CONSTANT``  0-d array, `ParameterTree` ``Global``    itself
``PARTICLE``  ``[n]``, ``PerParticle`` ``[n, ...]``    ``combinator(p[i], p[j])``
``PAIR``      ``[n, n]``, ``PerBond`` ``[n, n, ...]``  ``p[i, j]``
``SPECIES``   ``[s, s]``, ``PerSpecies``               ``p[species[i], species[j]]``
============  =======================================  ==============================
"""

import inspect
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import tree_map
from jaxtyping import Array

from jax_md import dataclasses, util

# Keywords that steer spaces and simulators. They reach every energy function, and a
# pair function sees them only if it asks.
RESERVED = frozenset(
    "box new_box perturbation neighbor species mass kT dt pressure t "
    "preconditioner_position fractional_coordinates".split()
)


class ParameterTreeMapping(Enum):
    """What the leading axes of the leaves of a `ParameterTree` stand for."""

    Global = 0
    PerParticle = 1
    PerBond = 2
    PerSpecies = 3


@dataclasses.dataclass
class ParameterTree:
    """A tree of parameters whose leaves are looked up alike.

    Attributes:
        tree: Any tree of arrays.
        mapping: What the leading axes of its leaves index.
    """

    tree: Any
    mapping: ParameterTreeMapping = dataclasses.static_field()


Parameter = ParameterTree | util.Array | float


class Kind(Enum):
    """How the value of a parameter depends on the pair; see the module."""

    STATIC = 0
    CONSTANT = 1
    PARTICLE = 2
    PAIR = 3
    SPECIES = 4


class PairParameters(NamedTuple):
    """Parameters of a pair function, sorted by where they travel.

    Attributes:
        nodes: One entry a particle, axis 0 being ``n``: the trees of kind ``PARTICLE``
            under ``"particle"``, labels under ``"species"`` and the running number
            under ``"index"``, the last two only where a lookup needs them.
        shared: Trees of kind ``CONSTANT``, ``PAIR`` and ``SPECIES`` by name.
        static: Python numbers by name; never traced.
        rules: ``(name, kind, combinator)`` of every parameter that is traced.
    """

    nodes: dict[str, Any]
    shared: dict[str, Any]
    static: dict[str, Any]
    rules: tuple[tuple[str, Kind, Callable], ...]

    def values(
        self, node_i: Any, node_j: Any, shared: Any, all_pairs: bool = False
    ) -> dict[str, Any]:
        """Return the keyword arguments of the pair function.

        Args:
            node_i: `nodes` read at i, with any leading shape or none.
            node_j: `nodes` read at j, of a shape that broadcasts with it.
            shared: `shared`, or what a transformation made of it.
            all_pairs: Whether the pairs are all of ``[n, n]`` in order, so that a
                parameter of kind ``PAIR`` needs no lookup.
        """
        out = dict(self.static)
        for name, kind, combinator in self.rules:
            if kind is Kind.PARTICLE:
                a, b = node_i["particle"][name], node_j["particle"][name]
                out[name] = tree_map(combinator, a, b)
            elif kind is Kind.CONSTANT or (kind is Kind.PAIR and all_pairs):
                out[name] = shared[name]
            else:
                label = "index" if kind is Kind.PAIR else "species"
                at = node_i[label], node_j[label]
                out[name] = tree_map(lambda x: x[at], shared[name])
        return out


def mean(a: Any, b: Any) -> Any:
    """Arithmetic mean, the combinator where none is given."""
    return (a + b) * 0.5


def split_combinators(declared: Mapping[str, Any]) -> tuple[dict, dict]:
    """Separate ``combinator`` and ``(combinator, value)`` from plain values."""
    values, combinators = {}, {}
    for name, value in declared.items():
        if callable(value):
            combinators[name] = value
        elif isinstance(value, tuple) and len(value) == 2 and callable(value[0]):
            combinators[name], values[name] = value
        else:
            values[name] = value
    return values, combinators


def merge(
    fn: Callable, values: Mapping, combinators: Mapping, dynamic: Mapping, ignore: bool
) -> dict[str, Any]:
    """Merge call-time parameters into declared ones, and drop what `fn` cannot take.

    Without `ignore` every keyword reaches `fn`, so that a misspelt one is refused by
    it; the reserved ones (`box`, `perturbation` ...) are held back from a function
    that has no place for them.
    """
    if ignore:
        named = {**dict.fromkeys(combinators), **values}
        merged = util.merge_dicts(named, dynamic, True)
        merged = {k: v for k, v in merged.items() if k in values or v is not None}
    else:
        merged = {**values, **dynamic}
    explicit, takes_any = _keywords(fn)
    if takes_any:
        return merged
    return {k: v for k, v in merged.items() if k in explicit or k not in RESERVED}


def _keywords(fn: Callable) -> tuple[set[str], bool]:
    try:
        parameters = inspect.signature(fn).parameters.values()
    except (TypeError, ValueError):
        return set(), True
    return {p.name for p in parameters}, any(
        p.kind is p.VAR_KEYWORD for p in parameters
    )


def resolve(
    values: Mapping[str, Any],
    combinators: Mapping[str, Callable],
    positions: Any,
    species: Any = None,
    particle_arrays: bool = True,
    raw: frozenset[str] = frozenset(),
) -> PairParameters:
    """Sort parameters by kind.

    Floating point arrays are brought to the dtype of the positions, which the result
    carries; Python numbers stay as they are and promote nothing.

    Args:
        values: Parameters by name.
        combinators: Combinators by name, for those of kind ``PARTICLE``.
        positions: Positions, ``[n, d]``.
        species: Labels ``[n]``, or None.
        particle_arrays: Whether an ``[n]`` array is read as one value a particle where
            there are species.
        raw: Names of keywords to hand over as they are, whatever their shape.

    Raises:
        ValueError: If the shape or the mapping of a parameter has no meaning here.
    """
    n, dtype = positions.shape[0], positions.dtype
    particle, shared, static, rules = {}, {}, {}, []
    for name, value in values.items():
        if name in raw:
            if all(map(_is_numeric, jax.tree_util.tree_leaves(value))):
                shared[name] = value
                rules.append((name, Kind.CONSTANT, mean))
            else:
                static[name] = value
            continue
        if isinstance(value, bool | int | float) and not isinstance(value, np.generic):
            static[name] = value
            continue
        if species is None or (particle_arrays and rank(value) == 1):
            kind, tree = _without_species(name, value)
        elif name in combinators:
            raise ValueError(
                f"`{name}` has a combinator, which acts on values of two particles, "
                "but `species` is given. Pass a table [s, s], or leave `species` out."
            )
        else:
            kind, tree = _with_species(name, value)
        tree = tree_map(lambda x: cast_floats(x, dtype), tree)
        _check_length(name, kind, tree, n)
        if kind is Kind.PARTICLE:
            particle[name] = tree
        else:
            shared[name] = tree
        rules.append((name, kind, combinators.get(name, mean)))
    nodes: dict[str, Any] = {"particle": particle}
    kinds = {kind for _, kind, _ in rules}
    if Kind.SPECIES in kinds:
        nodes["species"] = jnp.asarray(species)
    if Kind.PAIR in kinds:
        nodes["index"] = jnp.arange(n)
    return PairParameters(nodes, shared, static, tuple(rules))


def reserved_by_others(
    fn: Callable, declared: Mapping, combinators: Mapping
) -> frozenset[str]:
    """Reserved keywords that neither `fn` names nor the factory declared."""
    explicit, _ = _keywords(fn)
    return RESERVED - explicit - set(declared) - set(combinators)


def rank(value: Any) -> int:
    """Rank of an array or number; -1 for anything else."""
    if isinstance(value, int | float | complex) or util.is_array(value):
        return np.ndim(value)
    return getattr(value, "ndim", -1)


def _is_numeric(x: Any) -> bool:
    return util.is_array(x) or isinstance(x, bool | int | float | complex | np.generic)


def cast_floats(x: Any, dtype: Any) -> Array:
    """`x` as an array; of `dtype` if it holds floating point numbers."""
    x = jnp.asarray(x)
    return x.astype(dtype) if jnp.issubdtype(x.dtype, jnp.floating) else x


def _without_species(name: str, value: Any) -> tuple[Kind, Any]:
    M = ParameterTreeMapping
    if isinstance(value, ParameterTree):
        kinds = {M.Global: Kind.CONSTANT, M.PerParticle: Kind.PARTICLE}
        kinds[M.PerBond] = Kind.PAIR
        if value.mapping not in kinds:
            raise ValueError(
                f"`{name}` is a ParameterTree with mapping {value.mapping}, which "
                "needs `species`; without them use Global, PerParticle or PerBond."
            )
        return kinds[value.mapping], value.tree
    kinds = {0: Kind.CONSTANT, 1: Kind.PARTICLE, 2: Kind.PAIR}
    if rank(value) not in kinds:
        raise ValueError(
            f"`{name}` must be a scalar, one value a particle [n], one a pair [n, n] "
            f"or a ParameterTree; got {describe(value)}."
        )
    return kinds[rank(value)], value


def _with_species(name: str, value: Any) -> tuple[Kind, Any]:
    M = ParameterTreeMapping
    if isinstance(value, ParameterTree):
        kinds = {M.Global: Kind.CONSTANT, M.PerSpecies: Kind.SPECIES}
        if value.mapping not in kinds:
            raise ValueError(
                f"`{name}` is a ParameterTree with mapping {value.mapping}; together "
                "with `species` it must be Global or PerSpecies."
            )
        return kinds[value.mapping], value.tree
    kinds = {0: Kind.CONSTANT, 2: Kind.SPECIES}
    if rank(value) not in kinds:
        raise ValueError(
            f"`{name}` must be a scalar, a table [s, s] or a ParameterTree where "
            f"`species` is given; got {describe(value)}."
        )
    return kinds[rank(value)], value


def describe(value: Any) -> str:
    """What a message says of a value: its shape, or its type if it has none."""
    if rank(value) < 0:
        return f"{type(value).__name__}"
    return f"an array of shape {np.shape(value)}"


def _check_length(name: str, kind: Kind, tree: Any, n: int) -> None:
    axes = {Kind.PARTICLE: 1, Kind.PAIR: 2}.get(kind, 0)
    for leaf in jax.tree_util.tree_leaves(tree):
        if leaf.shape[:axes] != (n,) * axes:
            raise ValueError(
                f"`{name}` has shape {leaf.shape}, but there are {n} particles; "
                f"expected the leading shape {(n,) * axes}. A table needs `species=`."
            )


def _get_matrix_parameters(params: Any, combinator: Callable) -> Any:
    """Values of all pairs from a scalar, ``[n]``, ``[n, n]`` or a tree."""
    kind, tree = _without_species("params", params)
    if kind is not Kind.PARTICLE:
        return tree
    return tree_map(lambda p: combinator(p[:, None, ...], p[None, :, ...]), tree)


def _get_species_parameters(params: Any, species: tuple) -> Any:
    """Values of one pair of species from a scalar, a table ``[s, s]`` or a tree."""
    kind, tree = _with_species("params", params)
    return tree_map(lambda p: p[species], tree) if kind is Kind.SPECIES else tree
