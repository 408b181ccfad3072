"""Counts what an upload did."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from swift_provider.offload.tally import Tally
from swift_provider.sizes import readable


@dataclass
class UploadTally(Tally):
    """The figures of one ``upload``; they count files unless they say otherwise.

    :ivar dry_run: uploads and deletions were only counted, not done.
    :ivar media: media that were looked at.
    :ivar found: on disk.
    :ivar present: Swift had the same bytes before the run.
    :ivar uploaded: including ``replaced``.
    :ivar replaced: replaced an object whose content was wrong.
    :ivar freed: bytes that the deleted files took on the disk.
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
    freed: int = 0

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
            lines.append(f"Replaced damaged objects: {self.replaced}")
        return lines
