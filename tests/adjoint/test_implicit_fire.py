"""FIRE on its way to a minimum, differentiated step by step by every method."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_md import adjoint, energy, minimize, space

N, SIDE, STEPS = 10, 2.6, 25
# Of third derivatives of order 100 and round-off of 1e-16 / H.
H, DIFFERENCES = 1e-6, 1e-7

displacement_fn, shift_fn = space.periodic(SIDE)
init, step = minimize.fire_descent(
    energy.soft_sphere_pair(displacement_fn, alpha=2.5), shift_fn
)
START = SIDE * np.random.default_rng(0).random((N, 2))
PARAMS = jnp.array([0.9, 1.2])


def loss(params, method):
    sigma, epsilon = params
    start = init(jnp.asarray(START), sigma=sigma, epsilon=epsilon)

    def fire(params, state):
        return step(state, sigma=params[0], epsilon=params[1])

    end, seen = adjoint.rollout(
        fire, params, start, STEPS, method, observe=lambda s: s.dt, every=5
    )
    wave = jnp.sin(jnp.arange(2 * N).reshape(N, 2) + end.position)
    return jnp.sum(wave) + jnp.sum(end.momentum**2), seen


@pytest.mark.parametrize(
    "method", [adjoint.Backprop(), adjoint.Checkpointed(), adjoint.Forward()], ids=repr
)
def test_fire_as_the_step_of_a_rollout(method):
    gradient, seen = jax.jit(jax.grad(loss, has_aux=True), static_argnums=1)(
        PARAMS, method
    )
    # Steps have grown, stopped and shrunk on the way, or little would be tested.
    assert jnp.min(seen) < seen[0] < jnp.max(seen) or len(set(map(float, seen))) > 3
    value = jax.jit(lambda p: loss(p, adjoint.Backprop())[0])
    for i in range(2):
        h = H * jnp.zeros(2).at[i].set(1)
        difference = (value(PARAMS + h) - value(PARAMS - h)) / (2 * H)
        assert abs(difference) > 0.1
        np.testing.assert_allclose(gradient[i], difference, rtol=DIFFERENCES)
