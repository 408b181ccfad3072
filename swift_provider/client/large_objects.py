"""Static large objects: files cut into segments and joined by a manifest.

Follows Swift's "Static Large Objects". Segments lie in a container of their
own, under ``<object name>/<attempt>/``, so that two attempts never share one.
Each segment's MD5 is checked against Swift's answer to its own PUT, since Ceph
RGW does not check those in a manifest. Dynamic large objects, whose content is
whatever a listing happens to show, are read but never written.
"""

from __future__ import annotations

import hashlib
import json
import logging
import uuid
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, DeferredList, ensureDeferred
from twisted.python.failure import Failure

from swift_provider.client.answers import (
    ATTEMPT_HEADER,
    SEGMENT_SIZE_HEADER,
    ObjectInfo,
    header,
    object_info,
)
from swift_provider.client.bodies import BytesBody, RunInThread
from swift_provider.client.checksum import segment_sizes
from swift_provider.client.file_source import FileSource
from swift_provider.client.http.exchange import Exchange, Target
from swift_provider.client.requester import Request, Requester, drained
from swift_provider.client.slots import Lane
from swift_provider.client.uploads import FilePut
from swift_provider.errors import (
    ContainerNotFoundError,
    DamagedError,
    ObjectExistsError,
    ObjectNotFoundError,
    SwiftProviderError,
)

logger = logging.getLogger(__name__)

#: How many segments of one file are sent at once: enough to fill a line, and
#: few enough to leave slots to other files.
SEGMENTS_AT_ONCE = 4

#: A manifest lists at most 1000 segments (Swift's ``max_manifest_segments``), each
#: with a name of at most 1024 bytes.
_MANIFEST_BYTES = 2 * 1024 * 1024


@dataclass
class _Segment:
    name: str
    offset: int
    size: int
    etag: str = ""


@dataclass
class _Manifest:
    """Joins segments, all of which are in Swift.

    :param attempt: marks it as ours, whatever else is stored under this name.
    """

    container: str
    name: str
    attempt: str
    segment_size: int
    segments: list[_Segment]
    if_absent: bool

    @property
    def size(self) -> int:
        """Bytes of the whole object."""
        return sum(segment.size for segment in self.segments)

    @property
    def etag(self) -> str:
        """What Swift gives it; see "Static Large Objects", "Retrieving a Large Object"."""
        etags = "".join(segment.etag for segment in self.segments)
        return hashlib.md5(etags.encode("ascii"), usedforsecurity=False).hexdigest()

    @property
    def headers(self) -> dict[bytes, bytes]:
        """Those of its PUT."""
        headers = {
            b"Content-Type": b"application/octet-stream",
            SEGMENT_SIZE_HEADER: str(self.segment_size).encode("ascii"),
            ATTEMPT_HEADER: self.attempt.encode("ascii"),
        }
        if self.if_absent:
            headers[b"If-None-Match"] = b"*"
        return headers

    def content(self, segment_container: str) -> bytes:
        """The manifest itself."""
        rows = [
            {
                "path": f"/{segment_container}/{segment.name}",
                "etag": segment.etag,
                "size_bytes": segment.size,
            }
            for segment in self.segments
        ]
        return json.dumps(rows).encode("utf-8")


