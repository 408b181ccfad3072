"""A Swift client for Twisted programs: what can be done with objects.

Everything is an ``async`` method on the reactor's thread; bodies stream, and
memory does not grow with their size. An error that a method raises is final:
what was worth another try has been tried again by then.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any
from urllib.parse import quote, urlencode

from twisted.internet.defer import Deferred

from swift_provider.client.answers import (
    ListedObject,
    ObjectInfo,
    header,
    normal_etag,
    object_info,
)
from swift_provider.client.checksum import Checksum, checksum_for, file_matches, provable
from swift_provider.client.cluster import Cluster
from swift_provider.client.downloads import Download, StreamedDownload, WholeDownload
from swift_provider.client.file_source import FileSource
from swift_provider.client.http.exchange import Exchange
from swift_provider.client.http.tls import TlsPolicy
from swift_provider.client.http.transport import Limits, Transport
from swift_provider.client.identity.clouds import find_cloud
from swift_provider.client.identity.token import Authenticator
from swift_provider.client.large_objects import LargeObjects
from swift_provider.client.observer import Observer
from swift_provider.client.requester import Request, Requester, drained
from swift_provider.client.retry import Patience, Tries
from swift_provider.client.slots import Slots, uploads_beside_readers
from swift_provider.client.threads import Threads
from swift_provider.client.turns import Turns
from swift_provider.client.uploads import FilePut
from swift_provider.config import Settings
from swift_provider.errors import (
    DamagedError,
    ObjectChangedError,
    ObjectNotFoundError,
    RequestRefusedError,
)

#: A body up to this size is fetched whole and checked before anything is delivered.
WHOLE_BYTES = 64 * 1024

#: Rows that are asked for at once; clusters may give fewer (Ceph RGW at most 1000).
PAGE_ROWS = 10_000
_PAGE_BYTES = 32 * 1024 * 1024

READ_BYTES_SHARED = 64 * 1024
READ_BYTES_ALONE = 256 * 1024


class SwiftClient:
    """Objects in Swift. Make one per process and account with :meth:`from_settings`.

    :ivar settings: what it was made from.
    :ivar slots: its exchanges, under way and waiting.
    """

    def __init__(
        self,
        settings: Settings,
        requester: Requester,
        transport: Transport,
        slots: Slots,
        threads: Threads,
        observer: Observer,
    ) -> None:
        self.settings = settings
        self.slots = slots
        self._requester = requester
        self._transport = transport
        self._threads = threads
        self._observer = observer
        self._turns = Turns(transport.reactor)
        self._cluster = Cluster(requester, transport.reactor)
        self._large = LargeObjects(
            requester, threads.run, settings.segment_container, self.create_container
        )

    @classmethod
    def from_settings(
        cls,
        reactor: Any,
        settings: Settings,
        *,
        patience: Patience = Patience.MODULE,
        shares_reactor: bool = True,
        observer: Observer | None = None,
    ) -> SwiftClient:
        """Find the cloud and its credentials; touches no network yet.

        :param patience: how long to go on trying.
        :param shares_reactor: others depend on this reactor, and readers must not wait
            for uploads; ``False`` where the client is all that the process does.
        :param observer: told about the client's work; ``None`` for nobody.
        :raises ConfigError: if the cloud, its credentials or a certificate file cannot be found.
        """
        observer = observer or Observer()
        cloud = find_cloud(settings)
        threads = Threads(reactor)
        size = settings.threadpool_size
        transport = Transport(
            reactor,
            TlsPolicy(cloud.verify, cloud.cert),
            Limits(settings.connect_timeout, settings.response_timeout, settings.idle_timeout),
            connections=size,
            read_bytes=READ_BYTES_SHARED if shares_reactor else READ_BYTES_ALONE,
        )
        for_uploads = uploads_beside_readers(size) if shares_reactor else size
        slots = Slots(size, for_uploads, reactor, observer)
        authenticator = Authenticator(
            reactor,
            cloud,
            threads.run,
            observer=observer,
            connect_timeout=settings.connect_timeout,
            response_timeout=settings.response_timeout,
        )
        requester = Requester(transport, authenticator, slots, patience, observer)
        return cls(settings, requester, transport, slots, threads, observer)

    # Objects

    async def put_object(
        self, container: str, name: str, source: FileSource, *, if_absent: bool = False
    ) -> ObjectInfo:
        """Upload a file; a large one as segments and a manifest.

        On return Swift has shown, by the MD5 in its answer, that it holds the bytes
        that were read. May be called again: the object is replaced by the same bytes.

        :param source: stays open, and the caller's.
        :param if_absent: do not overwrite. Ceph RGW overwrites all the same.
        :raises ObjectExistsError: if ``if_absent`` and there is such an object.
        :raises FileChangedError: if the file changed meanwhile; nothing was stored then.
        :raises OSError: if the file cannot be read.
        :raises SwiftProviderError: if it failed for good.
        """
        segment_size = await self._cluster.segment_size(source.size, self.settings.segment_size)
        if segment_size is not None:
            return await self._large.upload(
                container, name, source, segment_size, if_absent=if_absent
            )
        put = FilePut(
            self._requester,
            self._threads.run,
            container,
            name,
            source,
            0,
            source.size,
            if_absent=if_absent,
        )
        return await put.perform()

    async def get_object(self, container: str, name: str) -> Download:
        """Begin a download.

        :returns: once the headers are in (for a small object, once all of it is), with a
            download that must be delivered or abandoned.
        :raises ObjectNotFoundError: if Swift says 404 for the object, and for nothing else.
        :raises SwiftProviderError: if it failed for good.
        """
        tries = self._requester.new_tries()
        request = Request("GET", container, name)

        async def handle(exchange: Exchange) -> tuple[ObjectInfo, Exchange, bytes | None]:
            info = object_info(name, exchange.headers, exchange.length)
            if not info.is_plain or info.size is None or info.size > WHOLE_BYTES:
                return info, exchange, None
            content = await exchange.read(WHOLE_BYTES)
            self._observer.received(len(content))
            _check_content(exchange, info, content)
            exchange.close()
            return info, exchange, content

        info, exchange, content = await self._requester.perform(
            request, handle, tries=tries, keep=True
        )
        if content is not None:
            return WholeDownload(info, content)
        rest = _Rest(self, container, info)
        checksum = checksum_for(info)
        if info.static_large and not provable(checksum):
            # Somebody else's: the manifest is read first, and without holding a
            # slot meanwhile, since whoever waits for a second one may wait for ever.
            exchange.close()
            checksum = await self._checksum(container, info)
            exchange, _ = await rest.request(0, tries)
        return StreamedDownload(
            info,
            request.target,
            exchange,
            checksum,
            rest.request,
            tries,
            self._turns,
            self._transport.reactor,
            self._observer,
        )

    async def head_object(self, container: str, name: str) -> ObjectInfo:
        """Ask for an object's facts.

        :raises ObjectNotFoundError: if there is no such object.
        :raises SwiftProviderError: if it failed for good.
        """
        return await self._requester.head(container, name)

    async def delete_object(self, container: str, name: str) -> bool:
        """Delete an object, with its segments if it has any.

        :returns: whether it was there.
        :raises SwiftProviderError: if it failed for good.
        """
        try:
            info = await self.head_object(container, name)
        except ObjectNotFoundError:
            return False
        # It was there: a 404 from now on may be the answer to a repetition.
        with suppress(ObjectNotFoundError):
            if info.static_large:
                await self._large.delete(container, name)
            else:
                await self._requester.perform(Request("DELETE", container, name), drained)
        return True

    async def list_objects(
        self, container: str, prefix: str = ""
    ) -> AsyncIterator[list[ListedObject]]:
        """The container's objects, page by page, sorted by name.

        A listing may be late and may be wrong: take it for a hint.

        :raises SwiftProviderError: if a page could not be had for good.
        """
        marker = ""
        while True:
            query = {"format": "json", "limit": PAGE_ROWS, "prefix": prefix, "marker": marker}
            request = Request("GET", container, query=urlencode(query, quote_via=quote))

            async def handle(exchange: Exchange) -> bytes:
                return await exchange.read(_PAGE_BYTES)

            rows = await self._requester.perform(request, handle)
            page = _listed(request, rows)
            if not page:
                return
            yield page
            marker = page[-1].name

    async def same_content(self, info: ObjectInfo, container: str, source: FileSource) -> bool:
        """Whether an object has exactly the content of a local file.

        :param info: the object's facts, from :meth:`head_object` just now.
        :returns: ``False`` also where Swift offers nothing that could prove it (a
            dynamic large object).
        :raises FileChangedError: if the file changes meanwhile.
        :raises OSError: if it cannot be read.
        """
        if info.size != source.size:
            return False
        checksum = await self._checksum(container, info)
        if not provable(checksum):
            return False
        return await self._threads.run(file_matches, source, checksum)

    async def _checksum(self, container: str, info: ObjectInfo) -> Checksum:
        if info.static_large and not info.segment_size:
            return checksum_for(info, await self._large.sizes(container, info.name))
        return checksum_for(info)

    # Containers

    async def head_container(self, container: str) -> None:
        """Ask whether a container can be used.

        :raises ContainerNotFoundError: if there is no such container.
        :raises AccessDeniedError: if this user may not look at it.
        :raises SwiftProviderError: if it failed for good.
        """
        await self._requester.perform(Request("HEAD", container), drained)

    async def create_container(self, container: str) -> None:
        """Make a container, in the settings' storage policy; one that exists stays as it is.

        :raises RequestRefusedError: if it belongs to somebody else, or has another policy.
        :raises SwiftProviderError: if it failed for good.
        """
        headers = {}
        if self.settings.storage_policy is not None:
            headers[b"X-Storage-Policy"] = self.settings.storage_policy.encode("utf-8")
        await self._requester.perform(Request("PUT", container, headers=headers), drained)

    # The rest

    async def storage_url(self) -> str:
        """The URL in use: the setting's, or the catalogue's.

        :raises AuthError: if signing in, which tells the latter, fails.
        """
        return await self._requester.storage_url()

    def run_in_thread(self, function: Any, *arguments: object) -> Deferred[Any]:
        """Call a blocking function in one of the client's few threads."""
        return self._threads.run(function, *arguments)

    def hurry(self) -> None:
        """Try nothing again from now on: what is under way succeeds, or fails at once."""
        self._requester.hurry()

    async def close(self) -> None:
        """Close idle connections and end the threads; call when nothing is under way."""
        self._threads.stop()
        await self._transport.close()


