"""One place in Swift: the objects of a container whose names begin with a prefix.

Everything that can be done with the objects is a method of :class:`Place`, and nothing
above it knows a container or a prefix. All methods run on the reactor's thread. Bodies
stream, so memory does not grow with their size. An error that a method raises is final:
the client has retried by then what was worth a retry.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import suppress
from typing import Any
from urllib.parse import quote

from swift_provider.client.answers import ListedObject, ObjectInfo, are_same, header, marks
from swift_provider.client.checksum import file_matches
from swift_provider.client.client import SwiftClient
from swift_provider.client.direct_access import DirectAccess
from swift_provider.client.doubts import Doubts
from swift_provider.client.downloads import Download, Rest, begin_download
from swift_provider.client.drained import drained
from swift_provider.client.file_source import FileSource
from swift_provider.client.http.exchange import Exchange
from swift_provider.client.listings import list_objects
from swift_provider.client.manifest import Cut
from swift_provider.client.observer import Observer, Progress
from swift_provider.client.request import Request
from swift_provider.client.retry import Patience, Tries
from swift_provider.client.symlinks import expires_as_link, hidden_object, is_symlink
from swift_provider.client.upload_sources import LocalFile, UploadSource
from swift_provider.client.uploads import upload
from swift_provider.config import RedirectSettings, Settings
from swift_provider.errors import (
    ContainerNotFoundError,
    ObjectChangedError,
    ObjectNotFoundError,
    SwiftProviderError,
    Target,
    WrongLengthError,
)


class Place:
    """A place in Swift where media are.

    :param client: of the account that has the container.
    :param container: the container's name.
    :param prefix: put before every object's name; empty, or with a slash at its end.
    :param owner: the homeserver; its name is in the metadata of everything that
        :meth:`put` stores. ``None`` to store without it.
    :ivar owner: as given.
    :ivar name: what people call the place.
    :ivar client: as given.
    """

    def __init__(
        self, client: SwiftClient, container: str, prefix: str = "", owner: str | None = None
    ) -> None:
        self.owner = owner
        self.name = client.settings.label
        self.client = client
        self._requester = client.requester
        self._container = container
        self._prefix = prefix
        self._doubts = Doubts()

    @classmethod
    def from_settings(
        cls,
        reactor: Any,
        settings: Settings,
        *,
        patience: Patience = Patience.MODULE,
        shares_reactor: bool = True,
        observer: Observer | None = None,
        owner: str | None = None,
        mirror: str = "",
    ) -> Place:
        """The place that a configuration names; see :meth:`SwiftClient.from_settings`.

        :param owner: see :class:`Place`.
        :raises ConfigError: if the cloud, its credentials or a certificate file cannot be found.
        """
        client = SwiftClient.from_settings(
            reactor,
            settings,
            patience=patience,
            shares_reactor=shares_reactor,
            observer=observer,
            mirror=mirror,
        )
        return cls(client, settings.container, settings.prefix, owner)

    @property
    def segments(self) -> Place:
        """The place of the segments of large objects.

        A segment's path is the large object's, ``/``, the attempt to upload it, ``/``,
        and a number.
        """
        return Place(self.client, self.client.settings.segment_container, self._prefix, self.owner)

    @property
    def members(self) -> tuple[Place, ...]:
        """Only this; see :class:`.MirrorSet`."""
        return (self,)

    @property
    def container(self) -> str:
        """The container's name."""
        return self._container

    @property
    def width(self) -> int:
        """How many files to handle at once: as many as there are slots."""
        return self.client.slots.size

    @property
    def observer(self) -> Observer:
        """Told about the work of the client."""
        return self._requester.observer

    def object_name(self, path: str) -> str:
        """The object's full name for a path, such as a media path."""
        return self._prefix + path

    @property
    def creates_container(self) -> bool:
        """Whether a container that is missing shall be made."""
        return self.client.settings.create_container

    async def put(
        self,
        path: str,
        source: FileSource,
        *,
        if_absent: bool = False,
        progress: Progress | None = None,
    ) -> ObjectInfo:
        """Upload a file; a large one as segments and a manifest.

        On return Swift has shown, by the MD5 in its answer, that it holds the bytes
        that were read. May be called again: the object is replaced by the same bytes.

        :param source: stays open; the caller closes it.
        :param if_absent: do not overwrite, where :meth:`keeps_existing`.
        :param progress: is told what this is doing.
        :raises ObjectExistsError: if ``if_absent`` and there is such an object.
        :raises FileChangedError: if the file changed meanwhile; nothing was stored then.
        :raises OSError: if the file cannot be read.
        :raises SwiftProviderError: if it failed for good.
        """
        client = self.client
        segment_size = await client.cluster.segment_size(source.size, client.settings.segment_size)
        return await self.store(
            path,
            LocalFile(source, client.reading, client.noting, progress),
            None if segment_size is None else Cut.even(source.size, segment_size),
            owner=self.owner,
            if_absent=if_absent,
        )

    async def store(
        self,
        path: str,
        source: UploadSource,
        cut: Cut | None,
        *,
        owner: str | None,
        if_absent: bool = False,
    ) -> ObjectInfo:
        """As :meth:`put`, of whatever can be uploaded.

        :param cut: into which segments; ``None`` to store it as one object.
        :param owner: the homeserver that the object is marked with.
        """
        try:
            return await self._store(path, source, cut, owner, if_absent)
        except ContainerNotFoundError:
            # The module's check at start creates the container. It may not have run yet, and
            # it fails if Swift is unreachable.
            if not self.creates_container:
                raise
        await self.create()
        return await self._store(path, source, cut, owner, if_absent)

    async def _store(
        self, path: str, source: UploadSource, cut: Cut | None, owner: str | None, if_absent: bool
    ) -> ObjectInfo:
        name = self._prefix + path
        metadata = marks(owner)
        if cut is not None:
            return await self.client.large_objects.upload(
                self._container, name, source, cut, if_absent=if_absent, metadata=metadata
            )
        uploaded = await upload(
            self._requester,
            self._container,
            name,
            source.whole(),
            if_absent=if_absent,
            metadata=metadata,
        )
        return uploaded.info

    async def keeps_existing(self) -> bool:
        """Whether :meth:`put` with ``if_absent`` is known to overwrite no object.

        OpenStack Swift keeps it, Ceph RGW overwrites it. ``False`` also if the cluster does
        not say what it is. Asks once in the life of the client.
        """
        return (await self.client.cluster.limits()).keeps_existing

    async def get(
        self,
        path: str,
        *,
        length: int | None = None,
        prove: bool = False,
        retry: bool = True,
        progress: Progress | None = None,
    ) -> Download:
        """Begin a download.

        :param length: bytes, which the object has to have; ``None`` for any number.
        :param prove: check the bytes by Swift's own ETag, where it can prove them, and not by
            the cheaper CRC-32 in the metadata of an object that this client uploaded.
        :param retry: what is worth a retry. A download that has begun resumes in any case.
        :param progress: is told what this is doing.
        :returns: once the headers are in (for a small object, once all of it is), with a
            download that must be delivered or abandoned.
        :raises ObjectNotFoundError: if Swift says 404 for the object, and for nothing else.
        :raises WrongLengthError: if the object is known to have another length.
        :raises SwiftProviderError: if it failed for good.
        """
        client = self.client
        download = await begin_download(
            self._requester,
            client.turns,
            client.large_objects,
            self._doubts,
            self._container,
            self._prefix + path,
            prove=prove,
            retry=retry,
            progress=progress,
        )
        try:
            self._check_length("GET", download.info, length)
        except WrongLengthError:
            download.abandon()
            raise
        return download

    async def rest_of(self, path: str, like: ObjectInfo, progress: Progress) -> Rest:
        """What requests the rest of a download that began in another place.

        :param like: the facts of the object there.
        :raises ObjectChangedError: if the object here is not known to have the same content.
        :raises ObjectNotFoundError: if there is no such object.
        :raises SwiftProviderError: at the first failure.
        """
        info = await self.head(path, retry=False, progress=progress)
        progress.request_ended()
        if not are_same(info, like):
            raise Target("GET", self._container, info.name).error(
                ObjectChangedError, "nothing shows that it is the same object as in its mirror"
            )
        return Rest(self._requester, self._container, info)

    async def wait_to_retry(self, error: SwiftProviderError, tries: Tries) -> None:
        """See :meth:`.Requester.wait_to_retry`."""
        await self._requester.wait_to_retry(error, tries)

    def new_tries(self, progress: Progress | None = None, *, retry: bool = True) -> Tries:
        """See :meth:`.Requester.new_tries`."""
        return self._requester.new_tries(progress, retry=retry)

    def direct_access(self, settings: RedirectSettings, keys: tuple[bytes, ...]) -> DirectAccess:
        """The temporary URLs of the objects here that have this store's owner.

        :param keys: see :func:`~swift_provider.client.temp_url_keys.read_keys`.
        :raises ConfigError: if the usual certificate authorities cannot be read.
        """
        self.client.outside()  # reads files, so not later
        return DirectAccess(self.client, self._container, self._prefix, self.owner, settings, keys)

    async def head(
        self,
        path: str,
        *,
        length: int | None = None,
        newest: bool = False,
        retry: bool = True,
        progress: Progress | None = None,
    ) -> ObjectInfo:
        """Ask for an object's facts.

        :param length: bytes, which the object has to have; ``None`` for any number.
        :param newest: ask all replicas, not only the first that answers. Without it the
            answer is no proof.
        :param retry: what is worth a retry.
        :param progress: is told what this is doing.
        :raises ObjectNotFoundError: if there is no such object.
        :raises WrongLengthError: if the object is known to have another length.
        :raises SwiftProviderError: if it failed for good.
        """
        name = self._prefix + path
        info = await self._requester.head(
            self._container, name, newest=newest, retry=retry, progress=progress
        )
        self._check_length("HEAD", info, length)
        return info

    def _check_length(self, operation: str, info: ObjectInfo, length: int | None) -> None:
        if length is not None and info.size not in (None, length):
            raise Target(operation, self._container, info.name).error(
                WrongLengthError, f"it has {info.size} bytes, and not {length}"
            )

    async def existing(self, path: str) -> ObjectInfo:
        """The facts of an object of which :meth:`put` has said that it exists already.

        :raises ObjectExistsError: if Swift does not find it; the message says what to do.
        :raises SwiftProviderError: if Swift fails for good.
        """
        try:
            return await self.head(path, newest=True)
        except ObjectNotFoundError:
            pass
        raise await hidden_object(self._requester, self._container, self._prefix + path)

    async def flaw(self, info: ObjectInfo) -> str | None:
        """Why an object cannot be relied on, whatever its checksum says.

        A manifest outlives its segments, so each segment is asked for by name.

        :param info: the object's facts, from :meth:`head` just before.
        :returns: what is wrong, for a person; ``None`` if nothing is.
        :raises SwiftProviderError: if Swift fails for good.
        """
        if info.expires:
            return "Swift will delete it (X-Delete-At)"
        # A link is no proof: the other object can be deleted by somebody who does not know
        # that there is a link to it.
        if is_symlink(info, self._container, await self._requester.storage_url()):
            return f"it is a link to another object, {info.content_location}"
        try:
            if await expires_as_link(self._requester, self._container, info):
                return "Swift will delete it (X-Delete-At)"
        except ObjectNotFoundError:
            return "it is gone"
        if info.static_large:
            return await self.client.large_objects.flaw(self._container, info)
        return None

    async def delete(self, path: str) -> bool:
        """Delete an object, with those segments that were stored for it. May be called again.

        Segments that belong to another object, or may, stay; see :meth:`LargeObjects.delete`.

        :returns: whether it was there.
        :raises SwiftProviderError: if it failed for good.
        """
        name = self._prefix + path
        try:
            info = await self._requester.head(self._container, name)
        except ObjectNotFoundError:
            return False
        # It was there: a 404 from now on may be the answer to a repeated request.
        with suppress(ObjectNotFoundError):
            if info.static_large:
                await self.client.large_objects.delete(self._container, info)
            else:
                request = Request("DELETE", self._container, name)
                await self._requester.perform(request, drained)
        return True

    async def delete_plain(self, path: str, version: str = "") -> None:
        """Delete an object that is known to have no segments, without a look at it.

        :param version: delete this version, so that nothing is kept of it; see
            :attr:`.ObjectInfo.version`.
        :raises ObjectNotFoundError: if there is no such object.
        :raises SwiftProviderError: if it failed for good.
        """
        query = f"version-id={quote(version, safe='')}" if version else ""
        request = Request("DELETE", self._container, self._prefix + path, query)
        await self._requester.perform(request, drained)

    async def list(self, folder: str = "") -> AsyncGenerator[list[ListedObject], None]:
        """The objects whose paths begin with ``folder``, page by page, sorted by name.

        A listing may be late and may be wrong: it is a hint, never a proof. The names
        are paths, without the store's prefix.

        :raises SwiftProviderError: if a page could not be had for good.
        """
        prefix = self._prefix + folder
        skip = len(self._prefix)
        async for page in list_objects(self._requester, self._container, prefix):
            yield [row.without_prefix(skip) for row in page] if skip else page

    async def same_content(self, info: ObjectInfo, source: FileSource) -> bool:
        """Whether an object has exactly the content of a local file.

        Compares by Swift's own ETag, never by the CRC-32 that this client noted in the
        metadata. A large object's ETag is compared; whether its segments are still there
        is for :meth:`flaw` to say.

        :param info: the object's facts, from :meth:`head` just before.
        :returns: ``False`` also where Swift offers nothing that could prove it (a
            dynamic large object).
        :raises FileChangedError: if the file changes meanwhile.
        :raises OSError: if it cannot be read.
        """
        if info.size != source.size:
            return False
        proof = await self.client.large_objects.proof(self._container, info)
        if proof is None:
            return False
        return await self.client.hashing.run(file_matches, source, proof)

    async def check(self, *, retry: bool = True) -> str:
        """Ask whether the container can be used.

        :param retry: what is worth a retry.
        :returns: when the container was made, as Swift writes it; empty if it does not say.
        :raises ContainerNotFoundError: if there is no such container.
        :raises AccessDeniedError: if this user may not look at it.
        :raises SwiftProviderError: if it failed for good.
        """

        async def handle(exchange: Exchange) -> str:
            await drained(exchange)
            return header(exchange.headers, b"x-timestamp")

        request = Request("HEAD", self._container)
        return await self._requester.perform(request, handle, tries=self.new_tries(retry=retry))

    async def create(self) -> None:
        """Make the container, in the settings' storage policy; one that exists stays as it is.

        :raises RequestRefusedError: if it belongs to somebody else, or has another policy.
        :raises SwiftProviderError: if it failed for good.
        """
        await self.client.create_container(self._container)

    async def storage_url(self) -> str:
        """The account's URL: the setting's, or the catalogue's.

        :raises AuthError: if signing in, which tells the latter, fails.
        """
        return await self._requester.storage_url()

    def hurry(self) -> None:
        """Retry nothing from now on: what is in flight succeeds, or fails at once."""
        self._requester.hurry()

    def end_hurry(self) -> None:
        """Retry as usual again."""
        self._requester.end_hurry()

    async def close(self) -> None:
        """Close idle connections and end the threads; call when nothing is in flight."""
        await self.client.close()
