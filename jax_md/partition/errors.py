"""Sticky error flags of cell lists and neighbor lists."""

from enum import IntEnum

import jax.numpy as jnp
from jaxtyping import Array, UInt8

from jax_md import dataclasses


class PartitionErrorCode(IntEnum):
    """What went wrong while space was partitioned; values are bits of one code."""

    NONE = 0
    NEIGHBOR_LIST_OVERFLOW = 1 << 0
    CELL_LIST_OVERFLOW = 1 << 1
    CELL_SIZE_TOO_SMALL = 1 << 2
    MALFORMED_BOX = 1 << 3


PEC = PartitionErrorCode

_MESSAGES = {
    PEC.NEIGHBOR_LIST_OVERFLOW: "Partition Error: Neighbor list buffer overflow.",
    PEC.CELL_LIST_OVERFLOW: "Partition Error: Cell list buffer overflow",
    PEC.CELL_SIZE_TOO_SMALL: "Partition Error: Cell size too small",
    PEC.MALFORMED_BOX: (
        "Partition Error: Incorrect box format. Expecting upper triangular."
    ),
}


@dataclasses.dataclass
class PartitionError:
    """A code of sticky bits that travels through compiled loops."""

    code: UInt8[Array, ""]

    def update(self, bit: int, pred: Array) -> "PartitionError":
        """Set `bit` where `pred` holds; bits are never cleared."""
        raised = jnp.where(pred, jnp.uint8(int(bit)), jnp.uint8(0))
        return PartitionError(self.code | raised)

    def has(self, bits: int) -> Array:
        """The code restricted to `bits`: nonzero if any of them is set."""
        return self.code & jnp.uint8(int(bits))

    def __str__(self) -> str:
        code = int(self.code)
        for bit, message in _MESSAGES.items():
            if code & bit:
                return message
        if code:
            raise ValueError(
                f"unexpected partition error code {code}; expected 0 to 15."
            )
        return ""

    __repr__ = __str__


def no_error() -> PartitionError:
    """Return the code with no bit set."""
    return PartitionError(jnp.uint8(0))
