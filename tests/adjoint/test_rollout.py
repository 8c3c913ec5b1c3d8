"""Every method on the dynamics of small liquids, against central differences."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_md import adjoint, energy, simulate, space

STEPS, EVERY, DT = 12, 4, 0.02
N_SIDE, SIDE = 3, 3.3  # 27 particles that touch

EXACT = {
    "backprop": adjoint.Backprop(),
    "stored": adjoint.Backprop(remat=False),
    "sqrt": adjoint.Checkpointed(),
    "two slots": adjoint.Checkpointed(slots=2),
    "forward": adjoint.Forward(),
    "one window": adjoint.Truncated(window=STEPS),
}
# Third derivatives are of order one, so the error of differences is H^2; round-off is
# 1e-16 / H. Methods differ only in the order in which they add.
H, DIFFERENCES, ROUND_OFF = 1e-5, 1e-7, 1e-11

displacement_fn, shift_fn = space.periodic(SIDE)
PARAMS = {"sigma": jnp.array(1.2), "epsilon": jnp.array(40.0)}


def start():
    grid = np.stack(np.meshgrid(*[np.arange(N_SIDE)] * 3, indexing="ij"), -1)
    R = (grid.reshape(-1, 3) + 0.5) * SIDE / N_SIDE
    return jnp.asarray(R + 0.1 * np.random.default_rng(0).normal(size=R.shape))


def nve():
    energy_fn = energy.soft_sphere_pair(displacement_fn, alpha=4.0)
    init, step = simulate.nve(energy_fn, shift_fn, DT)
    return (
        lambda params, state: step(state, **params),
        lambda params, R: init(jax.random.key(0), R, kT=0.5, **params),
    )


def nve_with_list():
    neighbor_fn, energy_fn = energy.soft_sphere_neighbor_list(
        displacement_fn, SIDE, sigma=1.2, alpha=4.0, dr_threshold=0.05
    )
    init, apply = simulate.nve(energy_fn, shift_fn, DT)
    neighbors = neighbor_fn.allocate(start(), extra_capacity=6)

    def step(params, state):
        state, neighbors = state
        state = apply(state, neighbor=neighbors, **params)
        return state, neighbors.update(state.position)

    def begin(params, R):
        kT = 0.5
        first = init(jax.random.key(0), R, kT=kT, neighbor=neighbors, **params)
        return first, neighbors

    return step, begin


def langevin():
    energy_fn = energy.soft_sphere_pair(displacement_fn, alpha=4.0)
    init, step = simulate.nvt_langevin(energy_fn, shift_fn, DT, kT=0.5, gamma=0.5)
    return (
        lambda params, state: step(state, **params),
        lambda params, R: init(jax.random.key(0), R, **params),
    )


DYNAMICS = {"nve": nve, "list": nve_with_list, "langevin": langevin}


def mechanical(state):
    return state[0] if isinstance(state, tuple) else state


@cache
def loss_of(dynamics):
    step, begin = DYNAMICS[dynamics]()
    weights = jnp.asarray(np.random.default_rng(1).normal(size=(N_SIDE**3, 3)))

    def loss(params, R, method):
        end, seen = adjoint.rollout(
            step,
            params,
            begin(params, R),
            STEPS,
            method=method,
            observe=lambda state: {"p": mechanical(state).momentum},
            every=EVERY,
        )
        wave = jnp.sin(2 * jnp.pi * mechanical(end).position / SIDE)
        return jnp.sum(weights * wave) + jnp.mean(seen["p"] ** 2 * weights)

    return loss


@cache
def gradient(dynamics, name):
    loss = loss_of(dynamics)
    wrt = 0 if name == "forward" else (0, 1)  # one column for each coordinate
    fn = jax.jit(jax.grad(lambda params, R: loss(params, R, EXACT[name]), wrt))
    bars = fn(PARAMS, start())
    return (bars, None) if name == "forward" else bars


@pytest.mark.parametrize("dynamics", DYNAMICS)
def test_gradient_is_that_of_central_differences(dynamics):
    loss = jax.jit(lambda params, R: loss_of(dynamics)(params, R, EXACT["backprop"]))
    params_bar, R_bar = gradient(dynamics, "backprop")
    R, rng = start(), np.random.default_rng(2)
    for name, value in PARAMS.items():
        h = H * value
        a, b = (loss({**PARAMS, name: value + d}, R) for d in (h, -h))
        difference = (a - b) / (2 * h)
        assert abs(difference) > 1e-4
        np.testing.assert_allclose(params_bar[name], difference, rtol=DIFFERENCES)
    along = jnp.asarray(rng.normal(size=R.shape))
    difference = (loss(PARAMS, R + H * along) - loss(PARAMS, R - H * along)) / (2 * H)
    np.testing.assert_allclose(jnp.sum(along * R_bar), difference, rtol=DIFFERENCES)


@pytest.mark.parametrize(
    ("dynamics", "name"),
    [
        *(("nve", name) for name in EXACT if name != "backprop"),
        ("list", "two slots"),
        ("list", "forward"),
        ("langevin", "sqrt"),
        ("langevin", "forward"),
    ],
)
def test_methods_agree(dynamics, name):
    params_bar, R_bar = gradient(dynamics, name)
    expected, R_expected = gradient(dynamics, "backprop")
    for key in PARAMS:
        np.testing.assert_allclose(params_bar[key], expected[key], rtol=ROUND_OFF)
    if R_bar is None:
        return
    scale = float(jnp.max(jnp.abs(R_expected)))
    np.testing.assert_allclose(R_bar, R_expected, atol=ROUND_OFF * scale)


def test_the_list_is_rebuilt_on_the_way():
    step, begin = nve_with_list()
    (_, neighbors), _ = adjoint.rollout(step, PARAMS, begin(PARAMS, start()), STEPS)
    assert int(neighbors.rebuilds) > 0 and not neighbors.did_buffer_overflow


@pytest.mark.parametrize("method", [adjoint.Backprop(), adjoint.Checkpointed(3)])
def test_values_are_those_of_a_loop(method, dtype):
    step, begin = langevin()
    state = begin(PARAMS, start().astype(dtype))
    end, seen = adjoint.rollout(
        step, PARAMS, state, 6, method=method, observe=lambda s: s.position, every=2
    )
    frames = []
    for i in range(6):
        state = step(PARAMS, state)
        frames += [state.position] if i % 2 else []
    assert end.position.dtype == seen.dtype == dtype
    assert seen.shape == (3, *state.position.shape)
    tolerance = 30 * float(jnp.finfo(dtype).eps)  # a few steps, each of a few roundings
    np.testing.assert_allclose(seen, jnp.stack(frames), rtol=0, atol=3 * tolerance)
    np.testing.assert_array_equal(
        jax.random.key_data(end.rng), jax.random.key_data(state.rng)
    )
