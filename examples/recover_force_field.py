"""Recover a force field from a recorded trajectory, by derivatives through the motion.

    python examples/recover_force_field.py [--output FOLDER] [--smoke]

A mixture of two kinds of particles moves by Morse potentials that nobody told us:
distance, depth and width for each kind of pair. Positions and momenta were recorded
every few steps, with noise. From each record we simulate to the next one and compare;
tangents carried along with the motion (`adjoint.Forward`) tell how nine parameters move
each particle, and Gauss-Newton steps improve them all at once. A diagnosis says before
how far a gradient reaches, which bounds the time between two records.
"""

import argparse
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from jax_md import adjoint, energy, simulate, space

N, SIDE, DT, KT, NOISE = 36, 6.0, 0.005, 1.0, 1e-4
PAIRS = ("A-A", "A-B", "B-B")
TRUTH = {
    "sigma": np.array([1.0, 0.92, 0.8]),
    "epsilon": np.array([1.0, 1.6, 0.6]),
    "alpha": np.array([6.0, 6.6, 5.4]),
}
GUESS = {"sigma": 0.9 * np.ones(3), "epsilon": np.ones(3), "alpha": 6 * np.ones(3)}

displacement, shift = space.periodic(SIDE)
energy_fn = energy.morse_pair(
    displacement, species=np.arange(N) % 2, **dict.fromkeys(TRUTH, np.ones((2, 2)))
)
simulator = simulate.nve(energy_fn, shift, DT)


def by_species(params):
    """Parameters by kind of pair as symmetric matrices by species."""
    return {name: p[jnp.array([[0, 1], [1, 2]])] for name, p in params.items()}


def step(params, state):
    """One step under a force field."""
    return simulator.step(state, **by_species(params))


def begin(params, R, p):
    """The state at given positions and momenta; the key is for drawing momenta."""
    return simulator.init(jax.random.key(0), R, KT, momenta=p, **by_species(params))


def record(window: int, count: int, key):
    """Equilibrate under the true force field, then record positions and momenta."""
    params = jax.tree.map(jnp.asarray, TRUTH)
    R = jnp.indices((6, 6)).reshape(2, -1).T + 0.5
    keys = jax.random.split(key, 3)
    hot = jnp.sqrt(2 * KT) * jax.random.normal(keys[0], R.shape)
    state, _ = adjoint.rollout(step, params, begin(params, R, hot), 1000)
    _, (R, p) = adjoint.rollout(
        step,
        params,
        state,
        window * count,
        observe=lambda state: (state.position, state.momentum),
        every=window,
    )
    R = shift(R, NOISE * jax.random.normal(keys[1], R.shape))
    return R, p + NOISE * jax.random.normal(keys[2], p.shape)


def recover(R, p, window: int, iterations: int):
    """Fit the parameters, all positive, to the motion from each record to the next."""
    flat, unravel = ravel_pytree(jax.tree.map(np.log, GUESS))

    def residuals(flat, R, p, R_next, p_next):
        """What is off after a window, twice: to differentiate and to keep."""
        params = jax.tree.map(jnp.exp, unravel(flat))
        start = begin(params, R, p)
        end, _ = adjoint.rollout(step, params, start, window, adjoint.Forward())
        off = jax.vmap(displacement)(end.position, R_next), end.momentum - p_next
        r = jnp.concatenate(off).ravel() / NOISE
        return r, r

    @jax.jit
    def normal_equations(flat):
        def of_window(*records):
            J, r = jax.jacfwd(residuals, has_aux=True)(flat, *records)
            return jnp.sum(r**2), J.T @ J, J.T @ r

        sums = jax.vmap(of_window)(R[:-1], p[:-1], R[1:], p[1:])
        return jax.tree.map(lambda a: jnp.sum(a, 0), sums)

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
    relative = unravel(jnp.sqrt(variance))
    return history, jax.tree.map(
        lambda e, v: np.asarray(e * v), relative, history[-1][1]
    )


def main(smoke: bool = False, output: str | Path = "output/recover") -> dict:
    """Record, diagnose and fit, briefly for `smoke`; return the numbers printed."""
    jax.config.update("jax_enable_x64", True)
    window, count, iterations, long = (10, 6, 7, 40) if smoke else (16, 14, 7, 500)
    R, p = record(window, count, jax.random.key(1))
    guess = jax.tree.map(jnp.asarray, GUESS)
    report = adjoint.diagnose(
        lambda state: jnp.mean(jnp.cos(2 * jnp.pi * state.position / SIDE)),
        step,
        guess,
        begin(guess, R[0], p[0]),
        long,
        [adjoint.Backprop(), adjoint.Checkpointed(), adjoint.Forward()],
        members=4,
    )
    print(report)
    history, errors = recover(R, p, window, iterations)
    print(f"\nsquared residuals {history[0][0]:.4g} -> {history[-1][0]:.4g}")
    for name, values in history[-1][1].items():
        rows = zip(PAIRS, values, errors[name], TRUTH[name], strict=True)
        for pair, value, error, true in rows:
            print(f"{name:8} {pair} {value:9.5f} +- {error:.5f}, in truth {true:.2f}")
    draw(history, report, Path(output))
    losses = [loss for loss, _ in history]
    return {
        "losses": losses,
        "fitted": history[-1][1],
        "errors": errors,
        "report": report,
    }


def draw(history: list, report, output: Path) -> None:
    """Draw the pair energies, the way to them, and how far gradients reach."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 3.8), layout="constrained")
    wells, way, reach = figure.subplots(1, 3)
    r = np.linspace(0.6, 2.2, 200)
    for i, pair in enumerate(PAIRS):
        true, fit = ({k: v[i] for k, v in p.items()} for p in (TRUTH, history[-1][1]))
        wells.plot(r, energy.morse(r, **true), linewidth=2, label=pair)
        wells.plot(r, energy.morse(r, **fit), "k:")
    first = energy.morse(r, **{k: v[0] for k, v in GUESS.items()})
    wells.plot(r, first, "--", color="0.6", label="first guess")
    wells.set(ylim=(-2, 2), xlabel="distance", ylabel="pair energy")
    wells.set_title("Force field (dotted: recovered)")
    for name in TRUTH:
        off = [np.max(np.abs(fit[name] / TRUTH[name] - 1)) for _, fit in history]
        way.semilogy(off, marker="o", markersize=3, label=name)
    way.set(xlabel="iteration", ylabel="largest relative error", title="Recovery")
    growth = report.cotangent_norm / report.cotangent_norm[0]
    reach.semilogy(report.steps_back, growth, label="cotangent")
    reach.axvline(report.horizon, color="0.6", linestyle="--", label="horizon")
    reach.set(xlabel="steps back", ylabel="relative norm", title="Gradient")
    for axes in (wells, way, reach):
        axes.legend(frameon=False)
    output.mkdir(parents=True, exist_ok=True)
    figure.savefig(output / "force_field.png", dpi=150)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", default="output/recover")
    parser.add_argument("--smoke", action="store_true", help="small and short")
    options = parser.parse_args()
    main(options.smoke, options.output)
