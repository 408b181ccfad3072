"""Synapse's interface: store a file, fetch a file, delete a file.

Follows Synapse's ``synapse/media/storage_provider.py`` (``StorageProvider``) and
``synapse/media/_base.py`` (``Responder``), and imports only what Synapse offers to
modules. The client underneath knows nothing of log contexts: it is called through
``run_in_background`` and awaited through ``make_deferred_yieldable``, so that each
call leaves its caller's log context as it found it.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from synapse.media._base import (
    ConsumerRequestedStopError,
    FileInfo,
    Responder,
)
from synapse.media.media_storage import BackgroundFileConsumer
from synapse.media.storage_provider import StorageProvider
from synapse.module_api import (
    NOT_SPAM,
    make_deferred_yieldable,
    run_in_background,
)
from synapse.module_api.errors import ConfigError as SynapseConfigError
from synapse.module_api.errors import SynapseError
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.interfaces import IConsumer
from twisted.python.failure import Failure
from twisted.web.http import Request

from swift_provider.client import Download, FileSource, SwiftClient
from swift_provider.config import Settings, parse_settings
from swift_provider.errors import (
    ConfigError,
    ConsumerStoppedError,
    ContainerNotFoundError,
    ObjectNotFoundError,
    SwiftProviderError,
)
from swift_provider.upload_places import UploadPlaces

if TYPE_CHECKING:
    from synapse.server import HomeServer

logger = logging.getLogger(__name__)

Result = TypeVar("Result")

#: How long Synapse's exit may wait for uploads that are under way.
SHUTDOWN_SECONDS = 5.0


class SwiftStorageProviderBackend(StorageProvider):
    """Named in ``media_storage_providers``; made by Synapse, once per entry and process.

    :param hs: the homeserver.
    :param config: what :meth:`parse_config` returned.
    :raises ConfigError: if the cloud or its credentials cannot be found.
    """

    def __init__(self, hs: HomeServer, config: Settings) -> None:
        self._settings = config
        self._reactor = hs.get_reactor()
        keeps_local = getattr(hs.config.media, "enable_local_media_storage", True)
        self._media_store = hs.config.media.media_store_path if keeps_local else None
        self._places = UploadPlaces(self._media_store)
        self._storing: set[Deferred[Any]] = set()
        try:
            self._client = SwiftClient.from_settings(self._reactor, config)
        except ConfigError as error:
            raise _config_error(error) from error
        if not keeps_local:
            hs.get_module_api().register_spam_checker_callbacks(
                check_media_file_for_spam=self._see_media_file
            )
        self._say_hello(hs)
        self._reactor.callWhenRunning(run_in_background, self._check_container)
        self._reactor.addSystemEventTrigger("before", "shutdown", self._finish_storing)

    def __str__(self) -> str:
        return f"SwiftStorageProviderBackend[{self._settings.container}]"

    @staticmethod
    def parse_config(config: dict[str, Any]) -> Settings:
        """Check the options of an entry; called by Synapse before it starts.

        :raises synapse.module_api.errors.ConfigError: naming the option and the remedy.
        """
        try:
            return parse_settings(config)
        except ConfigError as error:
            raise _config_error(error) from error

    async def store_file(self, path: str, file_info: FileInfo) -> None:
        """Upload a file that Synapse has just written.

        :param path: relative to the media store; the object's name, but for the prefix.
        :raises SynapseError: if the object is not, or may not be, in Swift. Its status is
            503 if another try may help.
        """
        source = self._places.open(path, file_info)
        name = self._settings.object_name(path)
        storing: Deferred[None] = run_in_background(self._store, name, source)
        self._storing.add(storing)
        try:
            await make_deferred_yieldable(storing)
        except SwiftProviderError as error:
            logger.error("Cannot store %s in Swift: %s", path, error)
            raise _for_clients(error, "The media could not be stored") from error
        finally:
            self._storing.discard(storing)

    async def _store(self, name: str, source: FileSource) -> None:
        with source:
            await self._client.put_object(self._settings.container, name, source)

    async def fetch(self, path: str, file_info: FileInfo) -> Responder | None:
        """Look for a file.

        :returns: ``None`` if Swift says that there is no such object, and only then.
        :raises SynapseError: if Swift cannot tell. Its status is 503 if another try may help.
        """
        name = self._settings.object_name(path)
        try:
            download = await self._call(self._client.get_object, self._settings.container, name)
        except ObjectNotFoundError:
            return None
        except SwiftProviderError as error:
            logger.error("Cannot fetch %s from Swift: %s", path, error)
            raise _for_clients(error, "The media could not be fetched") from error
        local = None if self._media_store is None else os.path.join(self._media_store, path)
        return SwiftResponder(download, local)

    async def delete(self, path: str, file_info: FileInfo) -> None:
        """Delete a file; one that is not there is as good as deleted.

        Synapse does not call this yet (element-hq/synapse#19665).

        :raises SynapseError: if it may still be there.
        """
        name = self._settings.object_name(path)
        try:
            await self._call(self._client.delete_object, self._settings.container, name)
        except SwiftProviderError as error:
            logger.error("Cannot delete %s from Swift: %s", path, error)
            raise _for_clients(error, "The media could not be deleted") from error

    async def _call(
        self, function: Callable[..., Coroutine[Any, Any, Result]], *arguments: object
    ) -> Result:
        """Await a function of the client, keeping to Synapse's rules for log contexts."""
        working: Deferred[Result] = run_in_background(function, *arguments)
        return await make_deferred_yieldable(working)

    async def _see_media_file(self, file_wrapper: Any, file_info: FileInfo) -> Any:
        """Spam checker callback: nothing is spam, but this tells where the bytes are."""
        self._places.shown(file_info, file_wrapper.path)
        return NOT_SPAM

    # Start and end

    def _say_hello(self, hs: HomeServer) -> None:
        settings = self._settings
        host = urlsplit(settings.storage_url).netloc if settings.storage_url else "the catalogue's"
        logger.info(
            "Media go to Swift: container %s, objects named like %s, region %s, endpoint %s, "
            "at most %d exchanges at once",
            settings.container,
            settings.object_name("local_content/ab/cd/…"),
            settings.region_name or "the cloud's",
            host,
            settings.threadpool_size,
        )
        for backend, _, options in hs.config.media.media_storage_providers:
            if backend is type(self) and not (options.store_local or options.store_remote):
                logger.warning(
                    "media_storage_providers: store_local and store_remote are both false, so "
                    "Synapse stores nothing in Swift: set store_local (media of this server's "
                    "users) and store_remote (media of other servers) to true"
                )

    async def _check_container(self) -> None:
        """Find out what is wrong before the first user does."""
        container = self._settings.container
        try:
            try:
                await self._client.head_container(container)
            except ContainerNotFoundError:
                if not self._settings.create_container:
                    raise
                await self._client.create_container(container)
                logger.info("Created the Swift container %s", container)
            else:
                logger.info("The Swift container %s is ready", container)
        except SwiftProviderError as error:
            logger.error("The Swift container %s cannot be used: %s", container, error)

    def _finish_storing(self) -> Deferred[None] | None:
        """Give uploads that are under way a moment to end."""
        if not self._storing:
            return None
        logger.info("Waiting for %d uploads to Swift to end", len(self._storing))
        ended: Deferred[None] = DeferredList(list(self._storing)).addCallback(lambda _: None)
        return ended.addTimeout(SHUTDOWN_SECONDS, self._reactor, lambda *_: None)


class SwiftResponder(Responder):
    """A file on its way out. Must be used as a context manager, as Synapse does.

    :param local: where Synapse would keep its local copy; ``None`` if it keeps none.
    """

    def __init__(self, download: Download, local: str | None) -> None:
        self._download = download
        self._local = local

    def write_to_consumer(self, consumer: IConsumer) -> Deferred[None]:
        """Stream the file.

        :returns: fires once everything was written and was right.
        """
        delivered = self._download.deliver(consumer)
        delivered.addErrback(self._not_delivered, consumer)
        yieldable: Deferred[None] = make_deferred_yieldable(delivered)
        return yieldable

    def _not_delivered(self, failure: Failure, consumer: IConsumer) -> Failure:
        if isinstance(failure.value, ConsumerStoppedError):
            raise ConsumerRequestedStopError(str(failure.value))
        logger.error("A file from Swift was not delivered whole: %s", failure.value)
        _break_off(consumer)
        if self._local is not None and isinstance(consumer, BackgroundFileConsumer):
            # Synapse has no temporary name for what it pulls back: it would
            # serve the part as the whole from now on.
            with contextlib.suppress(OSError):
                os.unlink(self._local)
        return failure

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._download.abandon()


def _break_off(consumer: Any) -> None:
    """Let the client see that its response is not whole.

    Synapse would finish the response, and the client wait for the rest, or
    (multipart, to another server) take the part for the whole.
    """
    request = getattr(consumer, "wrapped_consumer", consumer)
    if isinstance(request, Request) and request.channel is not None:
        connection: Any = request.channel.transport
        connection.abortConnection()


def _for_clients(error: SwiftProviderError, what: str) -> SynapseError:
    """What Synapse answers a client with; details are for the log only."""
    if error.temporary:
        return SynapseError(503, f"{what} just now; try again later")
    return SynapseError(500, f"{what}; the server's log says why")


def _config_error(error: ConfigError) -> SynapseConfigError:
    return SynapseConfigError(str(error))
