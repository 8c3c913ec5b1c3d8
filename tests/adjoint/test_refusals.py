"""What has no derivative says so, and in what words; what has one is let through."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_md import adjoint
from jax_md.adjoint.dependence import dependence, jumps

METHODS = [
    adjoint.Backprop(),
    adjoint.Checkpointed(),
    adjoint.Forward(),
    adjoint.Truncated(window=3),
]


def monte_carlo(kT, state):
    """Moves of a particle in a well, accepted or not."""
    x, key = state
    key, one, two = jax.random.split(key, 3)
    new = x + jax.random.normal(one, x.shape)
    accept = jax.random.uniform(two, x.shape) < jnp.exp((x**2 - new**2) / kT)
    return jnp.where(accept, new, x), key


def end(step, params, method=METHODS[0], x=None, steps=8):
    x = jnp.array([0.3, -0.2]) if x is None else x
    (x, _), _ = adjoint.rollout(step, params, (x, jax.random.key(0)), steps, method)
    return jnp.sum(x**2)


@pytest.mark.parametrize("method", METHODS, ids=repr)
def test_a_temperature_that_only_decides(method):
    assert end(monte_carlo, 0.5, method) != end(monte_carlo, 5.0, method)
    for params, name in ((0.5, r"`params`"), ({"kT": 0.5}, r"`params\['kT'\]`")):

        def step(params, state):
            kT = params["kT"] if isinstance(params, dict) else params
            return monte_carlo(kT, state)

        with pytest.raises(TypeError, match=f"no derivative with respect to {name}"):
            jax.jit(jax.grad(partial(end, step, method=method)))(params)

    def closed(kT):
        return end(lambda _, state: monte_carlo(kT, state), (), method)

    with pytest.raises(TypeError, match="what it closes over"):
        jax.grad(closed)(0.5)

    # Where it starts changes the odds as well.
    with pytest.raises(TypeError, match=r"with respect to `state\[0\]`: a random"):
        jax.grad(lambda x: end(monte_carlo, 0.5, method, x))(jnp.ones(2))


def drawn(fn):
    """A step that gets two numbers, a state and two keys."""

    def step(params, state):
        x, key = state
        key, *two = jax.random.split(key, 3)
        return fn(params["a"], params["b"], x, *two), key

    return step


def pick(u, odds, new, x):
    return jnp.where(u < odds, new, x)


def uniform(key, x):
    return jax.random.uniform(key, x.shape, x.dtype)


def normal(key, x):
    return jax.random.normal(key, x.shape, x.dtype)


def by_parts(a, b, x, one, two):
    noise, u = jax.random.uniform(one, (2, *x.shape), x.dtype)
    return pick(u, jnp.exp(-b * x), x + a * noise, x)


def by_logarithm(a, b, x, one, two):
    accept = -jnp.log(uniform(one, x)) / b > x
    return jnp.where(accept, a * x, x)


def by_class(a, b, x, one, two):
    return x.at[jax.random.categorical(one, b * x)].multiply(a)


def by_sweeps(a, b, x, one, two):
    def sweep(i, x):
        new = x + a * normal(jax.random.fold_in(one, i), x)
        u = uniform(jax.random.fold_in(two, i), x)
        return pick(u, jnp.exp(-b * x), new, x)

    return jax.lax.fori_loop(0, 3, sweep, x)


def by_branch(a, b, x, one, two):
    hit = jax.random.bernoulli(one, jax.nn.sigmoid(a * b * x[0]))
    return jax.lax.cond(hit, lambda: a * x, lambda: b * x)


def by_number(a, b, x, one, two):
    return a * x + jax.random.poisson(one, b, x.shape)


def thermostat(a, b, x, one, two):
    """Noise, a nearest image and a cutoff: decisions of what moves smoothly."""
    x = x + a * normal(one, x)
    dx = x[:, None] - x
    dx = dx - 3 * jnp.round(dx / 3)
    return x + jnp.sum(jnp.where(abs(dx) < b, dx * (b - abs(dx)) ** 2, 0), 1)


def constant_odds(a, b, x, one, two):
    return pick(uniform(one, x), 0.3, a * x, x + b)


def odds_kept_constant(a, b, x, one, two):
    odds = jax.lax.stop_gradient(jnp.exp(-b * x))
    return pick(uniform(one, x), odds, a * x, x + b)


def shaped_noise(a, b, x, one, two):
    scale = jax.random.gamma(one, a, x.shape, x.dtype)
    return x * scale + jax.random.truncated_normal(two, -b, a, x.shape, x.dtype)


def apart(a, b, x, one, two):
    """The odds depend on one of two numbers, which do not meet."""
    return jnp.stack([pick(uniform(two, x[0]), b, x[0], b * x[0]), a * x[1]])


@pytest.mark.parametrize(
    ("fn", "refused"),
    [
        (by_parts, "abx"),
        (by_logarithm, "abx"),
        (by_class, "abx"),
        (by_sweeps, "abx"),
        (by_branch, "abx"),
        (by_number, "b"),
        (thermostat, ""),
        (constant_odds, ""),
        (odds_kept_constant, ""),
        (shaped_noise, ""),
        (apart, "b"),
    ],
)
def test_draws_whose_odds_depend_on_what_is_differentiated(fn, refused):
    step, params = drawn(fn), {"a": jnp.array(0.9), "b": jnp.array(0.7)}
    x = jnp.array([0.3, 0.5])
    for name in "abx":

        def loss(value):
            given = params if name == "x" else {**params, name: value}
            return end(step, given, x=value if name == "x" else x, steps=2)

        slope, at = jax.grad(loss), "state" if name == "x" else "params"
        value = x if name == "x" else params[name]
        if name in refused:
            with pytest.raises(TypeError, match=f"with respect to `{at}"):
                slope(value)
        else:
            assert jax.eval_shape(slope, value).shape == value.shape


def test_why_a_path_has_no_derivative():
    """Along paths the acceptance does not answer to what scales the moves."""
    x = jnp.zeros(1000)

    def step(kept, params, state):
        x, key = state
        key, one, two = jax.random.split(key, 3)
        new = x + params * normal(one, x)
        odds = jnp.exp(x**2 - new**2)
        odds = jax.lax.stop_gradient(odds) if kept else odds
        return pick(uniform(two, x), odds, new, x), key

    def average(scale, kept):
        return end(partial(step, kept), scale, x=x, steps=1) / 1000

    with pytest.raises(TypeError, match=r"the odds change.*`jax.lax.stop_gradient`"):
        jax.grad(average)(1.0, False)
    # E[x^2] = s^2 (1 + 2 s^2)^(-3/2) after one move, which falls with s from 1 on.
    exact = jax.grad(lambda s: s**2 * (1 + 2 * s**2) ** -1.5)(1.2)
    assert exact < 0 < jax.grad(average)(1.2, True)


@pytest.mark.parametrize("method", METHODS, ids=repr)
def test_a_step_that_is_said_to_have_no_derivative(method):
    step = adjoint.NotDifferentiable(monte_carlo, "it draws lots. Reweight")
    assert end(step, 0.5, method) == end(monte_carlo, 0.5, method)
    assert jax.vmap(partial(end, step, method=method))(jnp.ones(3)).shape == (3,)
    words = "`monte_carlo` has no derivative along a path: it draws lots. Reweight"
    for wrapped in (step, lambda kT, state: step(kT, state)):
        with pytest.raises(TypeError, match=words):
            jax.grad(partial(end, wrapped, method=method))(0.5)
        with pytest.raises(TypeError, match=words):
            jax.grad(lambda x: end(wrapped, 0.5, method, x))(jnp.ones(2))


@pytest.mark.parametrize("method", METHODS, ids=repr)
def test_a_state_that_is_rounded(method):
    def step(k, state):
        x, key = state
        return jnp.round(4 * k * jnp.cos(x)) / 4, key

    with pytest.raises(TypeError, match=r"`params`"):
        jax.grad(partial(end, step, method=method))(1.5)
    with pytest.raises(TypeError, match=r"`state\[0\]`"):
        jax.grad(lambda x: end(step, 1.5, method, x))(jnp.ones(2))


def test_integers_that_depend_on_a_parameter():
    def spins(J, state):
        s, key = state
        key, draw = jax.random.split(key)
        flip = jax.random.uniform(draw, s.shape) < jnp.exp(-J * s * jnp.roll(s, 1))
        return jnp.where(flip, -s, s), key

    state = (jnp.array([1, -1, 1, 1]), jax.random.key(1))

    def magnetization(J):
        (s, _), _ = adjoint.rollout(spins, J, state, 5)
        return jnp.sum(s).astype(float)

    with pytest.raises(TypeError, match=r"with respect to `params`"):
        jax.grad(magnetization)(0.7)


def test_a_parameter_that_is_not_used_has_gradient_zero():
    def step(params, state):
        return params["a"] * state

    def loss(params):
        return adjoint.rollout(step, params, 1.0, 3)[0]

    assert jax.grad(loss)({"a": 2.0, "b": 1.0}) == {"a": 12.0, "b": 0.0}


def through(fn, count=2):
    args = [jnp.asarray(0.5 + i) for i in range(count)]
    found = dependence(jax.make_jaxpr(fn)(*args).jaxpr, count)
    return jumps(found.outputs, count)


@jax.custom_jvp
def straight_through(x):
    return jnp.round(x)


straight_through.defjvp(lambda x, t: (straight_through(*x), t[0]))


@pytest.mark.parametrize(
    ("fn", "expected"),
    [
        (lambda x, y: x * y, [False, False]),
        (lambda x, y: jnp.where(x > 1, y, 0), [True, False]),
        (lambda x, y: jax.lax.stop_gradient(x) * y, [False, False]),
        (lambda x, y: jnp.floor(x) + jnp.sign(y), [True, True]),
        (lambda x, y: straight_through(x) + y, [False, False]),
        (jax.jit(lambda x, y: y), [False, False]),
        (lambda x, y: jax.lax.cond(x > 1, jnp.sin, jnp.cos, y), [True, False]),
        (
            lambda x, y: jax.lax.fori_loop(0, 3, lambda _, c: (c[1], c[0]), (x, y))[0],
            [False, False],
        ),
        (
            lambda x, y: jax.lax.while_loop(lambda c: c < x, lambda c: c + y, y),
            [True, False],
        ),
        (
            lambda x, y: jax.lax.scan(
                lambda c, _: ((c[1], jnp.round(c[0])), c[0]), (x, y), length=4
            )[0][1],
            [True, True],
        ),
        (
            lambda x, y: jax.lax.scan(lambda c, z: (c, jnp.sin(z)), x, y[None])[1],
            [False, False],
        ),
        (jax.checkpoint(lambda x, y: jnp.round(x) * y), [True, False]),
    ],
)
def test_what_moves_in_jumps_only(fn, expected):
    assert through(fn) == expected


def oscillator(k, state):
    x, p = state
    p = p - 0.1 * k * x
    return x + 0.1 * p, p


REVERSE = adjoint.ReversibleStep(
    oscillator, lambda k, s: (s[0] - 0.1 * s[1], s[1] + 0.1 * k * (s[0] - 0.1 * s[1]))
)


def energy(k, method, step=REVERSE):
    state = (jnp.array([1.0, 0.5]), jnp.zeros(2))
    (x, p), _ = adjoint.rollout(step, k, state, 6, method)
    return jnp.sum(x**2)


@pytest.mark.parametrize(
    "method",
    [adjoint.Checkpointed(), adjoint.Truncated(2), adjoint.Reversible()],
    ids=repr,
)
@pytest.mark.parametrize(
    "transform",
    [
        lambda f, k: jax.jvp(f, (k,), (k,)),
        lambda f, k: jax.jacfwd(f)(k),
        lambda f, k: jax.jit(jax.jacfwd(f))(k),
        lambda f, k: jax.jacfwd(lambda k: jax.vmap(f)(jnp.stack([k, k])))(k),
    ],
    ids=["jvp", "jacfwd", "jit", "vmap"],
)
def test_no_forward_mode(method, transform):
    def loss(k):
        return energy(k, method)

    words = rf"`{type(method).__name__}` has no forward mode .* take `Forward\(\)`"
    with pytest.raises(TypeError, match=words):
        transform(loss, 1.0)


@pytest.mark.parametrize(
    "order", ["jvp of grad", pytest.param("grad of grad", marks=pytest.mark.slow)]
)
def test_second_derivatives_of_windows(order):
    """Of windows, too: each is differentiated twice within itself."""
    start = (jnp.array([1.0, 0.5]), jnp.zeros(2))

    def loss(k, windows):
        def watch(state):
            return jnp.sum(state[0] ** 4)

        if windows:
            method = adjoint.Truncated(3)
            end, seen = adjoint.rollout(oscillator, k, start, 7, method, watch)
            return watch(end) + jnp.sum(seen)
        state, total = start, 0.0
        for i in range(7):
            if i in (1, 4):
                state = jax.lax.stop_gradient(state)
            state = oscillator(k, state)
            total = total + watch(state)
        return watch(state) + total

    def second(windows):
        first = jax.grad(lambda k: loss(k, windows))
        return jax.jvp(first, (1.3,), (1.0,))[1] if "jvp" in order else jax.grad(first)

    got, expected = second(True), second(False)
    if callable(got):
        got, expected = got(1.3), expected(1.3)
    np.testing.assert_allclose(got, expected, rtol=1e-11)
