"""Synapse's interface: store a file, fetch a file, delete a file.

Follows Synapse's ``synapse/media/storage_provider.py`` (``StorageProvider``) and
``synapse/media/_base.py`` (``Responder``). The client underneath knows nothing of log
contexts: it is called through ``run_in_background`` and awaited through
``make_deferred_yieldable``, so that each call leaves its caller's log context as it
found it. What Synapse does not wait for runs as a background process of Synapse's: the
log context of the request that began it is over by the time it ends.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable, Coroutine
from contextvars import ContextVar
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from synapse.logging.context import LoggingContext, PreserveLoggingContext, current_context
from synapse.media._base import ConsumerRequestedStopError, FileInfo, Responder
from synapse.media.media_storage import BackgroundFileConsumer
from synapse.media.storage_provider import StorageProvider
from synapse.module_api import NOT_SPAM, make_deferred_yieldable, run_in_background
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
from swift_provider.module.metrics import Metrics
from swift_provider.module.start_check import check_container, say_what_is_configured
from swift_provider.module.upload_places import UploadPlaces

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
        self._api = hs.get_module_api()
        wrapper = _wrapper_options(hs, config)
        self._synapse_waits: bool = wrapper.store_synchronous
        # Synapse 1.140 has no such option, and always a media store.
        keeps_local = getattr(hs.config.media, "enable_local_media_storage", True)
        self._media_store = hs.config.media.media_store_path if keeps_local else None
        self._places = UploadPlaces(self._media_store)
        self._storing: dict[Deferred[None], str] = {}
        try:
            self._client = SwiftClient.from_settings(
                self._reactor, config, observer=Metrics(hs.hostname, config.container)
            )
        except ConfigError as error:
            where = f"media_storage_providers, container {config.container}"
            raise SynapseConfigError(f"{where}: {error}") from None
        if not keeps_local:
            self._api.register_spam_checker_callbacks(
                check_media_file_for_spam=self._see_media_file
            )
        _log_for_callers(hs.hostname)
        say_what_is_configured(config, wrapper)
        # Not before the reactor runs: Synapse may yet fork, which threads do not survive.
        self._reactor.callWhenRunning(
            self._api.run_as_background_process, "swift_check_container", self._check_container
        )
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
            raise SynapseConfigError(str(error)) from None

    async def store_file(self, path: str, file_info: FileInfo) -> None:
        """Upload a file that Synapse has just written.

        With ``store_synchronous: false`` this returns once the file is open; what goes
        wrong afterwards is in the log only.

        :param path: relative to the media store; the object's name, but for the prefix.
        :raises SynapseError: if the object is not, or may not be, in Swift. Its status is
            503 if another try may help.
        """
        if file_info.url_cache:
            return
        try:
            source = self._places.open(path, file_info)
        except OSError as error:
            raise _for_clients(error, "store", path) from error
        if self._synapse_waits:
            await self._store(path, source)
        else:
            self._api.run_as_background_process("swift_store", self._store_unattended, path, source)

    async def _store_unattended(self, path: str, source: FileSource) -> None:
        with contextlib.suppress(SynapseError):  # it is in the log
            await self._store(path, source)

    async def _store(self, path: str, source: FileSource) -> None:
        storing = self._begin(self._put, path, source)
        self._storing[storing] = path
        try:
            await make_deferred_yieldable(storing)
        except (SwiftProviderError, OSError) as error:
            raise _for_clients(error, "store", path) from error
        finally:
            del self._storing[storing]

    async def _put(self, path: str, source: FileSource) -> None:
        container, name = self._settings.container, self._settings.object_name(path)
        with source:
            try:
                await self._client.put_object(container, name, source)
            except ContainerNotFoundError:
                # The first upload may be earlier than the check at start, and
                # Swift may have been away at that time.
                if not self._settings.create_container:
                    raise
                await self._client.create_container(container)
                await self._client.put_object(container, name, source)

    async def fetch(self, path: str, file_info: FileInfo) -> Responder | None:
        """Look for a file.

        :returns: ``None`` if Swift says that there is no such object, and only then.
        :raises SynapseError: if Swift cannot tell. Its status is 503 if another try may help.
        """
        if file_info.url_cache:
            return None
        name = self._settings.object_name(path)
        try:
            download = await make_deferred_yieldable(
                self._begin(self._client.get_object, self._settings.container, name)
            )
        except ObjectNotFoundError as error:
            logger.debug("%s", error)
            return None
        except SwiftProviderError as error:
            raise _for_clients(error, "fetch", path) from error
        local = None if self._media_store is None else os.path.join(self._media_store, path)
        return SwiftResponder(download, path, local)

    async def delete(self, path: str, file_info: FileInfo) -> None:
        """Delete a file; one that is not there is as good as deleted.

        Synapse does not call this yet (element-hq/synapse#19665).

        :raises SynapseError: if it may still be there.
        """
        under_way = [storing for storing, stored in self._storing.items() if stored == path]
        if under_way:
            await make_deferred_yieldable(DeferredList(under_way))
        name = self._settings.object_name(path)
        try:
            await make_deferred_yieldable(
                self._begin(self._client.delete_object, self._settings.container, name)
            )
        except SwiftProviderError as error:
            raise _for_clients(error, "delete", path) from error

    def _begin(
        self, function: Callable[..., Coroutine[Any, Any, Result]], *arguments: object
    ) -> Deferred[Result]:
        """Call a function of the client; what it logs is logged for the caller.

        :returns: to be awaited through ``make_deferred_yieldable``.
        """
        token = _caller.set(current_context())
        try:
            return run_in_background(function, *arguments)
        finally:
            _caller.reset(token)

    async def _see_media_file(self, file_wrapper: Any, file_info: FileInfo) -> Any:
        """Spam checker callback: nothing is spam, but this tells where the bytes are."""
        self._places.shown(file_info, file_wrapper.path)
        return NOT_SPAM

    async def _check_container(self) -> None:
        await make_deferred_yieldable(self._begin(check_container, self._client, self._settings))

    def _finish_storing(self) -> Deferred[None] | None:
        if not self._storing:
            return None
        return self._api.run_as_background_process("swift_shutdown", self._wait_for_uploads)

    async def _wait_for_uploads(self) -> None:
        """Give uploads that are under way a moment to end."""
        logger.info("Waiting for %d uploads to Swift to end", len(self._storing))
        ended = DeferredList(list(self._storing))
        given_up: Deferred[None] = Deferred()
        timer = self._reactor.callLater(SHUTDOWN_SECONDS, given_up.callback, None)
        await make_deferred_yieldable(DeferredList([ended, given_up], fireOnOneCallback=True))
        if timer.active():
            timer.cancel()
        if self._storing:
            logger.warning(
                "Synapse ends before these were uploaded (swift_media_upload will do it): %s",
                ", ".join(self._storing.values()),
            )


class SwiftResponder(Responder):
    """A file on its way out. Must be used as a context manager, as Synapse does.

    :param path: relative to the media store, for the log.
    :param local: where Synapse would keep its local copy; ``None`` if it keeps none.
    """

    def __init__(self, download: Download, path: str, local: str | None) -> None:
        self._download = download
        self._path = path
        self._local = local
        self._pulls_back = False
        self._delivered = False
        self._not_written: Failure | None = None

    def write_to_consumer(self, consumer: IConsumer) -> Deferred[None]:
        """Stream the file.

        :returns: fires once everything was written and was right. Fails with what Synapse
            answers if it has not begun to (503 where another try may help), with
            :class:`ConsumerRequestedStopError` if the client has gone, or with what the
            consumer raised.
        """
        done = self._download.deliver(consumer)
        if isinstance(consumer, BackgroundFileConsumer):
            self._pulls_back = True
            if not done.called:
                run_in_background(consumer.wait).addErrback(self._writer_died)
        delivered: Deferred[None] = make_deferred_yieldable(done)
        return delivered.addCallbacks(self._end, self._fail, errbackArgs=(consumer,))

    def _end(self, result: None) -> None:
        self._delivered = True

    def _writer_died(self, failure: Failure) -> Failure | None:
        """Synapse's thread could not write (a full disk).

        The thread may have paused us before: then it never asks for more, and
        Synapse would wait for ever.
        """
        if self._delivered:
            return failure  # Synapse is about to wait for the thread, and will see it
        self._not_written = failure
        self._download.abandon()
        return None

    def _fail(self, failure: Failure, consumer: Any) -> Failure:
        if self._not_written is not None:
            failure = self._not_written
        request = getattr(consumer, "wrapped_consumer", consumer)
        gone = isinstance(request, Request) and request.channel is None
        if gone or failure.check(ConsumerStoppedError):
            raise ConsumerRequestedStopError("the client has gone") from failure.value
        if isinstance(request, Request):
            _break_off(request)
        error = failure.value
        if isinstance(error, SwiftProviderError):
            raise _for_clients(error, "deliver", self._path) from error
        logger.error("Cannot deliver %s: %s", self._path, error)
        return failure

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._download.abandon()
        if kind is not None and self._pulls_back and self._local is not None:
            # Synapse has no temporary name for what it pulls back: it would
            # serve the part as the whole from now on.
            with contextlib.suppress(OSError):
                os.unlink(self._local)


def _break_off(request: Request) -> None:
    """Let the client see that its response is not whole.

    Synapse would finish the response, and the client wait for the rest, or
    (multipart, to another server) take the part for the whole.
    """
    if request.channel is not None:
        connection: Any = request.channel.transport
        connection.abortConnection()


def _for_clients(error: Exception, verb: str, path: str) -> SynapseError:
    """Log an error, and make what Synapse answers the client with: no details."""
    logger.error("Cannot %s %s: %s", verb, path, error)
    if getattr(error, "temporary", False):
        return SynapseError(503, f"Cannot {verb} this media just now; try again later")
    return SynapseError(500, f"Cannot {verb} this media; the server's log says why")


def _wrapper_options(hs: HomeServer, config: Settings) -> Any:
    """The ``store_…`` options of the entry whose ``config`` this is."""
    for _, parsed, wrapper in hs.config.media.media_storage_providers:
        if parsed is config:
            return wrapper
    raise AssertionError("Synapse makes a provider from the options that it parsed")


# Log contexts

#: Whose log lines ours are: set while a call of ours begins, and so
#: seen by every coroutine that the call consists of.
_caller: ContextVar[Any] = ContextVar("_caller")


class _LogForCallers(logging.Handler):
    """Passes our log lines on in the log context of the call that they are about.

    The client goes on from the reactor, where Synapse's log context is nobody's.

    :param nobodys: for lines about what is shared by all calls, as the token.
    """

    def __init__(self, nobodys: LoggingContext) -> None:
        super().__init__()
        self._nobodys = nobodys

    def emit(self, record: logging.LogRecord) -> None:
        with PreserveLoggingContext(_caller.get(None) or current_context() or self._nobodys):
            logging.getLogger().handle(record)


def _log_for_callers(server_name: str) -> None:
    ours = logging.getLogger("swift_provider")
    if ours.propagate:
        ours.propagate = False
        ours.addHandler(_LogForCallers(LoggingContext(name="swift", server_name=server_name)))
