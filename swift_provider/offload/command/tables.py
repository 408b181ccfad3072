"""Tables of text, one below the other, with a bar of characters in each row."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from swift_provider.offload.media_names import shown

#: Of the tables. On a terminal they are as wide as that, within these limits.
NARROWEST, WIDEST, USUAL = 60, 120, 80
#: The shortest column of bars.
_BAR_CHARACTERS = 12
_GAP = "  "
_MARK = "#"
_CUT = "..."


class Row(NamedTuple):
    """One row.

    :ivar cells: aligned to the right.
    :ivar weight: what the bar stands for; not negative.
    """

    label: str
    cells: Sequence[str]
    weight: float


@dataclass(frozen=True)
class Table:
    """One table.

    :ivar titles: of the columns; the first is that of the labels.
    :ivar whole: the weight of a bar that fills its column; 0 for the largest one's.
    :ivar notes: lines below the table.
    """

    titles: Sequence[str]
    rows: Sequence[Row]
    whole: float = 0
    notes: Sequence[str] = ()


def terminal_width() -> int:
    """How wide to print on standard output."""
    try:
        columns = os.get_terminal_size(sys.stdout.fileno()).columns if sys.stdout.isatty() else 0
    except (OSError, ValueError):
        columns = 0
    return min(max(columns or USUAL, NARROWEST), WIDEST)


def drawn(tables: Sequence[Table], width: int) -> list[str]:
    """The lines of some tables with as many columns each, aligned with each other.

    :param width: no line of a table is longer.
    """
    labels = [label for one in tables for label in (one.titles[0], *_labels(one))]
    cells = [one.titles[1:] for one in tables] + [row.cells for one in tables for row in one.rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    left = width - sum(len(_GAP) + one for one in widths) - len(_GAP)
    label_width = min(max(map(len, labels), default=0), left - _BAR_CHARACTERS)
    lines = []

    def add(label: str, row: Sequence[str], bar: str) -> None:
        aligned = [cell.rjust(one) for cell, one in zip(row, widths, strict=True)]
        line = _GAP.join([_fitted(label, label_width).ljust(label_width), *aligned, bar])
        lines.append(line.rstrip())

    for one in tables:
        if lines:
            lines.append("")
        add(one.titles[0], one.titles[1:], "")
        whole = one.whole or max((row.weight for row in one.rows), default=0)
        for label, row in zip(_labels(one), one.rows, strict=True):
            add(label, row.cells, _bar(row.weight, whole, left - label_width))
        lines += one.notes
    return lines


def _labels(table: Table) -> list[str]:
    """Without what takes no column of a terminal, or two."""
    return [shown(row.label).encode("ascii", "backslashreplace").decode() for row in table.rows]


def _bar(weight: float, whole: float, width: int) -> str:
    """At least one character for anything that is not nothing."""
    return _MARK * (min(width, max(1, round(width * weight / whole))) if weight > 0 else 0)


def _fitted(label: str, width: int) -> str:
    """A server's name, or another label, without its middle if it is too long."""
    if len(label) <= width:
        return label
    end = (width - len(_CUT)) // 2
    return label[: width - len(_CUT) - end] + _CUT + label[len(label) - end :]
