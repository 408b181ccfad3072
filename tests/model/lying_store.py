"""A store in memory, with the interface of ``Place``, that fails and lies as Swift can."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from random import Random
from typing import Any

from twisted.internet.defer import Deferred

from swift_provider.client import FileSource, ListedObject, ObjectInfo
from swift_provider.client.checksum import SegmentsChecksum, file_matches, proof_for
from swift_provider.errors import (
    AccessDeniedError,
    ConnectionFailedError,
    DamagedError,
    InsufficientStorageError,
    ObjectExistsError,
    ObjectNotFoundError,
    RequestRefusedError,
    ServerBusyError,
    SwiftError,
    SwiftProviderError,
    Target,
    TimedOutError,
)
from tests.model.swift import CONTAINER, SEGMENT_BYTES, Container, Row, Stored, Swift, md5
from tests.model.turns import Turns

#: What a request may end with although, or before, Swift did it.
_TROUBLE: tuple[tuple[type[SwiftError], int | None], ...] = (
    (ServerBusyError, 503),
    (ServerBusyError, 503),
    (AccessDeniedError, 403),
    (InsufficientStorageError, 507),
    (ConnectionFailedError, None),
    (TimedOutError, None),
)
#: What becomes of a manifest without an answer.
_LATE = 0.5


class LyingStore:
    """One run's view of one container.

    :param trouble: the share of requests that fail.
    """

    def __init__(
        self,
        swift: Swift,
        turns: Turns,
        rng: Random,
        *,
        trouble: float,
        width: int,
        owner: str | None,
        of_segments: bool = False,
    ) -> None:
        self.owner = owner
        self.name = swift.name
        self.width = width
        self.container = swift.segments.name if of_segments else swift.media.name
        self._place: Container = swift.segments if of_segments else swift.media
        self._swift = swift
        self._turns = turns
        self._rng = rng
        self._trouble = trouble

    @property
    def members(self) -> tuple[LyingStore, ...]:
        return (self,)

    @property
    def segments(self) -> LyingStore:
        return LyingStore(
            self._swift,
            self._turns,
            self._rng,
            trouble=self._trouble,
            width=self.width,
            owner=self.owner,
            of_segments=True,
        )

    def object_name(self, path: str) -> str:
        return path

    async def check(self, *, retry: bool = True) -> str:
        return await self._ask("HEAD", None, lambda: f"since the beginning of {self.name}")

    async def storage_url(self) -> str:
        return f"https://{self.name}.example/v1/AUTH_media"

    def hurry(self) -> None:
        """Nothing is retried here in any case."""

    def end_hurry(self) -> None:
        """Likewise."""

    async def close(self) -> None:
        """Nothing is open."""

    # What every request has in common

    def _happens(self, probability: float) -> bool:
        return self._trouble > 0 and self._rng.random() < probability

    def _error(self, operation: str, name: str | None) -> SwiftError:
        kind, status = self._rng.choice(_TROUBLE)
        return Target(operation, self.container, name).error(kind, "a lie", status=status)

    def _not_found(self, operation: str, name: str) -> ObjectNotFoundError:
        target = Target(operation, self.container, name)
        error = target.error(ObjectNotFoundError, "not found", status=404)
        assert isinstance(error, ObjectNotFoundError)
        return error

    async def _ask(self, operation: str, name: str | None, effect: Callable[[], Any]) -> Any:
        """Have an effect, unless the request fails; it may also fail after the effect."""
        # A job that gets no listing does nothing more.
        fails = self._happens(self._trouble if name is not None else self._trouble / 5)
        if fails and self._rng.random() < 0.5:
            await self._turns.call(lambda: None)
            raise self._error(operation, name)
        result = await self._turns.call(effect)
        if fails:
            raise self._error(operation, name)
        return result

    def _stored(self, operation: str, path: str) -> Stored:
        stored = self._place.objects.get(path)
        hidden = stored is not None and self._happens(self._trouble)
        self._swift.has_hidden |= hidden
        if stored is None or hidden:
            raise self._not_found(operation, path)
        return stored

    # Reading

    async def head(self, path: str, *, newest: bool = False, progress: object = None) -> ObjectInfo:
        # Without "newest" it would be no proof; no job may need it.
        assert newest, "a job asks one replica only"
        info: ObjectInfo = await self._ask(
            "HEAD", path, lambda: self._stored("HEAD", path).info(path)
        )
        return info

    async def existing(self, path: str) -> ObjectInfo:
        try:
            return await self.head(path, newest=True)
        except ObjectNotFoundError:
            target = Target("PUT", self.container, path)
            raise target.error(ObjectExistsError, "it is not found", status=412) from None

    async def flaw(self, info: ObjectInfo) -> str | None:
        if info.expires:
            return "Swift will delete it (X-Delete-At)"
        if not info.static_large:
            return None
        found: str | None = await self._ask("HEAD", info.name, lambda: self._swift.flaw(info.name))
        return found

    async def same_content(self, info: ObjectInfo, source: FileSource) -> bool:
        if info.size != source.size:
            return False
        checksum = proof_for(info)
        if checksum is None:
            manifest = await self._ask("GET", info.name, lambda: self._stored("GET", info.name))
            checksum = SegmentsChecksum(info.etag, [row.size for row in manifest.rows or ()])
        matches: bool = await self._turns.call(file_matches, source, checksum)
        return matches

    async def list(self, folder: str = "") -> AsyncGenerator[list[ListedObject], None]:
        rows = await self._ask("GET", None, lambda: self._place.listing(folder))
        while rows:
            length = self._rng.randint(1, 6)
            yield rows[:length]
            rows = rows[length:]
            await self._ask("GET", None, lambda: None)

    async def get(
        self, path: str, *, prove: bool = False, progress: object = None
    ) -> LyingDownload:
        def begin() -> LyingDownload:
            stored = self._stored("GET", path)
            content = self._swift.served(path)
            if content is None:
                target = Target("GET", self.container, path)
                raise target.error(RequestRefusedError, "conflict", status=409)
            breaks = self._happens(self._trouble)
            return LyingDownload(stored.info(path), content, self._turns, breaks=breaks)

        download: LyingDownload = await self._ask("GET", path, begin)
        return download

    # Writing

    async def keeps_existing(self) -> bool:
        return True

    async def put(self, path: str, source: FileSource, *, if_absent: bool = False) -> ObjectInfo:
        marks = {"owner": self.owner or "", "modified": self._place.now()}
        if source.size <= SEGMENT_BYTES:
            data = await self._turns.call(source.read_at, 0, source.size)
            source.check_unchanged()
            stored = Stored(data, **marks)
            await self._ask("PUT", path, lambda: self._commit(path, stored, if_absent))
            return stored.info(path)
        if if_absent:
            await self._ask("HEAD", path, lambda: self._refuse_if_there(path))
        attempt = f"{self._rng.getrandbits(128):032x}"
        rows: list[Row] = []
        try:
            for number, offset in enumerate(range(0, source.size, SEGMENT_BYTES)):
                length = min(SEGMENT_BYTES, source.size - offset)
                data = await self._turns.call(source.read_at, offset, length)
                row = Row(f"{path}/{attempt}/{number:08}", length, md5(data))
                segment = Stored(data, **marks, manifest_container=CONTAINER)
                rows.append(row)
                await self._ask("PUT", row.name, lambda r=row, s=segment: self._add(r, s))
            source.check_unchanged()
        except Exception:
            for row in rows:
                await self._turns.call(self._swift.forget_segment, row.name)
            raise
        manifest = Stored(b"", **marks, rows=tuple(rows), attempt=attempt)
        if self._happens(self._trouble):
            self._swift.coming.append((path, manifest, if_absent))
            if self._rng.random() < _LATE:
                self._swift.coming.pop()
            raise Target("PUT", self.container, path).error(TimedOutError, "no answer")
        try:
            await self._turns.call(self._commit, path, manifest, if_absent)
        except ObjectExistsError:
            for row in rows:
                await self._turns.call(self._swift.forget_segment, row.name)
            raise
        return manifest.info(path)

    def _add(self, row: Row, segment: Stored) -> None:
        self._swift.segments.put(row.name, segment)

    def _refuse_if_there(self, path: str) -> None:
        if path in self._place.objects:
            target = Target("PUT", self.container, path)
            raise target.error(ObjectExistsError, "the object exists already", status=412)

    def _commit(self, path: str, stored: Stored, if_absent: bool) -> None:
        if if_absent:
            self._refuse_if_there(path)
        self._swift.commit(path, stored)

    async def delete(self, path: str) -> bool:
        try:
            stored: Stored = await self._ask("HEAD", path, lambda: self._stored("HEAD", path))
        except ObjectNotFoundError:
            return False
        await self._ask("DELETE", path, lambda: self._swift.drop(self._place, path))
        for row in stored.rows or ():
            segment = self._swift.segments.objects.get(row.name)
            if segment is not None and segment.manifest_container == self.container:
                await self._ask(
                    "DELETE", row.name, lambda r=row: self._swift.drop(self._swift.segments, r.name)
                )
        return True


class LyingMirrors:
    """One run's view of several containers that hold the same objects."""

    def __init__(self, members: list[LyingStore]) -> None:
        self.members = tuple(members)
        self.owner = members[0].owner
        self.width = members[0].width
        self.container = members[0].container

    async def get(self, path: str, *, prove: bool = False) -> Any:
        """From the first member that does not fail; 404 only if all members say so."""
        error: SwiftProviderError | None = None
        for member in self.members:
            try:
                return await member.get(path, prove=prove)
            except SwiftProviderError as failed:
                if error is None or not isinstance(failed, ObjectNotFoundError):
                    error = failed
        assert error is not None
        raise error

    def hurry(self) -> None:
        """Nothing is retried here in any case."""


class LyingDownload:
    """The body of an object.

    :param breaks: it ends early.
    """

    def __init__(self, info: ObjectInfo, content: bytes, turns: Turns, *, breaks: bool) -> None:
        self.info = info
        self.checked = not info.dynamic_large
        self._content = content
        self._turns = turns
        self._breaks = breaks

    def deliver(self, consumer: Any) -> Deferred[None]:
        return Deferred.fromCoroutine(self._deliver(consumer))

    async def _deliver(self, consumer: Any) -> None:
        half = len(self._content) // 2
        await self._turns.call(lambda: None)
        consumer.write(self._content[:half])
        await self._turns.call(lambda: None)
        if self._breaks:
            raise Target("GET", CONTAINER, self.info.name).error(DamagedError, "the body broke")
        consumer.write(self._content[half:])

    def abandon(self) -> None:
        """Nothing is held."""
