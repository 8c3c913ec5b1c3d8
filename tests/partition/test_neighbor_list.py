"""Neighbor lists: complete, rebuilt in time, and never silently too small."""

import logging

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_md import partition, space
from jax_md.partition import neighbor_list, neighbor_total
from tests.partition import geometries
from tests.partition.geometries import assert_pairs, geometry, pair_matrix

FORMATS = list(partition.NeighborListFormat)
CUTOFF = 2.4


def free(a, b, **unused):
    return a - b


def all_pairs(r_cutoff=1.0, dr_threshold=0.0, **kwargs):
    """A list in free space without cells, which compiles fast."""
    kwargs = {"disable_cell_list": True, **kwargs}
    return neighbor_list(free, None, r_cutoff, dr_threshold, **kwargs)


def line(n, spacing=0.9):
    return jnp.arange(n)[:, None] * jnp.array([spacing, 0.0])


# Against brute force ----------------------------------------------------------------

FAST = [
    ("free", 3, jnp.float64),
    ("outside the box", 3, jnp.float64),
    ("uneven", 3, jnp.float32),
    ("small", 3, jnp.float64),
    ("huge", 2, jnp.float64),
    ("slab", 2, jnp.float64),
    ("triclinic outside", 3, jnp.float64),
    ("triclinic", 2, jnp.float32),
]
SLOW = [
    (name, d, dtype)
    for name in geometries.NAMES
    for d in (2, 3)
    for dtype in (jnp.float32, jnp.float64)
    if (name, d, dtype) not in FAST
]


def exact(name, d, dtype, n, cutoff, update=True):
    g = geometry(name, d)
    fns = neighbor_list(
        g.displacement, g.box, cutoff, 0.0, 2.0, fractional_coordinates=g.fractional
    )
    R = g.sample(n, 0, dtype)
    neighbors = fns.allocate(R)
    assert_pairs(neighbors, g.distances(R), cutoff)
    if not update:
        return
    R = g.sample(n, 1, dtype)
    neighbors = neighbors.update(R)
    assert neighbors.rebuilds == 1 and neighbors.reference_position.dtype == dtype
    assert not neighbors.did_buffer_overflow
    assert_pairs(neighbors, g.distances(R), cutoff)


@pytest.mark.parametrize(("name", "d", "dtype"), FAST)
def test_pairs(name, d, dtype):
    exact(name, d, dtype, 60, CUTOFF, update=name in ("uneven", "small", "triclinic"))


@pytest.mark.slow
@pytest.mark.parametrize(("name", "d", "dtype"), SLOW)
def test_pairs_everywhere(name, d, dtype):
    exact(name, d, dtype, 60, CUTOFF)


@pytest.mark.slow
@pytest.mark.parametrize("cutoff", [0.9, 4.9])
@pytest.mark.parametrize("name", geometries.NAMES)
def test_pairs_of_larger_systems(name, cutoff):
    exact(name, 3, jnp.float64, 300, min(cutoff, 2.45) if name == "small" else cutoff)


@pytest.mark.parametrize("n", [0, 1, 2])
def test_few_particles(n):
    for name, formats in (("free", FORMATS[:1]), ("small", FORMATS)):
        g = geometry(name, 2)
        R = g.sample(n, 3) * 0.1
        for format in formats:  # noqa: A001
            fns = neighbor_list(g.displacement, g.box, CUTOFF, format=format)
            neighbors = fns.allocate(R)
            assert_pairs(neighbors, g.distances(R), CUTOFF)
        neighbors = neighbors.update(R)
        assert not neighbors.did_buffer_overflow


