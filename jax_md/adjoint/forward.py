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

        def column(direction: Leaves) -> tuple[Leaves, Leaves]:
            return jax.jvp(run, (active,), (direction,), has_aux=False)

        total = [None] * sum(out_mask)
        out_rest: Leaves = []
        out_float: Leaves = []
        for k, leaf in enumerate(active):
            size = leaf.size
            basis = jnp.eye(size, dtype=leaf.dtype).reshape(size, *leaf.shape)

            def along(e: Any, k: int = k) -> tuple[Any, Any]:
                direction = [jnp.zeros_like(a) for a in active]
                direction[k] = e
                (float_out, other), (dots, _) = column(direction)
                return (float_out, other), dots

            (out_float, out_rest), columns = jax.vmap(
                along, out_axes=((None, None), 0)
            )(basis)
            t = given[k].reshape(-1)
            for j, c in enumerate(columns):
                part = jnp.tensordot(t.astype(c.dtype), c, axes=1)
                total[j] = part if total[j] is None else total[j] + part
        if not active:
            out_float, out_rest = run(active)
            total = [jnp.zeros_like(a) for a in out_float]
        out = merge(out_mask, out_float, out_rest)
        return out, merge(out_mask, total, no_tangents(out_rest))

    roll = jax.custom_jvp(rolled)
    roll.defjvp(rule, symbolic_zeros=True)
    out = roll(inputs, rest)
    return out[: count[1]], out[count[1] :]
