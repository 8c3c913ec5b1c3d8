"""What `diagnose` hands back: numbers, a table of them, and advice in words."""

from typing import Any

import numpy as np

from jax_md import dataclasses

from .forecast import Forecast, describe, readable
from .methods import Truncated

# Methods agree where they differ by no more than this many roundings of a step's worth
# of operations; a wrong derivative differs by percents.
_AGREE = 1e-3


@dataclasses.dataclass
class Diagnosis:
    """How far back a gradient can be trusted, and what each method costs.

    Prints as a table. Arrays over steps back begin at the end of the rollout.

    Attributes:
        steps_back: ``[steps + 1]``, from 0 to the number of steps.
        cotangent_norm: ``[steps + 1]``, norm of the derivative of the loss with respect
            to the state so many steps before the end, over the leaves that move.
        rounding: ``[steps + 1]``, change of the loss when all numbers of that state
            are off by one rounding, over its change when the last state is off by as
            much as its size.
        window: ``[w]``, lengths of the windows that were differentiated.
        signal: ``[w]``, norm of the mean, over the ensemble, of the gradient through a
            window.
        noise: ``[w]``, standard deviation of the gradient over the ensemble.
        lyapunov: Largest exponent, per step.
        lyapunov_error: Its standard error.
        signal_horizon: Longest window whose `signal` is not below its `noise`.
        rounding_horizon: Most steps back up to which `rounding` stays below 1.
        horizon: The smaller of the two: steps that a gradient is worth following.
        gradient: ``[p]``, the gradient by `Backprop` through the last `horizon` steps,
            one at least, all numbers in one row.
        difference: ``[m]``, distance of each method's gradient from that one, over its
            norm.
        numerical: The same for its projection on itself by central differences.
        methods: The methods, ``m`` of them.
        forecasts: What each will cost over all steps.
        wrt: What the gradient is taken with respect to, ``"params"`` or ``"state"``.
        memory: The budget that was given, or None.
    """

    steps_back: np.ndarray
    cotangent_norm: np.ndarray
    rounding: np.ndarray
    window: np.ndarray
    signal: np.ndarray
    noise: np.ndarray
    lyapunov: float
    lyapunov_error: float
    signal_horizon: int
    rounding_horizon: int
    horizon: int
    gradient: np.ndarray
    difference: np.ndarray
    numerical: float
    methods: tuple[Any, ...] = dataclasses.static_field()
    forecasts: tuple[Forecast, ...] = dataclasses.static_field()
    wrt: str = dataclasses.static_field()
    memory: float | None = dataclasses.static_field(default=None)

    @property
    def steps(self) -> int:
        """Steps of the rollout."""
        return len(self.steps_back) - 1

    @property
    def recommendation(self) -> str:
        """Which method to take, and over how many steps."""
        return " ".join([*self._how_far(), *self._by_which()])

    def _how_far(self) -> list[str]:
        if self.horizon >= self.steps:
            return [f"The gradient holds over all {self.steps:,} steps."]
        if self.rounding_horizon <= self.signal_horizon:
            why = "rounding errors made there change the loss by as much as it has"
        else:
            why = "gradients of neighboring starts differ by more than their mean"
        lines = [f"Beyond {self.horizon:,} steps back the gradient drowns: {why}."]
        if self.horizon:
            lines.append(
                f"Take windows, `Truncated(window={self.horizon})`, or rollouts of no "
                "more steps from many starts."
            )
        lines.append("For averages over longer runs use reweighting or scores.")
        return lines

    def _by_which(self) -> list[str]:
        exact = [
            f
            for f, d in zip(self.forecasts, self.difference, strict=True)
            if not isinstance(f.method, Truncated) and d < _AGREE
        ]
        if not exact:
            return ["No exact method agrees with backprop: check the step."]
        fitting = [f for f in exact if f.memory <= (self.memory or np.inf)]
        if not fitting:
            least = min(exact, key=lambda f: f.memory)
            return [
                f"No exact method fits into {readable(self.memory or 0)}; the least is "
                f"{_cost(least)}."
            ]
        best = min(fitting, key=lambda f: (f.runs, f.memory))
        lines = [f"Over all steps, exactly and with the least work: {_cost(best)}."]
        lean = min(fitting, key=lambda f: (f.memory, f.runs))
        if lean.memory < best.memory / 2:
            lines.append(f"With the least memory: {_cost(lean)}.")
        return lines

    def __str__(self) -> str:
        rows = [f"{'steps back':>12} {'cotangent':>11} {'signal':>11} {'noise':>11}"]
        for h, signal, noise in zip(self.window, self.signal, self.noise, strict=True):
            values = self.cotangent_norm[h], signal, noise
            rows.append(f"{h:>12,}" + "".join(f" {v:11.3g}" for v in values))
        rows.append("")
        error = f"{self.lyapunov:.4g} +- {self.lyapunov_error:.2g} a step"
        rows += [
            f"{'Lyapunov':<17} {error}",
            f"{'signal lasts':<17} {self._lasts(self.signal_horizon)}",
            f"{'rounding allows':<17} {self._lasts(self.rounding_horizon)}",
            f"{'difference':<17} {self.numerical:.1e} from central differences",
            "",
            f"{'method':<22} {'difference':>10} {'memory':>9} {'runs':>6}",
        ]
        for f, d in zip(self.forecasts, self.difference, strict=True):
            row = f"{describe(f.method):<22} {d:10.1e} {readable(f.memory):>9}"
            row += f" {f.runs:6.1f}"
            rows.append(row if f.seconds is None else f"{row} {f.seconds:9.3g} s")
        return "\n".join([*rows, "", self.recommendation])

    def _lasts(self, horizon: int) -> str:
        more = "all of " if horizon >= self.steps else ""
        return f"{more}{horizon:,} steps"


def _cost(forecast: Forecast) -> str:
    return (
        f"`{describe(forecast.method)}`, {readable(forecast.memory)} and "
        f"{forecast.runs:.1f} forward runs"
    )
