"""What a loss may read of a state that is walked back, and what a state may hold."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_md import adjoint, simulate
from jax_md.simulate.reversible.rounding import exactly
from tests.soft_spheres import soft_spheres

UNIT = 2.0**28
BACK = [adjoint.Reversible(), adjoint.Hybrid(5), adjoint.Hybrid(100)]


def read(n, m):
    return n / 2.0**32, m / UNIT


def kick(k, n):
    return jnp.round(k * jnp.sin(2 * jnp.pi * n / 2.0**32) * UNIT / 16).astype(n.dtype)


def forward(k, state):
    """The standard map on integers, with a sum over the trajectory beside it."""
    n, m, total, x, p = state
    push = k * jnp.sin(2 * jnp.pi * x) / 16
    m, p = m + kick(k, n), p + push
    n = n + 16 * m
    exact = read(n, m)
    total = total + p * push + total**2 / 2
    return n, m, total, exactly(exact[0], x + p), exactly(exact[1], p)


def inverse(undone, k, state):
    n, m, total, _, p = state
    n = n - 16 * m
    m = m - kick(k, n)
    x = read(n, m)[0]
    if undone:  # the root of a quadratic equation
        total = total - p * k * jnp.sin(2 * jnp.pi * x) / 16
        total = jnp.sqrt(1 + 2 * total) - 1
    return n, m, total, *read(n, m)


def summed(k, method, undone=True, steps=17, first=0.1, **options):
    n, m = jnp.int32(2**28), jnp.int32(2**22)
    state = n, m, jnp.asarray(first), *read(n, m)
    if isinstance(k, dict):
        step = adjoint.ReversibleStep(
            lambda q, s: forward(q["k"] * q["count"], s),
            lambda q, s: inverse(undone, q["k"] * q["count"], s),
        )
    else:
        step = adjoint.ReversibleStep(forward, partial(inverse, undone))
    end, seen = adjoint.rollout(step, k, state, steps, method, **options)
    return end[2] + end[3] ** 2 + (0 if seen is None else jnp.sum(seen))


@pytest.mark.parametrize("method", BACK, ids=repr)
@pytest.mark.parametrize("undone", [True, False])
def test_a_sum_that_is_not_undone_gives_no_gradient(method, undone):
    """Its derivative would be taken at the value that it ends with."""
    slope = jax.grad(partial(summed, undone=undone), (0,))
    expected = jax.grad(partial(summed, method=adjoint.Backprop()))(0.3)
    got = slope(0.3, method)[0]
    if undone:
        np.testing.assert_allclose(got, expected, rtol=1e-9)
    else:
        assert jnp.isnan(got)
    # Where every state is stored, no inverse is needed; and from zero, too.
    alone = slope(0.3, adjoint.Hybrid(1), first=0.0)[0]
    np.testing.assert_allclose(
        alone, slope(0.3, adjoint.Backprop(), first=0.0)[0], rtol=1e-9
    )


EDGES = [*BACK, adjoint.Truncated(100), adjoint.Checkpointed(3)]


@pytest.mark.parametrize("method", EDGES, ids=repr)
@pytest.mark.parametrize(
    ("steps", "every"), [(1, None), (1, 1), (6, 6)], ids=["one", "seen", "once"]
)
def test_as_few_steps_as_there_can_be(method, steps, every):
    options = {"steps": steps}
    if every:
        options |= {"observe": lambda s: s[3] * s[4], "every": every}
    slope = jax.grad(summed)
    expected = slope(0.3, adjoint.Backprop(), **options)
    assert abs(expected) > 1e-3
    np.testing.assert_allclose(slope(0.3, method, **options), expected, rtol=1e-9)


@pytest.mark.parametrize("method", EDGES[:4], ids=repr)
def test_parameters_that_have_no_derivatives(method):
    q = {
        "k": 0.15,
        "count": 2,
        "none": None,
        "key": jax.random.key(0),
        "raw": jax.random.PRNGKey(1),
        "flag": True,
    }
    bars = jax.grad(partial(summed, method=method), allow_int=True)(q)
    expected = 2 * jax.grad(summed)(0.3, adjoint.Backprop())
    np.testing.assert_allclose(bars["k"], expected, rtol=1e-9)
    assert bars["count"].dtype == bars["key"].dtype == jax.dtypes.float0


WAY = jnp.linspace(-1, 1, 36).reshape(12, 3)
OPTIONS = {"momentum_range": 16.0}


@cache
def reads(name, kind):
    """Every field of the last state, as a function of a parameter and the start."""
    system = soft_spheres("periodic", n=12)
    fns = system.energy_fn, system.box, 0.02
    simulator = {
        "nve": lambda: simulate.nve_reversible(*fns, **OPTIONS),
        "langevin": lambda: simulate.nvt_langevin_reversible(*fns, 0.5, 2.0, **OPTIONS),
        "nose_hoover": lambda: simulate.nvt_nose_hoover_reversible(
            *fns, 0.5, tau=0.3, **OPTIONS
        ),
    }[name]()
    step = simulator.for_adjoint(lambda q: {"epsilon": q})

    def read(q, move, method):
        R = system.position + move * WAY
        state = simulator.init(jax.random.key(0), R, epsilon=q, kT=0.5)
        end, _ = adjoint.rollout(step, q, state, 12, method)
        values = [end.position, end.momentum, end.velocity]
        values.append(system.energy_fn(end.position, epsilon=q))
        if name == "langevin":
            values.append(end.force)
        if name == "nose_hoover":
            values += [end.chain.velocity, end.chain.heat]
        return [
            jnp.sum(v * jnp.linspace(1, 2, v.size).reshape(v.shape)) for v in values
        ]

    method = adjoint.Backprop() if kind is None else kind
    slopes = jax.jacrev(lambda q, move: jnp.stack(read(q, move, method)), (0, 1))
    return jax.jit(jax.vmap(slopes))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "method"),
    [
        ("nve", BACK[0]),
        ("nve", BACK[1]),
        ("langevin", BACK[0]),
        ("langevin", BACK[2]),
        ("nose_hoover", BACK[1]),
    ],
)
def test_all_fields_of_the_last_state_in_batches(name, method):
    batch = jnp.array([20.0, 30.0]), jnp.array([0.0, 0.02])
    got, expected = reads(name, method)(*batch), reads(name, None)(*batch)
    for a, b in zip(got, expected, strict=True):
        assert np.all(np.abs(b) > 1e-6)
        np.testing.assert_allclose(a, b, rtol=1e-8)
