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
    SEGMENT_SIZE_HEADER,
    ObjectInfo,
    header,
    normal_etag,
    object_info,
)
from swift_provider.client.checksum import segment_sizes
from swift_provider.client.exchange import Exchange
from swift_provider.client.requester import Request, Requester, drained
from swift_provider.client.slots import Lane
from swift_provider.client.source import FileSource
from swift_provider.client.upload import Body, BytesBody, RunInThread, make_body
from swift_provider.errors import (
    ContainerNotFoundError,
    DamagedError,
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
        self, container: str, name: str, source: FileSource, segment_size: int
    ) -> ObjectInfo:
        """Upload a file as segments and a manifest.

        :raises SwiftError: if it failed for good; the segments are removed again then.
        :raises FileChangedError: likewise.
        """
        prefix = f"{name}/{uuid.uuid4().hex}/"
        segments = list(_cut(source.size, segment_size, prefix))
        try:
            await self._upload_segments(source, segments)
            source.check_unchanged()
        except BaseException:
            await self._remove(segments)
            raise
        etag = hashlib.md5(
            "".join(segment.etag for segment in segments).encode("ascii"), usedforsecurity=False
        ).hexdigest()
        try:
            return await self._put_manifest(container, name, segments, segment_size, etag)
        except BaseException as error:
            return await self._after_failed_manifest(container, name, segments, etag, error)

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
        bodies: list[Body] = []

        def body() -> Body:
            bodies.append(make_body(source, segment.offset, segment.size, self._run_in_thread))
            return bodies[-1]

        request = Request(
            "PUT",
            self._container,
            segment.name,
            headers={b"Content-Type": b"application/octet-stream"},
            lane=Lane.WRITE,
            make_body=body,
            size=segment.size,
        )

        async def handle(exchange: Exchange) -> None:
            check_etag(exchange, bodies[-1])
            await drained(exchange)

        await self._requester.perform(request, handle)
        segment.etag = bodies[-1].md5

    async def _put_manifest(
        self, container: str, name: str, segments: list[_Segment], segment_size: int, etag: str
    ) -> ObjectInfo:
        manifest = json.dumps(
            [
                {
                    "path": f"/{self._container}/{segment.name}",
                    "etag": segment.etag,
                    "size_bytes": segment.size,
                }
                for segment in segments
            ]
        ).encode("utf-8")
        request = Request(
            "PUT",
            container,
            name,
            query="multipart-manifest=put",
            headers={
                b"Content-Type": b"application/octet-stream",
                SEGMENT_SIZE_HEADER: str(segment_size).encode("ascii"),
            },
            lane=Lane.WRITE,
            # No ETag of ours: Swift takes it for the joined segments', and Ceph
            # RGW refuses the right one.
            make_body=lambda: BytesBody(manifest, declare=False),
        )

        async def handle(exchange: Exchange) -> ObjectInfo:
            info = object_info(name, exchange.headers, sum(segment.size for segment in segments))
            await drained(exchange)
            if info.etag != etag:
                raise request.target.error(
                    DamagedError, "the manifest's ETag is not that of its segments"
                )
            return info

        return await self._requester.perform(request, handle)

    async def _after_failed_manifest(
        self,
        container: str,
        name: str,
        segments: list[_Segment],
        etag: str,
        error: BaseException,
    ) -> ObjectInfo:
        """The manifest may have been stored all the same: then its segments must stay.

        :returns: the object, if it was.
        """
        try:
            info = await self._head(container, name)
        except (ObjectNotFoundError, ContainerNotFoundError):
            await self._remove(segments)
            raise error from None
        except SwiftProviderError:
            logger.warning(
                "It is not known whether %s/%s was stored; its segments are left in %s under %s",
                container,
                name,
                self._container,
                segments[0].name.rpartition("/")[0],
            )
            raise error from None
        if info.etag == etag:
            return info
        await self._remove(segments)
        raise error

    async def _head(self, container: str, name: str) -> ObjectInfo:
        async def handle(exchange: Exchange) -> ObjectInfo:
            await drained(exchange)
            return object_info(name, exchange.headers)

        return await self._requester.perform(Request("HEAD", container, name), handle)

    async def _remove(self, segments: list[_Segment]) -> None:
        """Remove the segments of a failed attempt, as far as that can be done."""
        for segment in segments:
            request = Request("DELETE", self._container, segment.name, accepts=frozenset({404}))
            try:
                await self._requester.perform(request, drained)
            except SwiftProviderError as error:
                logger.warning("A segment of a failed upload is left over: %s", error)
                return

    async def sizes(self, container: str, name: str) -> list[int] | None:
        """The segments' sizes in bytes, from the manifest.

        :returns: ``None`` if the cluster does not show manifests (Ceph RGW answers
            with an empty body), or the segments are parts of objects.
        """
        request = Request("GET", container, name, query="multipart-manifest=get&format=raw")

        async def handle(exchange: Exchange) -> bytes:
            return await exchange.read(_MANIFEST_BYTES)

        body = await self._requester.perform(request, handle)
        try:
            rows = json.loads(body)
            if any("range" in row or "data" in row for row in rows):
                return None
            return [int(row["size_bytes"]) for row in rows]
        except (ValueError, TypeError, KeyError):
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


def check_etag(exchange: Exchange, body: Body) -> None:
    """:raises DamagedError: if Swift's answer to a PUT does not prove what it stored."""
    etag = normal_etag(header(exchange.headers, b"ETag"))
    if etag != body.md5:
        raise exchange.target.error(
            DamagedError, "what Swift stored is not what was sent", status=exchange.status
        )


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
