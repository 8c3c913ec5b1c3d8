"""Gradients that walk the trajectory back."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_md import adjoint, energy, simulate, space
from tests.soft_spheres import soft_spheres

STEPS, EVERY = 24, 8
REVERSIBLE = adjoint.Reversible()


def liquid(kind):
    system = soft_spheres(kind, n=12)
    fractional = kind == "fractional"
    simulator = simulate.nve_reversible(
        system.energy_fn, system.box, 0.01, fractional_coordinates=fractional
    )
    step = simulator.for_adjoint(lambda params: {"epsilon": params})

    def loss(epsilon, R, method, steps=STEPS, step=step):
        state = simulator.init(jax.random.key(0), R, kT=0.5)
        end, seen = adjoint.rollout(
            step,
            epsilon,
            state,
            steps,
            method=method,
            observe=lambda s: jnp.sum(s.momentum**2 * jnp.arange(3.0)),
            every=EVERY,
        )
        if fractional:  # whose tangents are real-space displacements
            s = space.lattice(system.box, end.position)
        else:
            s = space.raw_transform(space.inverse(system.box), end.position)
        return jnp.sum(jnp.sin(2 * jnp.pi * s)) + jnp.sum(seen)

    return loss, system


@pytest.mark.parametrize("kind", ["periodic", "general", "fractional"])
def test_gradient_is_that_of_the_stored_trajectory(kind):
    loss, system = liquid(kind)
    R, epsilon = system.position, 20.0
    grads = [
        jax.jit(jax.grad(partial(loss, method=m), (0, 1)))(epsilon, R)
        for m in (REVERSIBLE, adjoint.Checkpointed(3))
    ]
    # The same steps at the same bits: only additions differ.
    np.testing.assert_allclose(grads[0][0], grads[1][0], rtol=1e-11)
    np.testing.assert_allclose(grads[0][1], grads[1][1], rtol=1e-9, atol=1e-10)
    value = jax.jit(partial(loss, method=REVERSIBLE))
    # Rounding momenta to 3e-8 in each step adds noise of 1e-6 / h to the difference,
    # whose error is (h / epsilon)^2 / 6.
    h = 0.1
    difference = (value(epsilon + h, R) - value(epsilon - h, R)) / (2 * h)
    np.testing.assert_allclose(grads[0][0], difference, rtol=1e-4)


def test_memory_does_not_grow_with_the_steps():
    loss, system = liquid("periodic")

    def temporary(steps):
        fn = jax.jit(jax.grad(partial(loss, method=REVERSIBLE, steps=steps)))
        program = fn.lower(20.0, system.position).compile()
        return program.memory_analysis().temp_size_in_bytes

    # Eight bytes for each further observable, and for its cotangent.
    assert temporary(100 * EVERY) - temporary(10 * EVERY) <= 2 * 8 * 90 + 1024


def test_a_batch_of_parameters():
    loss, system = liquid("periodic")
    fn = jax.jit(jax.grad(partial(loss, method=REVERSIBLE)))
    several = jnp.array([10.0, 20.0])
    batched = jax.vmap(fn, (0, None))(several, system.position)
    single = [fn(e, system.position) for e in several]
    np.testing.assert_allclose(batched, single, rtol=1e-9)


@pytest.mark.slow
def test_a_list_updated_inside_the_energy():
    side = 3.3
    displacement_fn, _ = space.periodic(side)
    grid = np.stack(np.meshgrid(*[np.arange(3)] * 3, indexing="ij"), -1)
    R = jnp.asarray(grid.reshape(-1, 3) + 0.5) * side / 3
    pair_fn = energy.soft_sphere_pair(displacement_fn, sigma=1.2, alpha=4.0)
    neighbor_fn, list_fn = energy.soft_sphere_neighbor_list(
        displacement_fn, side, sigma=1.2, alpha=4.0, dr_threshold=0.02
    )
    template = neighbor_fn.allocate(R, extra_capacity=8)

    def with_list(R, **kwargs):
        # From one fixed list, so that it is a function of the positions alone.
        neighbors = template.update(jax.lax.stop_gradient(R))
        energy = list_fn(R, neighbor=neighbors, **kwargs)
        return jnp.where(neighbors.did_buffer_overflow, jnp.nan, energy)

    def gradient(energy_fn):
        simulator = simulate.nve_reversible(energy_fn, side, 0.02)
        step = simulator.for_adjoint(lambda params: {"epsilon": params})
        state = simulator.init(jax.random.key(0), R, kT=0.5)
        moved, _ = adjoint.rollout(step, 40.0, state, 16, method=REVERSIBLE)
        assert template.update(moved.position).rebuilds > template.rebuilds

        def loss(epsilon):
            end, _ = adjoint.rollout(step, epsilon, state, 16, method=REVERSIBLE)
            return jnp.sum(end.momentum**2 * jnp.arange(3.0))

        return jax.jit(jax.grad(loss))(40.0)

    # Another order of additions may move a particle by one position of the lattice.
    np.testing.assert_allclose(gradient(with_list), gradient(pair_fn), rtol=1e-6)


def shear(k, state, sign=1):
    """A map of the integers: the standard map, on a circle of 2^32 points."""
    n, m, x, p = state
    kick = jnp.round(k * jnp.sin(2 * jnp.pi * n / 2.0**32) * 2.0**28).astype(jnp.int32)
    if sign == 1:
        m = m + kick
        return n + m, m, x, p
    n = n - m
    kick = jnp.round(k * jnp.sin(2 * jnp.pi * n / 2.0**32) * 2.0**28).astype(jnp.int32)
    return n, m - kick, x, p


def tangent(k, state):
    n, m, x, p = state
    theta = n / 2.0**32 + x - jax.lax.stop_gradient(x)
    p = p + k * jnp.sin(2 * jnp.pi * theta) / 16
    return n, m, x + p, p


def last(k, inverse, steps=50):
    # The floats are placeholders: their derivatives are those of `tangent`.
    step = adjoint.ReversibleStep(shear, inverse, tangent)
    state = (jnp.int32(2**28), jnp.int32(2**27), jnp.float64(0), jnp.float64(0))
    end, _ = adjoint.rollout(step, k, state, steps, method=REVERSIBLE)
    return end[2]


def test_a_step_to_differentiate_in_place_of_the_forward_step():
    got = jax.grad(last)(0.3, partial(shear, sign=-1))

    def plain(k):
        x, p = 2.0**-4, 2.0**-5
        for _ in range(50):
            p = p + k * jnp.sin(2 * jnp.pi * x) / 16
            x = x + p
        return x

    # Rounding to the lattice, 1e-10, grows as the derivative itself does.
    expected = jax.grad(plain)(0.3)
    np.testing.assert_allclose(got, expected, rtol=1e-5)


def test_an_inverse_that_is_wrong_gives_no_gradient():
    def almost(k, state):
        n, *rest = shear(k, state, -1)
        return n + 1, *rest

    assert jnp.isnan(jax.grad(last)(0.3, almost))


def test_no_second_derivative():
    first = jax.grad(lambda k: last(k, partial(shear, sign=-1)))
    for second in (jax.grad(first), lambda k: jax.jvp(first, (k,), (k,))):
        with pytest.raises(TypeError, match=r"`Reversible` has first derivatives only"):
            second(0.3)
