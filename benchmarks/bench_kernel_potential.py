"""What a Gaussian-process potential costs, in evaluations of a finite network.

    python -m benchmarks.bench_kernel_potential

Silicon at its density, displaced at random; energy and forces from one program. The
potential is a sparse one with 500 environments, whose kernel is that of a network with
two hidden layers of infinite width; the network beside it has the same depth, 64 units
in each layer, and the same descriptors over the same neighbor list. The cost of the
descriptors alone, with their reverse mode, stands beside both.
"""

import time

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import measure
from jax_md import dataclasses, nn, partition, space, util
from jax_md.energy import kernel_potential as kp
from jax_md.wide import stax

LATTICE, CUTOFF, SKIN, JITTER = 5.431, 4.5, 0.5, 0.1  # Angstrom
ENVIRONMENTS, WIDTH = 500, 64


def crystal(n: int) -> tuple[np.ndarray, float]:
    """Return about ``n`` atoms of silicon, displaced at random, and their box."""
    cells = max(2, round((n / 8) ** (1 / 3)))
    face = np.array([[0, 0, 0], [0, 2, 2], [2, 0, 2], [2, 2, 0]])
    basis = np.concatenate([face, face + 1]) / 4
    corners = np.indices(3 * [cells]).reshape(3, -1).T
    R = (corners[:, None] + basis).reshape(-1, 3) * LATTICE
    R = R + np.random.default_rng(0).normal(0, JITTER, R.shape)
    return R % (cells * LATTICE), cells * LATTICE


def finite_network(x: jax.Array):
    """Return the energy of a flax network of standardized descriptors."""
    from flax import nnx

    class Network(nnx.Module):
        def __init__(self, rngs: nnx.Rngs):
            sizes = (x.shape[-1], WIDTH, WIDTH, 1)
            self.layers = nnx.List(
                nnx.Linear(a, b, rngs=rngs)
                for a, b in zip(sizes[:-1], sizes[1:], strict=True)
            )

        def __call__(self, x: jax.Array) -> jax.Array:
            for layer in self.layers[:-1]:
                x = jax.lax.erf(layer(x))
            return self.layers[-1](x)[..., 0]

    graph, state = nnx.split(Network(nnx.Rngs(0)))
    mean, scale = jnp.mean(x, 0), jnp.std(x, 0)
    return lambda x: graph.apply(state)((x - mean) / scale)[0]


def programs(n: int) -> tuple[dict, dict]:
    """Return the programs to time, by name, and facts about the case."""
    spots, box = crystal(n)
    R = jnp.asarray(spots, jnp.float32)
    displacement, _ = space.periodic(box)
    neighbor_fn = partition.neighbor_list(displacement, box, CUTOFF, SKIN)
    neighbor = neighbor_fn.allocate(R)
    listed = nn.behler_parrinello_symmetry_functions_neighbor_list(
        displacement, cutoff_distance=CUTOFF
    )
    x = jax.jit(listed)(R, neighbor)

    network = stax.serial(
        *(stax.Dense(1, 1.5, 0.3), stax.Erf()) * 2, stax.Dense(1, 1.0, 0.1)
    )[2]
    # What a fit finds out does not matter for its cost: energies are made up.
    seen = [kp.observation(R, energy=0.0, neighbor=neighbor)]
    training = kp.prepare(lambda R, neighbor: listed(R, neighbor), seen, reference=None)
    chosen = kp.select_environments(training.x, None, ENVIRONMENTS, "farthest_point")
    potential = kp.fit(
        kp.network(network), listed, training, environments=chosen, jitter=1e-4
    )
    weights = np.random.default_rng(1).normal(size=len(chosen)).astype(np.float32)
    potential = dataclasses.replace(potential, beta=jnp.asarray(weights))
    finite = finite_network(x)
    energies = {
        "kernel": kp.energy_fn(potential),
        "network": lambda R, nbrs: util.high_precision_sum(finite(listed(R, nbrs))),
        "descriptors": lambda R, nbrs: util.high_precision_sum(listed(R, nbrs)),
    }
    facts = {"atoms": len(R), "environments": len(chosen), "descriptors": x.shape[1]}
    facts["neighbors"] = int(neighbor.rows_.slots.shape[0])
    runs = {}
    for name, energy_fn in energies.items():
        both = jax.jit(jax.value_and_grad(energy_fn))
        jax.block_until_ready(both(R, neighbor))

        def run(both=both) -> float:
            start = time.perf_counter()
            jax.block_until_ready(both(R, neighbor))
            return time.perf_counter() - start

        runs[name] = run
    return runs, facts


def main() -> None:
    """Measure and print."""
    options = measure.arguments(
        __doc__, name="kernel_potential", sizes=[1_000], repeats=11
    )
    rows = []
    for n in options.sizes:
        runs, facts = programs(n)
        found = measure.in_turns(runs, options.repeats)
        base = found["network"]["seconds"]
        for name, result in found.items():
            ratio = result["seconds"] / base
            rows.append({**facts, "potential": name, "ratio": ratio, **result})
            print(
                f"{facts['atoms']:>7,} atoms {name:12} "
                f"{1e3 * result['seconds']:8.2f} ms, {ratio:5.2f} of the network"
            )
    measure.save(options.name, rows, width=WIDTH)


if __name__ == "__main__":
    main()
