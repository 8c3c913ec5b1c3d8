import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_md import quantity, space
from tests.soft_spheres import SPACES, pair_sum, soft_spheres

VELOCITY = jax.random.normal(jax.random.key(3), (8, 3))
MASS = jnp.linspace(1.0, 2.0, 8)


def energy_in(kind, F):
    """Energy of the same system with box and positions strained by `F`."""
    system = soft_spheres(kind)
    if kind == "free":
        return system.energy_fn(space.raw_transform(F, system.position))
    box = system.box
    box = F @ (box * jnp.eye(3) if jnp.ndim(box) == 0 else box)
    s = system.position
    if kind != "fractional":
        s = space.raw_transform(space.inverse(system.box), s)
    return pair_sum(space.periodic_general(box)[0])(s)


@pytest.mark.parametrize("kind", SPACES)
def test_stress_is_the_slope_of_the_energy_of_a_strained_box(kind):
    system = soft_spheres(kind)
    V = quantity.volume(3, system.box)
    found = quantity.stress(system.energy_fn, system.position, system.box)
    h = 1e-5
    for i in range(3):
        for j in range(3):
            strain = jnp.zeros((3, 3)).at[i, j].set(h)
            up, down = (energy_in(kind, jnp.eye(3) + s * strain) for s in (1, -1))
            np.testing.assert_allclose(
                found[i, j], -(up - down) / (2 * h * V), rtol=1e-7, atol=1e-9
            )
    P = quantity.pressure(system.energy_fn, system.position, system.box)
    np.testing.assert_allclose(P, jnp.trace(found) / 3, rtol=1e-12)
    assert P > 0  # repulsive spheres push outwards


@pytest.mark.parametrize("kind", SPACES)
def test_kinetic_parts(kind, dtype):
    system = soft_spheres(kind, dtype=dtype)
    v = VELOCITY.astype(dtype)
    args = system.energy_fn, system.position, system.box
    K = quantity.kinetic_energy(velocity=v, mass=MASS.astype(dtype))
    P = quantity.pressure(*args, K)
    S = quantity.stress(*args, mass=MASS, velocity=v)
    assert P.dtype == S.dtype == dtype
    np.testing.assert_allclose(jnp.trace(S) / 3, P, rtol=1e-5)
    V = quantity.volume(3, system.box)
    kinetic = (MASS[:, None] * VELOCITY).T @ VELOCITY / V
    np.testing.assert_allclose(S - quantity.stress(*args), kinetic, rtol=2e-4)


def test_keywords_reach_the_energy():
    system = soft_spheres("periodic")
    args = system.position, system.box
    small = quantity.pressure(system.energy_fn, *args, sigma=0.7)
    fixed = quantity.pressure(lambda R, **kw: system.energy_fn(R, 0.7, **kw), *args)
    np.testing.assert_allclose(small, fixed)
    assert small < quantity.pressure(system.energy_fn, *args)


def test_volume():
    np.testing.assert_allclose(quantity.volume(3, 2.0), 8)
    np.testing.assert_allclose(quantity.volume(2, jnp.array([2.0, 3.0])), 6)
    np.testing.assert_allclose(
        quantity.volume(2, jnp.array([[2.0, 7.0], [0.0, 3.0]])), 6
    )
    with pytest.raises(ValueError, match="`box`"):
        quantity.volume(2, jnp.ones((2, 2, 2)))


def test_bulk_modulus_of_an_isotropic_solid():
    d, bulk, shear = 3, 2.0, 0.7
    one = np.eye(d)
    ij_kl = np.einsum("ij,kl->ijkl", one, one)
    symmetric = np.einsum("ik,jl->ijkl", one, one) + np.einsum("il,jk->ijkl", one, one)
    C = bulk * ij_kl + shear * (symmetric - 2 / d * ij_kl)
    np.testing.assert_allclose(quantity.bulk_modulus(jnp.array(C)), bulk)
