import jax.numpy as jnp
import numpy as np
import pytest

from jax_md import quantity, space


def test_a_jump_that_wanders_through_the_window(dtype):
    displacement, shift = space.periodic(3.0)
    init, update = quantity.phop(displacement, 20)
    R = jnp.array([[0.5, 0.5], [2.5, 1.0]], dtype)
    state = update(init(R), R)
    R = shift(R, jnp.ones_like(R))  # the second particle crosses the boundary
    state = update(state, R)
    for i in range(1, 11):
        state = update(state, R)
        np.testing.assert_allclose(state.phop, (i / 10) ** 1.5, rtol=1e-5)
        assert state.phop.dtype == state.position_buffer.dtype == dtype


def test_windows_have_two_halves():
    with pytest.raises(ValueError, match="even"):
        quantity.phop(space.free()[0], 7)
