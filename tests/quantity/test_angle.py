import jax
import jax.numpy as jnp
import numpy as np

from jax_md import quantity


def test_cosines_of_known_angles(dtype):
    angles = np.linspace(0, np.pi, 7)
    arms = jnp.array(np.stack([2 * np.cos(angles), 2 * np.sin(angles)], 1), dtype)
    found = quantity.cosine_angles(arms[None])
    assert found.shape == (1, 7, 7) and found.dtype == dtype
    expected = np.cos(angles[:, None] - angles[None])
    np.testing.assert_allclose(found[0], expected, atol=3e-7)


def test_a_zero_vector_has_no_angle_and_no_slope():
    def total(dR):
        return jnp.sum(quantity.cosine_angles(dR))

    dR = jnp.array([[[1.0, 2.0], [0.0, 0.0], [-1.0, 0.5]]])
    assert quantity.cosine_angle_between_two_vectors(dR[0, 0], dR[0, 1]) == 0
    assert jnp.all(jnp.isfinite(jax.grad(total)(dR)))
    assert jnp.all(jnp.isfinite(jax.hessian(total)(dR)))
