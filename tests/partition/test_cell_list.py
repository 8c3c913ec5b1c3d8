"""Cell lists: what is stored where, and that nothing is lost unnoticed."""

import logging

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_md.partition import CellList, cell_list
from jax_md.partition.cell_list import (
    count_cell_filling,
    shift_array,
    unflatten_cell_buffer,
)


def points(n, d, box, seed=0, dtype=jnp.float64):
    unit = np.random.default_rng(seed).uniform(size=(n, d))
    return jnp.asarray(unit * np.asarray(box), dtype)


def unpack(cells, values, n):
    """Values by particle, read back from a buffer through the numbers beside it."""
    ids = np.asarray(cells.id_buffer).reshape(-1)
    out = np.zeros((n + 1, *values.shape[cells.position_buffer.ndim - 1 :]))
    out[ids] = np.asarray(values).reshape(len(ids), *out.shape[1:])
    return out[:-1]


def test_slots_of_a_small_list():
    R = jnp.array([[0.25, 0.25], [8.5, 1.95], [8.1, 1.5], [3.7, 7.9]])
    cells = cell_list(np.array([8.65, 8.0]), 1.0).allocate(R)

    assert isinstance(cells, CellList)
    assert cells.cell_capacity == 2
    assert cells.position_buffer.shape == (8, 8, 2, 2)
    np.testing.assert_allclose(cells.cell_size, [8.65 / 8, 1.0])
    expected = {(0, 0, 0): 0, (1, 7, 1): 1, (1, 7, 0): 2, (7, 3, 1): 3}
    for slot, particle in expected.items():
        assert int(cells.id_buffer[slot][0]) == particle
        np.testing.assert_array_equal(cells.position_buffer[slot], R[particle])
    assert int(jnp.sum(cells.id_buffer < 4)) == 4
    np.testing.assert_array_equal(cells.particle_cell_id[1], [7, 1])


@pytest.mark.parametrize("d", [2, 3])
@pytest.mark.parametrize("box", ["scalar", "vector"])
def test_all_particles_are_stored_with_their_data(d, box, dtype):
    n = 200
    box = 9.5 if box == "scalar" else np.array([9.5, 7.2, 12.0][:d])
    R = points(n, d, box, dtype=dtype)
    charge = jnp.arange(n, dtype=dtype) / 7
    species = jnp.arange(n, dtype=jnp.int32) % 3
    tensor = jnp.asarray(np.random.default_rng(1).normal(size=(n, 2, 3)), dtype)
    allocate, update = cell_list(box, 1.1)
    cells = allocate(R, charge=charge, species=species, tensor=tensor)

    assert not cells.did_buffer_overflow
    assert cells.position_buffer.dtype == cells.cell_size.dtype == dtype
    assert cells.id_buffer.dtype == cells.particle_cell_id.dtype == jnp.int32
    np.testing.assert_array_equal(unpack(cells, cells.position_buffer, n), R)
    named = cells.named_buffer
    assert named["charge"].shape == (*cells.position_buffer.shape[:-1], 1)
    np.testing.assert_array_equal(unpack(cells, named["charge"], n)[:, 0], charge)
    np.testing.assert_array_equal(unpack(cells, named["species"], n)[:, 0], species)
    np.testing.assert_array_equal(unpack(cells, named["tensor"], n), tensor)
    empty = np.asarray(cells.id_buffer)[..., 0] == n
    assert empty.any() and np.all(np.asarray(cells.position_buffer)[empty] == 0)
    assert np.all(np.asarray(named["charge"])[empty] == 1e5)
    assert np.all(np.asarray(named["species"])[empty] == 100_000)

    # Every particle is in the cell that its coordinates say, last dimension first.
    index = np.floor(np.asarray(R, float) / np.asarray(cells.cell_size, float))
    np.testing.assert_array_equal(cells.particle_cell_id, index.astype(int))
    for *cell, _ in np.argwhere(~empty)[:20]:
        members = np.asarray(cells.id_buffer)[tuple(cell)][:, 0]
        for i in members[members < n]:
            np.testing.assert_array_equal(index[i][::-1], cell)

    count = count_cell_filling(R, box, 1.1)
    np.testing.assert_array_equal(count, np.sum(~empty, axis=-1).reshape(-1))
    assert cells.cell_capacity == int(int(count.max()) * 1.25)


def test_positions_outside_the_box_alias_with_their_images():
    R = points(60, 3, 8.0)
    shift = 8.0 * np.random.default_rng(2).integers(-3, 4, size=R.shape)
    allocate, _ = cell_list(8.0, 1.0)
    inside, outside = allocate(R), allocate(R + shift)
    np.testing.assert_array_equal(inside.particle_cell_id, outside.particle_cell_id)
    np.testing.assert_array_equal(inside.id_buffer, outside.id_buffer)


