"""Counts what a run did."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

_UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB")


@dataclass
class Tally:
    """The figures of one run of any job.

    :ivar counts: what was found or done, each with its name.
    :ivar skipped: what was left alone without an error, by reason.
    :ivar failed: files that failed, by reason.
    :ivar stopped: the error that ended the run early; ``None`` if there was none.
    :ivar interrupted: a signal ended the run early.
    """

    counts: Counter[str] = field(default_factory=Counter)
    skipped: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)
    stopped: str | None = None
    interrupted: bool = False
    began: float = field(default_factory=time.monotonic)
    seconds: float = 0.0

    @property
    def failures(self) -> int:
        """How many files failed."""
        return sum(self.failed.values())

    def finish(self) -> None:
        """Record how long the run took."""
        self.seconds = time.monotonic() - self.began

    def as_mapping(self) -> dict[str, Any]:
        """The figures for ``--json``."""
        return {
            **self._figures(),
            "skipped": dict(self.skipped),
            "failed": dict(self.failed),
            "seconds": round(self.seconds, 3),
            "stopped": self.stopped,
            "interrupted": self.interrupted,
        }

    def _figures(self) -> dict[str, Any]:
        return {
            name.lower().replace(",", "").replace(" ", "_"): count
            for name, count in self.counts.items()
        }

    def lines(self) -> list[str]:
        """The figures as text."""
        lines = self._headlines()
        lines += [f"Skipped: {count}: {why}" for why, count in self.skipped.most_common()]
        lines += [f"Failed: {count}: {why}" for why, count in self.failed.most_common()]
        lines.append(f"Time: {self.seconds:.1f} s")
        if self.interrupted:
            lines.append("Interrupted: the next run continues from here")
        if self.stopped is not None:
            lines.append(f"Stopped early: {self.stopped}")
        return lines

    def _headlines(self) -> list[str]:
        return [f"{name}: {count}" for name, count in self.counts.items()]


def readable(count: float) -> str:
    """A number of bytes with a unit."""
    for unit in _UNITS[:-1]:
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} {_UNITS[-1]}"
