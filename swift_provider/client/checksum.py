"""Checks bytes: with an object's ETag, or with the CRC-32 in its metadata.

The ETag comes from Swift itself, so it proves what Swift holds: :func:`proof_for`. The
CRC-32 is only what the uploader noted. It shows whether a download delivers the file that
was uploaded, at a third of the cost of MD5: :func:`delivery_check_for`. It never decides
whether a local file may be deleted.

A plain object's ETag is the MD5 of its content. A static large object's ETag is the MD5
of its segments' MD5s, joined in hex (Swift's "Static Large Objects"). It can be computed
where the segments' sizes are known. A dynamic large object's ETag depends on a listing
and proves nothing.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterable, Iterator
from typing import Protocol

from swift_provider.client.answers import ObjectInfo
from swift_provider.client.file_source import FileSource

READ_BYTES = 1024 * 1024


class Checksum(Protocol):
    """Is given all the bytes in order, and says whether they are the right ones."""

    def update(self, data: bytes) -> None:
        """The next bytes."""

    def right(self) -> bool:
        """Whether the bytes given so far are all of the right ones. May be called again."""


class PlainChecksum:
    """MD5 of the content."""

    def __init__(self, etag: str) -> None:
        self._etag = etag
        self._hash = hashlib.md5(usedforsecurity=False)
        self.update = self._hash.update

    def right(self) -> bool:
        """Whether the MD5 is the ETag."""
        return self._hash.hexdigest() == self._etag


class NotedChecksum:
    """CRC-32 of the content, as the uploader noted it in the object's metadata."""

    def __init__(self, crc32: int) -> None:
        self._noted = crc32
        self._crc32 = 0

    def update(self, data: bytes) -> None:
        """The next bytes."""
        self._crc32 = zlib.crc32(data, self._crc32)

    def right(self) -> bool:
        """Whether the CRC-32 is the noted one."""
        return self._crc32 == self._noted


class SegmentsChecksum:
    """MD5 of the segments' MD5s.

    :param sizes: of the segments, in bytes, in order.
    """

    def __init__(self, etag: str, sizes: Iterable[int]) -> None:
        self._etag = etag
        self._sizes: Iterator[int] = iter(sizes)
        self._all = hashlib.md5(usedforsecurity=False)
        self._segment = hashlib.md5(usedforsecurity=False)
        self._left = 0
        self._next_segment()

    def update(self, data: bytes) -> None:
        """The next bytes."""
        view = memoryview(data)
        while len(view) >= self._left > 0:
            self._segment.update(view[: self._left])
            view = view[self._left :]
            self._end_segment()
            self._next_segment()
        self._segment.update(view)
        self._left -= len(view)

    def _end_segment(self) -> None:
        self._all.update(self._segment.hexdigest().encode("ascii"))
        self._segment = hashlib.md5(usedforsecurity=False)

    def _next_segment(self) -> None:
        """Go to the next segment that is not empty; Swift accepts empty ones."""
        for size in self._sizes:
            self._left = size
            if size > 0:
                return
            self._end_segment()
        self._left = 0

    def right(self) -> bool:
        """Whether every segment is complete and the result is the ETag."""
        return self._left == 0 and self._all.hexdigest() == self._etag


def segment_sizes(size: int, segment_size: int) -> Iterator[int]:
    """The sizes of the segments into which this client cuts a file."""
    for offset in range(0, size, segment_size):
        yield min(segment_size, size - offset)


def proof_for(info: ObjectInfo) -> Checksum | None:
    """What proves by Swift's own ETag which content an object has.

    :returns: ``None`` if the object's headers offer no proof: for a dynamic large
        object, and for a static one whose segments' sizes only its manifest tells.
    """
    if info.is_plain:
        return PlainChecksum(info.etag)
    # Without the mark of an attempt, another tool has noted that size.
    cut_by_us = info.static_large and info.attempt
    if cut_by_us and info.segment_size and info.size is not None:
        return SegmentsChecksum(info.etag, segment_sizes(info.size, info.segment_size))
    return None


def delivery_check_for(info: ObjectInfo) -> Checksum | None:
    """What shows that a download delivers what was uploaded, at the least cost.

    :returns: ``None`` if the object's headers offer nothing, as :func:`proof_for`. The
        metadata of a dynamic large object does not change with its segments, so its CRC-32
        may be that of an earlier content.
    """
    if info.content_crc32 is not None and not info.dynamic_large:
        return NotedChecksum(info.content_crc32)
    return proof_for(info)


def file_matches(source: FileSource, checksum: Checksum) -> bool:
    """Whether a local file has the content. Blocking: reads the whole file.

    :param checksum: an object's proof.
    :raises FileChangedError: if the file changes meanwhile, or has other bytes than at an
        earlier reading.
    :raises OSError: if it cannot be read.
    """
    crc32 = 0
    for offset in range(0, source.size, READ_BYTES):
        data = source.read_at(offset, min(READ_BYTES, source.size - offset))
        checksum.update(data)
        if source.crc32 is not None:
            crc32 = zlib.crc32(data, crc32)
    source.check_unchanged()
    source.check_same(crc32, source.crc32)
    return checksum.right()
