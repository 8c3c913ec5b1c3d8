"""A user's function of a pair, as a program of flat lists that closes over nothing.

Whatever tracer it closed over (a box, a parameter) becomes one more parameter. Programs
are equal when they do the same, so that compiled sums can be kept by them.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, Literal, jaxpr_as_fun

from .lanes import structs
from .signature import signature
from .squares import from_squares
from .sweep import element

_flatten = jax.tree_util.tree_flatten


class _Program:
    """Something to call, equal to another of its kind with the same `key`."""

    key: Any

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self.key == vars(other)["key"]

    def __hash__(self) -> int:
        return hash(self.key)


class PairProgram(_Program):
    """``fn(x, y, e, t)`` of flat lists.

    Args:
        jaxpr: The program, of nodes, nodes, edges and parameters; its constants are the
            parameters that follow.
        first: Where its parameters begin in ``t``.
        n_params: How many they are, without the constants.
    """

    def __init__(self, jaxpr: Any, first: int, n_params: int):
        self.jaxpr, self.first, self.last = jaxpr, first, first + n_params
        self.key = signature(jaxpr), first, n_params

    def __call__(self, x: list, y: list, e: list, t: list) -> list:
        """The results of one pair."""
        body = jaxpr_as_fun(ClosedJaxpr(self.jaxpr, t[self.last :]))
        return body(*x, *y, *e, *t[self.first : self.last])


class PairMask(_Program):
    """``mask(x, y, e, t)`` of flat lists, of which it reads the first entries.

    Args:
        jaxpr: The program, of nodes, nodes and edges; its constants are parameters.
        nodes: Where each of its nodes is in ``x``, or the shape and dtype of one that
            it does not use and that is not there.
        params: Where its constants are in ``t``.
    """

    def __init__(self, jaxpr: Any, nodes: tuple, params: tuple[int, ...]):
        self.jaxpr, self.nodes, self.params = jaxpr, nodes, params
        self.key = signature(jaxpr), nodes, params

    def __call__(self, x: list, y: list, e: list, t: list) -> list:
        """Whether the pair counts, as a list of one."""
        body = jaxpr_as_fun(ClosedJaxpr(self.jaxpr, [t[i] for i in self.params]))
        return body(*self._own(x), *self._own(y), *e)

    def _own(self, x: list) -> list:
        return [x[at] if isinstance(at, int) else jnp.zeros(*at) for at in self.nodes]

    def without(self, gone_a: tuple[bool, ...], gone_t: tuple[bool, ...]) -> "PairMask":
        """The same mask where some nodes and parameters are taken out of the lists."""
        jaxpr, k = self.jaxpr, len(self.nodes)
        used = {
            v for eqn in jaxpr.eqns for v in eqn.invars if not isinstance(v, Literal)
        }
        used |= {v for v in jaxpr.outvars if not isinstance(v, Literal)}

        def moved(i: int, at: Any) -> Any:
            if not isinstance(at, int):
                return at
            if not gone_a[at]:
                return at - sum(gone_a[:at])
            pair = jaxpr.invars[i], jaxpr.invars[k + i]
            if used & {*pair}:
                raise TypeError(
                    "`mask` of a neighbor sum depends on a node in which the sum is "
                    "to be transposed, so that the sum is not linear in it."
                )
            return pair[0].aval.shape, pair[0].aval.dtype

        nodes = tuple(moved(i, at) for i, at in enumerate(self.nodes))
        return PairMask(jaxpr, nodes, tuple(i - sum(gone_t[:i]) for i in self.params))


class Traced(NamedTuple):
    """A sum that is ready for its primitive."""

    call: PairProgram
    mask: PairMask | None
    nodes: list[Any]  # [n, ...]
    edges: list[Any]  # [k, n, ...]
    params: list[Any]
    results: list[jax.ShapeDtypeStruct]  # of one pair
    out_tree: Any

    @property
    def sizes(self) -> tuple[int, int, int]:
        """Number of nodes, edges and parameters."""
        return len(self.nodes), len(self.edges), len(self.params)


def trace(fn: Callable, nodes: Any, edges: Any, params: Any, mask: Any) -> Traced:
    """Trace the function of one pair, and its mask.

    Args:
        fn: ``fn(node_i, node_j, params)``, with ``edge`` as fourth argument if there
            are any.
        nodes: Tree of arrays ``[n, ...]``.
        edges: Tree of arrays ``[k, n, ...]`` in the order of the slots, or None.
        params: Tree of values that all pairs share.
        mask: ``mask(node_i, node_j)``, with ``edge`` as third argument if there are
            any, or None.
    """
    a, a_tree = _flatten(nodes)
    e, e_tree = _flatten(edges)
    t, t_tree = _flatten(params)
    a, e, t = ([jnp.asarray(x) for x in group] for group in (a, e, t))
    one = [element(x) for x in a]
    edge = [jax.ShapeDtypeStruct(x.shape[2:], x.dtype) for x in e]
    given = [jax.ShapeDtypeStruct(x.shape, x.dtype) for x in t]
    out_tree: Any = None

    def flat(x: list, y: list, e: list, t: list) -> list:
        nonlocal out_tree
        args = (a_tree.unflatten(x), a_tree.unflatten(y), t_tree.unflatten(t))
        out = fn(*args, e_tree.unflatten(e)) if e else fn(*args)
        leaves, out_tree = _flatten(out)
        return [jnp.asarray(v) for v in leaves]

    def keep(x: list, y: list, e: list) -> list:
        args = (a_tree.unflatten(x), a_tree.unflatten(y))
        return [jnp.asarray(mask(*args, e_tree.unflatten(e)) if e else mask(*args))]

    pair_mask, of_mask = None, []
    if mask is not None:
        closed = jax.make_jaxpr(keep)(one, one, edge)
        of_mask = [jnp.asarray(c) for c in closed.consts]
        places = tuple(range(len(a))), tuple(range(len(of_mask)))
        pair_mask = PairMask(closed.jaxpr, *places)
    closed = jax.make_jaxpr(flat)(one, one, edge, given)
    results = structs(closed.out_avals)
    closed = from_squares(closed)
    call = PairProgram(closed.jaxpr, len(of_mask), len(t))
    params = [*of_mask, *t, *(jnp.asarray(c) for c in closed.consts)]
    return Traced(call, pair_mask, a, e, params, results, out_tree)
