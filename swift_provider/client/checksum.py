"""Whether bytes are the ones that an object's ETag stands for.

A plain object's ETag is the MD5 of its content. A static large object's is the
MD5 of its segments' MD5s, written one after the other in hex (Swift's "Static
Large Objects"), which can be computed again where the segments' sizes are
known. A dynamic large object's ETag says nothing that can be relied on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from typing import Protocol

from swift_provider.client.answers import ObjectInfo
from swift_provider.client.file_source import FileSource

READ_BYTES = 1024 * 1024


class Checksum(Protocol):
    """Fed with all the bytes in order, says whether they are the right ones."""

    def update(self, data: bytes) -> None:
        """The next bytes."""

    def right(self) -> bool:
        """Whether all the bytes are the right ones; asked once, at the end."""


class PlainChecksum:
    """MD5 of the content."""

    def __init__(self, etag: str) -> None:
        self._etag = etag
        self._hash = hashlib.md5(usedforsecurity=False)
        self.update = self._hash.update

    def right(self) -> bool:
        """Whether the MD5 is the ETag."""
        return self._hash.hexdigest() == self._etag


class SegmentsChecksum:
    """MD5 of the segments' MD5s.

    :param sizes: of the segments, in bytes, in order.
    """

    def __init__(self, etag: str, sizes: Iterable[int]) -> None:
        self._etag = etag
        self._sizes: Iterator[int] = iter(sizes)
        self._all = hashlib.md5(usedforsecurity=False)
        self._segment = hashlib.md5(usedforsecurity=False)
        self._left = next(self._sizes, 0)

    def update(self, data: bytes) -> None:
        """The next bytes."""
        view = memoryview(data)
        while len(view) >= self._left > 0:
            self._segment.update(view[: self._left])
            view = view[self._left :]
            self._all.update(self._segment.hexdigest().encode("ascii"))
            self._segment = hashlib.md5(usedforsecurity=False)
            self._left = next(self._sizes, 0)
        self._segment.update(view)
        self._left -= len(view)

    def right(self) -> bool:
        """Whether every segment is complete and the sum is the ETag."""
        return self._left == 0 and self._all.hexdigest() == self._etag


class LengthOnly:
    """Nothing to compare with but the length, which others count."""

    def update(self, data: bytes) -> None:
        """Nothing to add up."""

    def right(self) -> bool:
        """There is no sum that could be wrong."""
        return True


def segment_sizes(size: int, segment_size: int) -> Iterator[int]:
    """The sizes of the segments of a file which this client cut up."""
    for offset in range(0, size, segment_size):
        yield min(segment_size, size - offset)


def checksum_for(info: ObjectInfo, sizes: Iterable[int] | None = None) -> Checksum:
    """What proves the content of an object.

    :param sizes: of its segments, where they were read from the manifest.
    """
    if info.is_plain:
        return PlainChecksum(info.etag)
    if info.static_large and sizes is not None:
        return SegmentsChecksum(info.etag, sizes)
    if info.static_large and info.segment_size and info.size is not None:
        return SegmentsChecksum(info.etag, segment_sizes(info.size, info.segment_size))
    return LengthOnly()


def provable(checksum: Checksum) -> bool:
    """Whether this checksum can tell right bytes from wrong ones."""
    return not isinstance(checksum, LengthOnly)


def file_matches(source: FileSource, checksum: Checksum) -> bool:
    """Whether a local file has the content. Blocking: reads the whole file.

    :raises FileChangedError: if the file changes meanwhile.
    :raises OSError: if it cannot be read.
    """
    for offset in range(0, source.size, READ_BYTES):
        checksum.update(source.read_at(offset, min(READ_BYTES, source.size - offset)))
    source.check_unchanged()
    return checksum.right()
