"""What a run did, counted."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

_UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB")


@dataclass
class Tally:
    """Figures of any job.

    :param counts: what was found or done, by its name.
    :param skipped: left alone, by reason; no fault.
    :param failed: by reason.
    :param stopped: why the run ended early; ``None`` if it did not.
    :param interrupted: it ended early because it was asked to.
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
        """Note the time that the run took."""
        self.seconds = time.monotonic() - self.began

    def as_mapping(self) -> dict[str, Any]:
        """For ``--json``."""
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
        """For people."""
        lines = self._headlines()
        lines += [f"Skipped: {count}: {why}" for why, count in self.skipped.most_common()]
        lines += [f"Failed: {count}: {why}" for why, count in self.failed.most_common()]
        lines.append(f"Time: {self.seconds:.1f} s")
        if self.interrupted:
            lines.append("Interrupted: the next run goes on from here")
        if self.stopped is not None:
            lines.append(f"Stopped early: {self.stopped}")
        return lines

    def _headlines(self) -> list[str]:
        return [f"{name}: {count}" for name, count in self.counts.items()]


@dataclass
class Summary(Tally):
    """Figures of one ``upload``; all count files, but for those that say otherwise.

    :param dry_run: whether uploads and deletions were only counted, not done.
    :param found: files on disk that were looked at.
    :param present: Swift had the same bytes already.
    :param replaced: of those uploaded, took the place of an object that was wrong.
    """

    dry_run: bool = False
    media: int = 0
    found: int = 0
    present: int = 0
    uploaded: int = 0
    replaced: int = 0
    deleted: int = 0
    uploaded_bytes: int = 0
    deleted_bytes: int = 0

    def _figures(self) -> dict[str, Any]:
        return {
            "dry_run": self.dry_run,
            "media": self.media,
            "found": self.found,
            "already_there": self.present,
            "uploaded": self.uploaded,
            "replaced": self.replaced,
            "deleted": self.deleted,
            "uploaded_bytes": self.uploaded_bytes,
            "deleted_bytes": self.deleted_bytes,
        }

    def _headlines(self) -> list[str]:
        uploaded, deleted = "Uploaded", "Deleted"
        if self.dry_run:
            uploaded, deleted = "Would have uploaded", "Would have deleted"
        lines = [
            f"Looked at {self.media} media, {self.found} files on disk",
            f"Already in Swift: {self.present}",
            f"{uploaded}: {self.uploaded} ({readable(self.uploaded_bytes)})",
            f"{deleted}: {self.deleted} ({readable(self.deleted_bytes)})",
        ]
        if self.replaced:
            lines.append(f"Of the uploads, took the place of a wrong object: {self.replaced}")
        return lines


def readable(count: float) -> str:
    """A number of bytes with a unit."""
    for unit in _UNITS[:-1]:
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} {_UNITS[-1]}"
