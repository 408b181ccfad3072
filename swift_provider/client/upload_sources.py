"""What an upload reads: a local file, or an object in another place.

A source is stored whole, as one object, or in parts, as the segments of a large object.
Each attempt to send a part reads it anew, from its beginning.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Coroutine
from typing import Any

from twisted.internet.defer import Deferred

from swift_provider.client.crc32 import crc32_of
from swift_provider.client.file_source import FileSource
from swift_provider.client.observer import Progress
from swift_provider.client.slots import Lane, Slot, Slots
from swift_provider.client.threads import Threads
from swift_provider.client.upload_bodies import AT_ONCE_BYTES, Body, make_body


class Part(ABC):
    """What becomes one object: all of a source, or one segment of it.

    :ivar size: bytes.
    :ivar notes: whether the object's metadata shall have the CRC-32.
    :ivar progress: is told what the upload is doing; ``None`` if nobody wants to know.
    """

    size: int
    notes: bool
    progress: Progress | None = None

    def preparation(self) -> Coroutine[Deferred[Any], Any, None] | None:
        """What has to be done before the first attempt. No slot is held meanwhile.

        :returns: ``None`` for nothing.
        """
        return None

    async def take_slot(self, slots: Slots) -> Slot:
        """Wait for what one attempt needs; called before each.

        :param slots: of the place that the part is stored in.
        """
        return await slots.acquire(Lane.WRITE)

    @abstractmethod
    def fresh_body(self) -> Body:
        """The body of one attempt, for which :meth:`take_slot` has returned.

        :raises FileChangedError: if the source is not what it was any more.
        :raises OSError: if it cannot be read.
        """


class UploadSource(ABC):
    """What an upload reads.

    :ivar size: bytes.
    """

    size: int

    @abstractmethod
    def whole(self) -> Part:
        """All of it, as one object."""

    @abstractmethod
    def segment(self, offset: int, size: int) -> Part:
        """A part of it. Offset and size in bytes."""

    @abstractmethod
    def check_sent(self, etag: str, crc32: int) -> None:
        """Called when all segments are stored, before the manifest that makes them an object.

        :param etag: which the manifest will have.
        :param crc32: of all that was sent.
        :raises SwiftProviderError: if that is not what the source is.
        """


class LocalFile(UploadSource):
    """An open file.

    :param reading: reads and hashes it, where a part is large.
    :param noting: computes the CRC-32 of a large file before it is sent.
    :param progress: is told what the upload is doing.
    """

    def __init__(
        self,
        file: FileSource,
        reading: Threads,
        noting: Threads,
        progress: Progress | None = None,
    ) -> None:
        self.size = file.size
        self._progress = progress
        self._file = file
        self._reading = reading
        self._noting = noting

    def whole(self) -> Part:
        return self._part(0, self.size, self._noting)

    def segment(self, offset: int, size: int) -> Part:
        return self._part(offset, size, None)

    def _part(self, offset: int, size: int, noting: Threads | None) -> Part:
        part = _FilePart(self._file, offset, size, self._reading, noting)
        part.progress = self._progress
        return part

    def check_sent(self, etag: str, crc32: int) -> None:
        self._file.check_unchanged()
        self._file.check_same(crc32, self._file.crc32)


class _FilePart(Part):
    def __init__(
        self, file: FileSource, offset: int, size: int, reading: Threads, noting: Threads | None
    ) -> None:
        self.size = size
        self.notes = noting is not None
        self._file = file
        self._offset = offset
        self._reading = reading
        self._noting = noting
        self._crc32 = file.crc32 if size == file.size else None

    def preparation(self) -> Coroutine[Deferred[Any], Any, None] | None:
        # Headers go before the body, so the file is read twice; the second time it mostly
        # comes from the page cache.
        if self._noting is None or self._crc32 is not None or self.size <= AT_ONCE_BYTES:
            return None
        return self._compute_crc32(self._noting)

    async def _compute_crc32(self, noting: Threads) -> None:
        self._crc32 = await noting.run(crc32_of, self._file)

    def fresh_body(self) -> Body:
        return make_body(self._file, self._offset, self.size, self._reading, self._crc32)
