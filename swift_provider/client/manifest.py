"""A static large object's manifest: its segments, its headers and its ETag.

See Swift's "Static Large Objects".
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass

from swift_provider.client.answers import ATTEMPT_HEADER, SEGMENT_SIZE_HEADER
from swift_provider.client.checksum import segment_sizes


@dataclass
class Segment:
    """A part of a file. Offset and size in bytes; the ETag is known once it is stored."""

    name: str
    offset: int
    size: int
    etag: str = ""


@dataclass
class Manifest:
    """Joins segments that are in Swift already.

    :param attempt: tells this manifest from any other object of the same name.
    """

    container: str
    name: str
    attempt: str
    segment_size: int
    segments: list[Segment]
    if_absent: bool

    @property
    def size(self) -> int:
        """Bytes of the whole object."""
        return sum(segment.size for segment in self.segments)

    @property
    def etag(self) -> str:
        """The ETag that Swift computes; see "Static Large Objects", "Retrieving a Large Object"."""
        etags = "".join(segment.etag for segment in self.segments)
        return hashlib.md5(etags.encode("ascii"), usedforsecurity=False).hexdigest()

    @property
    def headers(self) -> dict[bytes, bytes]:
        """The headers of its PUT."""
        headers = {
            b"Content-Type": b"application/octet-stream",
            SEGMENT_SIZE_HEADER: str(self.segment_size).encode("ascii"),
            ATTEMPT_HEADER: self.attempt.encode("ascii"),
        }
        if self.if_absent:
            headers[b"If-None-Match"] = b"*"
        return headers

    def content(self, segment_container: str) -> bytes:
        """The body of its PUT."""
        rows = [
            {
                "path": f"/{segment_container}/{segment.name}",
                "etag": segment.etag,
                "size_bytes": segment.size,
            }
            for segment in self.segments
        ]
        return json.dumps(rows).encode("utf-8")


def cut(size: int, segment_size: int, prefix: str) -> Iterator[Segment]:
    """The segments of a file of ``size`` bytes; their names begin with ``prefix``."""
    offset = 0
    for index, part in enumerate(segment_sizes(size, segment_size)):
        yield Segment(f"{prefix}{index:08d}", offset, part)
        offset += part
