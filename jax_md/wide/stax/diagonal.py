"""When a network can do with covariances between equal positions (or samples) only.

A kernel between images costs the square of the number of pixels. Where a network ends
by flattening, only equal pixels matter all the way, and the square root of that is
enough. Each layer states two facts, and the facts of a composition follow from those of
its parts.
"""

from enum import IntEnum
from typing import NamedTuple


class Bool(IntEnum):
    """A truth value with a middle: NO < MAYBE < YES."""

    NO = 0
    MAYBE = 1
    YES = 2


class Diagonal(NamedTuple):
    """What a layer needs and gives; ``a >> b`` is `a` followed by `b`.

    Attributes:
        input: YES if the diagonal of the input gives the diagonal of the output;
            MAYBE if it does where the input has zeros off its diagonal; NO if the
            whole input is needed.
        output: YES if the output has nothing but a diagonal; MAYBE if the output is
            zero off its diagonal; NO otherwise.
    """

    input: Bool = Bool.YES
    output: Bool = Bool.NO

    def __rshift__(self, other: "Diagonal") -> "Diagonal":
        """Return the facts of this layer followed by `other`."""
        if self.output == Bool.YES:
            return self
        if self.output > Bool.NO and other.input > Bool.NO:
            first = self.input
        elif self.output == Bool.NO and other.input < Bool.YES:
            first = Bool.NO
        else:
            first = min(self.input, other.input)
        return Diagonal(first, other.output)

    def __lshift__(self, other: "Diagonal") -> "Diagonal":
        """Return the facts of `other` followed by this layer."""
        return other >> self

    def __and__(self, other: "Diagonal") -> "Diagonal":
        """Return the facts of two layers side by side."""
        return Diagonal(min(self.input, other.input), min(self.output, other.output))

    def __bool__(self) -> bool:
        """Whether the diagonal of the input suffices for all of the output."""
        return self.input == Bool.YES and self.output > Bool.NO
