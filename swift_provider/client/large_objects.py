"""Static large objects: files stored as segments, and a manifest that joins them.

Follows Swift's "Static Large Objects". Segments are in a container of their own, under
``<object name>/<attempt>/``, so that two attempts never share a segment. Each segment's
MD5 is compared with Swift's answer to its own PUT, because Ceph RGW does not check the
ones in a manifest. Dynamic large objects are read but never written: their content
depends on a listing, which may be stale.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress

from swift_provider.client.answers import (
    ATTEMPT_HEADER,
    ObjectInfo,
    header,
    object_info,
    segment_marks,
)
from swift_provider.client.checksum import (
    Checksum,
    SegmentsChecksum,
    proof_for,
)
from swift_provider.client.clean_up import clean_up
from swift_provider.client.drained import drained
from swift_provider.client.http.exchange import Exchange
from swift_provider.client.large_flaws import FlawSearch, shown
from swift_provider.client.manifest import (
    Cut,
    Manifest,
    Row,
    Segment,
    is_segment_of,
    rows_of_ours,
)
from swift_provider.client.observer import Progress
from swift_provider.client.request import Request
from swift_provider.client.requester import Requester
from swift_provider.client.slots import Lane
from swift_provider.client.symlinks import link_itself
from swift_provider.client.together import together
from swift_provider.client.upload_bodies import BytesBody
from swift_provider.client.upload_sources import UploadSource
from swift_provider.client.uploads import check_stored, upload
from swift_provider.errors import (
    ContainerNotFoundError,
    DamagedError,
    ObjectExistsError,
    ObjectNotFoundError,
    SwiftError,
    SwiftProviderError,
    Target,
)

logger = logging.getLogger(__name__)


class LargeObjects:
    """Uploads, checks and deletes static large objects.

    :param segment_container: the container for segments.
    :param create_container: called with its name if it is missing.
    """

    def __init__(
        self,
        requester: Requester,
        segment_container: str,
        create_container: Callable[[str], Awaitable[None]],
    ) -> None:
        self._requester = requester
        self._container = segment_container
        self._create_container = create_container

    async def upload(
        self,
        container: str,
        name: str,
        source: UploadSource,
        cut: Cut,
        *,
        if_absent: bool,
        metadata: Mapping[bytes, bytes],
    ) -> ObjectInfo:
        """Upload segments and a manifest.

        :param cut: the segments' sizes.
        :param if_absent: do not overwrite.
        :param metadata: further headers, which stay with the manifest and the segments.
        :raises ObjectExistsError: if ``if_absent`` and there is such an object.
        :raises SwiftError: if it failed for good; the segments are removed again then.
        :raises FileChangedError: likewise.
        """
        if if_absent:
            # The manifest's PUT, which would refuse, comes after all of the file was sent.
            await self._refuse_if_there(container, name)
        attempt = uuid.uuid4().hex
        segments = list(cut.segments(f"{name}/{attempt}/"))
        try:
            await self._upload_segments(source, segments, segment_marks(metadata, container))
            manifest = Manifest(container, name, attempt, cut, segments, if_absent, metadata)
            source.check_sent(manifest.etag, manifest.content_crc32)
        except Exception as error:  # a cancellation is one of them
            await self._remove(segments, error)
            raise
        return await self._put_manifest(manifest)

    async def _refuse_if_there(self, container: str, name: str) -> None:
        try:
            # A link whose target is gone would refuse the manifest, too.
            await self._requester.perform(link_itself(container, name), drained)
        except ObjectNotFoundError:
            return
        raise Target("PUT", container, name).error(ObjectExistsError, "the object exists already")

    async def _upload_segments(
        self, source: UploadSource, segments: list[Segment], metadata: Mapping[bytes, bytes]
    ) -> None:
        try:
            await self._upload_segment(source, segments[0], metadata)
        except ContainerNotFoundError:
            await self._create_container(self._container)
            await self._upload_segment(source, segments[0], metadata)
        rest = iter(segments[1:])

        failed = False

        async def work() -> None:
            nonlocal failed
            try:
                for segment in rest:
                    # A cancelled upload may still return, if its segment turns out whole.
                    if failed:
                        return
                    await self._upload_segment(source, segment, metadata)
            except BaseException:
                failed = True
                raise

        await together(work)

    async def _upload_segment(
        self, source: UploadSource, segment: Segment, metadata: Mapping[bytes, bytes]
    ) -> None:
        segment.begun = True
        uploaded = await upload(
            self._requester,
            self._container,
            segment.name,
            source.segment(segment.offset, segment.size),
            metadata=metadata,
        )
        segment.etag = uploaded.info.etag
        segment.crc32 = uploaded.crc32

    async def _put_manifest(self, manifest: Manifest) -> ObjectInfo:
        content = manifest.content(self._container)
        sent = 0

        def fresh_body() -> BytesBody:
            nonlocal sent
            sent += 1
            return BytesBody(content, declare=False)

        request = Request(
            "PUT",
            manifest.container,
            manifest.name,
            query="multipart-manifest=put",
            headers=manifest.headers,
            lane=Lane.WRITE,
            # Send no ETag: Swift compares it with the joined segments' one, and Ceph RGW
            # refuses the right value.
            make_body=fresh_body,
            size=len(content),
        )

        async def handle(exchange: Exchange) -> ObjectInfo:
            check_stored(request, exchange)
            info = object_info(manifest.name, exchange.headers, manifest.size)
            await drained(exchange)
            if info.etag != manifest.etag:
                raise request.target.error(
                    DamagedError, "the manifest's ETag is not that of its segments"
                )
            return info

        tries = self._requester.tries_for_slow_answers()
        try:
            return await self._requester.perform(request, handle, tries=tries)
        except Exception as error:  # a cancellation is one of them
            # Swift checks every segment before it stores a manifest, and goes on with
            # that after we stopped waiting. Only if it answered the only PUT with a
            # refusal, no manifest can come any more.
            if sent == 0 or (sent == 1 and await self._surely_refused(manifest, error)):
                await self._remove(manifest.segments, error)
                raise
            found = await self._stored_all_the_same(manifest, error)
            if found is None:
                raise
            return found

    async def _surely_refused(self, manifest: Manifest, error: Exception) -> bool:
        """Whether Swift answered that it has not stored the manifest and will not."""
        if not isinstance(error, SwiftError) or error.temporary or error.transaction_id is None:
            return False
        if not isinstance(error, ObjectExistsError):
            return error.status is not None and 400 <= error.status < 500
        # A proxy may have sent the PUT twice, and the first may have stored the manifest.
        try:
            info = await self._requester.head(manifest.container, manifest.name, newest=True)
        except SwiftProviderError:
            return False
        if info.attempt:
            return info.attempt != manifest.attempt
        # Without metadata the ETag has to tell; a proxy may have removed either.
        return info.etag not in ("", manifest.etag)

    async def _stored_all_the_same(self, manifest: Manifest, error: Exception) -> ObjectInfo | None:
        """Look for a manifest whose PUT seems to have failed. Its segments stay.

        :param error: which ended the upload.
        :returns: the object; ``None`` if it is not there now: it may still come.
        """
        target = Target("HEAD", manifest.container, manifest.name)
        with suppress(SwiftProviderError):
            looking = self._found_or_removed(manifest)
            found = await clean_up(self._requester.clock, target, error, looking)
            if found is not None:
                return found
        logger.warning(
            "It is not known whether Swift will store %s/%s, so its segments stay in the "
            "container %s under %s/%s/",
            manifest.container,
            manifest.name,
            self._container,
            manifest.name,
            manifest.attempt,
        )
        return None

    async def _found_or_removed(self, manifest: Manifest) -> ObjectInfo | None:
        found = await self._found(manifest)
        if found is not None and found.etag == manifest.own_md5(self._container):
            # The cluster has stored the manifest itself in the place of the file.
            request = Request("DELETE", manifest.container, manifest.name)
            await self._requester.perform(request, drained)
        return found if found is not None and found.etag == manifest.etag else None

    async def _found(self, manifest: Manifest) -> ObjectInfo | None:
        """The object, if this attempt stored it."""

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

    async def _remove(self, segments: list[Segment], error: Exception) -> None:
        """Remove the segments of a failed attempt; log what cannot be removed.

        :param error: which ended the upload.
        """
        left = iter([segment for segment in segments if segment.begun])

        async def work() -> None:
            for segment in left:
                request = Request("DELETE", self._container, segment.name)
                with suppress(ObjectNotFoundError, ContainerNotFoundError):
                    await self._requester.perform(request, drained)

        target = Target("DELETE", self._container, segments[0].name)
        try:
            await clean_up(self._requester.clock, target, error, together(work))
        except SwiftProviderError as failed:
            logger.warning(
                "Segments of a failed upload are left over, and prune deletes them: %s",
                failed,
            )

    async def flaw(self, container: str, info: ObjectInfo) -> str | None:
        """Ask for each segment of an object by its name.

        :returns: what is wrong, for a person; ``None`` if every segment is there.
        :raises SwiftProviderError: if Swift fails for good.
        """
        return await FlawSearch(self._requester, self._container).flaw(container, info)

    async def proof(
        self, container: str, info: ObjectInfo, progress: Progress | None = None
    ) -> Checksum | None:
        """What proves by Swift's own ETag which content an object has; reads the manifest if
        need be.

        :param progress: is told what this is doing.
        :returns: ``None`` if there is no proof: for a dynamic large object; if the
            cluster does not show manifests (Ceph RGW); or if a segment is a part of an
            object or itself a static large object, so that its hash is not the MD5 of
            the bytes.
        """
        proof = proof_for(info)
        if proof is not None or not info.static_large:
            return proof
        rows = await shown(self._requester, container, info, progress)
        if rows is None or not all(row.is_whole for row in rows):
            return None
        return SegmentsChecksum(info.etag, [row.size for row in rows])

    async def delete(self, container: str, info: ObjectInfo) -> None:
        """Delete a manifest, then those of its segments that this client stored for it.

        All other segments stay: a copy of a manifest names the segments of its source. Ceph
        RGW copies manifests, and Swift does with ``multipart-manifest=get``. What tells is a
        segment's name, and the container that its metadata names. So Swift is not asked to
        delete manifest and segments at once (``multipart-manifest=delete``).

        :param container: of the manifest.
        :param info: the facts of the manifest.
        :raises ObjectNotFoundError: if there is no such object.
        :raises SwiftError: if something could not be deleted. Segments may be left then.
        """
        rows = (
            await shown(self._requester, container, info)
            or rows_of_ours(info, self._container)
            or []
        )
        with suppress(ObjectNotFoundError):
            await self._requester.perform(Request("DELETE", container, info.name), drained)
        for row in rows:
            if is_segment_of(info.name, row.name):
                await self._delete_segment(row, container)

    async def _delete_segment(self, row: Row, manifest_container: str) -> None:
        with suppress(ObjectNotFoundError, ContainerNotFoundError):
            found = await self._requester.head(row.container, row.name, newest=True)
            if found.manifest_container == manifest_container:
                request = Request("DELETE", row.container, row.name)
                await self._requester.perform(request, drained)
