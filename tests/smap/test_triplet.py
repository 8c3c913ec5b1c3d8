"""Sums over triplets."""

import jax.numpy as jnp
import numpy as np
import pytest

from jax_md import smap, space

N = 4
R = jnp.asarray(np.random.default_rng(0).normal(size=(N, 3)))
displacement, _ = space.free()
SPECIES = np.array([0, 1, 1, 0])
TABLE = np.random.default_rng(1).uniform(size=(2, 2, 2))


def fn(dR_ij, dR_ik, k=1.0, **unused):
    return k * (jnp.sum(dR_ij * dR_ik) ** 2 + jnp.sum(dR_ij))


def brute(k):
    p = np.asarray(R)
    out = np.zeros((N, N, N))
    for i in range(N):
        for j in range(N):
            for m in range(N):
                a, b = p[j] - p[i], p[m] - p[i]  # from the central particle
                out[i, j, m] = k(i, j, m) * ((a @ b) ** 2 + a.sum()) / 2
    return out


def test_sum_over_ordered_triplets():
    expected = brute(lambda *_: 2.0)
    np.testing.assert_allclose(
        smap.triplet(fn, displacement, k=2.0)(R), expected.sum(), rtol=1e-12
    )
    per_particle = smap.triplet(fn, displacement, reduce_axis=(1, 2), k=2.0)
    np.testing.assert_allclose(per_particle(R), expected.sum((1, 2)), rtol=1e-12)


def test_species_tables_are_read_at_center_j_k():
    energy = smap.triplet(fn, displacement, species=SPECIES, k=TABLE)
    s = SPECIES
    expected = brute(lambda i, j, m: TABLE[s[i], s[j], s[m]]).sum()
    np.testing.assert_allclose(energy(R), expected, rtol=1e-12)
    constant = smap.triplet(fn, displacement, species=SPECIES, k=np.array(2.0))
    np.testing.assert_allclose(constant(R), brute(lambda *_: 2.0).sum(), rtol=1e-12)


def test_errors():
    with pytest.raises(NotImplementedError, match="number of species"):
        smap.triplet(fn, displacement, species=2)
    for species in ("a", np.ones(N), np.ones((N, 1), int)):
        with pytest.raises(ValueError, match="species"):
            smap.triplet(fn, displacement, species=species)
    for k in (np.ones(N), np.ones((2, 2)), "a"):
        with pytest.raises(ValueError, match="`k`"):
            smap.triplet(fn, displacement, species=SPECIES, k=k)(R)
