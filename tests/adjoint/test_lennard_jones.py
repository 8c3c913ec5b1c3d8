"""Every method on a Lennard-Jones fluid with a list, under each kind of dynamics."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_md import adjoint, energy, minimize, simulate, space

STEPS, EVERY, DT, KT = 20, 5, 0.005, 1.0
N_SIDE, SIDE, CUTOFF, SKIN = 6, 7.2, 2.0, 0.04  # 36 particles in two dimensions

METHODS = {
    "backprop": adjoint.Backprop(),
    "stored": adjoint.Backprop(remat=False),
    "checkpointed": adjoint.Checkpointed(slots=4),
    "forward": adjoint.Forward(),
}
H = 1e-5  # relative step of central differences, in double precision whatever is tested

# Differences are off by H^2 times third derivatives, which the steep wall makes some
# hundred times the first, and by the round-off of the loss over H. A gradient in a
# precision carries some thousand of its roundings, of 20 steps and 36 particles' sums;
# methods add in another order, no more.
FROM_DIFFERENCES = {jnp.float32: 5e3 * 1.2e-7, jnp.float64: 1e-6}
FROM_EACH_OTHER = {jnp.float32: 1e3 * 1.2e-7, jnp.float64: 1e4 * 2.2e-16}

displacement_fn, shift_fn = space.periodic(SIDE)
neighbor_fn, energy_fn = energy.lennard_jones_neighbor_list(
    displacement_fn, SIDE, r_onset=1.6, r_cutoff=CUTOFF, dr_threshold=SKIN
)


def start(dtype=jnp.float64):
    grid = np.stack(np.meshgrid(*[np.arange(N_SIDE)] * 2, indexing="ij"), -1)
    R = (grid.reshape(-1, 2) + 0.5) * SIDE / N_SIDE
    R = R + 0.08 * np.random.default_rng(0).normal(size=R.shape)
    return jnp.asarray(R.astype(np.float32), dtype)  # the same in both precisions


def parameters(dtype=jnp.float64):
    return {"sigma": jnp.asarray(1.0, dtype), "epsilon": jnp.asarray(1.25, dtype)}


SIMULATORS = {
    "nve": lambda: simulate.nve(energy_fn, shift_fn, DT),
    "nvt_langevin": lambda: simulate.nvt_langevin(energy_fn, shift_fn, DT, KT, 1.0),
    "nvt_nose_hoover": lambda: simulate.nvt_nose_hoover(energy_fn, shift_fn, DT, KT),
    "fire_descent": lambda: minimize.fire_descent(energy_fn, shift_fn, 0.01, 0.03),
}


def momenta(R):
    p = np.random.default_rng(3).normal(size=R.shape)
    return jnp.asarray((p - p.mean(0)).astype(np.float32), R.dtype)


@cache
def loss_of(name, dtype):
    simulator = SIMULATORS[name]()
    neighbors = neighbor_fn.allocate(start(dtype), extra_capacity=8)

    def begin(params, R):
        if name == "fire_descent":
            first = simulator.init(R, neighbor=neighbors, **params)
        else:
            key = jax.random.key(0)
            first = simulator.init(key, R, kT=KT, neighbor=neighbors, **params)
        # Drawn numbers would differ between precisions.
        return first.set(momentum=momenta(R)), neighbors

    def step(params, state):
        state, neighbors = state
        state = simulator.step(state, neighbor=neighbors, **params)
        return state, neighbors.update(state.position)

    weights = np.random.default_rng(1).normal(size=(N_SIDE**2, 2)).astype(np.float32)

    def loss(params, R, method):
        end, seen = adjoint.rollout(
            step,
            params,
            begin(params, R),
            STEPS,
            method,
            observe=lambda state: state[0].momentum ** 2,
            every=EVERY,
        )
        wave = jnp.sin(2 * jnp.pi * end[0].position / SIDE)
        total = jnp.sum(wave * weights) + jnp.mean(seen * weights)
        broken = end[1].did_buffer_overflow
        return jnp.where(broken, jnp.nan, total), end[1].rebuilds - neighbors.rebuilds

    return loss


@cache
def gradient(name, method, dtype):
    loss = loss_of(name, dtype)
    wrt = 0 if method == "forward" else (0, 1)  # one column for each coordinate
    fn = jax.grad(lambda p, R: loss(p, R, METHODS[method]), wrt, has_aux=True)
    bars, rebuilds = jax.jit(fn)(parameters(dtype), start(dtype))
    assert rebuilds > 0
    return (bars, None) if method == "forward" else bars


@cache
def differences(name):
    """Derivatives in the parameters, and in one direction of the positions."""
    whole = loss_of(name, jnp.float64)
    loss = jax.jit(lambda p, R: whole(p, R, METHODS["stored"])[0])
    params, R = parameters(), start()
    along = jnp.asarray(np.random.default_rng(2).normal(size=R.shape))
    out = {}
    for key, value in params.items():
        h = H * value
        a, b = (loss({**params, key: value + d}, R) for d in (h, -h))
        out[key] = (a - b) / (2 * h)
    # All coordinates at once, some pair of which is close to where the cutoff begins.
    h = 0.1 * H
    out["R"] = (loss(params, R + h * along) - loss(params, R - h * along)) / (2 * h)
    return out, along


CASES = [
    *((name, m, jnp.float64) for name in SIMULATORS for m in METHODS if m != "stored"),
    *((name, "checkpointed", jnp.float32) for name in SIMULATORS),
    ("nve", "stored", jnp.float64),
    ("nve", "backprop", jnp.float32),
    ("nvt_langevin", "backprop", jnp.float32),
    ("nve", "forward", jnp.float32),
]
SLOW = [
    pytest.param(*case, id=f"{case[0]}-{case[1]}-{case[2].__name__}") for case in CASES
]


def check(name, method, dtype):
    expected, along = differences(name)
    params_bar, R_bar = gradient(name, method, dtype)
    tolerance = FROM_DIFFERENCES[dtype]
    for key, bar in params_bar.items():
        assert bar.dtype == dtype and abs(expected[key]) > 1e-3
        np.testing.assert_allclose(bar, expected[key], rtol=tolerance, err_msg=key)
    if R_bar is not None:
        products = along * R_bar  # which cancel in part
        scale = float(jnp.sum(jnp.abs(products)))
        got = jnp.sum(products)
        np.testing.assert_allclose(got, expected["R"], rtol=0, atol=tolerance * scale)


def test_checkpointed_gradient_is_that_of_central_differences():
    check("nve", "checkpointed", jnp.float64)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "method", "dtype"), SLOW)
def test_gradient_is_that_of_central_differences(name, method, dtype):
    # The precisions draw different noise, so that only one has differences.
    if name != "nvt_langevin" or dtype == jnp.float64:
        check(name, method, dtype)
    if method == "backprop" or (name, "backprop", dtype) not in CASES:
        return
    params_bar, R_bar = gradient(name, method, dtype)
    expected, R_expected = gradient(name, "backprop", dtype)
    tolerance = FROM_EACH_OTHER[dtype]
    for key, bar in params_bar.items():
        np.testing.assert_allclose(bar, expected[key], rtol=tolerance, err_msg=key)
    if R_bar is not None:
        scale = float(jnp.max(jnp.abs(R_expected)))
        np.testing.assert_allclose(R_bar, R_expected, rtol=0, atol=tolerance * scale)


@pytest.mark.slow
def test_reversible_is_the_limit_of_a_fine_lattice(dtype):
    """Its trajectory is that of `nve`, up to the rounding of the lattice."""
    template = neighbor_fn.allocate(start(dtype), extra_capacity=8)

    def with_list(R, **kwargs):
        neighbors = template.update(jax.lax.stop_gradient(R))
        return energy_fn(R, neighbor=neighbors, **kwargs)

    simulator = simulate.nve_reversible(with_list, SIDE, DT)
    step = simulator.for_adjoint(lambda params: params)
    weights = np.random.default_rng(1).normal(size=(N_SIDE**2, 2)).astype(np.float32)

    def value(params, R, method):
        state = simulator.init(jax.random.key(0), R, kT=KT)
        end, _ = adjoint.rollout(step, params, state, STEPS, method)
        return jnp.sum(jnp.sin(2 * jnp.pi * end.position / SIDE) * weights)

    fn = jax.jit(jax.grad(lambda p, R: value(p, R, adjoint.Reversible())))
    bars = fn(parameters(dtype), start(dtype))
    # Momenta are rounded to 3e-8 in each step, whatever the precision of the forces.
    difference = {}
    plain = jax.jit(value, static_argnums=2)
    h = 1e-3
    for key, v in parameters(dtype).items():
        a, b = (
            float(
                plain(
                    {**parameters(dtype), key: v + d}, start(dtype), METHODS["stored"]
                )
            )
            for d in (h, -h)
        )
        difference[key] = (a - b) / (2 * h)
    for key, bar in bars.items():
        rtol = 2e-2 if dtype == jnp.float32 else 1e-3
        np.testing.assert_allclose(bar, difference[key], rtol=rtol)
