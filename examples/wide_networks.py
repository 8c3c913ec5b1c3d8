"""Infinitely wide networks: what they predict, and how finite ones follow.

    python examples/wide_networks.py [--output FOLDER] [--smoke]

1. Mean-field theory says which depth can be trained at which variance of the weights:
   the condition number of the tangent kernel, before anything is trained.
2. A network of infinite width is trained in closed form: mean and spread of the outputs
   of an ensemble at any time.
3. Networks of finite width are trained by gradient descent, and stand beside it.

The interface is that of neural-tangents: `from jax_md import wide as nt`.

Source:
    J. Lee et al., NeurIPS 2019 (arXiv:1902.06720); L. Xiao et al., ICML 2020
    (arXiv:1912.13053).
"""

import argparse
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from jax_md import wide as nt
from jax_md.wide import stax

DEPTHS = (2, 8, 32, 128)
W_STD = {"ordered": 1.0, "critical": None, "chaotic": 2.0}
B_STD = 0.05**0.5


def conditioning() -> dict[str, list[float]]:
    """Return condition numbers of tangent kernels over depth, by phase."""
    x = jax.random.normal(jax.random.key(0), (8, 16))
    x = x / jnp.linalg.norm(x, axis=1, keepdims=True) * 4
    found = {}
    for phase, W_std in W_STD.items():
        if W_std is None:  # where correlations neither grow together nor apart
            W_std = nt.meanfield.critical_point(jax.lax.erf, B_STD).W_std
        dense = stax.Dense(1, W_std, B_STD)
        found[phase] = []
        for depth in DEPTHS:
            layers = stax.repeat(stax.serial(stax.Erf(), dense), depth)
            kernel = stax.serial(dense, layers)[2](x, get="ntk")
            found[phase].append(float(np.linalg.cond(kernel)))
    return found


def network(width: int):
    """Return a network with two hidden layers."""
    hidden = [stax.Dense(width, 1.5, 0.1), stax.Erf()] * 2
    return stax.serial(*hidden, stax.Dense(1, 1.5, 0.1))


def data(points: int = 100):
    """Return a function at few points, and a grid to predict it on."""
    x = jnp.linspace(-2.2, 2.2, 6)[:, None]
    return x, jnp.sin(2 * x), jnp.linspace(-np.pi, np.pi, points)[:, None]


def infinite(times, rate: float):
    """Return mean and standard deviation at each time, on the grid."""
    x, y, grid = data()
    predict_fn = nt.predict.gradient_descent_mse_ensemble(
        network(1)[2], x, y, learning_rate=rate, diag_reg=1e-6
    )
    found = predict_fn(t=times, x_test=grid, get="ntk", compute_cov=True)
    variance = jnp.diagonal(found.covariance, axis1=1, axis2=2)
    return found.mean[..., 0], jnp.sqrt(variance)


def finite(width: int, copies: int, steps: int, rate: float):
    """Train networks by gradient descent; return their outputs on the grid."""
    init_fn, apply_fn, _ = network(width)
    x, y, grid = data()

    def loss(params):
        return 0.5 * jnp.mean((apply_fn(params, x) - y) ** 2)

    @jax.jit
    def train(key):
        def step(params, _):
            slope = jax.grad(loss)(params)
            return jax.tree.map(lambda p, g: p - rate * g, params, slope), None

        _, params = init_fn(key, x.shape)
        params, _ = jax.lax.scan(step, params, None, length=steps)
        return apply_fn(params, grid)[:, 0]

    return jax.lax.map(train, jax.random.split(jax.random.key(1), copies))


def draw(condition, outputs, mean, spread, path: Path) -> None:
    """Draw condition numbers, and networks beside their limit."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    for phase, values in condition.items():
        left.loglog(DEPTHS, values, "o-", label=phase)
    left.set(xlabel="depth", ylabel="condition number of the tangent kernel")
    left.legend(frameon=False)
    x, y, grid = (np.ravel(a) for a in data())
    right.plot(grid, np.transpose(outputs), color="0.75", lw=0.7)
    right.plot([], [], color="0.75", label="trained networks")
    right.plot(grid, mean, color="C0", label="infinite width, ± 2 deviations")
    for sign in (-2, 2):
        right.plot(grid, mean + sign * spread, color="C0", ls="--", lw=1)
    right.plot(x, y, "ko", label="training points")
    right.set(xlabel="x", ylabel="output", ylim=(-3, 3))
    right.legend(frameon=False, fontsize="small")
    figure.savefig(path, dpi=150)


def main(smoke: bool = False, output: str | Path = "output/wide_networks") -> dict:
    """Compare finite with infinite width.

    Args:
        smoke: Whether to train few networks.
        output: Folder for the figure.

    Returns:
        Condition numbers by phase, the root mean square deviation of the mean over
        networks in standard errors, and the ratio of variances.
    """
    jax.config.update("jax_enable_x64", True)
    output = Path(output)
    output.mkdir(parents=True, exist_ok=True)
    condition = conditioning()
    x, y, _ = data()
    limit = nt.predict.max_learning_rate(network(1)[2](x, get="ntk"), y.size)
    rate, steps, copies = 0.2 * float(limit), *((200, 8) if smoke else (1000, 20))
    mean, spread = (a[-1] for a in infinite(jnp.array([0.0, steps]), rate))
    outputs = finite(512, copies, steps, rate)
    away = jnp.mean((outputs.mean(0) - mean) ** 2) / jnp.mean(spread**2 / copies)
    ratio = jnp.mean(outputs.var(0, ddof=1)) / jnp.mean(spread**2)
    draw(condition, outputs, mean, spread, output / "wide_networks.png")
    for phase, values in condition.items():
        numbers = ", ".join(f"{value:.3g}" for value in values)
        print(f"{phase:9}: condition {numbers} at depths {DEPTHS}")
    print(
        f"{copies} networks: mean {float(away) ** 0.5:.2f} standard errors from the "
        f"limit, {float(ratio):.2f} of its variance"
    )
    return {
        "condition": condition,
        "standard errors": float(away) ** 0.5,
        "variance ratio": float(ratio),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", default="output/wide_networks")
    parser.add_argument("--smoke", action="store_true", help="few networks, briefly")
    options = parser.parse_args()
    main(options.smoke, options.output)