def test_update_in_compiled_code_and_sticky_overflow():
    R = points(50, 2, 6.0)
    allocate, update = cell_list(6.0, 1.0)
    cells = allocate(R, extra_capacity=5)
    crowded = jnp.full_like(R, 0.5)

    def step(cells, x):
        cells = cells.update(x)
        return cells, cells.did_buffer_overflow

    end, flags = jax.lax.scan(step, cells, jnp.stack([R + 0.1, crowded, R]))
    np.testing.assert_array_equal(flags, [False, True, True])
    assert end.cell_capacity == cells.cell_capacity
    np.testing.assert_array_equal(end.id_buffer, cells.id_buffer)

    by_capacity = jax.jit(lambda x: update(x, 50))(crowded)
    assert by_capacity.cell_capacity == 50 and not by_capacity.did_buffer_overflow
    np.testing.assert_array_equal(by_capacity.id_buffer[0, 0, :, 0], np.arange(50))
    assert cells.cell_capacity == allocate(R).cell_capacity + 5


def test_functions_unpack_and_old_names():
    fns = cell_list(6.0, 1.0)
    allocate, update = fns
    assert allocate is fns.allocate and update is fns.update


def test_kwarg_buffers_warns(caplog):
    cells = cell_list(6.0, 1.0).allocate(points(5, 2, 6.0), m=jnp.ones(5))
    with caplog.at_level(logging.WARNING):
        assert cells.kwarg_buffers is cells.named_buffer
    assert "named_buffer" in caplog.text


def test_gradients_pass_through_the_buffers():
    R = points(20, 2, 6.0)
    allocate, update = cell_list(6.0, 1.0)
    cells = allocate(R)
    grad = jax.grad(lambda x: jnp.sum(update(x, cells).position_buffer ** 2))(R)
    np.testing.assert_allclose(grad, 2 * R, rtol=1e-15)


def test_shift_array_and_unflatten():
    arr = jnp.arange(24).reshape(2, 3, 4)
    np.testing.assert_array_equal(shift_array(arr, (0, 1)), np.roll(arr, 1, axis=1))
    np.testing.assert_array_equal(
        shift_array(arr, np.array([-1, 1])), np.roll(np.roll(arr, -1, 0), 1, 1)
    )
    np.testing.assert_array_equal(
        shift_array(arr, (1, 0, -1)), np.roll(np.roll(arr, 1, 0), -1, 2)
    )
    flat = jnp.arange(4 * 3 * 5 * 2).reshape(-1, 2)
    assert unflatten_cell_buffer(flat, np.array([4, 3]), 2).shape == (3, 4, 5, 2)
    assert unflatten_cell_buffer(jnp.arange(16), 2, 3).shape == (2, 2, 2, 2)


@pytest.mark.parametrize(
    ("box", "size", "R", "kwargs", "words"),
    [
        (9.0, 1.0, np.zeros((4, 1)), {}, "two or three dimensions"),
        (9.0, 1.0, np.zeros((4, 4)), {}, "two or three dimensions"),
        (9.0, 1.0, np.zeros(4), {}, "two or three dimensions"),
        (2.9, 1.0, np.zeros((4, 2)), {}, "`box_size` must be at"),
        (
            np.array([9, 2.9]),
            1.0,
            np.zeros((4, 2)),
            {},
            "`box_size` must be at",
        ),
        (np.eye(2) * 9, 1.0, np.zeros((4, 2)), {}, "`box_size` must be a scalar"),
        (np.ones(3) * 9, 1.0, np.zeros((4, 2)), {}, "`box_size` must be a scalar"),
        (9.0, 0.0, np.zeros((4, 2)), {}, "`minimum_cell_size` must be positive"),
        (9.0, 1.0, np.zeros((4, 2)), {"m": 1.0}, "`m` must be an array"),
        (
            9.0,
            1.0,
            np.zeros((4, 2)),
            {"m": np.ones(3)},
            r"`m` must have .*\[4, ",
        ),
    ],
)
def test_errors(box, size, R, kwargs, words):
    allocate, update = cell_list(box, size)
    with pytest.raises(ValueError, match=words):
        allocate(jnp.asarray(R), **kwargs)
    with pytest.raises(ValueError, match=words):
        update(jnp.asarray(R), 4, **kwargs)


def test_what_must_be_known_is_refused_when_traced():
    R = points(5, 2, 6.0)
    with pytest.raises(ValueError, match="cannot run inside `jit`"):
        jax.jit(lambda x: cell_list(6.0, 1.0).allocate(x).id_buffer)(R)
    with pytest.raises(ValueError, match="`box_size` decides"):
        jax.jit(lambda box: cell_list(box, 1.0).update(R, 4).id_buffer)(6.0)
