"""The storage provider that Synapse loads: store a file, fetch a file, delete a file.

Follows ``StorageProvider`` in Synapse's ``synapse/media/storage_provider.py``. Each call
leaves its caller's log context as it was: the client is called through
:func:`begin_for_caller` and awaited through ``make_deferred_yieldable``. Work that Synapse
does not wait for runs as a background process of Synapse: it may end after the request
that began it, and the log context of that request ends with the request.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable, Coroutine
from functools import partial
from typing import TYPE_CHECKING, Any

from synapse.media._base import FileInfo, Responder
from synapse.media.storage_provider import StorageProvider
from synapse.module_api import NOT_SPAM, make_deferred_yieldable
from synapse.module_api.errors import ConfigError as SynapseConfigError
from synapse.module_api.errors import SynapseError
from twisted.internet.defer import Deferred

from swift_provider.client import Download, FileSource, Links, MirrorSet, open_store, read_keys
from swift_provider.config import Settings, parse_settings
from swift_provider.errors import (
    ConfigError,
    ObjectNotFoundError,
    SwiftProviderError,
)
from swift_provider.module.client_request import only_looks
from swift_provider.module.failed_uploads import FailedUploads
from swift_provider.module.keeper_start import disk_keeper
from swift_provider.module.known_length import known_length
from swift_provider.module.later_download import LaterDownload
from swift_provider.module.log_context import begin_for_caller, log_for_callers
from swift_provider.module.matrix_errors import error_for_client
from swift_provider.module.metrics import MemberMetrics, Metrics
from swift_provider.module.redirect_responder import RedirectResponder
from swift_provider.module.redirecting import Redirecting
from swift_provider.module.responder import SwiftResponder
from swift_provider.module.small_files import SmallFiles
from swift_provider.module.start_check import check_containers, log_configuration
from swift_provider.module.upload_places import UploadPlaces
from swift_provider.module.upload_queue import MAX_HELD, UploadQueue, WaitingFile

if TYPE_CHECKING:
    from synapse.server import HomeServer

logger = logging.getLogger(__name__)

#: How long uploads in flight may delay Synapse's exit.
SHUTDOWN_SECONDS = 5.0

#: The usual block of a file system.
BLOCK_BYTES = 4096


class SwiftStorageProviderBackend(StorageProvider):
    """Synapse makes one per process and entry of ``media_storage_providers``.

    :param hs: the homeserver.
    :param config: what :meth:`parse_config` returned.
    :raises synapse.module_api.errors.ConfigError: if the cloud, its credentials or a
        certificate file cannot be found, or the options do not fit those of Synapse.
    """

    def __init__(self, hs: HomeServer, config: Settings) -> None:
        self._settings = config
        self._reactor = hs.get_reactor()
        self._api = hs.get_module_api()
        self._database = hs.get_datastores().main
        self._wrapper = wrapper = _wrapper_options(hs, config)
        # Synapse 1.140 lacks this option, and always has a media store.
        keeps_local = getattr(hs.config.media, "enable_local_media_storage", True)
        self._media_store = hs.config.media.media_store_path if keeps_local else None
        self._places = UploadPlaces(self._media_store)
        self._metrics = metrics = Metrics(hs.hostname, config.container)
        self._keeper = disk_keeper(hs, config, wrapper, keeps_local)
        #: The path of each upload in flight.
        self._failed = FailedUploads()
        self._uploads: dict[Deferred[None], str] = {}
        self._queue = UploadQueue(
            self._reactor,
            config.threadpool_size,
            self._begin_upload,
            metrics,
            self._remedy(keeps_local),
            self._note_failure,
        )
        try:
            self._store = open_store(
                self._reactor,
                config,
                observers=partial(_member_metrics, hs.hostname),
                owner=hs.hostname,
                background=self._in_background,
            )
            self._redirecting = self._make_redirecting()
        except ConfigError as error:
            where = f"media_storage_providers, container {config.container}"
            raise SynapseConfigError(f"{where}: {error}") from None
        if isinstance(self._store, MirrorSet):
            self._store.on_debt = self._note_failure
        self._files = SmallFiles(self._store, config.memory_cache, self._reactor, metrics)
        if not keeps_local:
            self._api.register_spam_checker_callbacks(
                check_media_file_for_spam=self._remember_place
            )
        log_for_callers(hs.hostname)
        log_configuration(config, wrapper, keeps_local)
        # Synapse may fork before the reactor runs, and threads do not survive a fork.
        self._reactor.callWhenRunning(
            self._api.run_as_background_process, "swift_check_container", self._check_container
        )
        self._reactor.addSystemEventTrigger("before", "shutdown", self._finish_uploads)
        if self._keeper is not None:
            self._reactor.callWhenRunning(self._keeper.start)
            self._reactor.addSystemEventTrigger("before", "shutdown", self._stop_keeper)
        if isinstance(self._store, MirrorSet):
            self._reactor.addSystemEventTrigger("during", "shutdown", self._store.report_debts)

    def _remedy(self, keeps_local: bool) -> str:
        """What becomes of uploads that were dropped."""
        if not keeps_local:
            return "Synapse keeps no local media, so there is no other copy"
        if self._keeper is not None:
            return "local_disk uploads them later"
        return "Run swift_media_upload upload --all to upload them"

    def _make_redirecting(self) -> Redirecting | None:
        """:raises ConfigError: if the key cannot be read."""
        settings = self._settings.redirect
        if settings is None:
            return None
        access = self._store.direct_access(settings, read_keys(settings, "config.redirect"))
        return Redirecting(self._store, access, settings.above, self._reactor, self._api)

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
            raise SynapseConfigError(str(error)) from None

    async def store_file(self, path: str, file_info: FileInfo) -> None:
        """Upload a file that Synapse has just written.

        With ``store_synchronous: false`` this only queues the upload. An upload that fails
        afterwards leaves an error in the log.

        :param path: relative to the media store.
        :raises SynapseError: if the object is not, or may not be, in Swift; with status
            503 if a retry may help.
        """
        if file_info.url_cache:
            return
        self._files.drop(path)
        try:
            if self._wrapper.store_synchronous:
                source = self._places.open(path, file_info)
                self._note_stored(source.size)
            else:
                file = self._places.wait(path, file_info)
                self._note_stored(file.size)
                self._queue.add(path, file)
                return
        except OSError as error:
            # With store_synchronous: false Synapse keeps the file all the same.
            self._note_failure()
            raise error_for_client(error, "store", path) from error
        await self._upload(path, source)

    def _begin_upload(self, path: str, file: WaitingFile) -> Deferred[None]:
        return self._api.run_as_background_process(
            "swift_store", self._upload_in_background, path, file
        )

    async def _upload_in_background(self, path: str, file: WaitingFile) -> None:
        try:
            source = file.open()
        except (SwiftProviderError, OSError) as error:
            # Also for a file that is gone: its disk may be away, and come back with it.
            self._note_failure()
            if isinstance(error, FileNotFoundError) and self._is_mounted(path):
                # Synapse deleted the media, or swift_media_upload has already moved the file.
                logger.warning("%s is not uploaded to Swift: it is no longer on the disk", path)
                return
            error_for_client(error, "store", path, self._failed.level(path))
        else:
            with contextlib.suppress(SynapseError):  # error_for_client() has logged it
                await self._upload(path, source)

    def _is_mounted(self, path: str) -> bool:
        """Whether the folder of all media of this kind is there."""
        folder = os.path.join(self._media_store or "", path.partition("/")[0])
        return self._media_store is None or os.path.isdir(folder)

    async def _upload(self, path: str, source: FileSource) -> None:
        upload = begin_for_caller(self._put, path, source)
        self._uploads[upload] = path
        try:
            await make_deferred_yieldable(upload)
        except (SwiftProviderError, OSError) as error:
            self._note_failure()
            level = self._failed.level(path)
            raise error_for_client(error, "store", path, level) from error
        else:
            self._failed.stored(path)
        finally:
            del self._uploads[upload]
            self._files.drop(path)

    def _in_background(self, name: str, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run work of the client that nobody waits for."""

        async def run() -> None:
            await make_deferred_yieldable(begin_for_caller(work))

        self._api.run_as_background_process(name, run)

    def _note_stored(self, size: int) -> None:
        if self._keeper is not None:
            # A file takes whole blocks, and a budget counts them.
            self._keeper.stored(-(-size // BLOCK_BYTES) * BLOCK_BYTES)

    def _note_failure(self) -> None:
        if self._keeper is not None:
            self._keeper.upload_failed()

    async def _put(self, path: str, source: FileSource) -> None:
        with source:
            await self._store.put(path, source)

    async def fetch(self, path: str, file_info: FileInfo) -> Responder | None:
        """Look for a file, and begin to download it. Only look for it if Synapse probably needs
        nothing of it, or if the client will be sent to Swift.

        :returns: ``None`` if Swift says that there is no such object, and only then; also
            for a file of the URL preview cache, which this provider never stores.
        :raises SynapseError: if Swift cannot tell; with status 503 if a retry may help.
        """
        if file_info.url_cache:
            return None
        links = None
        if self._redirecting is not None:
            links = self._redirecting.links_for(path, file_info)
        try:
            download, links = await make_deferred_yieldable(
                begin_for_caller(self._find, path, only_looks(file_info), links)
            )
        except ObjectNotFoundError as error:
            self._files.drop(path)
            logger.debug("%s", error)
            return None
        except SwiftProviderError as error:
            raise error_for_client(error, "fetch", path) from error
        local_path = None if self._media_store is None else os.path.join(self._media_store, path)
        in_thread, stored = self._api.defer_to_thread, self._note_stored
        length = partial(known_length, self._database, file_info)
        of_length = partial(self._of_length, path) if len(self._store.members) > 1 else None
        rest = (download, path, local_path, self._reactor, in_thread, stored, length, of_length)
        if links is None:
            return SwiftResponder(*rest)
        return RedirectResponder(links, self._metrics.redirected, *rest)

    async def _find(
        self, path: str, looks: bool, links: Links | None
    ) -> tuple[Download | LaterDownload, Links | None]:
        """:returns: the download, and what makes a URL for it; ``None`` to stream it."""
        # A file in memory is served from there, also while Swift is unreachable.
        if (looks or links is not None) and not self._files.has(path):
            info = await self._files.head(path)
            if self._redirecting is None or not await self._redirecting.allows(path, info, links):
                links = None
            if looks or links is not None:
                return LaterDownload(info, partial(self._files.get, path)), links
        return await self._files.get(path), None

    async def _of_length(self, path: str, length: int) -> LaterDownload:
        """Look for an object of the right length.

        :raises SwiftProviderError: if no place has one.
        """
        self._files.drop(path)  # it may be the wrong one
        info = await self._store.head(path, length=length)
        return LaterDownload(info, partial(self._store.get, path, length=length))

    async def delete(self, path: str, file_info: FileInfo) -> None:
        """Delete a file. Succeeds if there is no such file.

        An upload of this file that waits is discarded. One that is in flight ends first,
        even if this call is cancelled. Synapse does not call this yet
        (element-hq/synapse#19665).

        :raises SynapseError: if the file may still be there; with status 503 if a retry
            may help.
        """
        self._files.drop(path)
        self._queue.discard(path)
        for upload in [upload for upload, its in self._uploads.items() if its == path]:
            await make_deferred_yieldable(_ended(upload))
        try:
            await make_deferred_yieldable(begin_for_caller(self._store.delete, path))
        except SwiftProviderError as error:
            raise error_for_client(error, "delete", path) from error
        finally:
            self._files.drop(path)

    async def _remember_place(self, file_wrapper: Any, file_info: FileInfo) -> Any:
        """Spam checker callback. It allows every file, and notes where the bytes are.

        :raises SynapseError: with status 503, if too many uploads wait. :meth:`store_file`
            cannot refuse the file: Synapse ignores its errors if it does not wait for it.
        """
        if self._would_queue(file_info) and self._queue.is_full(MAX_HELD):
            self._queue.drop(file_info.file_id)
            raise SynapseError(503, "Cannot store this media now; try again later")
        self._places.remember(file_info, file_wrapper.path)
        return NOT_SPAM

    def _would_queue(self, file_info: FileInfo) -> bool:
        if self._wrapper.store_synchronous or file_info.url_cache:
            return False
        wrapper = self._wrapper
        return bool(wrapper.store_remote if file_info.server_name else wrapper.store_local)

    async def _check_container(self) -> None:
        await make_deferred_yieldable(begin_for_caller(check_containers, self._store.members))
        if self._redirecting is not None:
            await self._redirecting.check()

    def _stop_keeper(self) -> Deferred[None]:
        assert self._keeper is not None
        return self._keeper.stop(uploads_left=bool(self._unfinished()))

    def _finish_uploads(self) -> Deferred[None] | None:
        if not self._unfinished():
            self._queue.stop([])
            return None
        return self._api.run_as_background_process("swift_shutdown", self._wait_for_uploads)

    def _unfinished(self) -> list[str]:
        """The paths of all uploads, those in flight first."""
        return [*self._uploads.values(), *self._queue.waiting]

    async def _wait_for_uploads(self) -> None:
        """Give the uploads :data:`SHUTDOWN_SECONDS` to end, also those that wait."""
        logger.info("Waiting for %d uploads to Swift to end", len(self._unfinished()))
        deadline = self._reactor.seconds() + SHUTDOWN_SECONDS
        while self._unfinished() and self._reactor.seconds() < deadline:
            pause: Deferred[None] = Deferred()
            self._reactor.callLater(0.1, pause.callback, None)
            await make_deferred_yieldable(pause)
        self._queue.stop(self._unfinished())


def _member_metrics(server_name: str, member: Settings) -> MemberMetrics:
    return MemberMetrics(server_name, member.container, member.label)


def _ended(upload: Deferred[None]) -> Deferred[None]:
    """Fires when an upload has ended, however it has. Cancelling it does not cancel the upload."""
    ended: Deferred[None] = Deferred()

    def end(result: None) -> None:
        ended.callback(None)
        return result

    upload.addBoth(end)
    return ended


def _wrapper_options(hs: HomeServer, config: Settings) -> Any:
    """The ``store_…`` options of the entry that ``config`` was parsed from."""
    for _, parsed, wrapper in hs.config.media.media_storage_providers:
        if parsed is config:
            return wrapper
    raise AssertionError("Synapse makes a provider from the options that it parsed")
