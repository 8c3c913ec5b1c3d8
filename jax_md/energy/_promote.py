"""From a plain function of distance to the energy of a system.

`promote` makes, of one function, the form that sums over all pairs and the form that
sums over a neighbor list, with the signatures and docstrings they would have if they
were written out.
"""

import inspect
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array

from jax_md import partition, smap, space
from jax_md.smap import ParameterTree

from .cutoff import multiplicative_isotropic_cutoff

_POSITIONAL = inspect.Parameter.POSITIONAL_OR_KEYWORD
_KEYWORD = inspect.Parameter.KEYWORD_ONLY
_REST = inspect.Parameter.VAR_KEYWORD


def promote(
    fn: Callable[..., Array],
    *,
    r_onset: float | None = None,
    r_cutoff: float | None = None,
    unit: str | None = None,
    reach: str | None = None,
    dr_threshold: float = 0.5,
) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Make the system forms of a pair function.

    The parameters of the forms, and their defaults, are those of `fn` after `dr`.

    Args:
        fn: Pair function ``fn(dr, **parameters)`` of arrays of distances.
        r_onset: Default of the onset of the cutoff. Give it together with `r_cutoff`
            for a function that has to be cut.
        r_cutoff: Default of the cutoff.
        unit: The parameter whose largest value is the unit of `r_onset` and
            `r_cutoff`; None where they are lengths.
        reach: For a function that ends by itself: the parameter whose largest value is
            the distance where it does.
        dr_threshold: Default of the skin of the neighbor list (length).

    Returns:
        ``(fn_pair, fn_neighbor_list)``: ``fn_pair(displacement, ...) -> energy_fn`` and
        ``fn_neighbor_list(displacement, box_size, ...) -> (neighbor_fn, energy_fn)``.

    Raises:
        ValueError: If neither or both of a cutoff and a reach are given.

    Example:
        >>> def gaussian(dr, height=1.0):
        ...     return height * jnp.exp(-(dr**2))
        >>> gaussian_pair, gaussian_neighbor_list = promote(
        ...     gaussian, r_onset=3.0, r_cutoff=4.0
        ... )
    """
    cut = r_onset is not None and r_cutoff is not None
    if cut == (reach is not None):
        raise ValueError(
            "`promote` needs either `r_onset` and `r_cutoff`, for a function that has "
            "to be cut, or `reach`, for one that ends by itself."
        )
    parameters = [
        p.replace(kind=_POSITIONAL, default=_as_float(p.default))
        for p in list(inspect.signature(fn).parameters.values())[1:]
        if p.kind is not _REST
    ]
    names = [p.name for p in parameters]

    def prepare(given: dict[str, Any]) -> tuple[Callable, dict[str, Any], Any]:
        """The function to sum, its parameters, and the distance where it ends."""
        values = {name: given[name] for name in names}
        if not cut:
            assert reach is not None
            return _drop_flag(fn), values, _largest(reach, given[reach])
        length = 1.0 if unit is None else _largest(unit, given[unit])
        onset, end = (_scaled(given[name], length) for name in ("r_onset", "r_cutoff"))
        cutoff_fn = given["cutoff_fn"]
        if _is_traced(onset) or _is_traced(end):
            # Handed over as parameters, so that the pair function closes over nothing
            # that is traced and derivatives with respect to the cutoff are found.
            def cut_here(dr, *, traced_onset, traced_cutoff, **kwargs):
                kwargs.pop("fractional_coordinates", None)
                return cutoff_fn(fn, traced_onset, traced_cutoff)(dr, **kwargs)

            return (
                cut_here,
                {**values, "traced_onset": onset, "traced_cutoff": end},
                end,
            )
        return _drop_flag(cutoff_fn(fn, onset, end)), values, end

    def pair_form(*args: Any, **kwargs: Any):
        given = _arguments(pair_signature, args, kwargs)
        summed, values, _ = prepare(given)
        return smap.pair(
            summed,
            space.canonicalize_displacement_or_metric(given["displacement_or_metric"]),
            species=given["species"],
            reduce_axis=(1,) if given["per_particle"] else None,
            ignore_unused_parameters=True,
            **values,
        )

    def list_form(*args: Any, **kwargs: Any):
        given = _arguments(list_signature, args, kwargs)
        summed, values, end = prepare(given)
        metric_fn = space.canonicalize_displacement_or_metric(
            given["displacement_or_metric"]
        )
        energy_fn = given["pair_neighbor_list_fn"](
            summed,
            metric_fn,
            species=given["species"],
            reduce_axis=(1,) if given["per_particle"] else None,
            ignore_unused_parameters=True,
            fractional_coordinates=given["fractional_coordinates"],
            **values,
        )
        if _is_traced(end):
            return _no_list(name_of_list, unit or reach), energy_fn
        neighbor_fn = given["neighbor_list_fn"](
            given["displacement_or_metric"],
            given["box_size"],
            end,
            given["dr_threshold"],
            fractional_coordinates=given["fractional_coordinates"],
            format=given["format"],
            **given["neighbor_kwargs"],
        )
        return neighbor_fn, energy_fn

    limits, style = [], []
    if cut:
        limits = [
            inspect.Parameter("r_onset", _POSITIONAL, default=r_onset),
            inspect.Parameter("r_cutoff", _POSITIONAL, default=r_cutoff),
        ]
        style = [
            inspect.Parameter(
                "cutoff_fn", _KEYWORD, default=multiplicative_isotropic_cutoff
            )
        ]

    def declare(*entries: Any) -> list[inspect.Parameter]:
        return [
            inspect.Parameter(e, _POSITIONAL)
            if isinstance(e, str)
            else inspect.Parameter(e[0], _POSITIONAL, default=e[1])
            for e in entries
        ]

    pair_signature = inspect.Signature(
        [
            *declare("displacement_or_metric", ("species", None)),
            *parameters,
            *limits,
            *declare(("per_particle", False)),
            *style,
        ]
    )
    list_signature = inspect.Signature(
        [
            *declare("displacement_or_metric", "box_size", ("species", None)),
            *parameters,
            *limits,
            *declare(
                ("dr_threshold", dr_threshold),
                ("per_particle", False),
                ("fractional_coordinates", False),
                ("format", partition.OrderedSparse),
                ("neighbor_list_fn", partition.neighbor_list),
                ("pair_neighbor_list_fn", smap.pair_neighbor_list),
            ),
            *style,
            inspect.Parameter("neighbor_kwargs", _REST),
        ]
    )
    name_of_list = f"{fn.__name__}_neighbor_list"
    _dress(pair_form, f"{fn.__name__}_pair", pair_signature, fn, unit)
    _dress(list_form, name_of_list, list_signature, fn, unit)
    return pair_form, list_form


def _as_float(default: Any) -> Any:
    is_integer = isinstance(default, int) and not isinstance(default, bool)
    return float(default) if is_integer else default


def _arguments(signature: inspect.Signature, args: tuple, kwargs: dict) -> dict:
    bound = signature.bind(*args, **kwargs)
    bound.apply_defaults()
    return dict(bound.arguments)


def _drop_flag(fn: Callable) -> Callable:
    """`fn` without the keyword meant for list functions that need the flag."""

    def plain(dr: Array, **kwargs: Any) -> Array:
        kwargs.pop("fractional_coordinates", None)
        return fn(dr, **kwargs)

    return plain


def _is_traced(x: Any) -> bool:
    return any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(x))


def _largest(name: str, value: Any) -> Any:
    """The largest value of a parameter in any of its forms, a float where known."""
    if isinstance(value, tuple) and len(value) == 2:
        value = value[1]
    if callable(value) or value is None:
        raise ValueError(
            f"the cutoff depends on the largest `{name}`, which is not known here; "
            f"expected its value or ({name} combinator, value), got "
            f"{getattr(value, '__name__', value)!r}."
        )
    leaves = jax.tree.leaves(value.tree if isinstance(value, ParameterTree) else value)
    if _is_traced(leaves):
        return jnp.max(jnp.stack([jnp.max(leaf) for leaf in leaves]))
    return max(float(np.max(leaf)) for leaf in leaves)


def _scaled(factor: Any, length: Any) -> Any:
    product = factor * length
    return product if _is_traced(product) else float(product)


def _no_list(factory: str, parameter: str | None) -> partition.NeighborListFns:
    """List functions of a factory whose cutoff is traced: they say what to do."""
    cause = f"`{parameter}`" if parameter else "`r_cutoff`"

    def allocate(*args: Any, **kwargs: Any):
        raise ValueError(
            f"`{factory}` cannot allocate a list: {cause} is traced by a JAX "
            "transformation, and the size of a list follows from a concrete cutoff. "
            f"Call `{factory}` with concrete values outside of the transformation, "
            f"allocate there, and pass the traced value when the energy is called: "
            f"energy_fn(R, neighbor, {parameter or 'name'}=value)."
        )

    def update(position: Any, neighbors: Any, **kwargs: Any):
        return neighbors.update(position, **kwargs)

    return partition.NeighborListFns(allocate, update)


def _dress(
    form: Callable, name: str, signature: inspect.Signature, fn: Callable, unit: Any
) -> None:
    """Give a form the name, the signature and the docstring of a written function."""
    form.__name__ = form.__qualname__ = name
    form.__module__ = fn.__module__
    form.__signature__ = signature  # type: ignore[attr-defined]
    described = _entries(fn)
    length = f"in units of the largest `{unit}`" if unit else "length"
    texts = {
        "displacement_or_metric": "Displacement or distance of two points.",
        "box_size": "Box of the list: a scalar, ``[d]`` or ``[d, d]`` (length).",
        "species": "Labels ``[n]``, which make tables ``[s, s]`` of parameters.",
        "r_onset": f"Where the function starts to be switched off ({length}).",
        "r_cutoff": f"From where on it is zero ({length}). Does not follow values that "
        "are given at call time.",
        "dr_threshold": "Skin of the neighbor list (length).",
        "per_particle": "Whether to return ``[n]`` energies instead of their sum.",
        "fractional_coordinates": "Whether positions live in the unit cube.",
        "format": "Format of the neighbor list.",
        "neighbor_list_fn": "Makes the neighbor list.",
        "pair_neighbor_list_fn": "Sums the pair function over the list.",
        "cutoff_fn": "How it is switched off; `energy.smooth_cutoff` has two "
        "continuous derivatives.",
        "neighbor_kwargs": "Passed to `neighbor_list_fn`.",
    }
    lines = []
    for p in signature.parameters.values():
        text = texts.get(p.name) or described.get(p.name, "Parameter of the function.")
        stars = "**" if p.kind is _REST else ""
        lines.append(f"    {stars}{p.name}: {text}")
    is_list = "box_size" in signature.parameters
    head = "over a neighbor list" if is_list else "over all pairs"
    returns = (
        "``(neighbor_fn, energy_fn)``: ``neighbor_fn.allocate(R)`` makes a list and\n"
        "    ``energy_fn(R, neighbor, **kwargs)`` is the energy."
        if is_list
        else "``energy_fn(R, **kwargs)``."
    )
    form.__doc__ = (
        f"Sum `{fn.__name__}` {head}.\n\n"
        "Parameters take the forms of `smap.pair`: a scalar, ``[n]``, ``[n, n]``, "
        "``[s, s]``\nwith `species`, or a `ParameterTree`; any of them can be given "
        "again when the energy\nis called.\n\n"
        "Args:\n" + "\n".join(lines) + f"\n\nReturns:\n    {returns}\n"
    )


def _entries(fn: Callable) -> dict[str, str]:
    """The texts of the ``Args`` section of a docstring, by name."""
    lines = (inspect.getdoc(fn) or "").splitlines()
    if "Args:" not in lines:
        return {}
    entries: dict[str, str] = {}
    name = ""
    for line in lines[lines.index("Args:") + 1 :]:
        if line and not line.startswith(" "):
            break
        if line.startswith("        ") and name:
            entries[name] += " " + line.strip()
        elif ": " in line:
            name, _, text = line.strip().partition(": ")
            entries[name] = text
    return entries
