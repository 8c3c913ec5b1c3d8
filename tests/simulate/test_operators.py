import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_md import dataclasses, simulate
from jax_md.simulate._keywords import refuse_lookalikes


@dataclasses.dataclass
class Spinner:
    angle: jax.Array


@dataclasses.dataclass
class FastSpinner(Spinner):
    pass


def test_versions_for_other_positions():
    @simulate.dispatch_by_state
    def whirl(state, by):
        """Doc of the plain version."""
        return "plain"

    @whirl.register(Spinner)
    def whirl_spinner(state, by):
        return "spinner", by

    assert whirl.__doc__ == "Doc of the plain version."
    assert whirl_spinner(None, 2) == ("spinner", 2)  # the name is not lost
    arrays = simulate.NVEState(jnp.ones(2), None, None, 1.0)
    assert whirl(arrays, 1) == "plain"
    assert whirl(arrays.set(position=Spinner(1.0)), 2) == ("spinner", 2)
    assert whirl(arrays.set(position=FastSpinner(1.0)), by=3) == ("spinner", 3)


def test_kick_drift_and_their_upstream_names_are_one():
    assert simulate.kick is simulate.momentum_step
    assert simulate.drift is simulate.position_step
    assert simulate.thermalize is simulate.stochastic_step


def test_thermalize_without_bath_or_friction(dtype):
    p = jnp.arange(1.0, 7.0, dtype=dtype).reshape(3, 2)
    state = simulate.NVTLangevinState(p, p, p, 2.0, jax.random.key(0))
    still = simulate.thermalize(state, 0.1, 0.0, 0.5)
    np.testing.assert_allclose(still.momentum, p * np.exp(-0.05), rtol=1e-6)
    free = simulate.thermalize(state, 0.1, 1.0, 0.0)
    np.testing.assert_array_equal(free.momentum, p)
    assert jnp.any(jax.random.key_data(free.rng) != jax.random.key_data(state.rng))


def test_thermalize_reaches_the_bath_in_one_long_step():
    p = jnp.full((10_000, 3), 50.0)
    state = simulate.NVTLangevinState(p, p, p, 2.0, jax.random.PRNGKey(0))
    p = simulate.thermalize(state, 100.0, 0.7, 1.0).momentum
    np.testing.assert_allclose(jnp.var(p), 1.4, rtol=5 * np.sqrt(2 / p.size))


def test_weak_friction_keeps_its_digits_in_float32():
    p = jnp.zeros((1, 3), jnp.float32)
    state = simulate.NVTLangevinState(p, p, p, 1.0, jax.random.key(3))
    x = 1e-6
    noise = simulate.thermalize(state, 1.0, 1.0, x).momentum
    loud = simulate.thermalize(state, 1.0, 1.0, 100.0).momentum
    np.testing.assert_allclose(noise / loud, np.sqrt(2 * x), rtol=1e-5)


def test_normal():
    normal = simulate.Normal(jnp.full(50_000, 2.0), 9.0)
    sample = normal.sample(jax.random.key(0))
    np.testing.assert_allclose(jnp.mean(sample), 2, atol=5 * 3 / 50_000**0.5)
    np.testing.assert_allclose(jnp.var(sample), 9, rtol=0.05)
    x = np.linspace(-30, 30, 2001)
    density = np.exp(simulate.Normal(2.0, 9.0).log_prob(x))
    np.testing.assert_allclose(np.trapezoid(density, x), 1, rtol=1e-6)


REFUSED = "kt KT Kt k_T DT dT d_t time_step temperature temp Gamma gama gammma gmama"
TAKEN = "box new_box neighbor species sigma epsilon t mass T_initial dr k beta charge"


@pytest.mark.parametrize("key", REFUSED.split())
def test_lookalikes(key):
    with pytest.raises(TypeError, match=f"`{key}`; did you mean"):
        refuse_lookalikes({"box": 1, key: 0}, "dt", "kT", "gamma")
    refuse_lookalikes({key: 0}, "pressure")
    accepting = {}
    exec(f"def energy(R, {key}=1, **kwargs): pass", accepting)
    refuse_lookalikes({key: 0}, "dt", "kT", "gamma", fns=[accepting["energy"], abs])


def test_names_of_energies_pass():
    refuse_lookalikes(dict.fromkeys(TAKEN.split()), "dt", "kT", "gamma", "pressure")
