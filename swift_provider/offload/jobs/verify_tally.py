"""Counts what ``verify`` found; of several places in Swift, in a column for each."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from swift_provider.offload.tally import Tally

WHOLE = "Whole"
MISSING = "Missing"
WRONG = "Wrong"
#: From those of another place, and nothing shows which are right.
DIFFERENT = "Different"
UNKNOWN = "Not known"
_ROWS = (WHOLE, MISSING, WRONG, DIFFERENT, UNKNOWN)
_REMEDY = (
    "whole in another place. 'swift_media_upload sync --proof' copies them, 'upload --all' uploads "
    "those that are on disk"
)


@dataclass
class VerifyTally(Tally):
    """The figures of one ``verify``.

    A place's ``counts`` are media by what it has; its ``lacking`` are those that it lacks and
    another place has.

    :ivar lost: the path of each media that Synapse cannot serve, or may serve wrongly, and why.
    """

    lost: list[dict[str, str]] = field(default_factory=list)

    def as_mapping(self) -> dict[str, Any]:
        """The figures for ``--json``."""
        return {**super().as_mapping(), "lost": self.lost}

    @property
    def incomplete(self) -> bool:
        """Also if it is not known what a place has."""
        return super().incomplete or any(one.counts[UNKNOWN] for one in self.members.values())

    def _of_members(self) -> list[str]:
        if not self.members:
            return []
        columns = [
            (name, *(str(one.counts[row]) for row in _ROWS)) for name, one in self.members.items()
        ]
        widths = [max(map(len, column)) for column in columns]
        lines = []
        for head, *cells in zip(("In Swift", *_ROWS), *columns, strict=True):
            padded = [cell.rjust(width) for cell, width in zip(cells, widths, strict=True)]
            lines.append("  ".join((head.ljust(max(map(len, _ROWS))), *padded)))
        return lines + self._not_done()

    def _of_members_alone(self) -> list[str]:
        lines = []
        for name, one in self.members.items():
            counts = [f"{row} {one.counts[row]}" for row in _ROWS if one.counts[row]]
            lines.append(f"In {name}: {', '.join(counts) or 'nothing'}")
        return lines + self._not_done()

    def _not_done(self) -> list[str]:
        lines = []
        for name, one in self.members.items():
            if one.lacking:
                lines.append(f"Lacking in {name}: {one.lacking}, {_REMEDY}")
            if one.left_out is not None:
                lines.append(f"Left out of this run: {name}: {one.left_out}")
        return lines
