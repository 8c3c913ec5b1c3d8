"""Sums over bonds, angles and torsions."""

import jax.numpy as jnp
import numpy as np
import pytest

from jax_md import smap, space

Tree, Map = smap.ParameterTree, smap.ParameterTreeMapping
R = jnp.asarray(np.random.default_rng(0).normal(size=(6, 3)))
displacement, _ = space.free()
BONDS = np.array([[0, 1], [2, 3], [4, 1]])
TYPES = np.array([0, 1, 1])
K = np.array([1.0, 2.0])


def harmonic(dr, k=1.0, **unused):
    return k * dr**2


def lengths(bonds=BONDS):
    return np.linalg.norm(
        np.asarray(R)[bonds[:, 0]] - np.asarray(R)[bonds[:, 1]], axis=1
    )


@pytest.mark.parametrize(
    ("types", "k", "value"),
    [
        (None, 1.5, 1.5),
        (None, np.array([1.0, 2.0, 3.0]), np.array([1.0, 2.0, 3.0])),
        (TYPES, 1.5, 1.5),
        (TYPES, jnp.array(1.5), 1.5),
        (TYPES, K, K[TYPES]),
        (TYPES, Tree(K, Map.PerBond), K[TYPES]),
        (TYPES, Tree(jnp.array(1.5), Map.Global), 1.5),
    ],
)
def test_forms_of_parameters(types, k, value):
    energy = smap.bond(harmonic, space.metric(displacement), BONDS, types, k=k)
    expected = np.sum(value * lengths() ** 2)
    np.testing.assert_allclose(energy(R), expected, rtol=1e-12)
    energy = smap.bond(harmonic, space.metric(displacement))
    np.testing.assert_allclose(energy(R, BONDS, types, k=k), expected, rtol=1e-12)
    both = smap.bond(harmonic, space.metric(displacement), BONDS, types, k=k)
    np.testing.assert_allclose(both(R, BONDS, types), 2 * expected, rtol=1e-12)


def test_no_bonds_are_zero_and_carry_the_dtype():
    out = smap.bond(harmonic, space.metric(displacement))(R.astype("float32"))
    assert out == 0 and out.dtype == "float32"


def test_combinators_act_on_particles():
    k = np.random.default_rng(1).uniform(size=6)
    multiply = lambda a, b: a * b  # noqa: E731
    expected = np.sum(k[BONDS[:, 0]] * k[BONDS[:, 1]] * lengths() ** 2)
    metric = space.metric(displacement)
    energy = smap.bond(harmonic, metric, BONDS, k=(multiply, k))
    np.testing.assert_allclose(energy(R), expected, rtol=1e-12)
    energy = smap.bond(harmonic, metric, BONDS, k=multiply)
    np.testing.assert_allclose(energy(R, k=k), expected, rtol=1e-12)
    tree = (multiply, Tree({"k": k}, Map.PerParticle))
    energy = smap.bond(lambda dr, p: p["k"] * dr**2, metric, BONDS, p=tree)
    np.testing.assert_allclose(energy(R), expected, rtol=1e-12)
    wrong = smap.bond(harmonic, metric, BONDS, k=(multiply, Tree(k, Map.PerSpecies)))
    with pytest.raises(ValueError, match="PerSpecies"):
        wrong(R)


@pytest.mark.parametrize(
    ("k", "error"),
    [
        (np.ones((2, 2)), ValueError),
        (Tree(K, Map.PerParticle), ValueError),
        (Tree(K, Map.PerSpecies), ValueError),
        ("stiff", NotImplementedError),
    ],
)
def test_forms_without_meaning_are_refused(k, error):
    with pytest.raises(error, match="`k`"):
        smap.bond(harmonic, space.metric(displacement), BONDS, TYPES, k=k)(R)


def test_columns_beyond_the_group_are_ignored():
    """A transposed array of bonds is read by its first two columns."""
    energy = smap.bond(harmonic, space.metric(displacement), BONDS.T)
    np.testing.assert_allclose(
        energy(R), np.sum(lengths(BONDS.T[:, :2]) ** 2), rtol=1e-12
    )
    with pytest.raises(ValueError, match="bonds"):
        smap.bond(harmonic, space.metric(displacement), np.array([0, 1]))(R)


def test_angle_sees_both_arms_from_the_vertex():
    angles = np.array([[0, 1, 2], [3, 4, 5]])
    k, p = np.array([1.0, 3.0]), np.asarray(R)

    def fn(r_01, r_21, k, **unused):
        return k * (jnp.sum(r_01 * r_21, -1) + 0.1 * jnp.sum(r_01, -1))

    arms = [(p[a] - p[b], p[c] - p[b]) for a, b, c in angles]
    values = np.array([x @ y + 0.1 * x.sum() for x, y in arms])
    energy = smap.angle(fn, displacement, angles, np.array([1, 0]), k=k)
    np.testing.assert_allclose(energy(R), np.sum(k[::-1] * values), rtol=1e-12)
    product = smap.angle(fn, displacement, k=lambda a, b, c: a * b * c)
    q = np.arange(1.0, 7)
    expected = q[:3].prod() * values[0] + q[3:].prod() * values[1]
    np.testing.assert_allclose(product(R, angles, k=q), expected, rtol=1e-12)


def test_torsion_sees_the_three_bonds_in_order():
    torsions, p = np.array([[0, 1, 2, 3], [2, 3, 4, 5]]), np.asarray(R)

    def fn(b0, b1, b2, k=1.0, **unused):
        return k * jnp.sum(b0 * jnp.cross(b1, b2), -1)

    b = [np.diff(p[t], axis=0) for t in torsions]
    values = np.array([x[0] @ np.cross(x[1], x[2]) for x in b])
    energy = smap.torsion(fn, displacement, torsions, np.array([1, 0]), k=K)
    np.testing.assert_allclose(energy(R), np.sum(K[::-1] * values), rtol=1e-12)
    np.testing.assert_allclose(
        smap.torsion(fn, displacement)(R, torsions), values.sum(), rtol=1e-12
    )
