"""Gradients that walk back through rebuilds of a neighbor list."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_md import adjoint, energy, simulate, space

STEPS, SIDE, SKIN = 24, 4.2, 0.06
TILTED = jnp.array([[SIDE, 0.4, 0.2], [0.0, SIDE, -0.3], [0.0, 0.0, SIDE]])
START = {"epsilon": 1.0, "sigma": 1.0}
EVERY = 6
METHODS = {
    "reversible": adjoint.Reversible(),
    "hybrid": adjoint.Hybrid(EVERY),
    "checkpointed": adjoint.Checkpointed(5),
    "backprop": adjoint.Backprop(),
}


def grid(side):
    s = np.stack(np.meshgrid(*[np.arange(4)] * 3, indexing="ij"), -1).reshape(-1, 3)
    noise = np.random.default_rng(0).normal(size=s.shape)
    return jnp.asarray((s + 0.5) / 4 + 0.01 * noise / 4) % 1.0


def fluid(
    name="nve", kind="periodic", dtype=jnp.float64, extra=8, skin=SKIN, **options
):
    fractional = kind == "fractional"
    box = jnp.asarray(SIDE if kind == "periodic" else TILTED, dtype)
    displacement_fn, _ = space.periodic_general(box, fractional)
    s = grid(SIDE).astype(dtype)
    R = s if fractional else space.raw_transform(box, s)
    neighbor_fn, energy_fn = energy.lennard_jones_neighbor_list(
        displacement_fn,
        box,
        r_onset=1.3,
        r_cutoff=1.7,
        dr_threshold=skin,
        fractional_coordinates=fractional,
    )
    options |= {"fractional_coordinates": fractional, "momentum_range": 16.0}
    dt = 0.01
    make = {
        "nve": lambda: simulate.nve_reversible(energy_fn, box, dt, **options),
        "langevin": lambda: simulate.nvt_langevin_reversible(
            energy_fn, box, dt, 1.0, 2.0, **options
        ),
        "nose_hoover": lambda: simulate.nvt_nose_hoover_reversible(
            energy_fn, box, dt, 1.0, tau=0.3, **options
        ),
    }
    neighbors = neighbor_fn.allocate(R, extra_capacity=extra)
    return make[name](), neighbors, R


def make_loss(simulator, neighbors, R):
    step = simulator.for_adjoint(lambda q: q, neighbors)
    way = jnp.linspace(-1, 1, R.size).reshape(R.shape).astype(R.dtype)

    def loss(q, method):
        q = jax.tree.map(lambda x: jnp.asarray(x, R.dtype), q)
        key = jax.random.key(1)
        state = simulator.init(key, R, kT=1.0, neighbor=neighbors, **q)
        end, _ = adjoint.rollout(step, q, state, STEPS, method)
        return jnp.sum(end.momentum * way) / 10, end

    return loss


def check(name, kind, dtype, methods):
    simulator, neighbors, R = fluid(name, kind, dtype)
    loss = make_loss(simulator, neighbors, R)
    wide = dtype == jnp.float64
    bars, ends = {}, {}
    for key in methods:
        fn = jax.jit(jax.value_and_grad(partial(loss, method=METHODS[key]), has_aux=1))
        (_, end), bars[key] = fn(START)
        end.raise_if_failed()
        ends[key] = end
    first, *others = (bars[key] for key in methods)
    for other in others:
        for key in START:
            # Sums in another order, of another list, differ in the last bits.
            np.testing.assert_allclose(
                first[key], other[key], rtol=1e-6 if wide else 2e-3, err_msg=key
            )
    end = ends[methods[0]]
    assert neighbors.update(end.position).rebuilds > neighbors.rebuilds
    if not wide:
        return
    value = jax.jit(lambda q: loss(q, METHODS[methods[0]])[0])
    # Rounding momenta to 7e-9 in each step adds noise of 4e-9 / h to a difference; the
    # cutoff, through which sigma moves pairs, is smooth to first order only.
    for way, h in [("epsilon", 1e-3), ("sigma", 3e-5)]:
        up, down = (float(value(START | {way: START[way] + s * h})) for s in (1, -1))
        expected = (up - down) / (2 * h)
        np.testing.assert_allclose(first[way], expected, rtol=5e-3, err_msg=way)


def test_gradient_through_rebuilds():
    check("nve", "periodic", jnp.float64, ["hybrid"])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "kind", "dtype"),
    [
        ("nve", "periodic", jnp.float32),
        ("nve", "fractional", jnp.float64),
        ("langevin", "fractional", jnp.float64),
        ("nose_hoover", "general", jnp.float64),
    ],
)
def test_methods_agree_through_rebuilds(name, kind, dtype):
    check(name, kind, dtype, list(METHODS))


@pytest.mark.parametrize(
    "method",
    ["hybrid", *(pytest.param(m, marks=pytest.mark.slow) for m in list(METHODS)[::2])],
)
def test_a_list_that_is_too_small_gives_no_gradient(method):
    # Room for the crystal of the start alone, and none for the liquid.
    simulator, neighbors, R = fluid(extra=-3)
    assert not neighbors.did_buffer_overflow
    loss = make_loss(simulator, neighbors, R)
    fn = jax.jit(jax.value_and_grad(partial(loss, method=METHODS[method]), has_aux=1))
    (value, end), bars = fn(START)
    assert end.did_exceed_list and jnp.isnan(value)
    assert all(jnp.isnan(bar) for bar in bars.values())
    with pytest.raises(FloatingPointError, match="`neighbor_fn.allocate"):
        end.raise_if_failed()


def there_and_back(name, kind, dtype, steps):
    # For lost bits of 100,000 steps at gamma dt = 0.02.
    words = {} if name == "nve" or steps < 1000 else {"words": 160}
    simulator, neighbors, R = fluid(name, kind, dtype, skin=0.01, **words)
    init, step, inverse = simulator
    state = init(jax.random.key(0), R, kT=1.0, neighbor=neighbors)

    @partial(jax.jit, static_argnums=1)
    def repeat(state, fn):
        def body(_, state):
            return fn(state, neighbor=neighbors)

        return jax.lax.fori_loop(0, steps, body, state)

    end = repeat(state, step)
    again = repeat(end, inverse)
    again.raise_if_failed()
    for a, b in zip(jax.tree.leaves(state), jax.tree.leaves(again), strict=True):
        if jnp.issubdtype(a.dtype, jnp.integer):
            assert jnp.all(a == b)
    assert neighbors.update(end.position).rebuilds > neighbors.rebuilds


def test_back_to_the_same_bits_through_rebuilds():
    there_and_back("langevin", "fractional", jnp.float32, 500)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["nve", "langevin", "nose_hoover"])
def test_back_to_the_same_bits_through_rebuilds_after_many_steps(name):
    there_and_back(name, "periodic", jnp.float32, 100_000)
