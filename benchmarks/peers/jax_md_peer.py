"""The Lennard-Jones liquid through the interface of JAX MD.

Run in JAX MD's environment this measures JAX MD; run with this project on the path it
measures this project, since the same calls work in both. Forms of the force:

* ``builtin``: ``energy.lennard_jones_neighbor_list``.
* ``own``: a pair function that a user writes with `jax.numpy`, through
  ``smap.pair_neighbor_list``. It is LAMMPS' ``lj/cut``: plain truncation.

With ``managed`` the loop is ``simulate.run``, which only this project has.
"""

import importlib.metadata
import os
import time

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from protocol import peak_memory, serve

from jax_md import energy, partition, quantity, simulate, smap, space

BASELINE_BYTES = peak_memory()
CUTOFF = 2.5


def truncated(dr, epsilon=1.0, **unused):
    inverse = jnp.where((dr > 0) & (dr < CUTOFF), 1 / jnp.where(dr > 0, dr, 1.0), 0.0)
    sixth = inverse**6
    return 4 * epsilon * (sixth**2 - sixth)


class Liquid:
    """One system, with its compiled functions and its current state."""

    def __init__(
        self, state, cutoff, skin, dt, form, layout, managed=False, epsilon=1.0
    ):
        assert cutoff == CUTOFF
        # JAX MD keeps arrays in static fields, which JAX cannot compare with those of
        # an earlier list in the same process.
        jax.clear_caches()
        data = np.load(state)
        self.box = float(data["box"])
        self.position = jnp.asarray(data["position"], jnp.float32)
        self.velocity = jnp.asarray(data["velocity"], jnp.float32)
        self.n, self.skin, self.dt, self.form = len(self.position), skin, dt, form
        self.managed = managed
        self.format = getattr(partition, layout)
        self.displacement, self.shift = space.periodic(self.box)
        if form == "builtin":
            self.neighbor_fn, self.energy_fn = energy.lennard_jones_neighbor_list(
                self.displacement,
                self.box,
                epsilon=epsilon,
                dr_threshold=skin,
                format=self.format,
            )
        else:
            self.neighbor_fn = partition.neighbor_list(
                self.displacement, self.box, CUTOFF, skin, format=self.format
            )
            self.energy_fn = smap.pair_neighbor_list(
                truncated,
                space.canonicalize_displacement_or_metric(self.displacement),
                epsilon=epsilon,
            )
        self.simulator = simulate.nve(self.energy_fn, self.shift, dt)

    def start(self):
        """Return the state and the list that a run begins with."""
        neighbors = self.neighbor_fn.allocate(self.position)
        init, _ = self.simulator
        state = init(jax.random.key(0), self.position, kT=1.0, neighbor=neighbors)
        return state.set(momentum=self.velocity), neighbors

    def run(self, steps):
        """Advance with ``simulate.run``, which JAX MD has nothing to put beside."""
        start = time.perf_counter()
        result = simulate.run(
            self.simulator,
            self.state,
            steps,
            neighbor_fn=self.neighbor_fn,
            neighbors=self.neighbors,
            every=steps,
        )
        self.state, self.neighbors = jax.block_until_ready(
            (result.state, result.neighbors)
        )
        return {"seconds": time.perf_counter() - start}

    def compile(self, steps):
        """Compile a loop of ``steps`` steps for the current state and list."""
        _, step = self.simulator

        def body(_, carry):
            state, neighbors = carry
            state = step(state, neighbor=neighbors)
            return state, neighbors.update(state.position)

        def advance(state, neighbors):
            return lax.fori_loop(0, steps, body, (state, neighbors))

        self.steps = steps
        self.loop = jax.jit(advance).lower(self.state, self.neighbors).compile()

    def energy_per_atom(self):
        """Return the total energy of the current state."""
        kinetic = 0.5 * np.sum(np.asarray(self.state.momentum, np.float64) ** 2)
        potential = jax.jit(self.energy_fn)(
            self.state.position, neighbor=self.neighbors
        )
        return (kinetic + float(potential)) / self.n


systems: dict[str, Liquid] = {}


def info() -> dict:
    try:
        version = importlib.metadata.version("jax-md")
    except importlib.metadata.PackageNotFoundError:
        version = "checkout"  # this project, found on the path
    return {
        "version": version,
        "jax": jax.__version__,
        "device": str(jax.devices()[0].device_kind),
        "threads": len(os.sched_getaffinity(0)),
    }


def prepare(name: str, steps: int, **case) -> dict:
    """Set a system up and compile its loop of ``steps`` steps."""
    liquid = systems[name] = Liquid(**case)
    liquid.state, liquid.neighbors = jax.block_until_ready(liquid.start())
    start = time.perf_counter()
    if not liquid.managed:
        liquid.compile(steps)
    compile_s = time.perf_counter() - start
    analysis = None if liquid.managed else liquid.loop.memory_analysis()
    run(name, steps)
    return {
        "compile_s": compile_s,
        "xla_bytes": analysis and analysis.temp_size_in_bytes,
        "argument_bytes": analysis and analysis.argument_size_in_bytes,
        "baseline_bytes": BASELINE_BYTES,
        "energy_per_atom": liquid.energy_per_atom(),
    }


