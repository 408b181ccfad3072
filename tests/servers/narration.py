"""How the demo speaks to the person who watches it: numbered steps with details below."""

from __future__ import annotations

import itertools

_numbers = itertools.count(1)


def step(text: str) -> None:
    """Begin the next step."""
    print(f"\n{next(_numbers)}. {text}", flush=True)


def detail(text: str) -> None:
    """Add a line to the step."""
    print(f"   {text}", flush=True)


def size(count: float) -> str:
    """A number of bytes for people."""
    for unit in ("B", "kB"):
        if count < 1000:
            return f"{count:.0f} {unit}"
        count /= 1000
    return f"{count:.1f} MB"