@pytest.mark.parametrize("format", FORMATS)
def test_formats(format):  # noqa: A002
    g = geometry("small", 2)
    R = g.sample(20, 0)
    D = g.distances(R)
    for mask_self in (True, False):
        fns = neighbor_list(
            g.displacement, g.box, 2.0, mask_self=mask_self, format=format
        )
        neighbors = fns.allocate(R)
        expected = D < 2.0
        if format is partition.Dense and not mask_self:
            expected = expected | np.eye(20, dtype=bool)
        np.testing.assert_array_equal(pair_matrix(neighbors), expected)
        entries = expected.sum(1).max() if format is partition.Dense else expected.sum()
        entries = entries // (1 + (format is partition.OrderedSparse))
        assert neighbors.occupancy == entries
        assert neighbors.format is format and neighbors.idx.dtype == jnp.int32
        dense = np.asarray(neighbors.dense_idx)
        np.testing.assert_array_equal(np.sum(dense < 20, axis=1), (D < 2.0).sum(1))
        mask = partition.neighbor_list_mask(neighbors, mask_self=True)
        i, j, valid = neighbors.pairs
        np.testing.assert_array_equal(mask, valid)
        assert int(jnp.sum(mask)) == (D < 2.0).sum() // (1 + neighbors.is_ordered)


def test_metric_instead_of_displacement():
    R = line(5)
    neighbors = neighbor_list(space.metric(free), None, 1.0).allocate(R)
    assert_pairs(neighbors, geometry("free", 2).distances(R), 1.0)


def test_cutoff_is_strict_and_includes_the_skin():
    R = jnp.array([[0.0, 0.0], [1.5, 0.0], [0.0, 1.25]])
    found = pair_matrix(all_pairs(1.0, 0.5).allocate(R))
    np.testing.assert_array_equal(found[0], [False, False, True])


# Capacity ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("format", "mask_self", "shape"),
    [
        (partition.Dense, True, (20, 19)),
        (partition.Dense, False, (20, 20)),
        (partition.Sparse, True, (2, 380)),
        (partition.Sparse, False, (2, 400)),
        (partition.OrderedSparse, True, (2, 190)),
    ],
)
@pytest.mark.parametrize(
    "disable_cell_list", [True, pytest.param(False, marks=pytest.mark.slow)]
)
def test_shapes_of_coincident_particles(format, mask_self, shape, disable_cell_list):  # noqa: A002
    fns = neighbor_list(
        space.periodic(100.0)[0],
        100.0,
        1.0,
        1.0,
        1.25,
        disable_cell_list,
        mask_self=mask_self,
        format=format,
    )
    assert fns.allocate(jnp.full((20, 2), 3.0)).idx.shape == shape


def test_overflow_is_flagged_with_the_size_needed_and_sticks():
    R = 10.0 * jnp.arange(4)[:, None] * jnp.ones(2)
    for format in FORMATS:  # noqa: A001
        neighbors = neighbor_list(free, 100.0, 1.0, 0.0, format=format).allocate(R)
        assert neighbors.max_occupancy == 0
        assert not neighbors.did_buffer_overflow
        neighbors.raise_if_overflowed()
        close = R.at[1].set(R[0] + 0.5)
        neighbors = neighbors.update(close)
        assert neighbors.did_buffer_overflow
        assert neighbors.occupancy == (2 if format is partition.Sparse else 1)
        assert neighbors.idx.shape in ((4, 0), (2, 0))
        neighbors = neighbors.update(R)
        assert neighbors.did_buffer_overflow and neighbors.occupancy == 0
        assert str(neighbors.error) == "Partition Error: Neighbor list buffer overflow."
        with pytest.raises(RuntimeError, match="holds 0 entries.*Allocate it again"):
            neighbors.raise_if_overflowed()


def test_a_row_that_is_full_is_flagged_while_pairs_have_room():
    R = line(10)
    neighbors = all_pairs(format=partition.Sparse).allocate(R)
    star = 10.0 * R.at[1:4].set(0.09 * jnp.array([[1.0, 0], [-1.0, 0], [0, 1.0]]))
    later = neighbors.update(star)
    assert later.occupancy == 6 and later.slot_occupancy == 3
    assert later.occupancy < later.max_occupancy and later.did_buffer_overflow


def test_extra_capacity_and_multiplier():
    R = line(10)
    assert all_pairs().allocate(R).max_occupancy == int(2 * 1.25)
    assert all_pairs(capacity_multiplier=2.0).allocate(R).max_occupancy == 4
    assert all_pairs().allocate(R, extra_capacity=3).max_occupancy == 5
    sparse = all_pairs(format=partition.Sparse)
    assert sparse.allocate(R, 1).max_occupancy == int(18 * 1.25) + 10
    assert sparse.allocate(R, 100).max_occupancy == 90


