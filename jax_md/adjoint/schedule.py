"""The binomial schedule: how to reverse many steps with few stored states.

With ``s`` states stored and every step taken at most ``r + 1`` times, ``C(s + r, s)``
steps can be reversed, and no schedule does more. Of ``l`` steps, ``m`` are gone before
a state is stored; the ``l - m`` behind it are reversed first, with one state less, then
the ``m`` before it.

Source:
    A. Griewank, A. Walther, ACM Trans. Math. Softw. 26, 19 (2000), sections 2 and 3.
"""

from functools import lru_cache
from math import comb
from typing import NamedTuple

import numpy as np

PULL = -1


class Schedule(NamedTuple):
    """What to do in which order.

    Attributes:
        first: For each step of the forward pass, the slot for the state before it,
            or `slots` for none, ``[steps]``.
        rows: ``[rows, 4]``: take the state in a slot, which is that before step
            ``start``; advance it by some steps; store it in a slot, or `PULL` the
            cotangent through the step it stands before. Columns: slot, start, steps,
            target.
    """

    first: np.ndarray
    rows: np.ndarray


def repetitions(steps: int, slots: int) -> int:
    """The least ``r`` with ``C(slots + r, slots) >= steps``."""
    r = 0
    while comb(slots + r, slots) < steps:
        r += 1
    return r


def advances(steps: int, slots: int) -> int:
    """The least number of forward steps that reversing `steps` steps can take.

    The steps that cotangents are pulled through are not counted.
    """
    r = repetitions(steps, slots)
    return r * steps - comb(slots + r, slots + 1)


def split_at(steps: int, slots: int) -> int:
    """Where to store the next state, with `slots` states in all, two at least."""
    r = repetitions(steps, slots)
    least = comb(slots + r - 2, slots) if r >= 2 else 1
    return max(least, steps - comb(slots - 1 + r, slots - 1), 1)


@lru_cache(maxsize=32)
def binomial(steps: int, slots: int) -> Schedule:
    """Make the schedule for a number of steps and of stored states, the start's too."""
    rows: list[tuple[int, int, int, int]] = []
    # Ranges still to reverse, the next one last: slot of its start, begin, end.
    todo = [(0, 0, steps)]
    while todo:
        slot, begin, end = todo.pop()
        free = slots - slot  # slots above hold nothing that is still needed
        if end - begin == 1 or free == 1:
            for i in range(end - 1, begin - 1, -1):
                rows.append((slot, begin, i - begin, PULL))
            continue
        middle = begin + split_at(end - begin, free)
        rows.append((slot, begin, middle - begin, slot + 1))
        todo += [(slot, begin, middle), (slot + 1, middle, end)]
    # The forward pass goes over the first descent anyway, so it stores those states.
    first = np.full(steps, slots, np.int32)
    first[0] = 0
    descent = 0
    while rows[descent][3] != PULL:
        _, start, count, target = rows[descent]
        first[start + count] = target
        descent += 1
    return Schedule(first, np.asarray(rows[descent:], np.int32).reshape(-1, 4))