class _Rest:
    """Requests the rest of a download that broke off or was parked."""

    def __init__(self, client: SwiftClient, container: str, info: ObjectInfo) -> None:
        self._client = client
        self._container = container
        self._info = info
        self._match = True

    async def request(self, offset: int, tries: Tries) -> tuple[Exchange, int]:
        """Ask for the body from ``offset`` on; see :data:`swift_provider.client.downloads.Reopen`.

        :raises ObjectChangedError: if it is not the same object any more.
        """
        try:
            return await self._request(offset, tries)
        except ObjectChangedError:
            # Ceph RGW compares a large object's ETag with that of an empty
            # manifest, so that If-Match never matches; others may mind the quotes
            # that ETags are sent without: look for ourselves.
            if not self._match:
                raise
            now = await self._client.head_object(self._container, self._info.name)
            if (now.etag, now.size) != (self._info.etag, self._info.size):
                raise
            self._match = False
            return await self._request(offset, tries)

    async def _request(self, offset: int, tries: Tries) -> tuple[Exchange, int]:
        headers = {}
        if offset:
            headers[b"Range"] = b"bytes=%d-" % offset
        if self._match and self._info.etag:
            headers[b"If-Match"] = self._info.etag.encode("latin-1")
        request = Request("GET", self._container, self._info.name, headers=headers)
        if offset and not self._info.etag:
            raise request.target.error(
                RequestRefusedError, "without an ETag the rest may be that of another object"
            )

        async def handle(exchange: Exchange) -> tuple[Exchange, int]:
            if normal_etag(header(exchange.headers, b"ETag")) != self._info.etag:
                raise request.target.error(
                    ObjectChangedError, "the object was replaced meanwhile", status=exchange.status
                )
            if exchange.status != 206:
                return exchange, 0
            return exchange, _range_begins(request, exchange, offset)

        return await self._client._requester.perform(request, handle, tries=tries, keep=True)