class LargeObjects:
    """Uploads, looks into and takes apart static large objects.

    :param segment_container: where segments are put.
    :param create_container: makes that container when it turns out to be missing.
    """

    def __init__(
        self,
        requester: Requester,
        run_in_thread: RunInThread,
        segment_container: str,
        create_container: Callable[[str], Awaitable[None]],
    ) -> None:
        self._requester = requester
        self._run_in_thread = run_in_thread
        self._container = segment_container
        self._create_container = create_container

    async def upload(
        self,
        container: str,
        name: str,
        source: FileSource,
        segment_size: int,
        *,
        if_absent: bool,
    ) -> ObjectInfo:
        """Upload a file as segments and a manifest.

        :param if_absent: do not overwrite.
        :raises ObjectExistsError: if ``if_absent`` and there is such an object.
        :raises SwiftError: if it failed for good; the segments are removed again then.
        :raises FileChangedError: likewise.
        """
        if if_absent:
            # The manifest comes last: do not send all of the file to be told so then.
            await self._refuse_if_there(container, name)
        attempt = uuid.uuid4().hex
        segments = list(_cut(source.size, segment_size, f"{name}/{attempt}/"))
        try:
            await self._upload_segments(source, segments)
            source.check_unchanged()
        except Exception:  # a cancellation is one of them
            await self._remove(segments)
            raise
        manifest = _Manifest(container, name, attempt, segment_size, segments, if_absent)
        try:
            return await self._put_manifest(manifest)
        except Exception as error:
            return await self._after_failed_manifest(manifest, error)

    async def _refuse_if_there(self, container: str, name: str) -> None:
        try:
            await self._requester.head(container, name)
        except ObjectNotFoundError:
            return
        raise Target("PUT", container, name).error(ObjectExistsError, "the object exists already")

    async def _upload_segments(self, source: FileSource, segments: list[_Segment]) -> None:
        try:
            await self._upload_segment(source, segments[0])
        except ContainerNotFoundError:
            await self._create_container(self._container)
            await self._upload_segment(source, segments[0])
        rest = iter(segments[1:])

        async def work() -> None:
            for segment in rest:
                await self._upload_segment(source, segment)

        await _all_of([ensureDeferred(work()) for _ in range(SEGMENTS_AT_ONCE)])

    async def _upload_segment(self, source: FileSource, segment: _Segment) -> None:
        put = FilePut(
            self._requester,
            self._run_in_thread,
            self._container,
            segment.name,
            source,
            segment.offset,
            segment.size,
        )
        await put.perform()
        segment.etag = put.md5

    async def _put_manifest(self, manifest: _Manifest) -> ObjectInfo:
        content = manifest.content(self._container)
        request = Request(
            "PUT",
            manifest.container,
            manifest.name,
            query="multipart-manifest=put",
            headers=manifest.headers,
            lane=Lane.WRITE,
            # No ETag of ours: Swift takes it for the joined segments', and Ceph
            # RGW refuses the right one.
            make_body=lambda: BytesBody(content, declare=False),
        )

        async def handle(exchange: Exchange) -> ObjectInfo:
            info = object_info(manifest.name, exchange.headers, manifest.size)
            await drained(exchange)
            if info.etag != manifest.etag:
                raise request.target.error(
                    DamagedError, "the manifest's ETag is not that of its segments"
                )
            return info

        return await self._requester.perform(request, handle)

    async def _after_failed_manifest(self, manifest: _Manifest, error: Exception) -> ObjectInfo:
        """The manifest may have been stored all the same: then its segments must stay.

        :returns: the object, if it was.
        """
        try:
            found = await self._found(manifest)
            if found is not None and found.etag == manifest.etag:
                return found
            if found is not None:  # ours, but no large object
                request = Request("DELETE", manifest.container, manifest.name)
                await self._requester.perform(request, drained)
        except SwiftProviderError:
            logger.warning(
                "It is not known whether %s/%s was stored; its segments are left in %s under %s",
                manifest.container,
                manifest.name,
                self._container,
                f"{manifest.name}/{manifest.attempt}",
            )
            raise error from None
        await self._remove(manifest.segments)
        raise error

    async def _found(self, manifest: _Manifest) -> ObjectInfo | None:
        """The object, if it is there and was stored by this very attempt."""

        async def handle(exchange: Exchange) -> ObjectInfo | None:
            await drained(exchange)
            if header(exchange.headers, ATTEMPT_HEADER) != manifest.attempt:
                return None
            return object_info(manifest.name, exchange.headers)

        request = Request("HEAD", manifest.container, manifest.name)
        try:
            return await self._requester.perform(request, handle)
        except (ObjectNotFoundError, ContainerNotFoundError):
            return None

    async def _remove(self, segments: list[_Segment]) -> None:
        """Remove the segments of a failed attempt, as far as that can be done."""
        for segment in segments:
            request = Request("DELETE", self._container, segment.name, accepts=frozenset({404}))
            try:
                await self._requester.perform(request, drained)
            except SwiftProviderError as error:
                logger.warning("Segments of a failed upload are left over: %s", error)
                return

    async def sizes(self, container: str, name: str) -> list[int] | None:
        """The segments' sizes in bytes, from the manifest.

        :returns: ``None`` if the cluster does not show manifests (Ceph RGW answers
            with an empty body), or a segment is a part of an object or itself a static
            large object, so that its hash is not the MD5 of the bytes.
        """
        # Not with format=raw, which leaves "sub_slo" out.
        request = Request("GET", container, name, query="multipart-manifest=get")

        async def handle(exchange: Exchange) -> bytes:
            return await exchange.read(_MANIFEST_BYTES)

        body = await self._requester.perform(request, handle)
        try:
            rows = json.loads(body)
            if any(row.keys() & {"range", "data", "sub_slo"} for row in rows):
                return None
            return [int(row["bytes"]) for row in rows]
        except (ValueError, TypeError, KeyError, AttributeError):
            return None

    async def delete(self, container: str, name: str) -> None:
        """Delete a manifest and its segments.

        :raises SwiftError: if Swift reports that something could not be deleted.
        """
        request = Request(
            "DELETE",
            container,
            name,
            query="multipart-manifest=delete",
            headers={b"Accept": b"application/json"},
        )

        async def handle(exchange: Exchange) -> bytes:
            return await exchange.read(_MANIFEST_BYTES)

        body = await self._requester.perform(request, handle)
        _check_bulk_answer(request, body)


def _cut(size: int, segment_size: int, prefix: str) -> Iterator[_Segment]:
    offset = 0
    for index, part in enumerate(segment_sizes(size, segment_size)):
        yield _Segment(f"{prefix}{index:08d}", offset, part)
        offset += part


def _check_bulk_answer(request: Request, body: bytes) -> None:
    """A deletion of several objects is always answered 200; its verdict is inside.

    See Swift's "Bulk delete", "Response Status".
    """
    try:
        answer = json.loads(body)
        status = str(answer["Response Status"])
        errors = answer["Errors"]
    except (ValueError, TypeError, KeyError):
        raise request.target.error(
            DamagedError, "the answer to the deletion cannot be read"
        ) from None
    # A segment that is gone already is counted as "not found", not as an error.
    left = [row for row in errors if not str(row[-1]).startswith("404")]
    if left or not (status.startswith(("200", "404"))):
        raise request.target.error(
            DamagedError, f"{len(left)} parts were not deleted, Swift says {status[:60]!r}"
        )


async def _all_of(workers: list[Deferred[None]]) -> None:
    """Wait until all have ended; the first failure cancels the others and is raised."""

    def cancel_the_others(failure: Failure) -> Failure:
        for worker in workers:
            worker.cancel()
        return failure

    for worker in workers:
        worker.addErrback(cancel_the_others)
    ended: list[tuple[bool, Any]] = await DeferredList(workers, consumeErrors=True)
    failures: list[BaseException] = [outcome.value for right, outcome in ended if not right]
    for failure in failures:
        if not isinstance(failure, CancelledError):
            raise failure
    if failures:
        raise failures[0]
