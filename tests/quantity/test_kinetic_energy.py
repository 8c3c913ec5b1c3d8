import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_md import quantity, util

V = jax.random.normal(jax.random.key(0), (3, 3))
M = jnp.array([1.0, 2.0, 5.0])
# Three particles in three dimensions: a mass [3] must go by particle, not by component.
K = 0.5 * np.sum(np.asarray(M)[:, None] * np.asarray(V) ** 2)


@pytest.mark.parametrize("mass", [M, M[:, None]], ids=["n", "n1"])
def test_kinetic_energy_and_temperature(mass, dtype):
    v, m = V.astype(dtype), mass.astype(dtype)
    p = v * M[:, None].astype(dtype)
    for motion in ({"velocity": v}, {"momentum": p}):
        found = quantity.kinetic_energy(**motion, mass=m)
        assert found.dtype == dtype
        np.testing.assert_allclose(found, K, rtol=1e-6)
        kT = quantity.temperature(**motion, mass=m)
        np.testing.assert_allclose(kT, 2 * K / 9, rtol=1e-6)


def test_trees_with_one_mass():
    tree = {"a": V, "b": V[:2]}
    expected = 0.5 * 3.0 * (np.sum(V**2) + np.sum(V[:2] ** 2))
    found = quantity.kinetic_energy(velocity=tree, mass=3.0)
    np.testing.assert_allclose(found, expected)
    assert quantity.count_dof(tree) == 15


@pytest.mark.parametrize("fn", [quantity.kinetic_energy, quantity.temperature])
def test_refusals(fn):
    with pytest.raises(ValueError, match="keywords only"):
        fn(V)
    with pytest.raises(ValueError, match="both"):
        fn(momentum=V, velocity=V)
    with pytest.raises(ValueError, match="neither"):
        fn()


def test_custom_position_types_bring_their_own(monkeypatch):
    class Body:
        pass

    monkeypatch.setattr(util, "CUSTOM_SIMULATION_TYPE", [Body])
    with pytest.raises(ValueError, match="Body"):
        quantity.count_dof(Body())
    with pytest.raises(ValueError, match="Body"):
        quantity.kinetic_energy(momentum=Body())
    quantity.count_dof.register(Body, lambda position: 6)
    assert quantity.count_dof(Body()) == 6


def test_stokes_law():
    found = quantity.gamma_from_stokes_law_3d(0.5, 2.0, 3.0)
    np.testing.assert_allclose(found, 2 * np.pi)
