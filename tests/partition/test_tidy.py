"""Programs without repetition compute what they did before."""

import jax
import jax.extend
import jax.numpy as jnp
import numpy as np

from jax_md.partition.tidy import tidied


def repeated(x, y, k):
    wall = jnp.where(x > 0, 1 / x, 0) + jnp.where(x > 0, x**-2, 0) * jnp.sin(y)
    again = jnp.sin(y) * x**-3 + k / x + jnp.where(x < 0.0, -0.0, 0.0)
    table = jax.lax.cond(y > 0, lambda: x, lambda: y)
    once_more = jax.lax.cond(y > 0, lambda: x, lambda: y)
    return wall, again, table + once_more, 1 / y, jnp.float32(2) * k


def program(dtype):
    one = jax.ShapeDtypeStruct((), dtype)
    return jax.make_jaxpr(repeated)(one, one, one)


def names(closed):
    return [eqn.primitive.name for eqn in closed.eqns]


def test_nothing_is_computed_twice():
    before, after = names(program(jnp.float64)), names(tidied(program(jnp.float64)))
    assert before.count("sin") == 2 and after.count("sin") == 1
    assert before.count("cond") == 2 and after.count("cond") == 1
    # Of x and of y; powers of x are those of its reciprocal, and k / x stays.
    assert after.count("div") == 3
    assert sorted(
        e.params["y"]
        for e in tidied(program(jnp.float64)).eqns
        if e.primitive.name == "integer_pow"
    ) == [2, 3]


def test_values(dtype):
    closed = tidied(program(dtype))
    assert [a.dtype for a in closed.out_avals] == [
        a.dtype for a in program(dtype).out_avals
    ]
    for x, y, k in np.random.default_rng(0).normal(size=(10, 3)):
        args = [jnp.asarray(v, dtype) for v in (x, y, k)]
        got = jax.extend.core.jaxpr_as_fun(closed)(*args)
        tolerance = 100 * jnp.finfo(dtype).eps
        np.testing.assert_allclose(got, repeated(*args), rtol=tolerance)


def test_numbers_of_different_kinds_are_different():
    def fn(x):
        return x + np.float32(1), x + np.float32(-0.0), x + np.float32(0.0)

    closed = tidied(jax.make_jaxpr(fn)(jax.ShapeDtypeStruct((), jnp.float32)))
    assert names(closed).count("add") == 3
