"""Response of a small Lennard-Jones fluid: two formulas, and runs elsewhere."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_md import adjoint, energy, simulate, space

pytestmark = pytest.mark.slow

SIDE, KT, REPLICAS, SIGMAS = 3.6, 1.3, 48, 3
PARAMS = {"sigma": jnp.array(1.0), "epsilon": jnp.array(1.0)}
displacement_fn, shift_fn = space.periodic(SIDE)
fluid = energy.lennard_jones_pair(displacement_fn, r_onset=1.4, r_cutoff=1.8)


def energy_fn(params, R):
    return fluid(R, **params)


def observable(params, R):
    """Energy, and the fraction of pairs within a distance, smooth at its end."""
    dr = space.map_product(space.metric(displacement_fn))(R, R)
    near = jax.nn.sigmoid((1.4 - dr) / 0.1) * ~jnp.eye(len(R), dtype=bool)
    return {"U": energy_fn(params, R) / len(R), "near": jnp.sum(near) / len(R)}


@jax.jit
def sample(params, seed):
    """Snapshots ``[t, n, d]``, replica after replica."""
    grid = np.stack(np.meshgrid(*[np.arange(3)] * 3, indexing="ij"), -1)
    R = jnp.asarray((grid.reshape(-1, 3) + 0.5) * SIDE / 3)
    init, step = simulate.nvt_langevin(
        lambda R: energy_fn(params, R), shift_fn, 0.01, KT, gamma=1.0
    )

    def steps(state, count):
        return jax.lax.fori_loop(0, count, lambda i, s: step(s), state)

    def one(key):
        def body(state, _):
            state = steps(state, 25)
            return state, state.position

        return jax.lax.scan(body, steps(init(key, R), 400), None, length=80)[1]

    R = jax.vmap(one)(jax.random.split(jax.random.key(seed), REPLICAS))
    return R.reshape(-1, *R.shape[2:])


def test_response_of_a_fluid():
    reweighting = adjoint.reweight(energy_fn, KT, batch_size=64)
    snapshots = sample(PARAMS, 0)
    ensemble = reweighting.collect(PARAMS, snapshots)
    jacobian = jax.jit(
        jax.jacobian(lambda p: reweighting.average(p, ensemble, observable))
    )(PARAMS)
    response = jax.jit(
        lambda R: adjoint.fluctuation_gradient(
            energy_fn, observable, PARAMS, R, KT, REPLICAS, batch_size=64
        )
    )(snapshots)
    for name, h in {"sigma": 0.02, "epsilon": 0.08}.items():
        runs = []
        for seed, s in ((1, 1), (2, -1)):
            params = PARAMS | {name: PARAMS[name] + s * h}
            own = reweighting.collect(params, sample(params, seed))
            runs.append(reweighting.estimate(params, own, observable, REPLICAS))
            # What reweighting says of the same parameters, without a run there.
            moved = reweighting.estimate(params, ensemble, observable, REPLICAS)
            for of in ("U", "near"):
                off = moved.value[of] - runs[-1].value[of]
                error = np.hypot(moved.error[of], runs[-1].error[of])
                assert abs(off) < SIGMAS * error, (name, of)
        for of in ("U", "near"):
            difference = (runs[0].value[of] - runs[1].value[of]) / (2 * h)
            error = np.hypot(runs[0].error[of], runs[1].error[of]) / (2 * h)
            value, own = response.value[of][name], response.error[of][name]
            np.testing.assert_allclose(jacobian[of][name], value, rtol=1e-7)
            assert abs(value - difference) < SIGMAS * np.hypot(own, error), (name, of)
            assert np.hypot(own, error) < {"U": 0.1, "near": 0.5}[of] * abs(value)
