"""Tangents carried along with a trajectory, one for each number differentiated."""

from typing import Any

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero

from .flat import Leaves, Problem, merge, no_tangents, split


def forward(problem: Problem, theta: Leaves, x: Leaves) -> tuple[Leaves, Leaves]:
    """Roll out; derivatives are products with a Jacobian made by forward mode.

    The Jacobian has one column for each number of the inputs that are differentiated.
    It is applied to tangents by plain products, whose transpose is reverse mode.
    """
    mask = [*problem.theta_mask, *problem.state_mask]
    inputs, rest = split(mask, [*theta, *x])
    out_mask = [*problem.state_mask, *problem.observable_mask]
    count = len(theta), len(x)

    # Closes over nothing traced: integers and keys come as arguments.
    def rolled(inputs: Leaves, rest: Leaves) -> Leaves:
        leaves = merge(mask, inputs, rest)
        x, seen = problem.plain(leaves[: count[0]], leaves[count[0] :])
        return [*x, *seen]

    def rule(primals: Any, tangents: Any) -> tuple[Leaves, Leaves]:
        inputs, rest = primals
        moved = [not isinstance(t, SymbolicZero) for t in tangents[0]]
        active, fixed = split(moved, inputs)
        given = split(moved, tangents[0])[0]

        def run(active: Leaves) -> tuple[Leaves, Leaves]:
            out = rolled(merge(moved, active, fixed), rest)
            return split(out_mask, out)

        def column(direction: Leaves) -> tuple[Any, Any]:
            out, (dots, _) = jax.jvp(run, (active,), (direction,))
            return out, dots

        if not active:
            out_float, out_rest = run(active)
            zeros = [jnp.zeros_like(a) for a in out_float]
            out = merge(out_mask, out_float, out_rest)
            return out, merge(out_mask, zeros, no_tangents(out_rest))
        if any(jnp.iscomplexobj(a) for a in active):
            raise TypeError(
                "`Forward` differentiates real numbers only; got complex ones. Use "
                "`Backprop()` or `Checkpointed()`."
            )

        # All numbers that are differentiated in one batch: the trajectory itself does
        # not depend on the direction and is computed once.
        (out_float, out_rest), columns = jax.vmap(column, out_axes=((None, None), 0))(
            _basis(active)
        )
        flat = [jnp.reshape(t, -1) for t in given]
        total = []
        for c in columns:
            begin, sums = 0, jnp.zeros(c.shape[1:], c.dtype)
            for t in flat:
                part = c[begin : begin + t.size]
                sums = sums + jnp.tensordot(t.astype(c.dtype), part, axes=1)
                begin += t.size
            total.append(sums)
        out = merge(out_mask, out_float, out_rest)
        return out, merge(out_mask, total, no_tangents(out_rest))

    roll = jax.custom_jvp(rolled)
    roll.defjvp(rule, symbolic_zeros=True)
    out = roll(inputs, rest)
    return out[: count[1]], out[count[1] :]


def _basis(leaves: Leaves) -> Leaves:
    """The unit vectors of a list of arrays, stacked along a new first axis."""
    count = sum(leaf.size for leaf in leaves)
    begin, basis = 0, []
    for leaf in leaves:
        block = jnp.eye(count, leaf.size, -begin, leaf.dtype)
        basis.append(block.reshape(count, *leaf.shape))
        begin += leaf.size
    return basis
