"""What every simulator promises: one table, all of them in both precisions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_md import simulate
from tests.soft_spheres import soft_spheres

KT = 0.4


def nve(system, dt=0.01, **options):
    init, step = simulate.nve(system.energy_fn, system.shift_fn, dt, **options)
    return (lambda key, R, *args, kT=KT, **kw: init(key, R, kT, *args, **kw)), step


def nvt_nose_hoover(system, dt=0.01, kT=KT, **options):
    return simulate.nvt_nose_hoover(
        system.energy_fn, system.shift_fn, dt, kT, **options
    )


def nvt_langevin(system, dt=0.01, kT=KT, **options):
    return simulate.nvt_langevin(system.energy_fn, system.shift_fn, dt, kT, **options)


def brownian(system, dt=0.01, kT=KT, **options):
    return simulate.brownian(system.energy_fn, system.shift_fn, dt, kT, **options)


SIMULATORS = {f.__name__: f for f in (nve, nvt_nose_hoover, nvt_langevin, brownian)}
RUN_TIME = {
    "nve": {"dt": 0.01},
    "nvt_nose_hoover": {"dt": 0.01, "kT": KT},
    "nvt_langevin": {"dt": 0.01, "kT": KT, "gamma": 0.1},
    "brownian": {"dt": 0.01, "kT": KT, "gamma": 0.1},
}
OVERDAMPED = {"brownian"}  # no momenta, and no force is kept


@pytest.fixture(params=SIMULATORS)
def name(request):
    return request.param


@pytest.fixture(params=[x for x in SIMULATORS if x not in OVERDAMPED])
def inertial(request):
    return request.param


@pytest.fixture(scope="module")
def made():
    """Each simulator once a precision, so that its programs compile once, too."""
    cache = {}

    def make(name, dtype):
        if (name, dtype) not in cache:
            system = soft_spheres("periodic", dtype=dtype)
            cache[name, dtype] = system, *SIMULATORS[name](system)
        return cache[name, dtype]

    return make


def kinds(state):
    return jax.tree.map(lambda x: (x.shape, x.dtype), state)


def moving(state):
    """What a step moves, in the shape of the positions."""
    names = [x for x in ("position", "momentum", "force") if hasattr(state, x)]
    return [getattr(state, name) for name in names]


def test_a_step_keeps_structure_and_is_traced_once(name, dtype):
    system = soft_spheres("fractional", dtype=dtype)
    traces = []

    def energy(R, **kwargs):
        traces.append(1)
        return system.energy_fn(R, **kwargs)

    init, step = SIMULATORS[name](system._replace(energy_fn=energy))
    # Parameters of the wider type, which must not leak into the state.
    mass = np.linspace(1.0, 2.0, 8)
    state = init(jax.random.key(0), system.position, mass, kT=np.float64(KT))
    for leaf in [*moving(state), getattr(state, "velocity", state.position)]:
        assert leaf.dtype == dtype and leaf.shape == (8, 3)
    assert state.mass.shape == (8, 1) and state.mass.dtype == dtype

    start = kinds(state)
    state = step(state)
    count = len(traces)
    for _ in range(3):
        state = step(state)
    assert kinds(state) == start
    assert len(traces) == count
    for value in (0.01, np.float64(0.01), jnp.float64(0.01)):
        given = dict.fromkeys(RUN_TIME[name], value)
        looped = jax.eval_shape(
            lambda s: jax.lax.fori_loop(0, 2, lambda i, s: step(s, **given), s), state
        )
        assert kinds(looped) == start


def test_replicas_are_what_single_runs_are(name, made):
    system, init, step = made(name, jnp.float64)
    keys = jax.random.split(jax.random.key(0), 3)
    kT = jnp.array([0.1, 0.2, 0.3])
    states = jax.vmap(lambda key, kT: init(key, system.position, kT=kT))(keys, kT)
    given = {key: value + kT for key, value in RUN_TIME[name].items()}
    after = jax.vmap(lambda s, kw: step(s, **kw))(states, given)
    for b in range(3):
        one = init(keys[b], system.position, kT=kT[b])
        one = step(one, **{key: value[b] for key, value in given.items()})
        for found, expected in zip(moving(after), moving(one), strict=True):
            np.testing.assert_allclose(found[b], expected, atol=1e-11)


def test_parameters_can_be_scheduled(name, made):
    system, init, step = made(name, jnp.float64)
    state = init(jax.random.key(0), system.position)

    @jax.jit
    def run(state, schedule):
        return jax.lax.scan(lambda s, kw: (step(s, **kw), None), state, schedule)[0]

    values = jnp.array([0.01, 0.02, 0.03])
    found = run(state, dict.fromkeys(RUN_TIME[name], values))
    for value in values:
        state = step(state, **dict.fromkeys(RUN_TIME[name], value))
    for a, b in zip(moving(found), moving(state), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-11)


def test_each_run_time_parameter_has_an_effect(name, made):
    system, init, step = made(name, jnp.float64)
    state = step(init(jax.random.key(0), system.position))  # the bath has moved
    default = step(state, **RUN_TIME[name])
    for a, b in zip(moving(default), moving(step(state)), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-12)
    for parameter in RUN_TIME[name]:
        other = step(state, **RUN_TIME[name] | {parameter: 0.7})
        pairs = zip(moving(other), moving(default), strict=True)
        assert max(float(jnp.max(jnp.abs(a - b))) for a, b in pairs) > 1e-6, parameter


def test_run_time_values_stand_for_those_of_the_factory(name, made):
    system, init, step = made(name, jnp.float64)
    state = step(init(jax.random.key(0), system.position))
    given = {key: 2 * value for key, value in RUN_TIME[name].items()}
    _, other_step = SIMULATORS[name](system, **given)
    found, expected = step(state, **given), other_step(state)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        if not jnp.issubdtype(a.dtype, jax.dtypes.prng_key):
            np.testing.assert_allclose(a, b, atol=1e-12)


def test_misspelt_parameters_are_refused(name, made):
    system, init, step = made(name, jnp.float64)
    state = init(jax.random.key(0), system.position)
    for parameter in RUN_TIME[name]:
        for wrong in {parameter.lower(), parameter.upper()} - {parameter}:
            with pytest.raises(TypeError, match=f"did you mean `{parameter}`"):
                step(state, **{wrong: 0.1})
    with pytest.raises(TypeError, match="did you mean `kT`"):
        init(jax.random.key(0), system.position, temperature=0.1)
    step(state, sigma=0.9)
    init(jax.random.key(0), system.position, T_initial=0.1)


def test_unknown_options_are_refused(name):
    with pytest.raises(TypeError, match="`friction`"):
        SIMULATORS[name](soft_spheres("free"), friction=0.1)


def test_keywords_reach_the_energy(inertial, made):
    system, init, step = made(inertial, jnp.float64)
    small = init(jax.random.key(0), system.position, sigma=0.8)
    F = jax.grad(system.energy_fn)(system.position, sigma=0.8)
    np.testing.assert_allclose(small.force, -F, atol=1e-13)
    new = step(small, epsilon=2.0)
    F = jax.grad(system.energy_fn)(new.position, epsilon=2.0)
    np.testing.assert_allclose(new.force, -F, atol=1e-13)


def test_a_short_step_is_newtons(inertial, made):
    system, init, step = made(inertial, jnp.float64)
    state = init(jax.random.key(0), system.position, 2.0)
    still = {"gamma": 0.0} if "gamma" in RUN_TIME[inertial] else {}
    new = step(state, dt=1e-6, **still)
    found = (new.momentum - state.momentum) / 1e-6
    np.testing.assert_allclose(found, state.force, rtol=1e-3, atol=1e-3)
    moved = (new.position - state.position) / 1e-6
    np.testing.assert_allclose(moved, state.momentum / 2, rtol=1e-3, atol=1e-3)


def test_given_momenta_are_verbatim_whatever_the_key(inertial, dtype, made):
    system, init, step = made(inertial, dtype)
    p = jnp.arange(24.0, dtype=dtype).reshape(8, 3)
    for seed in (0, 1):
        state = init(jax.random.key(seed), system.position, 2.0, p)
        np.testing.assert_array_equal(state.momentum, p)
        np.testing.assert_array_equal(state.velocity, p / 2)
    drawn = [init(jax.random.key(s), system.position).momentum for s in (0, 1)]
    assert jnp.all(drawn[0] != drawn[1])


def test_fields_stand_in_their_order():
    fields = {
        "NVEState": "position momentum force mass",
        "NVTNoseHooverState": "position momentum force mass chain",
        "NVTLangevinState": "position momentum force mass rng",
        "BrownianState": "position mass rng",
        "NoseHooverChain": (
            "position momentum mass tau kinetic_energy degrees_of_freedom"
        ),
    }
    for state, names in fields.items():
        assert list(getattr(simulate, state).__dataclass_fields__) == names.split()
