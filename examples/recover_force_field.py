"""Recover a force field from a recorded trajectory, by derivatives through the motion.

A mixture of two kinds of particles moves by Morse potentials that nobody told us, three
numbers for each kind of pair. Positions and momenta were recorded every few steps, with
noise. From each record we simulate to the next and compare; tangents carried along with
the motion (`adjoint.Forward`) tell how nine parameters move each particle. A diagnosis
says before how far a gradient reaches, which bounds the time between two records.
"""

from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from matplotlib.figure import Figure

from jax_md import adjoint, energy, simulate, space

N, SIDE, DT, KT, NOISE = 36, 6.0, 0.005, 1.0, 1e-4
TRUTH = {
    "sigma": np.array([1.0, 0.92, 0.8]),
    "epsilon": np.array([1.0, 1.6, 0.6]),
    "alpha": np.array([6.0, 6.6, 5.4]),
}
GUESS = {"sigma": 0.9 * np.ones(3), "epsilon": np.ones(3), "alpha": 6 * np.ones(3)}
displacement, shift = space.periodic(SIDE)
ones = dict.fromkeys(TRUTH, np.ones((2, 2)))  # each step brings the real ones
energy_fn = energy.morse_pair(displacement, species=np.arange(N) % 2, **ones)
simulator = simulate.nve(energy_fn, shift, DT)


def by_species(params):
    """Parameters by kind of pair (A-A, A-B, B-B) as symmetric matrices by species."""
    return {name: p[jnp.array([[0, 1], [1, 2]])] for name, p in params.items()}


step = jax.jit(lambda params, state: simulator.step(state, **by_species(params)))
waves = jax.jit(lambda state: jnp.mean(jnp.cos(2 * jnp.pi * state.position / SIDE)))


def begin(params, R, p):
    """The state at given positions and momenta; the key is for drawing momenta."""
    return simulator.init(jax.random.key(0), R, KT, momenta=p, **by_species(params))


def record(window: int, count: int, key):
    """Equilibrate under the true force field, then record positions and momenta."""
    R = jnp.indices((6, 6)).reshape(2, -1).T + 0.5
    keys = jax.random.split(key, 3)
    hot = jnp.sqrt(2 * KT) * jax.random.normal(keys[0], R.shape)
    state, _ = adjoint.rollout(step, TRUTH, begin(TRUTH, R, hot), 1000)
    look = {"observe": lambda s: (s.position, s.momentum), "every": window}
    _, (R, p) = adjoint.rollout(step, TRUTH, state, window * count, **look)
    R = shift(R, NOISE * jax.random.normal(keys[1], R.shape))
    return R, p + NOISE * jax.random.normal(keys[2], p.shape)


def recover(R, p, window: int, iterations: int):
    """Fit the parameters, all positive, to the motion from each record to the next."""
    flat, unravel = ravel_pytree(jax.tree.map(np.log, GUESS))

    def residuals(flat):
        """What is off at the end of each window, over the noise."""
        params = jax.tree.map(jnp.exp, unravel(flat))
        start = jax.vmap(partial(begin, params))(R[:-1], p[:-1])
        move = partial(adjoint.rollout, steps=window, method=adjoint.Forward())
        end, _ = jax.vmap(lambda state: move(step, params, state))(start)
        off = jax.vmap(jax.vmap(displacement))(end.position, R[1:])
        return jnp.concatenate([off, end.momentum - p[1:]]).ravel() / NOISE

    @jax.jit
    def normal_equations(flat):
        J, r = jax.jacfwd(residuals)(flat), residuals(flat)
        return r @ r, J.T @ J, J.T @ r

    loss, H, g = normal_equations(flat)
    damping, history = 1e-2, [(float(loss), jax.tree.map(np.exp, unravel(flat)))]
    for _ in range(iterations):
        # Levenberg and Marquardt: a step that does not help is shortened.
        trial = flat - jnp.linalg.solve(H + damping * jnp.diag(jnp.diag(H)), g)
        new = normal_equations(trial)
        damping *= 0.2 if new[0] < loss else 10.0
        if new[0] < loss:
            flat, (loss, H, g) = trial, new
        history.append((float(loss), jax.tree.map(np.exp, unravel(flat))))
    # Standard errors, as if what is left were independent from number to number.
    variance = loss / (2 * R[1:].size - flat.size) * jnp.diag(jnp.linalg.inv(H))
    return history, unravel(jnp.sqrt(variance) * jnp.exp(flat))


def main(smoke: bool = False, output: str | Path = "output/recover") -> dict:
    """Record, diagnose and fit, briefly for `smoke`; return the numbers printed."""
    jax.config.update("jax_enable_x64", True)
    window, count, iterations, long = (10, 6, 7, 40) if smoke else (16, 14, 7, 500)
    R, p = record(window, count, jax.random.key(1))
    start = begin(GUESS, R[0], p[0])
    methods = [adjoint.Backprop(), adjoint.Checkpointed(), adjoint.Forward()]
    report = adjoint.diagnose(waves, step, GUESS, start, long, methods, members=4)
    print(report)
    history, errors = recover(R, p, window, iterations)
    losses, fitted = [loss for loss, _ in history], history[-1][1]
    print(f"\nsquared residuals {losses[0]:.4g} -> {losses[-1]:.4g}")
    axes = (figure := Figure(layout="constrained")).subplots()
    for name, true in TRUTH.items():
        print(f"{name}: {fitted[name]} +- {errors[name]}, in truth {true}")
        off = [np.max(np.abs(params[name] / true - 1)) for _, params in history]
        axes.semilogy(off, "o-", label=name)
    axes.set(xlabel="iteration", ylabel="largest relative error")
    axes.legend()
    Path(output).mkdir(parents=True, exist_ok=True)
    figure.savefig(Path(output) / "force_field.png")
    return {"losses": losses, "fitted": fitted, "errors": errors, "report": report}


if __name__ == "__main__":
    from common import command_line

    command_line(main)
