"""One place in Swift: the objects of a container whose names begin with a prefix.

Everything that can be done with the objects is a method of :class:`Store`, and nothing
above it knows a container or a prefix. All methods run on the reactor's thread. Bodies
stream, so memory does not grow with their size. An error that a method raises is final:
the client has retried by then what was worth a retry.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import suppress
from typing import Any

from swift_provider.client import uploads
from swift_provider.client.answers import ListedObject, ObjectInfo, marks
from swift_provider.client.checksum import file_matches
from swift_provider.client.client import SwiftClient
from swift_provider.client.direct_access import DirectAccess
from swift_provider.client.downloads import Download, begin_download
from swift_provider.client.file_source import FileSource
from swift_provider.client.listings import list_objects
from swift_provider.client.observer import Observer
from swift_provider.client.request import Request
from swift_provider.client.requester import drained
from swift_provider.client.retry import Patience
from swift_provider.config import RedirectSettings, Settings
from swift_provider.errors import ObjectNotFoundError


class Store:
    """The place in Swift where media are.

    :param client: of the account that has the container.
    :param container: the container's name.
    :param prefix: put before every object's name; empty, or with a slash at its end.
    :param owner: the homeserver; its name is in the metadata of everything that
        :meth:`put` stores. ``None`` to store without it.
    :ivar owner: as given.
    """

    def __init__(
        self, client: SwiftClient, container: str, prefix: str = "", owner: str | None = None
    ) -> None:
        self.owner = owner
        self._client = client
        self._requester = client.requester
        self._container = container
        self._prefix = prefix

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
    ) -> Store:
        """The place that a configuration names; see :meth:`SwiftClient.from_settings`.

        :param owner: see :class:`Store`.
        :raises ConfigError: if the cloud, its credentials or a certificate file cannot be found.
        """
        client = SwiftClient.from_settings(
            reactor,
            settings,
            patience=patience,
            shares_reactor=shares_reactor,
            observer=observer,
        )
        return cls(client, settings.container, settings.prefix, owner)

    @property
    def segments(self) -> Store:
        """The place of the segments of large objects.

        A segment's path is the large object's, ``/``, the attempt to upload it, ``/``,
        and a number.
        """
        return Store(
            self._client, self._client.settings.segment_container, self._prefix, self.owner
        )

    @property
    def container(self) -> str:
        """The container's name."""
        return self._container

    @property
    def width(self) -> int:
        """How many files to handle at once: as many as there are slots."""
        return self._client.slots.size

    def object_name(self, path: str) -> str:
        """The object's full name for a path, such as a media path."""
        return self._prefix + path

    async def put(self, path: str, source: FileSource, *, if_absent: bool = False) -> ObjectInfo:
        """Upload a file; a large one as segments and a manifest.

        On return Swift has shown, by the MD5 in its answer, that it holds the bytes
        that were read. May be called again: the object is replaced by the same bytes.

        :param source: stays open; the caller closes it.
        :param if_absent: do not overwrite, where :meth:`keeps_existing`.
        :raises ObjectExistsError: if ``if_absent`` and there is such an object.
        :raises FileChangedError: if the file changed meanwhile; nothing was stored then.
        :raises OSError: if the file cannot be read.
        :raises SwiftProviderError: if it failed for good.
        """
        client = self._client
        name = self._prefix + path
        segment_size = await client.cluster.segment_size(source.size, client.settings.segment_size)
        if segment_size is not None:
            return await client.large_objects.upload(
                self._container,
                name,
                source,
                segment_size,
                if_absent=if_absent,
                metadata=marks(self.owner),
            )
        part = uploads.FilePart(source, 0, source.size)
        uploaded = await uploads.upload(
            self._requester,
            client.reading,
            self._container,
            name,
            part,
            noting=client.noting,
            if_absent=if_absent,
            metadata=marks(self.owner),
        )
        return uploaded.info

    async def keeps_existing(self) -> bool:
        """Whether :meth:`put` with ``if_absent`` is known to overwrite no object.

        OpenStack Swift keeps it, Ceph RGW overwrites it. ``False`` also if the cluster does
        not say what it is. Asks once in the life of the client.
        """
        return (await self._client.cluster.limits()).keeps_existing

    async def get(self, path: str, *, prove: bool = False) -> Download:
        """Begin a download.

        :param prove: check the bytes by Swift's own ETag, where it can prove them, and not by
            the cheaper CRC-32 in the metadata of an object that this client uploaded.
        :returns: once the headers are in (for a small object, once all of it is), with a
            download that must be delivered or abandoned.
        :raises ObjectNotFoundError: if Swift says 404 for the object, and for nothing else.
        :raises SwiftProviderError: if it failed for good.
        """
        client = self._client
        return await begin_download(
            self._requester,
            client.turns,
            client.large_objects,
            self._container,
            self._prefix + path,
            prove=prove,
        )

    def direct_access(self, settings: RedirectSettings, keys: tuple[bytes, ...]) -> DirectAccess:
        """The temporary URLs of the objects here that have this store's owner.

        :param keys: see :func:`~swift_provider.client.temp_url_keys.read_keys`.
        """
        return DirectAccess(self._client, self._container, self._prefix, self.owner, settings, keys)

    async def head(self, path: str, *, newest: bool = False) -> ObjectInfo:
        """Ask for an object's facts.

        :param newest: ask all replicas, not only the first that answers. Without it the
            answer is no proof.
        :raises ObjectNotFoundError: if there is no such object.
        :raises SwiftProviderError: if it failed for good.
        """
        return await self._requester.head(self._container, self._prefix + path, newest=newest)

    async def flaw(self, info: ObjectInfo) -> str | None:
        """Why an object cannot be relied on, whatever its checksum says.

        A manifest outlives its segments, so each segment is asked for by name.

        :param info: the object's facts, from :meth:`head` just before.
        :returns: what is wrong, for a person; ``None`` if nothing is.
        :raises SwiftProviderError: if Swift fails for good.
        """
        if info.expires:
            return "Swift will delete it (X-Delete-At)"
        if await self._is_link(info):
            return f"it is a link to another object, {info.content_location}"
        if info.static_large:
            return await self._client.large_objects.flaw(self._container, info)
        return None

    async def _is_link(self, info: ObjectInfo) -> bool:
        """Whether Swift followed a link and sent the facts of another object.

        See Swift's "Symlink". A link is no proof: the other object can be deleted by somebody
        who does not know that there is a link to it.
        """
        if not info.content_location:
            return False
        # A storage URL without an account is that of a proxy, which adds it.
        account = (await self._requester.storage_url()).rstrip("/").partition("/v1/")[2]
        own = "/".join(part for part in (account, self._container, info.name) if part)
        return not info.content_location.endswith(f"/{own}")

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
                await self._client.large_objects.delete(self._container, info)
            else:
                request = Request("DELETE", self._container, name)
                await self._requester.perform(request, drained)
        return True

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
        proof = await self._client.large_objects.proof(self._container, info)
        if proof is None:
            return False
        return await self._client.hashing.run(file_matches, source, proof)

    async def check(self) -> None:
        """Ask whether the container can be used.

        :raises ContainerNotFoundError: if there is no such container.
        :raises AccessDeniedError: if this user may not look at it.
        :raises SwiftProviderError: if it failed for good.
        """
        await self._requester.perform(Request("HEAD", self._container), drained)

    async def create(self) -> None:
        """Make the container, in the settings' storage policy; one that exists stays as it is.

        :raises RequestRefusedError: if it belongs to somebody else, or has another policy.
        :raises SwiftProviderError: if it failed for good.
        """
        await self._client.create_container(self._container)

    async def storage_url(self) -> str:
        """The account's URL: the setting's, or the catalogue's.

        :raises AuthError: if signing in, which tells the latter, fails.
        """
        return await self._requester.storage_url()

    def hurry(self) -> None:
        """Retry nothing from now on: what is in flight succeeds, or fails at once."""
        self._requester.hurry()

    async def close(self) -> None:
        """Close idle connections and end the threads; call when nothing is in flight."""
        await self._client.close()