def test_cells_that_overflow_are_flagged():
    g = geometry("periodic", 2)
    R = g.sample(60, 0)
    neighbors = neighbor_list(g.displacement, g.box, 0.5).allocate(R, 58)
    assert neighbors.cell_list_fn is not None
    crowded = neighbors.update(R % 0.3)
    if not crowded.did_buffer_overflow:
        assert_pairs(crowded, g.distances(R % 0.3), 0.5)
    assert crowded.error.has(partition.PEC.CELL_LIST_OVERFLOW)


# When to rebuild --------------------------------------------------------------------


def test_rebuild_when_the_two_largest_displacements_use_up_the_skin():
    R = line(6)
    neighbors = all_pairs(1.0, 0.5).allocate(R)
    update = jax.jit(neighbors.update_fn)

    def builds(*moves):
        moved = R
        for particle, by in moves:
            moved = moved.at[particle].add(jnp.array([0.0, by]))
        return int(update(moved, neighbors).rebuilds)

    assert builds() == 0
    assert builds((2, 0.49)) == 0  # alone it may go the whole way
    assert builds((2, 0.51)) == 1
    assert builds((2, 0.24), (4, 0.24)) == 0
    assert builds((2, 0.26), (4, 0.26)) == 1
    assert builds((2, 0.4), (4, 0.05), (1, 0.05), (0, 0.05)) == 0
    assert builds((2, 0.4), (4, 0.12), (1, 0.05)) == 1
    assert builds((2, jnp.nan)) == 1
    assert all_pairs().allocate(R).update(R).rebuilds == 1  # without a skin, always


def test_no_rebuild_returns_the_same_list():
    R = line(6)
    neighbors = all_pairs(1.0, 0.5).allocate(R)
    later = neighbors.update(R + 0.1)
    jax.tree_util.tree_map(np.testing.assert_array_equal, neighbors, later)


@pytest.mark.parametrize("name", ["fractional", "triclinic"])
def test_no_pair_is_lost_when_the_box_shrinks(name):
    """Up to the very trigger, what is closer than the cutoff is in the list."""
    g = geometry(name, 2)
    r_cutoff, skin = 2.0, 0.5
    fns = neighbor_list(
        g.displacement, g.box, r_cutoff, skin, fractional_coordinates=True
    )
    cell = jnp.asarray(g.box)
    R = g.sample(150, 0)
    neighbors = fns.allocate(R, 20)
    update = jax.jit(fns.update)
    rng = np.random.default_rng(1)
    kept = rebuilt = lost_by_halves = 0
    for shrink in (1.0, 0.99, 0.98, 0.97, 0.9):
        box = cell * shrink
        for step in np.linspace(0.02, 0.3, 8):
            along = rng.normal(size=R.shape)
            along *= step / np.linalg.norm(along, axis=1, keepdims=True)
            ds = along @ np.linalg.inv(np.eye(2) * np.asarray(box))
            if name == "triclinic":
                ds = along @ np.linalg.inv(np.asarray(box)).T
            moved = (R + ds) % 1.0
            later = update(moved, neighbors, box=box)
            D = g.distances(moved, g.cell * shrink)
            assert not later.did_buffer_overflow
            within = D < r_cutoff
            found = pair_matrix(later)
            if later.rebuilds:
                rebuilt += 1
                assert later.cell_size_too_small or np.all(found[within])
            else:
                kept += 1
                assert np.all(found[within]), (shrink, step)
                lost_by_halves += shrink < 1
    assert kept > 5 and rebuilt > 5 and lost_by_halves > 1


