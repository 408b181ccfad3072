"""An object in one place, as an upload to another place reads it.

Each attempt to send a part needs two slots, one in each place, and holds both until it
ends. All requests to the source within an attempt use the same one. A small object is read
before the upload begins, so that its two slots are never held together.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any

from twisted.internet.defer import Deferred

from swift_provider.client.answers import ObjectInfo
from swift_provider.client.checksum import Checksum
from swift_provider.client.client import SwiftClient
from swift_provider.client.copy_bodies import CopyBody, PassingBytes
from swift_provider.client.downloads import (
    WHOLE_BYTES,
    Download,
    Rest,
    WholeDownload,
    begin_part,
)
from swift_provider.client.manifest import Cut
from swift_provider.client.place import Place
from swift_provider.client.slots import Lease, Slot, Slots, acquire_both
from swift_provider.client.upload_bodies import Body, BytesBody
from swift_provider.client.upload_sources import Part, UploadSource
from swift_provider.errors import (
    DamagedError,
    ObjectChangedError,
    SourceFailedError,
    SwiftProviderError,
    Target,
)

#: Of the time that a server waits for the rest of a body: how long the source may be
#: silent before its download is resumed, and before the upload is given up.
_RESUME_SHARE, _GIVE_UP_SHARE = 1 / 3, 2 / 3

#: So often a part may come damaged before the original itself counts as damaged.
_MOST_DAMAGED = 2


@dataclass(frozen=True)
class Plan:
    """How an object is copied, and what proves the copy.

    :ivar cut: the copy's segments; ``None`` for one object.
    :ivar checksum: makes the checksum of an object that is copied as one; ``None`` if its
        ETag, or that of its segments, is enough.
    :ivar md5s: of those segments whose MD5 is known, by their offset.
    :ivar same_etag: the copy has to get the ETag of the original. Otherwise the CRC-32 in
        the metadata of the original decides.
    """

    cut: Cut | None
    checksum: Callable[[], Checksum] | None = None
    md5s: Mapping[int, str] = field(default_factory=dict)
    same_etag: bool = False


class Original(UploadSource):
    """An object that is copied.

    :param info: its facts, with a size; only an object with this ETag is copied.
    """

    def __init__(self, source: Place, target: Place, info: ObjectInfo, plan: Plan) -> None:
        assert info.size is not None
        self.size = info.size
        self.info = info
        self.noted_crc32 = info.content_crc32
        self._place = source
        self._plan = plan
        self._match = True
        idle = min(source.client.settings.idle_timeout, target.client.settings.idle_timeout)
        self.resume_after = idle * _RESUME_SHARE
        self.give_up_after = idle * _GIVE_UP_SHARE

    @property
    def client(self) -> SwiftClient:
        """Of the place where it is."""
        return self._place.client

    @property
    def target(self) -> Target:
        """What the downloads are about, for their errors."""
        return Target("GET", self._place.container, self.info.name)

    def whole(self) -> Part:
        return _ObjectPart(self, range(self.size), notes=True)

    def segment(self, offset: int, size: int) -> Part:
        return _ObjectPart(self, range(offset, offset + size), notes=False)

    def check_sent(self, etag: str, crc32: int) -> None:
        right = etag == self.info.etag if self._plan.same_etag else crc32 == self.noted_crc32
        if not right:
            error = self.target.error(
                DamagedError, f"the {self.size} bytes that came are not the object's"
            )
            raise SourceFailedError(error, temporary=False)

    def passing(self, part: range, notes: bool) -> PassingBytes:
        """The checksum of one attempt at a part."""
        plan = self._plan
        if plan.cut is not None:
            return PassingBytes(plan.md5s.get(part.start), None, None)
        md5 = self.info.etag if plan.same_etag else None
        proof = None if plan.checksum is None else plan.checksum()
        return PassingBytes(md5, proof, self.noted_crc32 if notes else None)

    async def read(self) -> bytes:
        """All of a small object."""
        path = self.info.name[len(self._place.object_name("")) :]
        download = await self._place.get(path, prove=True)
        now = download.info
        if (now.etag, now.size) == (self.info.etag, self.size) and isinstance(
            download, WholeDownload
        ):
            return download.content
        download.abandon()
        raise self.target.error(ObjectChangedError, "the object was replaced meanwhile")

    async def begin(self, part: range, passing: PassingBytes) -> Download:
        """Begin the download of a part, by somebody who holds a slot for it."""
        client = self.client
        rest = Rest(client.requester, self._place.container, self.info, _borrow, match=self._match)
        try:
            return await begin_part(
                client.requester, client.turns, rest, self.info, part, passing, self.resume_after
            )
        finally:
            self._match = rest.match


class _Borrowed:
    """The slot of an exchange within an attempt that holds one for it."""

    def offer(self, release: Callable[[], None]) -> None:
        """The attempt needs the slot until it ends."""

    def withdraw(self) -> None:
        """Nothing was offered."""

    def release(self) -> None:
        """The attempt releases it."""


async def _borrow(_slots: Slots) -> Slot:
    return _Borrowed()


class _Both(_Borrowed):
    """A slot in each place, held by one attempt."""

    def __init__(self, leases: tuple[Lease, Lease]) -> None:
        self._leases = leases

    def release(self) -> None:
        """Make both free. May be called again, to no effect."""
        for lease in self._leases:
            lease.release()


class _ObjectPart(Part):
    def __init__(self, original: Original, part: range, *, notes: bool) -> None:
        self.size = len(part)
        self.notes = notes
        self._original = original
        self._part = part
        #: Of a part that needs no download of its own.
        self._content = None if part else b""
        self._damaged = 0

    @property
    def _is_read_first(self) -> bool:
        return self.notes and self._original.info.is_plain and self.size <= WHOLE_BYTES

    def preparation(self) -> Coroutine[Deferred[Any], Any, None] | None:
        return self._read() if self._is_read_first else None

    async def _read(self) -> None:
        try:
            self._content = await self._original.read()
        except SwiftProviderError as error:
            raise SourceFailedError(error, temporary=False) from None

    async def take_slot(self, slots: Slots) -> Slot:
        if self._content is not None:
            return await super().take_slot(slots)
        return _Both(await acquire_both(self._original.client.slots, slots))

    def fresh_body(self) -> Body:
        if self._content is not None:
            return BytesBody(self._content)
        original, part = self._original, self._part
        passing = original.passing(part, self.notes)

        def failed(error: SwiftProviderError) -> SwiftProviderError:
            return self._failed(error, passing)

        return CopyBody(
            self.size,
            lambda: original.begin(part, passing),
            passing,
            original.target,
            failed,
            original.client.requester.clock,
            original.give_up_after,
        )

    def _failed(self, error: SwiftProviderError, passing: PassingBytes) -> SourceFailedError:
        temporary = error.temporary
        if isinstance(error, DamagedError):
            if passing.proven and passing.noted_crc32 is not None:
                # The object is right, and the CRC-32 in its metadata is wrong.
                self._original.noted_crc32 = passing.crc32
            else:
                self._damaged += 1
                temporary = self._damaged < _MOST_DAMAGED
        return SourceFailedError(error, temporary)
