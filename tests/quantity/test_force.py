import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_md import quantity
from tests.soft_spheres import soft_spheres


def test_force_is_minus_the_slope():
    system = soft_spheres("periodic")
    F = quantity.force(system.energy_fn)(system.position)
    way = jax.random.normal(jax.random.key(1), system.position.shape)
    h = 1e-5
    up, down = (system.energy_fn(system.position + s * h * way) for s in (1, -1))
    np.testing.assert_allclose(-(up - down) / (2 * h), jnp.sum(F * way), rtol=1e-8)


def test_clipped_force_keeps_direction_and_bounds_the_norm():
    system = soft_spheres("periodic")
    F = quantity.force(system.energy_fn)(system.position)
    norm = jnp.linalg.norm(F, axis=1)
    limit = float(jnp.median(norm))
    clipped = quantity.clipped_force(system.energy_fn, limit)(system.position)
    expected = F * jnp.minimum(1, limit / norm)[:, None]
    np.testing.assert_allclose(clipped, expected, rtol=1e-12)


def test_clipped_force_has_finite_derivatives_where_there_is_none():
    R = jnp.zeros((2, 3))
    J = jax.jacfwd(quantity.clipped_force(lambda R: 0.5 * jnp.sum(R**2), 1.0))(R)
    np.testing.assert_allclose(J.reshape(6, 6), -np.eye(6))


def test_canonicalize_force_takes_energy_force_and_trees(dtype):
    R = {"a": jnp.ones((2, 3), dtype), "b": jnp.ones((4, 1), dtype)}

    def energy(R):
        return jnp.float64(0.5) * sum(jnp.sum(x**2) for x in R.values())

    def force(R):
        return {k: -jnp.float64(1) * x for k, x in R.items()}

    for fn in (energy, force):
        force_fn = quantity.canonicalize_force(fn)
        for F in (force_fn(R), jax.jit(force_fn)(R)):
            for name in R:
                np.testing.assert_allclose(F[name], -R[name])
                assert F[name].dtype == dtype


def test_canonicalize_force_passes_keywords_and_looks_once():
    traced = []

    def energy(R, k=1.0):
        traced.append(k)
        return k * jnp.sum(R**2) / 2

    force_fn = quantity.canonicalize_force(energy)
    R = jnp.ones((2, 2))
    np.testing.assert_allclose(force_fn(R, k=3.0), -3 * R)
    seen = len(traced)
    force_fn(R, k=3.0)
    assert len(traced) - seen == seen - 1


def test_canonicalize_force_refuses_energies_per_particle():
    with pytest.raises(ValueError, match="energy of each particle"):
        quantity.canonicalize_force(lambda R: jnp.sum(R, axis=1))(jnp.ones((4, 2)))
