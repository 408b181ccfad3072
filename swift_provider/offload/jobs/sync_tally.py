"""Counts what a sync did."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from swift_provider.offload.tally import Tally
from swift_provider.sizes import readable


@dataclass
class SyncTally(Tally):
    """The figures of one ``sync``.

    :ivar dry_run: copies were only counted, not made.
    :ivar targets: the names of the places that are copied to.
    :ivar looked: objects of media that a place to copy from lists.
    :ivar present: all targets had them already.
    :ivar copied: by the name of the target; so are the bytes.
    :ivar replaced: copies that replaced an object that could not be relied on.
    :ivar differing: objects of which two places have different ones, or which cannot be
        compared and of which one cannot be relied on.
    :ivar foreign: objects that are not named like media.
    """

    dry_run: bool = False
    targets: tuple[str, ...] = ()
    looked: int = 0
    present: int = 0
    copied: Counter[str] = field(default_factory=Counter)
    copied_bytes: Counter[str] = field(default_factory=Counter)
    replaced: int = 0
    differing: int = 0
    foreign: int = 0

    def _figures(self) -> dict[str, Any]:
        return {
            "dry_run": self.dry_run,
            "objects": self.looked,
            "already_there": self.present,
            "copied": {name: self.copied[name] for name in self.targets},
            "copied_bytes": {name: self.copied_bytes[name] for name in self.targets},
            "replaced": self.replaced,
            "differing": self.differing,
            "not_named_like_media": self.foreign,
        }

    def _headlines(self) -> list[str]:
        copied = "Would have copied" if self.dry_run else "Copied"
        lines = [f"Looked at {self.looked} objects", f"Already there: {self.present}"]
        lines += [
            f"{copied} to {name}: {self.copied[name]} ({readable(self.copied_bytes[name])})"
            for name in self.targets
        ]
        if self.replaced:
            lines.append(f"Copies that replaced a damaged object: {self.replaced}")
        if self.differing:
            lines.append(
                f"Different, both left as they are: {self.differing}; verify --deep shows which "
                "is right"
            )
        if self.foreign:
            lines.append(f"Left alone, not named like media: {self.foreign}")
        return lines
