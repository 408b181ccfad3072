"""Counts what a run did."""

from __future__ import annotations

import re
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from swift_provider.sizes import readable

#: The end of the name of a count that is of bytes.
BYTES = " bytes"

_DIGIT = re.compile("[0-9]")
_NOT_ZERO = re.compile("[1-9]")


def tells(line: str) -> bool:
    """Whether a line of a summary tells of more than zeros."""
    return _NOT_ZERO.search(line) is not None or _DIGIT.search(line) is None


@dataclass
class MemberTally:
    """What a run did not do with one of several places in Swift.

    :ivar lacking: files that another place has, and this one lacks or may lack.
    :ivar reason: the last error about one of them.
    :ivar left_out: why the run gave it up; ``None`` if it did not.
    :ivar counts: what else was found there, each with its name.
    """

    lacking: int = 0
    reason: str | None = None
    left_out: str | None = None
    counts: Counter[str] = field(default_factory=Counter)

    def as_mapping(self) -> dict[str, Any]:
        """The figures for ``--json``."""
        figures = {_key(name): count for name, count in self.counts.items()}
        known = {"lacking": self.lacking, "reason": self.reason, "left_out": self.left_out}
        return {**figures, **known}


@dataclass
class Tally:
    """The figures of one run of any job.

    :ivar counts: what was found or done, each with its name.
    :ivar sizes: bytes of what is counted, by the same names; not of everything.
    :ivar main: the counts that people are told even if they are 0; ``None`` for all.
    :ivar skipped: what was left alone without an error, by reason.
    :ivar failed: files that failed, by reason.
    :ivar members: by the names of the places in Swift; empty if there is only one.
    :ivar stopped: the error that ended the run early; ``None`` if there was none.
    :ivar ended_early: why the run ended before its end, as it was told to; ``None`` if it did not.
    :ivar interrupted: a signal ended the run early.
    """

    counts: Counter[str] = field(default_factory=Counter)
    sizes: Counter[str] = field(default_factory=Counter)
    main: frozenset[str] | None = None
    skipped: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)
    members: dict[str, MemberTally] = field(default_factory=dict)
    stopped: str | None = None
    ended_early: str | None = None
    interrupted: bool = False
    began: float = field(default_factory=time.monotonic)
    seconds: float = 0.0

    @property
    def failures(self) -> int:
        """How many files failed."""
        return sum(self.failed.values())

    @property
    def incomplete(self) -> bool:
        """Whether one of several places lacks something, or was left out."""
        return any(one.lacking or one.left_out is not None for one in self.members.values())

    def lack(self, name: str, reason: str | None = None) -> None:
        """Count a file that one of several places lacks, or may lack.

        :param reason: the error; ``None`` if the place said that it lacks the file.
        """
        self.members[name].lacking += 1
        self.members[name].reason = reason or self.members[name].reason

    def finish(self) -> None:
        """Record how long the run took."""
        self.seconds = time.monotonic() - self.began

    def as_mapping(self) -> dict[str, Any]:
        """The figures for ``--json``."""
        members = {name: one.as_mapping() for name, one in self.members.items()}
        return {
            **self._figures(),
            **({"members": members} if members else {}),
            "skipped": dict(self.skipped),
            "failed": dict(self.failed),
            "seconds": round(self.seconds, 3),
            "stopped": self.stopped,
            "ended_early": self.ended_early is not None,
            "interrupted": self.interrupted,
        }

    def _figures(self) -> dict[str, Any]:
        sizes = {f"{_key(name)}_bytes": size for name, size in self.sizes.items()}
        return {**{_key(name): count for name, count in self.counts.items()}, **sizes}

    def lines(self, *, alone: bool = False) -> list[str]:
        """The figures as text.

        :param alone: no line needs another one to be understood; for a summary in one line.
        """
        lines = self._headlines() + (self._of_members_alone() if alone else self._of_members())
        lines += [f"Skipped: {count}: {why}" for why, count in self.skipped.most_common()]
        lines += [f"Failed: {count}: {why}" for why, count in self.failed.most_common()]
        lines.append(f"Time: {self.seconds:.1f} s")
        if self.ended_early is not None:
            lines.append(f"{self.ended_early}: the next run continues from here")
        if self.interrupted:
            lines.append("Interrupted: the next run continues from here")
        if self.stopped is not None:
            lines.append(f"Stopped early: {self.stopped}")
        return lines

    def _headlines(self) -> list[str]:
        return [
            self._headline(name, count)
            for name, count in self.counts.items()
            if count or self.main is None or name in self.main
        ]

    def _headline(self, name: str, count: int) -> str:
        if name.endswith(BYTES):
            return f"{name.removesuffix(BYTES)}: {readable(count)}"
        return f"{name}: {count}{self._size_of(name)}"

    def _size_of(self, name: str) -> str:
        return f" ({readable(self.sizes[name])})" if self.sizes[name] else ""

    def _of_members(self) -> list[str]:
        lines = []
        for name, one in self.members.items():
            if one.lacking:
                lines.append(f"Not in {name}: {one.lacking} ({one.reason})")
            if one.left_out is not None:
                lines.append(f"Left out of this run: {name}: {one.left_out}")
        return lines

    def _of_members_alone(self) -> list[str]:
        return self._of_members()


def _key(name: str) -> str:
    return name.lower().replace(",", "").replace(" ", "_")
