"""Even powers of a distance come from its square; nothing else changes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import jaxpr_as_fun

from jax_md import space
from jax_md.partition.squares import from_squares


@jax.custom_jvp
def cube(x):
    return x**3


cube.defjvp(lambda p, t: (cube(*p), 4 * p[0] ** 2 * t[0]))  # wrong, and so to be seen


def rewritten(fn, *args):
    closed = from_squares(jax.make_jaxpr(fn)(*args))
    return closed, lambda *args: jaxpr_as_fun(closed)(*args)[0]


def count(jaxpr, name):
    total = 0
    for eqn in jaxpr.eqns:
        total += eqn.primitive.name == name
        inner = eqn.params.get("jaxpr")
        total += count(inner.jaxpr, name) if inner is not None else 0
    return total


FUNCTIONS = {
    "products": lambda r, s: r * r * s + (r * r) * (r * r),
    "quotients": lambda r, s: (s / r) ** 12 - (s / r) ** 6 + 1 / (r * r),
    "odd": lambda r, s: (r / s) ** 3 + r**-5 + r,
    "select": lambda r, s: jnp.where(r < s, jnp.where(r != 0, r, 1) ** -4, 0),
    "shapes": lambda r, s: jnp.sum(r[None, None].reshape(1) ** 2) * s,
    "signs": lambda r, s: abs(-r) ** 4 * s,
    "calls": lambda r, s: jax.jit(lambda r: r * r + jnp.exp(-r))(r) * s,
    "control": lambda r, s: (
        jax.lax.cond(r > s, jnp.sin, jnp.cos, r)
        + jax.lax.fori_loop(0, 3, lambda i, c: c * r, s)
    ),
    "custom": lambda r, s: cube(r) * s,
}


@pytest.mark.parametrize("root", ["distance", "sqrt"])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_value_and_derivatives(name, root):
    def fn(x, y, s):
        square = jnp.sum((x - y) ** 2)
        r = space.distance(x - y) if root == "distance" else jnp.sqrt(square)
        return FUNCTIONS[name](r, s)

    args = jnp.array([0.1, 0.2, 0.3]), jnp.array([1.0, 0.5, 0.9]), jnp.array(1.1)
    _, new = rewritten(fn, *args)
    for derivative in (lambda f: f, jax.grad, jax.hessian):
        got = jax.jit(derivative(new))(*args)
        np.testing.assert_allclose(got, derivative(fn)(*args), rtol=1e-12, atol=1e-12)


def test_no_root_in_the_derivative():
    def energy(x, s):
        return (s / space.distance(x)) ** 6

    _, new = rewritten(energy, jnp.ones(3), jnp.array(1.0))
    gradient = jax.make_jaxpr(jax.grad(new))(jnp.ones(3), jnp.array(1.0))
    used = jax.jit(jax.grad(new)).lower(jnp.ones(3), jnp.array(1.0)).compile()
    assert count(gradient.jaxpr, "sqrt") > 0  # the dead value
    assert "sqrt" not in used.as_text()


@pytest.mark.parametrize(
    "fn", [lambda r: r**-2, lambda r: r**-12 - r**-6, lambda r: r**2 + r]
)
def test_no_gradient_of_coincident_points(fn):
    """As for the distance itself."""
    _, new = rewritten(lambda x: fn(space.distance(x)), jnp.zeros(3))
    np.testing.assert_array_equal(jax.grad(new)(jnp.zeros(3)), np.zeros(3))


def test_left_alone_without_a_root():
    closed = jax.make_jaxpr(lambda x: x**2)(1.0)
    assert from_squares(closed) is closed