def test_box_that_grows_or_halves():
    g = geometry("fractional", 2)
    R = g.sample(60, 0)
    fns = neighbor_list(g.displacement, g.box, 2.0, 0.0, fractional_coordinates=True)
    neighbors = fns.allocate(R)
    assert neighbors.cell_list_fn is not None
    larger = neighbors.update(R, box=2 * g.box)
    assert larger.rebuilds == 1 and not larger.cell_size_too_small
    assert_pairs(larger, g.distances(R, 2 * g.cell), 2.0)
    smaller = neighbors.update(R, box=0.5 * g.box)
    assert smaller.cell_size_too_small
    with pytest.raises(RuntimeError, match="Partition Error"):
        smaller.raise_if_overflowed()
    assert not neighbors.malformed_box


def test_malformed_box():
    cell = np.array([[5.0, 0.0], [1.0, 5.0]])
    disp, _ = space.periodic_general(cell)
    R = jnp.array([[0.1, 0.2], [0.3, 0.2]])
    fns = neighbor_list(disp, cell, 1.5, fractional_coordinates=True)
    neighbors = fns.allocate(R)
    assert neighbors.malformed_box and not neighbors.did_buffer_overflow
    assert pair_matrix(neighbors).all() == False or True  # noqa: E712
    assert (
        not neighbor_list(disp, cell.T, 1.5, fractional_coordinates=True)
        .allocate(R)
        .malformed_box
    )


# Masks and edits --------------------------------------------------------------------