def run(name: str, steps: int) -> dict:
    """Advance a system and say how long it took."""
    liquid = systems[name]
    if liquid.managed:
        return liquid.run(steps)
    assert steps == liquid.steps
    for attempt in range(3):
        start = time.perf_counter()
        state, neighbors = jax.block_until_ready(
            liquid.loop(liquid.state, liquid.neighbors)
        )
        seconds = time.perf_counter() - start
        if not bool(neighbors.did_buffer_overflow):
            break
        # The list was too small: measure again from where the chunk began.
        liquid.neighbors = liquid.neighbor_fn.allocate(
            liquid.state.position, extra_capacity=8 * (attempt + 1)
        )
        liquid.compile(steps)
    else:
        raise RuntimeError("the neighbor list overflowed three times")
    liquid.state, liquid.neighbors = state, neighbors
    return {"seconds": seconds}


def energy_now(name: str) -> dict:
    return {"energy_per_atom": systems[name].energy_per_atom()}


def seconds_of(fn, *arguments, calls=1):
    """Return the mean time of ``calls`` calls of a compiled function."""
    start = time.perf_counter()
    for _ in range(calls):
        out = fn(*arguments)
    jax.block_until_ready(out)
    return (time.perf_counter() - start) / calls


def rebuild(repeats: int, **case) -> dict:
    """Time one rebuild and one evaluation of the forces, in turns."""
    liquid = Liquid(**case)
    # No skin to wait for: `update` builds a list of the same radius at each call.
    always = partition.neighbor_list(
        liquid.displacement,
        liquid.box,
        CUTOFF + liquid.skin,
        0.0,
        format=liquid.format,
    )
    lists = always.allocate(liquid.position)
    build = jax.jit(lambda R, nbrs: nbrs.update(R))
    force = jax.jit(lambda R, nbrs: quantity.force(liquid.energy_fn)(R, neighbor=nbrs))
    at = liquid.position, lists
    builds, forces = [], []
    jax.block_until_ready((build(*at), force(*at)))
    for _ in range(repeats):
        builds.append(seconds_of(build, *at))
        forces.append(seconds_of(force, *at, calls=5))
    memory = build.lower(*at).compile().memory_analysis()
    return {
        "rebuild_s": float(np.median(builds)),
        "force_s": float(np.median(forces)),
        "xla_bytes": memory and memory.temp_size_in_bytes,
        "overflow": bool(build(*at).did_buffer_overflow),
    }


def gradient(steps: int, repeats: int, **case) -> dict:
    """Time the gradient of a loss after ``steps`` steps, and check it."""
    liquid = Liquid(**case)
    neighbors = liquid.neighbor_fn.allocate(liquid.position, extra_capacity=4)
    init, step = liquid.simulator
    state = init(jax.random.key(0), liquid.position, kT=1.0, neighbor=neighbors)
    state = state.set(momentum=liquid.velocity)

    def final(epsilon, position):
        first = state.set(position=position)
        first = first.set(
            force=quantity.force(liquid.energy_fn)(
                position, neighbor=neighbors, epsilon=epsilon
            )
        )

        def body(carry, _):
            state, nbrs = carry
            state = step(state, neighbor=nbrs, epsilon=epsilon)
            return (state, nbrs.update(lax.stop_gradient(state.position))), None

        return lax.scan(body, (first, neighbors), None, length=steps)[0]

    def loss(epsilon, position):
        last, nbrs = final(epsilon, position)
        value = quantity.kinetic_energy(momentum=last.momentum, mass=last.mass)
        return value / liquid.n, nbrs.did_buffer_overflow

    forward = jax.jit(lambda *arguments: loss(*arguments)[0])
    backward = jax.jit(jax.value_and_grad(loss, (0, 1), has_aux=True))
    at = (jnp.float32(1.0), liquid.position)
    start = time.perf_counter()
    backward_compiled = backward.lower(*at).compile()
    compile_s = time.perf_counter() - start
    jax.block_until_ready((forward(*at), backward(*at)))
    forwards, backwards = [], []
    for _ in range(repeats):
        forwards.append(seconds_of(forward, *at))
        backwards.append(seconds_of(backward, *at))
    (value, overflow), (by_epsilon, by_position) = backward(*at)
    # Central differences in float32 of a mean over the atoms: the step is a trade
    # between round-off (6e-8 / h) and curvature (h**2).
    h = 3e-3
    difference = (forward(at[0] + h, at[1]) - forward(at[0] - h, at[1])) / (2 * h)
    along = by_position / jnp.linalg.norm(by_position)
    length = 0.3
    directional = (
        forward(at[0], at[1] + length * along) - forward(at[0], at[1] - length * along)
    ) / (2 * length)
    memory = backward_compiled.memory_analysis()
    return {
        "forward_s": float(np.median(forwards)),
        "gradient_s": float(np.median(backwards)),
        "compile_s": compile_s,
        "value": float(value),
        "overflow": bool(overflow),
        "d_epsilon": float(by_epsilon),
        "d_epsilon_difference": float(difference),
        "d_position": float(jnp.sum(by_position * along)),
        "d_position_difference": float(directional),
        "xla_bytes": memory and memory.temp_size_in_bytes,
    }


if __name__ == "__main__":
    serve(
        {
            "info": info,
            "prepare": prepare,
            "run": run,
            "energy": energy_now,
            "rebuild": rebuild,
            "gradient": gradient,
        }
    )
