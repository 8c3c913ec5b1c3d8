"""Programs of pairs: what is compiled again, what masks read, which bits sums have."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_md import energy, partition, space
from jax_md.partition import neighbor_sum, neighbor_total
from jax_md.partition.signature import signature

SIDE, CUTOFF = 5.0, 1.5
displacement_fn, _ = space.periodic(SIDE)


def fluid(n=60, dtype=jnp.float64, **room):
    R = np.random.default_rng(0).uniform(0, SIDE, (n, 3))
    R = jnp.asarray(R, dtype)
    fns = partition.neighbor_list(displacement_fn, SIDE, CUTOFF, 0.2)
    return R, fns.allocate(R, **room)


def well(width):
    def fn(x, y, height):
        d = space.square_distance(displacement_fn(x, y))
        return jax.nn.silu(height * jnp.exp(-d / width**2))

    return fn


def test_equal_programs_have_equal_signatures():
    def program(fn, *args):
        return signature(jax.make_jaxpr(fn)(*args))

    x, key = jnp.ones(3), jax.random.key(0)
    first = program(lambda a: jnp.sin(a) * 2.0, x)
    assert first == program(lambda b: jnp.sin(b) * 2.0, x)
    others = [
        program(lambda a: jnp.sin(a) * 3.0, x),
        program(lambda a: jnp.cos(a) * 2.0, x),
        program(lambda a: jnp.sin(a) * 2.0, jnp.ones(3, jnp.float32)),
        program(lambda a: jnp.sin(a) * 2.0, jnp.ones(4)),
        program(lambda a: (jnp.sin(a) * 2.0, a), x),
        program(lambda a: a * jnp.sin(a), x),
    ]
    assert all(first != other for other in others)
    assert program(lambda a, b: a - b, x, x) != program(lambda a, b: b - a, x, x)
    assert program(lambda k: jax.random.bits(k), key) == program(jax.random.bits, key)
    # Loops and branches are looked into.
    loop = [
        program(lambda a, c=c: jax.lax.fori_loop(0, 3, lambda _, v: v * c, a), x)
        for c in (2.0, 2.0, 4.0)
    ]
    assert loop[0] == loop[1] != loop[2]


def test_a_call_outside_jit_compiles_once():
    R, neighbors = fluid()

    def drop(x, y):
        return x[0] > 0.3 * y[0] - 10

    calls = [
        lambda w: neighbor_total(well(w), R, 1.0, neighbors),
        lambda w: jax.grad(
            lambda h: jnp.sum(neighbor_sum(well(w), R, h, neighbors, mask=drop) ** 2)
        )(2.0),
    ]
    compiled = []

    def listen(event, *_, **__):
        if "backend_compile" in event:
            compiled.append(event)

    for call in calls:
        first = call(1.0)
        jax.monitoring.register_event_duration_secs_listener(listen)
        try:
            again = call(1.0)
            assert not compiled
            other = call(0.7)
            assert compiled, "another function is compiled"
        finally:
            jax.monitoring.unregister_event_duration_listener(listen)
        compiled.clear()
        np.testing.assert_array_equal(first, again)
        assert np.abs(first - other).max() > 1e-3


def test_mask_closes_over_what_is_traced():
    R, neighbors = fluid()

    def count(limit):
        def near(x, y):
            return space.distance(displacement_fn(x, y)) < limit

        def one(x, y, p):
            return jnp.float64(1.0) * p

        return jax.grad(
            lambda p: jnp.sum(neighbor_sum(one, R, p, neighbors, mask=near))
        )(1.0)

    d = space.map_product(space.metric(displacement_fn))(R, R)
    for limit in (0.9, 1.3):
        expected = int(jnp.sum(d < limit)) - len(R)
        assert jax.jit(count)(limit) == expected == count(limit)


def test_transpose_in_nodes_beside_a_mask():
    """As a linear solver for charges would ask for it."""
    R, neighbors = fluid()
    kind = jnp.arange(len(R)) % 3

    def potential(q):
        def term(x, y, width):
            d = space.distance(displacement_fn(x["R"], y["R"]))
            return y["q"] * jnp.exp(-d / width) * (1 + 0.1 * x["kind"])

        def unlike(x, y):
            return x["kind"] != y["kind"]

        nodes = {"A": q, "R": R, "kind": kind, "q": q}  # the unused one comes first
        return neighbor_sum(term, nodes, 0.8, neighbors, mask=unlike)

    q = jnp.sin(jnp.arange(len(R), dtype=R.dtype))
    matrix = jax.jacfwd(potential)(q)
    c = jnp.cos(2.0 * jnp.arange(len(R), dtype=R.dtype))
    (bar,) = jax.linear_transpose(potential, q)(c)
    np.testing.assert_allclose(bar, matrix.T @ c, rtol=1e-12, atol=1e-12)

    def by_charge(q):
        return neighbor_sum(
            lambda x, y, _: y, q, None, neighbors, mask=lambda x, y: x * y > 0
        )

    with pytest.raises(TypeError, match="`mask` of a neighbor sum depends on a node"):
        jax.linear_transpose(by_charge, q)(c)


def test_sums_do_not_depend_on_the_capacity():
    """To the bit: a list that had to grow goes on where a larger one would be."""
    forces = []
    for extra in (0, 40):
        R, neighbors = fluid(700, jnp.float32, extra_capacity=extra)

        @jax.jit
        def force(R, neighbors=neighbors):
            lj = energy.lennard_jones
            return jax.grad(
                lambda R: neighbor_total(
                    lambda x, y, _: lj(space.distance(displacement_fn(x, y)), 0.5),
                    R,
                    None,
                    neighbors,
                )
            )(R)

        forces.append(force(R))
    np.testing.assert_array_equal(*forces)
