import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_md import partition, quantity, space

RADII = np.linspace(0.6, 1.6, 6)
SIGMA = 0.1
SIDE = 5.0
SPECIES = np.array([0, 2, 2, 0, 5] * 8)


def positions(dim, dtype=jnp.float64):
    return SIDE * jax.random.uniform(jax.random.key(dim), (40, dim), dtype)


def by_hand(R, species=None, wanted=None):
    """Sum over partners, pair by pair, in numpy."""
    R = np.asarray(R, float)
    g = np.zeros((len(R), len(RADII)))
    for i in range(len(R)):
        for j in range(len(R)):
            if i != j and (species is None or species[j] == wanted):
                dR = R[i] - R[j]
                r = np.linalg.norm(dR - SIDE * np.round(dR / SIDE))
                g[i] += np.exp(-((r - RADII) ** 2) / (2 * SIGMA**2))
    return g / (RADII + 1e-7) ** (R.shape[1] - 1)


@pytest.mark.parametrize("dim", [2, 3])
def test_pair_correlation_is_a_sum_of_gaussians(dim, dtype):
    displacement, _ = space.periodic(SIDE)
    R = positions(dim, dtype)
    found = quantity.pair_correlation(displacement, RADII, SIGMA)(R)
    assert found.dtype == dtype
    np.testing.assert_allclose(found, by_hand(R), rtol=1e-4, atol=1e-5)


def test_species_and_averages():
    displacement, _ = space.periodic(SIDE)
    R = positions(3)
    labels = np.unique(SPECIES)
    for species in (SPECIES, jnp.asarray(SPECIES)):
        g = quantity.pair_correlation(displacement, RADII, SIGMA, species)(R)
        for label, one in zip(labels, g, strict=True):
            np.testing.assert_allclose(one, by_hand(R, SPECIES, label), atol=1e-12)
    average = quantity.average_pair_correlation_results(g, SPECIES)
    assert average.shape == (3, 3, len(RADII))
    for a in range(3):
        for b in range(3):
            expected = g[a][SPECIES == labels[b]].mean(axis=0)
            np.testing.assert_allclose(average[a][b], expected)
    direct = quantity.pair_correlation(
        displacement, RADII, SIGMA, SPECIES, compute_average=True
    )
    np.testing.assert_allclose(direct(R), average)
    plain = quantity.pair_correlation(displacement, RADII, SIGMA, compute_average=True)
    np.testing.assert_allclose(plain(R), by_hand(R).mean(axis=0))


# Each format with either kind of coordinates, species and precision at least once.
CASES = [
    (partition.Dense, False, None, jnp.float32),
    (partition.Dense, True, SPECIES, jnp.float64),
    (partition.Sparse, True, None, jnp.float32),
    (partition.Sparse, False, SPECIES, jnp.float64),
    (partition.OrderedSparse, True, SPECIES, jnp.float32),
    (partition.OrderedSparse, False, None, jnp.float64),
]


@pytest.mark.parametrize(("form", "fractional", "species", "dtype"), CASES)
def test_neighbor_lists_give_the_exact_result(form, fractional, species, dtype):
    box = SIDE * jnp.eye(2, dtype=dtype)
    displacement, _ = space.periodic_general(box, fractional)
    R = positions(2, dtype)
    R = R / SIDE if fractional else R
    exact = quantity.pair_correlation(displacement, RADII, SIGMA, species)(R)
    neighbor_fn, g_fn = quantity.pair_correlation_neighbor_list(
        displacement,
        box if fractional else SIDE,
        RADII,
        SIGMA,
        species,
        fractional_coordinates=fractional,
        format=form,
    )
    found = g_fn(R, neighbor=neighbor_fn.allocate(R))
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(exact), strict=True):
        assert a.dtype == dtype
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_coincident_particles_have_finite_gradients():
    R = positions(2).at[1].set(positions(2)[0])
    g = quantity.pair_correlation(space.periodic(SIDE)[0], RADII, SIGMA)
    slope = jax.grad(lambda R: jnp.sum(g(R) ** 2))(R)
    assert jnp.all(jnp.isfinite(slope))


def test_species_are_integers():
    for species in ([0, 1], jnp.array([0.0, 1.0])):
        with pytest.raises(TypeError, match="`species`"):
            quantity.pair_correlation(space.free()[0], RADII, SIGMA, species)
