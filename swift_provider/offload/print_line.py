"""Prints lines that Ctrl-C cannot take apart."""

from __future__ import annotations

import sys
from typing import TextIO


def print_line(line: str, stream: TextIO | None = None) -> None:
    """Print text and the end of its line in one piece, and flush it.

    ``print()`` writes the end of the line separately. If Ctrl-C comes between the two, the
    next message is on the same line.

    :param stream: ``None`` for standard output.
    """
    print(f"{line}\n", end="", file=stream or sys.stdout, flush=True)
