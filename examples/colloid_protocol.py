"""Drag a colloid from here to there in a given time with the least work.

A colloid diffuses in a harmonic trap of stiffness k whose center goes from 0 to L in
the time T. Moving the trap costs work, and its mean is a functional of the protocol.
With friction z the least work is k L^2 / (2 + k T / z): the trap jumps by
L / (2 + k T / z) at the start, moves at constant speed, and jumps by the same at last
(derived in the notebook). The program is told nothing of this: it simulates Brownian
paths, measures the work along each, and follows the gradient through the simulation.

Source: T. Schmiedl, U. Seifert, Phys. Rev. Lett. 98, 108301 (2007).
"""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from matplotlib.figure import Figure

from jax_md import adjoint, simulate, space

STIFFNESS, FRICTION, KT, DISTANCE, TIME, STEPS = 1.0, 1.0, 1.0, 2.0, 2.0, 80
DT = TIME / STEPS
OPTIMUM = STIFFNESS * DISTANCE**2 / (2 + STIFFNESS * TIME / FRICTION)
JUMP = DISTANCE / (2 + STIFFNESS * TIME / FRICTION)


def trap(x, center):
    """Energy of the colloid in the trap."""
    return STIFFNESS * jnp.sum((x - center) ** 2) / 2


def work(protocol, key):
    """Work along one Brownian path, for the trap at ``protocol[k]`` in the k-th step.

    The trap starts at 0 and ends at the distance: it jumps to ``protocol[0]`` before
    the first step and from ``protocol[-1]`` after the last.
    """
    init, step = simulate.brownian(trap, space.free()[1], DT, KT, gamma=FRICTION)
    start, walk = jax.random.split(key)
    x = jnp.sqrt(KT / STIFFNESS) * jax.random.normal(start, (1, 1))  # equilibrium

    def move(state_and_work, centers):
        state, done = state_and_work
        old, new = centers
        done = done + trap(state.position, new) - trap(state.position, old)
        return (step(state, center=new), done), None

    before = jnp.concatenate([jnp.zeros(1), protocol[:-1]])
    carry = (init(walk, x), jnp.zeros(()))
    (state, done), _ = jax.lax.scan(move, carry, (before, protocol))
    last = trap(state.position, DISTANCE) - trap(state.position, protocol[-1])
    return done + last


def main(smoke: bool = False, output: str | Path = "output/colloid_protocol") -> dict:
    """Learn the protocol; return the numbers printed, with standard errors."""
    paths, updates = (256, 100) if smoke else (256, 400)
    start = protocol = jnp.linspace(0, DISTANCE, STEPS + 2)[1:-1]

    @jax.jit
    def gradient(protocol, key):
        return adjoint.pathwise_gradient(
            work, lambda _, done: done, protocol, jax.random.split(key, paths)
        )

    @jax.jit
    def measure(protocol):
        keys = jax.random.split(jax.random.key(99), 20_000)
        done = jax.vmap(work, (None, 0))(protocol, keys)
        # A trap that is moved keeps its free energy, so Jarzynski's average is one.
        free = jnp.mean(jnp.exp(-done / KT))
        return jnp.mean(done), jnp.std(done) / jnp.sqrt(len(done)), free

    optimizer = optax.adam(optax.cosine_decay_schedule(0.05, updates))
    moments, works = optimizer.init(protocol), []
    for i in range(updates):
        if i % (updates // 20) == 0:
            works.append((i, float(measure(protocol)[0])))
        _, slope = gradient(protocol, jax.random.key(i))
        change, moments = optimizer.update(slope.value, moments)
        protocol = optax.apply_updates(protocol, change)

    before, after = measure(start), measure(protocol)
    works.append((updates, float(after[0])))
    result = {
        "optimum": OPTIMUM,
        "work before": float(before[0]),
        "work": float(after[0]),
        "error": float(after[1]),
        "jarzynski": float(after[2]),
        "jump of the optimum": JUMP,
        "first jump": float(protocol[0]),
        "last jump": float(DISTANCE - protocol[-1]),
        "start": np.asarray(start),
        "protocol": np.asarray(protocol),
        "works": works,
    }
    print(f"constant speed  work {result['work before']:.4f}")
    print(f"learned         work {result['work']:.4f} +- {result['error']:.4f}")
    print(f"analytic optimum     {OPTIMUM:.4f}")
    print(f"jumps {protocol[0]:.3f} and {result['last jump']:.3f}, optimum {JUMP:.3f}")
    print(f"<exp(-W / kT)> = {result['jarzynski']:.3f}, should be 1")

    axes = (figure := Figure(layout="constrained")).subplots()
    axes.plot(start, label="constant speed, the start")
    axes.plot(protocol, label="learned")
    axes.plot(np.linspace(JUMP, DISTANCE - JUMP, STEPS), "k--", label="optimum")
    axes.set(xlabel="step", ylabel="center of the trap")
    axes.legend()
    Path(output).mkdir(parents=True, exist_ok=True)
    figure.savefig(Path(output) / "protocol.png")
    return result


if __name__ == "__main__":
    from common import command_line

    command_line(main)