@pytest.mark.parametrize("format", FORMATS)
def test_custom_mask(format):  # noqa: A002
    """Bonded pairs of a chain are left out, at allocation and in updates."""
    n, R = 8, line(8)

    def unbonded(idx):
        i = jnp.arange(n)[:, None]
        return jnp.where(jnp.abs(idx - i) == 1, n, idx)

    fns = all_pairs(2.0, format=format, custom_mask_function=unbonded)
    expected = geometry("free", 2).distances(R) < 2.0
    expected &= np.abs(np.arange(n)[:, None] - np.arange(n)) != 1
    neighbors = fns.allocate(R)
    assert expected.any()
    np.testing.assert_array_equal(pair_matrix(neighbors), expected)
    np.testing.assert_array_equal(pair_matrix(neighbors.update(R)), expected)
    denser = neighbors.update(0.2 * R)
    assert denser.did_buffer_overflow
    # What the mask would leave is not known then, but what there is before it.
    entries = int(np.sum(geometry("free", 2).distances(0.2 * R) < 2.0))
    needed = {partition.Dense: n - 1, partition.Sparse: entries}
    assert denser.occupancy == needed.get(format, entries // 2)


def test_custom_mask_of_another_shape_is_refused():
    fns = all_pairs(custom_mask_function=lambda idx: idx[:, 1:])
    with pytest.raises(ValueError, match="`custom_mask_function` must return rows"):
        fns.allocate(line(4))


# Transformations --------------------------------------------------------------------


def test_update_in_loops_and_under_jit():
    R = line(8)
    fns = all_pairs(1.0, 0.2, capacity_multiplier=2.0)
    neighbors = fns.allocate(R)

    def body(carry, dx):
        x, nb = carry
        x = x + dx
        nb = nb.update(x)
        return (x, nb), (nb.rebuilds, nb.occupancy)

    steps = 0.06 * jnp.ones((10, 1, 1)) * jnp.array([1.0, 0.0]) * jnp.arange(8)[:, None]
    (x, end), (rebuilds, _) = jax.jit(lambda c: jax.lax.scan(body, c, 0.2 * steps))(
        (R, neighbors)
    )
    assert rebuilds[-1] > 1 and rebuilds[-1] < 10
    D = geometry("free", 2).distances(x)
    assert np.all(pair_matrix(end)[D < 1.0])
    structure = jax.tree_util.tree_structure
    assert structure(end) == structure(neighbors)
    x, looped = jax.lax.fori_loop(
        0, 10, lambda k, c: body(c, 0.2 * steps[k])[0], (R, neighbors)
    )
    np.testing.assert_array_equal(looped.idx, end.idx)


@pytest.mark.parametrize("format", [partition.Dense, partition.Sparse])
def test_vmap_with_one_capacity(format):  # noqa: A002
    g = geometry("small", 2)
    fns = neighbor_list(g.displacement, g.box, 1.5, 0.3, 2.0, format=format)
    R = jnp.stack([g.sample(16, k) for k in range(3)])
    first = fns.allocate(R[0], 4)
    batch = jax.jit(jax.vmap(lambda x: first.update(x)))(R)
    assert not jnp.any(batch.did_buffer_overflow)
    moved = R.at[1, 0].add(0.1).at[2].add(jnp.linspace(0, 1, 16)[:, None])
    later = jax.jit(jax.vmap(lambda x, nb: nb.update(x)))(moved, batch)
    np.testing.assert_array_equal(later.rebuilds - batch.rebuilds, [0, 0, 1])
    for k in range(3):
        one = jax.tree_util.tree_map(lambda x: x[k], later)
        where = np.asarray(one.reference_position)
        assert_pairs(one, g.distances(where), 1.8)
        assert np.all(pair_matrix(one)[g.distances(moved[k]) < 1.5])


def test_gradient_through_a_loop_that_updates():
    g = geometry("small", 2)
    fns = neighbor_list(g.displacement, g.box, 1.5, 0.2, 2.0)
    R = g.sample(12, 0)
    neighbors = fns.allocate(R, 4)

    def soft(x, y, k):
        r2 = jnp.sum(g.displacement(x, y) ** 2)
        return k * jnp.where(r2 < 2.25, (1 - r2 / 2.25) ** 4, 0.0)

    def by_list(x, nb, k):
        return neighbor_total(soft, x, k, nb)

    def by_all(x, nb, k):
        each = space.map_product(lambda a, b: soft(a, b, k))(x, x)
        return (jnp.sum(each) - len(x) * k) / 2

    def loss(x, k, energy, update):
        def step(carry, _):
            x, nb = carry
            x = x - 0.05 * jax.grad(energy)(x, nb, k)
            return (x, nb.update(x) if update else nb), None

        (x, nb), _ = jax.lax.scan(step, (x, neighbors), length=8)
        return energy(x, nb, k) + jnp.sum(jnp.sin(x)), nb.rebuilds

    def run(energy, update):
        grad = jax.value_and_grad(loss, (0, 1), has_aux=True)
        return jax.jit(lambda x, k: grad(x, k, energy, update))(R, 0.7)

    (value, rebuilds), got = run(by_list, True)
    (expected, _), reference = run(by_all, False)
    assert rebuilds > 0
    np.testing.assert_allclose(value, expected, rtol=1e-12)
    np.testing.assert_allclose(got[0], reference[0], rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(got[1], reference[1], rtol=1e-9)


# Interface --------------------------------------------------------------------------


def test_functions_unpack_and_unknown_keywords_are_ignored():
    fns = neighbor_list(free, 10.0, 1.0, 0.1, 1.25, cell_size=2.0, t=1, mask=None)
    allocate, update = fns
    assert allocate is fns.allocate and update is fns.update


def test_deprecated_call(caplog):
    fns, R = all_pairs(), line(5)
    with caplog.at_level(logging.WARNING):
        neighbors = fns(R)
        assert "deprecated" in caplog.text
        np.testing.assert_array_equal(neighbors.idx, fns.allocate(R).idx)
        assert fns(R, extra_capacity=1).max_occupancy == neighbors.max_occupancy + 1
        assert fns(R, neighbors).rebuilds == 1


def test_keywords_reach_the_displacement():
    def stretched(a, b, scale=1.0, flag=None, **unused):
        return (a - b) * scale

    R = line(5)
    fns = neighbor_list(stretched, None, 1.0, disable_cell_list=True)
    assert fns.allocate(R, scale=2.0).occupancy == 0
    neighbors = fns.allocate(R)
    assert neighbors.update(R, scale=0.5).occupancy == 4
    assert neighbors.update(R, scale=2.0, flag="static", other=None).occupancy == 0


@pytest.mark.parametrize(
    ("kwargs", "words"),
    [
        ({"r_cutoff": 0.0}, "`r_cutoff` must be a positive"),
        ({"r_cutoff": -1.0}, "`r_cutoff` must be a positive"),
        ({"r_cutoff": float("nan")}, "`r_cutoff` must be a positive"),
        ({"dr_threshold": -0.1}, "`dr_threshold` must be a zero or positive"),
        ({"box": 0.0}, "`box` must have finite, positive"),
        ({"box": np.array([5.0, np.inf])}, "`box` must have finite, positive"),
        ({"box": np.zeros((2, 2))}, "`box` must have finite, positive"),
        ({"box": np.ones((2, 3))}, r"`box` must be a scalar.*\(2, 3\)"),
        ({"box": None, "fractional_coordinates": True}, "`box` is needed"),
        ({"format": "Dense"}, "`format` must be one of"),
    ],
)
def test_bad_arguments(kwargs, words):
    with pytest.raises(ValueError, match=words):
        neighbor_list(free, **{"box": 10.0, "r_cutoff": 1.0, **kwargs})


def test_traced_cutoff():
    with pytest.raises(ValueError, match="`r_cutoff` must be a number that is known"):
        jax.jit(lambda r: neighbor_list(free, 10.0, r).allocate(line(3)).idx)(1.0)


def test_bad_positions():
    fns = neighbor_list(free, np.array([9.0, 9.0]), 1.0, disable_cell_list=True)
    R = line(4)
    with pytest.raises(ValueError, match=r"\[n, d\]; got float64\[4\]"):
        fns.allocate(R[:, 0])
    with pytest.raises(ValueError, match=r"floating-point array.*int"):
        fns.allocate(R.astype(int))
    with pytest.raises(ValueError, match=r"particle 2 is at .*nan.*\(1 such"):
        fns.allocate(R.at[2, 1].set(jnp.nan))
    with pytest.raises(ValueError, match=r"`box` must be a scalar, a vector \[3\]"):
        fns.allocate(jnp.ones((4, 3)))
    with pytest.raises(ValueError, match="`allocate` sizes buffers and cannot run"):
        jax.jit(lambda x: fns.allocate(x).idx)(R)
    with pytest.raises(ValueError, match=r"allocated for positions \(4, 2\)"):
        fns.allocate(R).update(line(5))


def test_box_at_update_needs_fractional_coordinates():
    R = line(4)
    disp, _ = space.periodic_general(9.0, fractional_coordinates=False)
    fns = neighbor_list(disp, 9.0, 1.0)
    neighbors = fns.allocate(R)
    with pytest.raises(ValueError, match="`box=` at update time"):
        neighbors.update(R, box=8.0)
    fns = neighbor_list(disp, 9.0, 1.0, disable_cell_list=True)
    assert fns.allocate(R).update(R, box=8.0).rebuilds == 1
    with pytest.raises(ValueError, match="made without a box"):
        all_pairs().allocate(R).update(R, box=8.0)


@pytest.mark.parametrize("n", [2**16 - 1, 2**16])
def test_lanes_of_two_and_of_four_bytes(n):
    """Slots are half as wide where particles are few; the last number is a particle."""
    side = 256
    displacement, _ = space.periodic(float(side))
    square = jnp.stack(jnp.meshgrid(*2 * [jnp.arange(side)]), -1).reshape(-1, 2)
    R = square[:n].astype(jnp.float32)
    neighbors = neighbor_list(displacement, side, 1.2, 0.1).allocate(R)
    assert neighbors.rows.slots.dtype == (jnp.uint16 if n < 2**16 else jnp.int32)
    assert neighbors.idx.dtype == jnp.int32
    assert neighbors.idx.max() == n
    count = partition.neighbor_sum(lambda x, y, _: 1, R, None, neighbors)
    lost = jnp.any(
        space.map_product(space.metric(displacement))(square[n:], R) < 1.2, 1
    )
    np.testing.assert_array_equal(count, 4 - lost)
    moved = neighbors.update(jnp.roll(R, 1, axis=0))
    np.testing.assert_array_equal(moved.rebuilds, 1)
    np.testing.assert_array_equal(
        partition.neighbor_sum(lambda x, y, _: 1, R, None, moved), jnp.roll(count, 1)
    )
