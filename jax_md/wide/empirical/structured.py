r"""Tangent kernel that uses the structure of dense layers.

A weight matrix enters the network as :math:`z = x W`. With the *tap* derivative
:math:`\delta = \partial f / \partial z` its Jacobian is an outer product of
:math:`\delta` and :math:`x`, so its share of the kernel is

.. math:: \sum (\delta_1 \delta_2^T)\,(x_1 x_2^T)

and the Jacobian itself, ``[outputs, fan_in, fan_out]``, is never formed. The network is
read as a jaxpr: a parameter that is used once, as the factor of one matrix product, is
treated so; any other falls back on its plain Jacobian.

Source:
    R. Novak, J. Sohl-Dickstein, S. S. Schoenholz, "Fast finite width neural tangent
    kernel", ICML 2022, arXiv:2206.08720.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.extend as jex
import jax.numpy as jnp

from .axes import TOP_LABEL, OutputAxes
from .jacobian import contract, differentiate
from .problem import Problem

# Which equation of which nested program: indices from the outside in.
Place = tuple[int, ...]


class Factor(NamedTuple):
    """A parameter that is one factor of one matrix product."""

    leaf: int  # index among the flat parameters
    place: Place
    position: int  # 0 if the parameter is the left factor, 1 if the right
    dimension_numbers: Any
    output: Any  # shape and type of the product


def structured_derivatives(problem: Problem) -> list[jax.Array]:
    """Return the kernel of each output leaf."""
    first = _side(problem, 0)
    second = first if problem.same else _side(problem, 1)
    kernels = []
    for leaf, axes in enumerate(problem.axes):
        total: Any = 0.0
        for one, two in zip(first.plain[leaf], second.plain[leaf], strict=True):
            total += contract(axes, one, two)
        for k, factor in enumerate(first.factors):
            total += _share(
                axes,
                first.batch_axes[leaf],
                factor,
                (first.taps[leaf][k], first.others[k]),
                (second.taps[leaf][k], second.others[k]),
            )
        kernels.append(total / axes.count(problem.shapes[0][leaf].shape))
    return kernels


class Side(NamedTuple):
    """Derivatives of the outputs of one side.

    Attributes:
        factors: The structured parameters.
        plain: Per output leaf, Jacobians of all other parameters.
        taps: Per output leaf, derivatives in the products of the structured ones.
        others: The other factor of each of these products.
        batch_axes: Per output leaf, the axis of samples that leads each of `others`, or
            None where samples are not taken apart.
    """

    factors: list[Factor]
    plain: list[list[jax.Array]]
    taps: list[list[jax.Array]]
    others: list[jax.Array]
    batch_axes: Sequence[int | None]


def _side(problem: Problem, side: int) -> Side:
    leaves, structure = jax.tree.flatten(problem.params)
    shapes = problem.shapes[side]
    if problem.samples is None:
        network, samples, batch_axes = problem.outputs(side), None, [None] * len(shapes)
        run = lambda flat, _: network(jax.tree.unflatten(structure, flat))  # noqa: E731
        singles, sample = shapes, None
    else:
        samples = problem.one_sample(side)
        batch_axes = samples.output_axes
        run = lambda flat, sample: samples.fn(  # noqa: E731
            jax.tree.unflatten(structure, flat), sample
        )
        singles = [
            jax.ShapeDtypeStruct(s.shape[:axis] + s.shape[axis + 1 :], s.dtype)
            for s, axis in zip(shapes, batch_axes, strict=True)
        ]
        sample = [
            jnp.take(leaf, 0, axis=axis)
            for leaf, axis in zip(samples.leaves, samples.axes, strict=True)
        ]

    program = jax.make_jaxpr(run)(leaves, sample)
    factors = find_factors(program, len(leaves)) if problem.structured else []
    held = {factor.leaf for factor in factors}
    plain = [leaf for i, leaf in enumerate(leaves) if i not in held]
    taps = [jnp.zeros(factor.output.shape, factor.output.dtype) for factor in factors]

    def tapped(variables: Any, sample: Any) -> tuple[list[Any], list[Any]]:
        plain, taps = variables
        supply = iter(plain)
        flat = [leaves[i] if i in held else next(supply) for i in range(len(leaves))]
        return run_tapped(program, [*flat, *jax.tree.leaves(sample)], factors, taps)

    jacobian = differentiate(tapped, (plain, taps), singles, problem.forward)
    if samples is None:
        derivatives, others = jacobian((plain, taps), None)
    else:
        derivatives, others = jax.vmap(
            lambda sample: jacobian((plain, taps), sample),
            in_axes=(samples.axes,),
            out_axes=(list(batch_axes), 0),
        )(samples.leaves)
    return Side(
        factors,
        [own[0] for own in derivatives],
        [own[1] for own in derivatives],
        others,
        batch_axes,
    )


def _share(
    axes: OutputAxes,
    batch: int | None,
    factor: Factor,
    one: tuple[jax.Array, jax.Array],
    two: tuple[jax.Array, jax.Array],
) -> jax.Array:
    """The part of the kernel that comes from one structured parameter.

    The product pairs axes shared by both factors (``joint``), sums over some and keeps
    the free ones of each. The weight has joint, summed and its own free axes, which the
    kernel sums over; the free axes of the other factor stay apart on the two sides.
    """
    (left_sum, right_sum), (left_joint, right_joint) = factor.dimension_numbers
    if factor.position == 1:
        summed, joint = tuple(left_sum), tuple(left_joint)
    else:
        summed, joint = tuple(right_sum), tuple(right_joint)
    lead = 0 if batch is None else 1
    n_other = one[1].ndim - lead
    n_free = n_other - len(summed) - len(joint)
    n_weight_free = len(factor.output.shape) - len(joint) - n_free

    labels = iter(range(TOP_LABEL, -1, -1))
    joint_labels = [next(labels) for _ in joint]
    sum_labels = [next(labels) for _ in summed]
    weight_labels = [next(labels) for _ in range(n_weight_free)]

    def operands(output: list[int]) -> tuple[list[int], list[int]]:
        free = [next(labels) for _ in range(n_free)]
        own = {
            **dict(zip(joint, joint_labels, strict=True)),
            **dict(zip(summed, sum_labels, strict=True)),
        }
        unused = iter(free)
        other = [own[i] if i in own else next(unused) for i in range(n_other)]
        sides = free + weight_labels if factor.position == 1 else weight_labels + free
        if batch is not None:
            other = [output[batch], *other]
        return output + joint_labels + sides, other

    tap1, other1 = operands(axes.first)
    tap2, other2 = operands(axes.second)
    return jnp.einsum(
        *(one[0], tap1, one[1], other1, two[0], tap2, two[1], other2),
        axes.result,
        optimize="optimal",
    )


def find_factors(program: Any, n_params: int) -> list[Factor]:
    """Return the parameters that are used once, in one matrix product.

    Args:
        program: A closed jaxpr whose first arguments are the flat parameters.
        n_params: Their number.
    """
    uses: dict[int, list[Factor | None]] = {i: [] for i in range(n_params)}

    def walk(jaxpr: Any, names: dict[Any, int], prefix: Place) -> None:
        def name(atom: Any) -> int | None:
            return None if isinstance(atom, jex.core.Literal) else names.get(atom)

        for index, eqn in enumerate(jaxpr.eqns):
            place = (*prefix, index)
            if eqn.primitive is jex.core.primitives.jit_p:
                inner = eqn.params["jaxpr"].jaxpr
                passed = {
                    var: name(atom)
                    for var, atom in zip(inner.invars, eqn.invars, strict=True)
                }
                known = {v: n for v, n in passed.items() if n is not None}
                walk(inner, known, place)
                continue
            for position, atom in enumerate(eqn.invars):
                leaf = name(atom)
                if leaf is None:
                    continue
                is_product = eqn.primitive is jex.core.primitives.dot_general_p
                uses[leaf].append(
                    Factor(
                        leaf,
                        place,
                        position,
                        eqn.params["dimension_numbers"],
                        eqn.outvars[0].aval,
                    )
                    if is_product
                    else None
                )
        for atom in jaxpr.outvars:  # returned as it is: one more use
            leaf = name(atom)
            if leaf is not None:
                uses[leaf].append(None)

    params = program.jaxpr.invars[:n_params]
    walk(program.jaxpr, dict(zip(params, range(n_params), strict=True)), ())
    single = [found[0] for found in uses.values() if len(found) == 1]
    factors = [factor for factor in single if factor is not None]
    # A product of two parameters is bilinear: neither factor is a constant input.
    places = [factor.place for factor in factors]
    return [factor for factor in factors if places.count(factor.place) == 1]


def run_tapped(
    program: Any, args: Sequence[Any], factors: list[Factor], taps: list[jax.Array]
) -> tuple[list[Any], list[Any]]:
    """Evaluate a closed jaxpr with a tap added to each structured product.

    Returns:
        The outputs, and the other factor of each structured product.
    """
    tap_at = {factor.place: k for k, factor in enumerate(factors)}
    others: list[Any] = [None] * len(factors)

    def walk(jaxpr: Any, consts: Any, args: Any, prefix: Place) -> list[Any]:
        values: dict[Any, Any] = dict(zip(jaxpr.constvars, consts, strict=True))
        values.update(zip(jaxpr.invars, args, strict=True))

        def read(atom: Any) -> Any:
            return atom.val if isinstance(atom, jex.core.Literal) else values[atom]

        for index, eqn in enumerate(jaxpr.eqns):
            place = (*prefix, index)
            inputs = [read(atom) for atom in eqn.invars]
            if eqn.primitive is jex.core.primitives.jit_p:
                inner = eqn.params["jaxpr"]
                outputs = walk(inner.jaxpr, inner.consts, inputs, place)
            else:
                outputs = _bind(eqn, inputs)
            if place in tap_at:
                k = tap_at[place]
                others[k] = inputs[1 - factors[k].position]
                outputs = [outputs[0] + taps[k]]
            values.update(zip(eqn.outvars, outputs, strict=True))
        return [read(atom) for atom in jaxpr.outvars]

    outputs = walk(program.jaxpr, program.consts, args, ())
    return outputs, others


def _bind(eqn: Any, inputs: list[Any]) -> list[Any]:
    found = eqn.primitive.get_bind_params(eqn.params)
    # Older releases return the callables of an operation apart from its parameters.
    subfuns, params = found if isinstance(found, tuple) else ((), found)
    bind: Callable[..., Any] = eqn.primitive.bind
    outputs = bind(*subfuns, *inputs, **params)
    return list(outputs) if eqn.primitive.multiple_results else [outputs]
