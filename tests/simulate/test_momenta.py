import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_md import simulate
from jax_md.simulate import NVEState


def state_of(R, mass):
    return simulate.canonicalize_mass(NVEState(R, None, None, mass))


def test_momenta_have_the_variance_of_their_masses(dtype):
    n = 20_000
    mass = jnp.where(jnp.arange(n) < n // 2, 1.0, 4.0)
    state = state_of(jnp.zeros((n, 3), dtype), mass)
    p = simulate.initialize_momenta(state, jax.random.key(0), 0.7).momentum
    assert p.dtype == dtype
    for half, m in ((p[: n // 2], 1.0), (p[n // 2 :], 4.0)):
        # The variance of n normal numbers has the relative error sqrt(2 / n).
        np.testing.assert_allclose(
            jnp.var(half), m * 0.7, rtol=5 * np.sqrt(2 / (1.5 * n))
        )
    assert jnp.max(jnp.abs(jnp.mean(p, axis=0))) < 10 * jnp.finfo(dtype).eps


def test_one_particle_is_not_centered_and_leaves_differ():
    R = {"a": jnp.zeros((1, 3)), "b": jnp.zeros((1, 3))}
    p = simulate.initialize_momenta(state_of(R, 1.0), jax.random.key(0), 1.0).momentum
    assert jnp.all(p["a"] != 0)
    assert jnp.all(p["a"] != p["b"])
    other = simulate.initialize_momenta(state_of(R, 1.0), jax.random.key(1), 1.0)
    assert jnp.all(other.momentum["a"] != p["a"])


def test_gradients_are_finite_at_rest():
    def total(kT, mass):
        state = state_of(jnp.zeros((4, 2)), mass)
        p = simulate.initialize_momenta(state, jax.random.key(0), kT).momentum
        return jnp.sum(p**2)

    for slope in jax.grad(total, (0, 1))(0.0, jnp.ones(4)):
        assert jnp.all(jnp.isfinite(slope))


@pytest.mark.parametrize("mass", [2, 2.0, np.float32(2), jnp.array(2.0)])
def test_scalar_masses_stay_scalars(mass, dtype):
    found = state_of(jnp.ones((3, 2), dtype), mass).mass
    assert found.shape == () and found == 2 and found.dtype == dtype


def test_masses_become_columns_or_are_refused():
    R = jnp.ones((3, 2))
    for mass in (jnp.arange(3.0), jnp.arange(3.0)[:, None], np.arange(3.0)):
        assert state_of(R, mass).mass.shape == (3, 1)
    with pytest.raises(ValueError, match="`mass`"):
        state_of(R, jnp.ones((3, 2)))


def test_given_momenta_are_kept():
    state = NVEState(jnp.ones((3, 2)), jnp.zeros((3, 2)), None, 1.0)
    assert simulate.canonicalize_momenta(state, None) is state
    p = jnp.arange(6.0).reshape(3, 2)
    np.testing.assert_array_equal(simulate.canonicalize_momenta(state, p).momentum, p)
    with pytest.raises(ValueError, match="`momenta`"):
        simulate.canonicalize_momenta(state, p[:2])
