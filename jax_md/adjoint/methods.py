"""How a rollout is differentiated, as values to choose from.

==============  ================  ===================  =======================
method          memory            extra work           derivatives
==============  ================  ===================  =======================
`Backprop`      ``T`` states      one more forward     both modes, any order
`Checkpointed`  ``slots`` states  a binomial schedule  reverse, jvp of reverse
`Reversible`    two states        one inverse a step   reverse
`Hybrid`        ``T / every``     one inverse a step   reverse
`Forward`       one a parameter   one jvp a parameter  both modes, any order
`Truncated`     one window        two more forward     reverse, any order; biased
==============  ================  ===================  =======================
"""

import dataclasses
import math
import numbers


def _check_tempering(clip: float | None, decay: float) -> None:
    if clip is not None and not clip > 0:
        raise ValueError(
            f"`clip` must be a positive norm, or None for no bound; got {clip}."
        )
    if not 0 <= decay <= 1:
        raise ValueError(
            f"`decay` must be a factor between 0 and 1 a step; got {decay}."
        )


def check_count(name: str, value: object, least: int = 1) -> int:
    """Return a static whole number, or raise naming the argument."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise TypeError(
            f"`{name}` must be a Python integer, known when the rollout is traced; "
            f"got {value!r}."
        )
    if value < least:
        raise ValueError(f"`{name}` must be at least {least}; got {value}.")
    return int(value)


@dataclasses.dataclass(frozen=True)
class Backprop:
    """Reverse mode through a scan that stores the state of every step.

    Attributes:
        remat: Whether the inside of a step is computed again in the backward pass, so
            that only states are stored, not what the forces keep.
        clip: Largest norm of the cotangent of a state; None for no bound.
        decay: Factor on the cotangent of the state a step, 1 for exact gradients.
    """

    remat: bool = True
    clip: float | None = None
    decay: float = 1.0

    def __post_init__(self):
        _check_tempering(self.clip, self.decay)


@dataclasses.dataclass(frozen=True)
class Checkpointed:
    """Reverse mode from few stored states, by the binomial schedule.

    Exact, in reverse mode; Hessian-vector products by ``jvp`` of ``grad``.

    Attributes:
        slots: States held, the start among them; None for the square root of the number
            of steps, or what `memory` has room for.
        memory: Bytes to stay within: for the states held, and for pulling a cotangent
            through one step, of which a program is compiled to learn what it takes.
            Parameters, the state itself and the gradient come on top, and under `vmap`
            it is the memory of one replica. In place of `slots`.
        clip: Largest norm of the cotangent of a state; None for no bound.
        decay: Factor on the cotangent of the state a step, 1 for exact gradients.

    Source:
        A. Griewank, A. Walther, ACM Trans. Math. Softw. 26, 19 (2000).
    """

    slots: int | None = None
    clip: float | None = None
    decay: float = 1.0
    memory: float | None = None

    def __post_init__(self):
        if self.slots is not None:
            check_count("slots", self.slots)
        if self.memory is not None and self.slots is not None:
            raise ValueError(
                "`slots` and `memory` exclude each other: the number of states follows "
                f"from the memory; got slots={self.slots} and memory={self.memory}."
            )
        if self.memory is not None and not self.memory > 0:
            raise ValueError(
                f"`memory` must be a positive number of bytes; got {self.memory}."
            )
        _check_tempering(self.clip, self.decay)

    def slots_for(self, steps: int) -> int:
        """The number of states held for a number of steps, where `memory` is None."""
        wanted = self.slots or math.isqrt(steps - 1) + 1
        return min(wanted, steps)


@dataclasses.dataclass(frozen=True)
class Reversible:
    """Reverse mode that walks the trajectory back, exactly, and stores none of it.

    Needs a `ReversibleStep`. Where the walk back does not end on the very integers of
    the start, because a step is not undone exactly or the compiler rounds a force
    otherwise on the way back, the gradient is NaN: that of another trajectory is never
    returned. So it is where real numbers of the state come back as others, up to the
    square root of the precision.

    Attributes:
        clip: Largest norm of the cotangent of a state; None for no bound.
        decay: Factor on the cotangent of the state a step, 1 for exact gradients.

    Source:
        D. Levesque, L. Verlet, J. Stat. Phys. 72, 519 (1993).
    """

    clip: float | None = None
    decay: float = 1.0

    def __post_init__(self):
        _check_tempering(self.clip, self.decay)


@dataclasses.dataclass(frozen=True)
class Hybrid:
    """`Reversible` from one stored state to the next.

    The states before every so many steps are stored. The steps that start from them are
    never undone, so they need not be reversible: they may rescale velocities, swap
    particles, or change whatever `ReversibleStep.shared` stands for, such as the
    neighbor list that the steps up to the next stored state work from. Where a walk
    back does not meet the state that its stored one leads to, the gradient is NaN.

    Attributes:
        every: Steps from one stored state to the next.
        clip: Largest norm of the cotangent of a state; None for no bound.
        decay: Factor on the cotangent of the state a step, 1 for exact gradients.

    Source:
        J. G. Greener, Chem. Sci. 15, 4897 (2024), for snapshots of a reversible
        simulation.
    """

    every: int
    clip: float | None = None
    decay: float = 1.0

    def __post_init__(self):
        check_count("every", self.every)
        _check_tempering(self.clip, self.decay)


@dataclasses.dataclass(frozen=True)
class Forward:
    """Tangents carried along with the trajectory, one for each number differentiated.

    Right for few parameters and any number of steps. `jax.grad` works, too: the
    Jacobian is made on the way forward. What is not differentiated costs nothing.
    """


@dataclasses.dataclass(frozen=True)
class Truncated:
    """Reverse mode through windows of a few steps only.

    The gradient does not cross from one window into the one before it; windows are
    counted from the end, so that the last one is whole. Biased, but it does not grow
    with the length of a chaotic trajectory. Holds the states of one window at a time,
    however many there are; without observables only the last one is differentiated.

    Attributes:
        window: Steps of a window; from those of the rollout on it is `Backprop`.
        remat: As for `Backprop`.
        clip: Largest norm of the cotangent of a state; None for no bound.
        decay: Factor on the cotangent of the state a step.
    """

    window: int
    remat: bool = True
    clip: float | None = None
    decay: float = 1.0

    def __post_init__(self):
        check_count("window", self.window)
        _check_tempering(self.clip, self.decay)


Method = Backprop | Checkpointed | Reversible | Hybrid | Forward | Truncated
