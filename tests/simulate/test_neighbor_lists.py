"""Dynamics and descent with a neighbor list are those over all pairs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_md import minimize, partition, simulate, space
from tests.soft_spheres import pair_sum

SIDE = 6.0
BOX = SIDE * jnp.array([[1.0, 0.1], [0.0, 1.0]])


@pytest.fixture(scope="module")
def crowd():
    """Forty discs: both energies, the list and the shift."""
    displacement, shift = space.periodic_general(BOX)
    R = jax.random.uniform(jax.random.key(0), (40, 2))
    fns = partition.neighbor_list(
        displacement, BOX, 1.0, 0.3, capacity_multiplier=2, fractional_coordinates=True
    )

    def listed(R, neighbor, **kwargs):
        dR = space.map_neighbor(displacement)(R, R[neighbor.idx], **kwargs)
        square = space.square_distance(dR)
        touching = (square < 1) & (neighbor.idx < len(R))
        r = jnp.sqrt(jnp.where(touching, square, 1))
        return jnp.sum(jnp.where(touching, (1 - r) ** 4, 0)) / 2

    return pair_sum(displacement), listed, fns, shift, R


def run(step, state, nbrs, steps):
    def body(_, carry):
        state, nbrs = carry
        nbrs = nbrs.update(state.position)
        return step(state, neighbor=nbrs), nbrs

    state, nbrs = jax.lax.fori_loop(0, steps, body, (state, nbrs))
    assert not nbrs.did_buffer_overflow
    return state


@pytest.mark.parametrize("name", ["nve", "nvt_nose_hoover", "nvt_langevin"])
def test_lists_and_all_pairs_give_one_trajectory(name, crowd):
    exact, listed, fns, shift, R = crowd
    nbrs = fns.allocate(R)
    options = (0.02,) if name == "nve" else (0.02, 0.2)
    temperature = {"kT": 0.2}
    init, step = getattr(simulate, name)(exact, shift, *options)
    state = init(jax.random.key(1), R, **temperature)
    expected = jax.lax.fori_loop(0, 50, lambda i, s: step(s), state)
    init, step = getattr(simulate, name)(listed, shift, *options)
    state = init(jax.random.key(1), R, **temperature, neighbor=nbrs)
    found = run(step, state, nbrs, 50)
    np.testing.assert_allclose(found.position, expected.position, atol=1e-9)
    np.testing.assert_allclose(found.momentum, expected.momentum, atol=1e-9)
    moved = jnp.abs(found.momentum - state.momentum)
    assert jnp.max(moved) > 0.1


@pytest.mark.parametrize("name", ["fire_descent", "lbfgs"])
def test_descent_with_lists(name, crowd):
    exact, listed, fns, shift, R = crowd
    options = {"max_move": 0.15} if name == "lbfgs" else {}
    init, step = getattr(minimize, name)(listed, shift, **options)
    nbrs = fns.allocate(R)
    state = run(step, init(R, neighbor=nbrs), nbrs, 100)
    assert exact(state.position) < 1e-3 * exact(R)