def _range_begins(request: Request, exchange: Exchange, offset: int) -> int:
    """Where a 206 begins, from ``Content-Range: bytes N-M/SIZE`` (RFC 9110 section 14.4)."""
    shown = header(exchange.headers, b"Content-Range")
    begins = shown.removeprefix("bytes ").partition("-")[0]
    if not begins.isdigit() or int(begins) > offset:
        raise request.target.error(
            RequestRefusedError, f"asked for the bytes from {offset} on, Swift sends {shown[:60]!r}"
        )
    return int(begins)


def _check_content(exchange: Exchange, info: ObjectInfo, content: bytes) -> None:
    """:raises DamagedError: if these bytes are not the object's."""
    checksum = checksum_for(info)
    checksum.update(content)
    if len(content) != info.size or not checksum.right():
        raise exchange.target.error(
            DamagedError, f"the {len(content)} bytes that came do not have the object's MD5"
        )


def _listed(request: Request, body: bytes) -> list[ListedObject]:
    if not body:
        return []
    try:
        return [
            ListedObject(
                row["name"],
                int(row["bytes"]),
                normal_etag(row["hash"]),
                row["last_modified"],
            )
            for row in json.loads(body)
            if "name" in row
        ]
    except (ValueError, TypeError, KeyError):
        raise request.target.error(DamagedError, "the listing cannot be read") from None
