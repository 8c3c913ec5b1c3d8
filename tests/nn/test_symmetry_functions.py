"""Symmetry functions against sums written out, and what they must not change under."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_md import nn, partition, space

N, BOX, CUTOFF = 12, 6.0, 2.6
RADIAL = [0.3, 1.1]
ETAS, LAMBDAS, ZETAS = [0.05, 0.2, 0.2], [1.0, -1.0, 1.0], [1.0, 4.0, 2.5]
SPECIES = np.array([3, 1, 1, 3] * 3)


def positions(dtype="float64", dim=3):
    spots = np.random.default_rng(0).uniform(0, BOX, (N, dim))
    return jnp.asarray(spots, dtype)


def fc(r):
    return 0.5 * (np.cos(np.pi * r / CUTOFF) + 1) if 0 < r < CUTOFF else 0.0


def by_hand(R, species):
    """Loops over neighbors, in the order of the blocks."""
    R = np.asarray(R, float)
    types = sorted(set(species))
    pairs = list(itertools.combinations_with_replacement(range(len(types)), 2))
    radial = np.zeros((N, len(types), len(RADIAL)))
    angular = np.zeros((N, len(pairs), len(ETAS)))
    for i in range(N):
        d = R - R[i]
        d -= BOX * np.round(d / BOX)
        r = np.linalg.norm(d, axis=1)
        for j in set(range(N)) - {i}:
            a = types.index(species[j])
            radial[i, a] += np.exp(-np.array(RADIAL) * r[j] ** 2) * fc(r[j])
            for k in set(range(N)) - {i, j}:
                b = types.index(species[k])
                if a > b:
                    continue
                r_jk = np.linalg.norm(d[j] - d[k])
                cos = d[j] @ d[k] / (r[j] * r[k])
                ends = fc(r[j]) * fc(r[k]) * fc(r_jk)
                square = r[j] ** 2 + r[k] ** 2 + r_jk**2
                for m, (eta, lam, zeta) in enumerate(
                    zip(ETAS, LAMBDAS, ZETAS, strict=True)
                ):
                    angle = 2 ** (1 - zeta) * (1 + lam * cos) ** zeta
                    term = angle * np.exp(-eta * square) * ends
                    angular[i, pairs.index((a, b)), m] += term
    return np.hstack([radial.reshape(N, -1), angular.reshape(N, -1)])


OPTIONS = {
    "radial_etas": RADIAL,
    "angular_etas": ETAS,
    "lambdas": LAMBDAS,
    "zetas": ZETAS,
    "cutoff_distance": CUTOFF,
}


def both_forms(R, species, format, **options):
    displacement, _ = space.periodic(BOX)
    options = OPTIONS | options
    plain = nn.behler_parrinello_symmetry_functions(displacement, species, **options)
    listed = nn.behler_parrinello.symmetry_functions_neighbor_list(
        displacement, species, **options
    )
    fns = partition.neighbor_list(displacement, BOX, CUTOFF, 0.2, format=format)
    neighbor = fns.allocate(R, extra_capacity=3)
    return jax.jit(plain), lambda R, **kw: listed(R, neighbor, **kw)


@pytest.mark.parametrize(
    ("species", "dim"),
    [
        pytest.param(None, 2, marks=pytest.mark.slow),
        pytest.param(None, 3, marks=pytest.mark.slow),
        (SPECIES, 3),
    ],
)
def test_sums_written_out(species, dim, dtype):
    R = positions(dtype, dim)
    expected = by_hand(R, [0] * N if species is None else species.tolist())
    tolerance = 1e-12 if dtype == jnp.float64 else 2e-6
    formats = list(partition.NeighborListFormat)
    for format in formats if dim == 3 and species is not None else formats[:1]:
        for f in both_forms(R, species, format):
            out = jax.jit(f)(R)
            assert out.dtype == dtype and out.shape == expected.shape
            np.testing.assert_allclose(out, expected, rtol=0, atol=8 * tolerance)
    if species is not None:
        plain, _ = both_forms(R, None, partition.Dense, types=(1, 3))
        out = plain(R, species=jnp.asarray(species))
        np.testing.assert_allclose(out, expected, rtol=0, atol=8 * tolerance)


def test_known_values():
    # Three atoms, worked out with pencil: distances of the last are 1 and sqrt(2).
    R = jnp.array([[0.0, 0, 0], [1, 1, 1], [1, 1, 0]])
    eta = 1e-4 / 0.529177**2
    displacement, _ = space.free()
    f = nn.radial_symmetry_functions(displacement, None, [eta], 8.0)
    assert f(R)[2, 0] == pytest.approx(1.885791, abs=1e-6)
    half = nn.radial_symmetry_functions(displacement, np.array([1, 1, 2]), [eta], 8.0)
    assert half(R).shape == (3, 2)
    np.testing.assert_allclose(half(R).sum(1), f(R)[:, 0], rtol=1e-12)
    # Its two neighbors are at right angles, sqrt(3) apart.
    angular = nn.angular_symmetry_functions(
        displacement, None, [eta], [1.0], [1.0], 8.0
    )
    ends = [0.5 * (np.cos(np.pi * r / 8) + 1) for r in (1, 2**0.5, 3**0.5)]
    expected = 2 * np.exp(-eta * 6) * np.prod(ends)
    assert angular(R)[2, 0] == pytest.approx(expected, rel=1e-12)
    pair = nn.behler_parrinello.single_pair_angular_symmetry_function
    one = pair(R[2] - R[0], R[2] - R[1], eta, 1.0, 1.0, 8.0)
    assert 2 * one == pytest.approx(expected, rel=1e-12)
    default = nn.behler_parrinello_symmetry_functions(displacement)
    assert default(R).shape == (3, 30)


def test_derivatives_of_both_forms_to_second_order():
    R = positions()
    plain, listed = both_forms(R, SPECIES, partition.Sparse)
    assert_same_derivatives(plain, listed, R)


def assert_same_derivatives(plain, listed, R):
    weight = jnp.cos(jnp.arange(plain(R).size)).reshape(plain(R).shape)
    along = jnp.sin(jnp.arange(R.size)).reshape(R.shape)

    def derivatives(f):
        gradient = jax.grad(lambda R: jnp.sum(weight * f(R)))
        return jax.jit(lambda R: jax.jvp(gradient, (R,), (along,)))(R)

    for a, b in zip(derivatives(plain), derivatives(listed), strict=True):
        assert np.all(np.isfinite(b))
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-10)
    h = 1e-5
    up, down = (jnp.sum(weight * plain(R + s * along)) for s in (h, -h))
    slope = float(jnp.sum(along * derivatives(listed)[0]))
    assert slope == pytest.approx(float(up - down) / (2 * h), rel=1e-7)


@pytest.mark.slow
def test_masked_entries_do_not_count():
    R = positions()
    displacement, _ = space.periodic(BOX)
    args = (displacement, None, ETAS, LAMBDAS, ZETAS, CUTOFF)
    f = nn.angular_symmetry_functions_neighbor_list(*args)
    out = []
    for format in (partition.Dense, partition.Sparse):
        neighbor = partition.neighbor_list(
            displacement,
            BOX,
            CUTOFF,
            0.2,
            custom_mask_function=lambda idx: jnp.where(idx == 0, N, idx),
            format=format,
        ).allocate(R)
        out.append(f(R, neighbor))
    without_first = nn.angular_symmetry_functions(*args)(R[1:])
    np.testing.assert_allclose(out[0][1:], without_first, rtol=1e-10, atol=1e-12)


def test_invariances_and_reach():
    displacement, _ = space.free()
    f = jax.jit(nn.behler_parrinello_symmetry_functions(displacement, None, **OPTIONS))
    R = positions()
    turn, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))
    np.testing.assert_allclose(f(R @ turn.T + 3.0), f(R), rtol=0, atol=1e-12)
    order = np.random.default_rng(2).permutation(N)
    np.testing.assert_allclose(f(R[order]), f(R)[order], rtol=0, atol=1e-12)
    assert not np.any(f(R * 100))  # nobody near
    in_line = jnp.array([[0.0, 0, 0], [1, 0, 0], [2, 0, 0]])
    coincident = jnp.array([[0.0, 0, 0], [0, 0, 0], [1, 0, 0]])
    hessians = jax.jit(jax.vmap(jax.hessian(lambda R: jnp.sum(f(R)))))
    assert np.all(np.isfinite(hessians(jnp.stack([R[:3], in_line, coincident]))))
    assert np.all(np.isnan(f(in_line.at[0, 0].set(jnp.nan))))


@pytest.mark.parametrize("cutoff_fn", [nn.cosine_cutoff, nn.quintic_cutoff])
def test_cutoffs(cutoff_fn):
    fn = lambda r: cutoff_fn(r, CUTOFF)  # noqa: E731
    assert fn(1e-3) == pytest.approx(1, abs=1e-5)
    assert fn(CUTOFF) == fn(CUTOFF + 1) == 0
    assert jax.grad(fn)(CUTOFF - 1e-9) == pytest.approx(0, abs=1e-7)
    curvature = jax.grad(jax.grad(fn))(CUTOFF - 1e-9)
    smooth = cutoff_fn is nn.quintic_cutoff
    assert (abs(curvature) < 1e-7) == smooth


@pytest.mark.slow
def test_parameters_can_be_learned():
    R = positions()
    displacement, _ = space.periodic(BOX)

    def total(shapes):
        f = nn.angular_symmetry_functions(displacement, None, *shapes, CUTOFF)
        return jnp.sum(f(R))

    shapes = [jnp.array(x) for x in (ETAS, LAMBDAS, ZETAS)]
    gradient = jax.jit(jax.grad(total))(shapes)
    h = 1e-6
    for which, m in ((0, 1), (2, 2)):
        at = [
            total([x.at[m].add(s * h * (i == which)) for i, x in enumerate(shapes)])
            for s in (1, -1)
        ]
        difference = float(at[0] - at[1]) / (2 * h)
        assert float(gradient[which][m]) == pytest.approx(difference, rel=1e-6)


def test_errors():
    displacement, _ = space.free()
    with pytest.raises(ValueError, match="one length"):
        nn.angular_symmetry_functions(displacement, None, [1.0], [1.0], [1, 2], 3.0)
    with pytest.raises(ValueError, match="`etas`"):
        nn.radial_symmetry_functions(displacement, None, 1.0, 3.0)
    f = nn.radial_symmetry_functions(displacement, SPECIES, [1.0], 3.0)
    with pytest.raises(ValueError, match="`species`"):
        f(positions()[:3])
    f = nn.radial_symmetry_functions(displacement, None, [1.0], 3.0)
    with pytest.raises(ValueError, match="types="):
        f(positions(), species=SPECIES)
    metric = space.metric(displacement)
    f = nn.angular_symmetry_functions(metric, None, [1.0], [1.0], [1.0], 3.0)
    with pytest.raises(ValueError, match="displacement"):
        f(positions())
