"""Scripts without `jax_enable_x64`, as most are: nothing asks for 64 bits, or fails."""

import os
import subprocess
import sys

SCRIPT = """
from functools import partial

import jax
import jax.numpy as jnp
from jax_md import adjoint, energy, minimize, partition, quantity, simulate, space

assert not jax.config.jax_enable_x64
box = 5.0
displacement, shift = space.periodic(box)
grid = jnp.stack(jnp.meshgrid(*3 * [jnp.arange(4) * box / 4]), -1).reshape(-1, 3)
R = grid + 0.05 * jax.random.normal(jax.random.key(0), grid.shape)
cutoff = {"r_onset": 1.8, "r_cutoff": 2.2}
pair_fn = energy.lennard_jones_pair(displacement, **cutoff)

for layout in partition.NeighborListFormat:
    neighbor_fn, energy_fn = energy.lennard_jones_neighbor_list(
        displacement, box, format=layout, **cutoff
    )
    neighbors = neighbor_fn.allocate(R)
    assert jnp.allclose(energy_fn(R, neighbors), pair_fn(R), rtol=1e-4)
curvature = jax.hessian(lambda s: energy_fn(R, neighbors, sigma=s))(1.0)
assert jnp.isfinite(curvature)

for make in (simulate.nvt_langevin, simulate.nvt_nose_hoover):
    simulator = make(energy_fn, shift, 1e-3, 0.5)
    state = simulator.init(jax.random.key(1), R, neighbor=neighbors)
    end = simulate.run(simulator, state, 20, neighbor_fn=neighbor_fn)
    assert end.state.position.dtype == jnp.float32

fire = partial(minimize.fire_descent, dt_start=1e-2, dt_max=4e-2)
relax = minimize.until_converged(fire, shift, max_steps=50)
assert pair_fn(relax(pair_fn, R)) < pair_fn(R)
stress = quantity.stress(pair_fn, R, box * jnp.eye(3))
assert stress.dtype == jnp.float32

reversible = simulate.nve_reversible(energy_fn, box, 1e-3)
start = reversible.init(jax.random.key(1), R, kT=0.5, neighbor=neighbors)
step = reversible.for_adjoint(lambda epsilon: {"epsilon": epsilon}, neighbors)

def loss(epsilon, method):
    end, _ = adjoint.rollout(step, epsilon, start, 10, method)
    return jnp.sum(end.momentum**2)

slopes = [jax.grad(loss)(1.0, m) for m in (adjoint.Backprop(), adjoint.Reversible())]
assert jnp.allclose(*slopes, rtol=1e-3), slopes
print("passed")
"""


def test_script():
    # What it takes is compilation.
    settings = {"JAX_ENABLE_X64": "0", "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
    settings = {**os.environ, **settings, "PYTHONWARNINGS": "error"}
    run = subprocess.run(
        [sys.executable, "-c", SCRIPT], env=settings, capture_output=True, text=True
    )
    assert run.stdout.endswith("passed\n"), run.stdout + run.stderr
