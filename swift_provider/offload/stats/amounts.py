"""Numbers of media, files or objects, with their bytes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class Amount(NamedTuple):
    """How many there are, and how many bytes they are."""

    number: int = 0
    size: int = 0

    def plus(self, other: Amount) -> Amount:
        """Both together."""
        return Amount(self.number + other.number, self.size + other.size)

    def minus(self, other: Amount) -> Amount:
        """Without the other, which is a part of this."""
        return Amount(self.number - other.number, self.size - other.size)


def total(amounts: Sequence[Amount]) -> Amount:
    """All together."""
    return Amount(sum(one.number for one in amounts), sum(one.size for one in amounts))
