"""What scripts for neural-tangents rely on beside names and numbers.

Schedules of random keys, types of containers, methods of the record and kinds of errors
of neural-tangents 0.6.5, from side-by-side runs of scripts.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_md import wide as nt
from jax_md.wide import stax
from tests.wide.stax.oracle import images

X1, X2 = images(0, (3, 4)), images(1, (2, 4))
I1, I2 = images(2, (3, 4, 3, 2)), images(3, (2, 4, 3, 2))
KEY = jax.random.PRNGKey(0)


def positions(x1=I1, x2=None):
    """A kernel over positions, of activations like the inputs."""
    return stax.Conv(2, (1, 1), W_std=1.3, b_std=0.2)[2](x1, x2)


# Parameters


def test_layers_in_a_row_are_drawn_by_the_schedule_of_stax():
    first, second = stax.Dense(3), stax.Dense(2)
    key, key1 = jax.random.split(KEY)
    _, key2 = jax.random.split(key)
    _, params = stax.serial(first, second)[0](KEY, (-1, 4))
    np.testing.assert_array_equal(params[0][0], first[0](key1, (-1, 4))[1][0])
    np.testing.assert_array_equal(params[1][0], second[0](key2, (-1, 3))[1][0])
    longer = stax.serial(first, second, stax.Dense(5))[0](KEY, (-1, 4))[1]
    np.testing.assert_array_equal(params[1][0], longer[1][0])


def test_repeated_layers_are_drawn_as_layers_in_a_row():
    one = stax.Dense(4)
    stacked = stax.repeat(one, 2)[0](KEY, (-1, 4))[1]
    listed = stax.serial(one, one)[0](KEY, (-1, 4))[1]
    np.testing.assert_array_equal(stacked[0][1], listed[1][0])


def test_no_repetitions_have_no_parameters():
    shape, params = stax.repeat(stax.Dense(4), 0)[0](KEY, (-1, 4))
    assert shape == (-1, 4) and params[0].shape == (0, 4, 4)


def test_branches_have_tuples():
    init_fn = stax.parallel(stax.Dense(3), stax.Dense(2))[0]
    for shapes in ([(-1, 4), (-1, 4)], ((-1, 4), (-1, 4))):
        out, params = init_fn(KEY, shapes)
        assert out == ((-1, 3), (-1, 2)) and type(params) is tuple


# The record


def test_slice_takes_samples_of_each_batch():
    whole = stax.Dense(1, 1.3, 0.2)[2](X1)
    part = whole.slice(slice(0, 2), slice(2, 3))
    np.testing.assert_array_equal(part.nngp, whole.nngp[:2, 2:])
    np.testing.assert_array_equal(part.ntk, whole.ntk[:2, 2:])
    np.testing.assert_array_equal(part.cov2, whole.cov1[2:])
    assert (part.shape1, part.shape2) == ((2, 1), (1, 1))
    # These are different samples, though of one batch: nothing to drop out together.
    moved = whole.slice(slice(0, 2), slice(1, 3))
    layers = stax.serial(stax.Dropout(0.5), stax.Dense(1))[2]
    np.testing.assert_allclose(layers(moved).nngp, moved.nngp)


def test_slice_takes_masks_along():
    x = np.where(np.arange(3)[:, None] == 1, 9.0, X1)
    k = stax.Dense(1)[2](x, x, mask_constant=9.0)
    part = k.slice(slice(1, 3), slice(0, 1))
    assert part.mask1.tolist() == [[True], [False]] and part.mask2.tolist() == [[False]]


def test_signs_of_a_record():
    k = positions()
    assert (+k) is k and (-k) is k


def test_dot_general_of_a_record():
    rng = np.random.default_rng(0)
    left, right = rng.normal(size=(2, 4, 5))
    numbers = (((1,), (0,)), ((), ()))
    k = positions(I1, I2)
    out = k.dot_general(left, right, False, numbers)
    want = np.einsum("nmabcd,ai,bj->nmcdij", k.nngp, left, right)
    np.testing.assert_allclose(out.nngp, want)
    own = np.einsum("mabcd,ai,bj->mcdij", k.cov2, right, right)
    np.testing.assert_allclose(out.cov2, own)
    # The contracted axis is replaced by one behind the channels.
    assert (out.batch_axis, out.channel_axis) == (0, 2)
    assert k.dot_general(None, None, False, numbers) is k
    with pytest.raises(NotImplementedError, match="identity"):
        k.dot_general(left, None, False, numbers)
    with pytest.raises(ValueError, match="channel"):
        k.dot_general(left[:2], right[:2], False, (((3,), (0,)), ((), ())))


def test_dot_general_with_a_factor_of_each_sample():
    factors = [
        np.random.default_rng(i).normal(size=(n, 4)) for i, n in ((0, 3), (1, 2))
    ]
    numbers = (((1,), (1,)), ((0,), (0,)))
    k = positions(I1, I2)
    out = k.dot_general(*factors, False, numbers)
    want = np.einsum("nmabcd,na,mb->nmcd", k.nngp, *factors)
    np.testing.assert_allclose(out.nngp, want)
    own = np.einsum("nabcd,na,nb->ncd", k.cov1, factors[0], factors[0])
    np.testing.assert_allclose(out.cov1, own)


@pytest.mark.parametrize("at", [(0, 2), [0, 2], np.array([0, 2]), jnp.array([2, 0])])
def test_index_by_positions(at):
    init_fn, apply_fn, kernel_fn = stax.Index(stax.Slice[:, at])
    shape, params = init_fn(KEY, I1.shape)
    assert shape == apply_fn(params, I1).shape == (3, 2, 3, 2)
    rows = np.asarray(at)
    k = positions()
    want = k.nngp[:, :, rows][:, :, :, rows]
    np.testing.assert_array_equal(kernel_fn(k).nngp, want)


def test_index_by_samples():
    k = positions()[(0, 2),]
    np.testing.assert_array_equal(k.nngp, positions(I1[jnp.array([0, 2])]).nngp)


@pytest.mark.parametrize(
    "idx", [stax.Slice[:, (0, 2), 0], stax.Slice[:, None], stax.Slice[..., (0,)], 0]
)
def test_index_without_a_kernel(idx):
    with pytest.raises(NotImplementedError, match="`idx`"):
        positions()[idx]


# Layouts


@pytest.mark.parametrize("first", [stax.Dense(3), stax.Conv(3, (2, 2)), None])
def test_positions_without_shared_weights_are_diagonal(first):
    local = stax.ConvLocal(2, (2, 2), b_std=0.1)
    kernel_fn = stax.serial(*[first or local, local])[2]
    short, full = kernel_fn(I1, I2), kernel_fn(I1, I2, diagonal_spatial=False)
    assert short.diagonal_spatial and not full.diagonal_spatial
    assert short.nngp.ndim == 4 and full.nngp.ndim == 6
    got = np.einsum("nmaabb->nmab", full.ntk)
    np.testing.assert_allclose(short.ntk, got, rtol=1e-12)
    shared = stax.serial(local, stax.Conv(2, (1, 1)))[2](I1, I2)
    assert not shared.diagonal_spatial


# Patterns and constants


def test_edges_along_one_axis_need_no_axis_of_their_own():
    layer = stax.Aggregate(implementation="SPARSE")
    x = images(4, (2, 3, 2))
    edges = np.array([[[0, 1], [1, 2], [-1, -1]], [[2, 2], [0, 1], [0, 1]]])
    for got, want in (
        (layer[1]((), x, pattern=p) for p in (edges, edges[:, :, None])),
        (layer[2](x, None, "nngp", pattern=(p, p)) for p in (edges, edges[:, :, None])),
    ):
        np.testing.assert_array_equal(got, want)


def test_constants_of_each_sample():
    factors = np.random.default_rng(0).normal(size=(3, 4, 5))
    numbers = (((1,), (1,)), ((0,), (0,)))
    init_fn, apply_fn, kernel_fn = stax.DotGeneral(
        rhs=factors, dimension_numbers=numbers
    )
    out = apply_fn((), jnp.asarray(I1))
    np.testing.assert_allclose(out, np.einsum("nhwc,nhk->nwck", I1, factors))
    assert init_fn(KEY, I1.shape)[0] == out.shape
    k = positions()
    want = np.einsum("nmabcd,nai,mbj->nmcdij", k.nngp, factors, factors)
    np.testing.assert_allclose(kernel_fn(k).nngp, want)


def test_constants_may_mix_channels_of_a_finite_network():
    mixed = stax.DotGeneral(rhs=np.eye(2), dimension_numbers=(((3,), (0,)), ((), ())))
    assert mixed[0](KEY, I1.shape)[0] == mixed[1]((), jnp.asarray(I1)).shape
    with pytest.raises(ValueError, match="channel"):
        mixed[2](I1)


# Kinds of errors


@pytest.mark.parametrize(
    "make",
    [
        lambda: stax.Hermite(-1),
        lambda: stax.Monomial(-1),
        lambda: stax.Monomial(2.5),
        lambda: stax.RectifiedMonomial(-1),
        lambda: stax.LayerNorm()[2](X1),
    ],
)
def test_not_implemented(make):
    with pytest.raises(NotImplementedError):
        make()


def test_filter_must_have_the_axes_of_the_inputs():
    with pytest.raises(ValueError, match="4 axes"):
        stax.Conv(3, (3, 3))[2](X1)


# Calls


@pytest.mark.parametrize("get", [None, ("ntk", "nngp"), "nngp"])
def test_trees_of_outputs_have_a_kernel_at_each_leaf(get):
    def f(params, x):
        hidden = jnp.asarray(x) @ params
        return [hidden, (jnp.tanh(hidden),)]

    def init(key, shape):
        return shape, jax.random.normal(key, (shape[-1], 3))

    names = ("nngp", "ntk") if get is None else get
    params = init(KEY, X1.shape)[1]
    separate = nt.empirical_kernel_fn(lambda p, x: f(p, x)[1][0])
    empirical = nt.empirical_kernel_fn(f)
    wanted = separate(X1, X2, get, params)
    sampled = nt.monte_carlo_kernel_fn(init, f, KEY, [1, 2])(X1, X2, get)
    for kernels, name in (
        (empirical(X1, X2, get, params), "EmpiricalKernel"),
        (nt.batch(empirical, 1, 0)(X1, X2, get, params), "EmpiricalKernel"),
        (list(sampled)[1], "MonteCarloKernel"),
    ):
        assert type(kernels) is list and type(kernels[1]) is tuple
        for leaf in (kernels[0], kernels[1][0]):
            if get == "nngp":
                assert leaf.shape == (3, 2)
            else:
                assert type(leaf).__name__ == name and leaf._fields == names
        if name == "EmpiricalKernel":
            jax.tree.map(np.testing.assert_allclose, kernels[1][0], wanted)


def test_a_batch_passed_twice_keeps_its_covariances_twice():
    batched = nt.batch(stax.Dense(1)[2], 1, device_count=0)
    np.testing.assert_allclose(batched(X1, X1).cov2, batched(X1).cov1)
    assert batched(X1).cov2 is None and batched(X1, None).cov2 is None


def test_batch_has_the_keywords_of_a_kernel_function():
    kernel_fn = stax.Dense(1)[2]
    batched = nt.batch(kernel_fn, 1, device_count=0)
    got = batched(x1_or_kernel=X1, x2=X2, get="nngp")
    np.testing.assert_allclose(got, kernel_fn(x1_or_kernel=X1, x2=X2, get="nngp"))
