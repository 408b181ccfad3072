"""A static large object's manifest: its segments, its headers and its ETag.

Both the manifest that this client writes and the one that Swift shows. See Swift's
"Static Large Objects".
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from swift_provider.client import json_body
from swift_provider.client.answers import (
    ATTEMPT_HEADER,
    LEAST_SEGMENT_BYTES,
    SEGMENT_SIZE_HEADER,
    ObjectInfo,
    crc32_mark,
    normal_etag,
)
from swift_provider.client.checksum import segment_sizes
from swift_provider.client.crc32 import joined_crc32
from swift_provider.client.json_body import UnreadableError, count, text

#: A hundred times what Swift allows by default (``max_manifest_segments``), and few
#: enough to keep in memory.
_MOST_SEGMENTS = 100_000

#: What a segment's name has after the object's name: the attempt and a number.
_AFTER_NAME = re.compile(r"/[0-9a-f]{32}/[0-9]{8}")


@dataclass
class Segment:
    """A part of a file. Offset and size in bytes; ETag and CRC-32 are known once it is stored.

    :ivar begun: it may be in Swift, as an upload of it was begun.
    """

    name: str
    offset: int
    size: int
    etag: str = ""
    crc32: int = 0
    begun: bool = False


class Cut(NamedTuple):
    """How an object is cut into segments.

    :ivar sizes: of the segments, in bytes, in order; at least one.
    """

    sizes: Sequence[int]

    @classmethod
    def even(cls, size: int, segment_size: int) -> Cut:
        """Segments of one size; the last one may be smaller."""
        return cls(list(segment_sizes(size, segment_size)))

    @property
    def segment_size(self) -> int | None:
        """Bytes of each segment but the last; ``None`` if they differ."""
        first, *others = self.sizes
        if not others:
            return first
        return first if {first} == {first, *others[:-1]} and 0 < others[-1] <= first else None

    @property
    def is_noted(self) -> bool:
        """Whether the metadata of a large object tell that it is cut so."""
        return self.segment_size is not None and self.segment_size >= LEAST_SEGMENT_BYTES

    def segments(self, prefix: str) -> Iterator[Segment]:
        """The segments; their names begin with ``prefix``."""
        offset = 0
        for index, size in enumerate(self.sizes):
            yield Segment(f"{prefix}{index:08d}", offset, size)
            offset += size


@dataclass
class Manifest:
    """Joins segments that are in Swift already.

    :param attempt: tells this manifest from any other object of the same name.
    :param cut: how its content was cut.
    :param metadata: further headers, which stay with the object.
    """

    container: str
    name: str
    attempt: str
    cut: Cut
    segments: list[Segment]
    if_absent: bool
    metadata: Mapping[bytes, bytes]

    @property
    def size(self) -> int:
        """Bytes of the whole object."""
        return sum(segment.size for segment in self.segments)

    @property
    def etag(self) -> str:
        """What Swift's answer has to show."""
        return joined_etag(segment.etag for segment in self.segments)

    @property
    def content_crc32(self) -> int:
        """Of the whole object: of the very bytes that were sent, which no change of the file
        in between can alter.
        """
        whole = 0
        for segment in self.segments:
            whole = joined_crc32(whole, segment.crc32, segment.size)
        return whole

    @property
    def headers(self) -> dict[bytes, bytes]:
        """The headers of its PUT."""
        headers = {
            b"Content-Type": b"application/octet-stream",
            ATTEMPT_HEADER: self.attempt.encode("ascii"),
            **crc32_mark(self.content_crc32),
            **self.metadata,
        }
        if self.cut.segment_size is not None:
            headers[SEGMENT_SIZE_HEADER] = str(self.cut.segment_size).encode("ascii")
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

    def own_md5(self, segment_container: str) -> str:
        """The ETag of an object whose content is :meth:`content` itself."""
        return hashlib.md5(self.content(segment_container), usedforsecurity=False).hexdigest()


def is_segment_of(name: str, segment_name: str) -> bool:
    """Whether this client may have named a segment of the object ``name`` so."""
    after = segment_name.removeprefix(name)
    return after != segment_name and _AFTER_NAME.fullmatch(after) is not None


class Row(NamedTuple):
    """A segment as a manifest names it.

    :ivar name: ``""`` if the bytes are in the manifest itself.
    :ivar size: bytes.
    :ivar etag: ``""`` if the manifest does not say.
    :ivar is_whole: the segment is a whole plain object: not a range of one, and not
        itself a large object.
    """

    container: str
    name: str
    size: int
    etag: str
    is_whole: bool = True


def rows_shown(body: bytes) -> list[Row] | None:
    """Read a manifest as ``multipart-manifest=get`` shows it, without ``format=raw``.

    :returns: ``None`` if it cannot be read. Ceph RGW answers with an empty body.
    """
    try:
        return [_row(row) for row in json_body.rows(json_body.parsed(body))]
    except (UnreadableError, KeyError):
        return None


def _row(row: dict[str, Any]) -> Row:
    if "data" in row:  # its bytes are in the manifest itself
        return Row("", "", 0, "", is_whole=False)
    container, _, name = text(row["name"]).removeprefix("/").partition("/")
    if not container or not name:
        raise UnreadableError
    is_whole = not row.keys() & {"range", "sub_slo"}
    return Row(container, name, count(row["bytes"]), normal_etag(text(row["hash"])), is_whole)


def rows_of_ours(info: ObjectInfo, segment_container: str) -> list[Row] | None:
    """The segments of an object of this client, from its metadata.

    :returns: ``None`` if this client did not upload it, which its number of segments shows,
        too: metadata may say anything.
    """
    if not info.attempt or not info.segment_size or info.size is None:
        return None
    if info.size > info.segment_size * _MOST_SEGMENTS:
        return None
    cut = Cut.even(info.size, info.segment_size)
    segments = cut.segments(f"{info.name}/{info.attempt}/")
    return [Row(segment_container, one.name, one.size, "") for one in segments]


def joined_etag(etags: Iterable[str]) -> str:
    """The ETag that Swift computes; see "Static Large Objects", "Retrieving a Large Object"."""
    return hashlib.md5("".join(etags).encode("ascii"), usedforsecurity=False).hexdigest()
