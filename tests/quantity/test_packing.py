import jax.numpy as jnp
import numpy as np
import pytest

from jax_md import quantity


def test_ball_volumes():
    for d, volume in ((1, 2), (2, np.pi), (3, 4 * np.pi / 3), (4, np.pi**2 / 2)):
        np.testing.assert_allclose(quantity.nball_unit_volume(d), volume)


def test_box_size_and_volume_fraction_are_inverse():
    species = jnp.array([0, 1, 1, 0, 1])
    radii = jnp.array([0.5, 0.7])
    side = quantity.box_size_at_volume_fraction(0.6, radii, 3, species=species)
    found = quantity.volume_fraction(side, radii, 3, species=species)
    np.testing.assert_allclose(found, 0.6)
    counted = quantity.volume_fraction(side, radii, 3, jnp.array([2, 3]))
    np.testing.assert_allclose(counted, 0.6)
    filled = 4 * np.pi / 3 * (2 * 0.5**3 + 3 * 0.7**3)
    np.testing.assert_allclose(quantity.particle_volume(radii, 3, [2, 3]), filled)


def test_number_density_gives_numbers_for_numbers():
    side = quantity.box_size_at_number_density(27, 8.0, 3)
    assert isinstance(side, float)  # a strong float64 would promote float32 positions
    np.testing.assert_allclose(side, 1.5)


def test_box_from_parameters_gives_back_lengths_and_angles():
    lengths, angles = np.array([3.0, 4.0, 5.0]), np.array([80.0, 95.0, 110.0])
    box = quantity.box_from_parameters(*lengths, *angles)
    np.testing.assert_allclose(box, np.triu(box))
    np.testing.assert_allclose(np.linalg.norm(box, axis=0), lengths)
    a, b, c = np.asarray(box / lengths).T
    found = np.rad2deg(np.arccos([b @ c, a @ c, a @ b]))
    np.testing.assert_allclose(found, angles)
    assert quantity.box_from_parameters(3, 4, 5, 90, 90, 90).shape == (3, 3)


@pytest.mark.parametrize("x", [3, np.int32(3), jnp.array([1, 2])])
def test_integers(x):
    assert quantity.is_integer(x)
    assert not quantity.is_integer(x * 1.0)
