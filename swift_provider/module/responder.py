"""Delivers a file from Swift to the consumer that Synapse names.

Follows ``Responder`` in Synapse's ``synapse/media/_base.py``. The consumer is one of three:

* a request of a Matrix client;
* Synapse's multipart consumer around a request of another homeserver;
* a ``BackgroundFileConsumer``: Synapse pulls the file back to its disk, for example to
  make a thumbnail. See :mod:`swift_provider.module.pull_back`.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Awaitable, Callable, Coroutine
from types import TracebackType
from typing import Any

from synapse.media._base import ConsumerRequestedStopError, Responder
from synapse.media.media_storage import BackgroundFileConsumer
from synapse.module_api import make_deferred_yieldable, run_in_background
from synapse.module_api.errors import Codes, SynapseError
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IConsumer
from twisted.internet.task import LoopingCall
from twisted.python.failure import Failure
from twisted.web.http import Request

from swift_provider.client import Download, ObjectInfo
from swift_provider.errors import (
    ConsumerStoppedError,
    ObjectNotFoundError,
    SwiftProviderError,
    WrongLengthError,
)
from swift_provider.module.announced_length import (
    agree_on_length,
    check_known_length,
    required_length,
)
from swift_provider.module.byte_ranges import choose_part
from swift_provider.module.client_request import request_behind
from swift_provider.module.later_download import LaterDownload
from swift_provider.module.log_context import begin_for_caller
from swift_provider.module.matrix_errors import error_for_client, refuse
from swift_provider.module.pull_back import PullBack

logger = logging.getLogger(__name__)

#: How often to wake Synapse's writer thread; see :meth:`SwiftResponder._write_to_disk`.
WAKE_SECONDS = 5.0


class SwiftResponder(Responder):
    """One download. Must be used as a context manager, as Synapse does.

    :param path: the file's path, relative to the media store; for the log.
    :param local_path: where Synapse would keep its local copy; ``None`` if it keeps none.
    :param clock: the reactor.
    :param run_in_thread: calls a function in a thread, as :meth:`ModuleApi.defer_to_thread`.
    :param pulled_back: told the size of a file that Synapse has on its disk again.
    :param known_length: tells the length of the file by Synapse's database; ``None`` if that
        does not. Called if Synapse pulls the file back, in the log context of the caller.
    :param of_length: looks for an object of this length in the mirrors; ``None`` without any.
    """

    def __init__(
        self,
        download: Download | LaterDownload,
        path: str,
        local_path: str | None,
        clock: Any,
        run_in_thread: Callable[[Callable[[], None]], Awaitable[None]],
        pulled_back: Callable[[int], None],
        known_length: Callable[[], Awaitable[int | None]],
        of_length: Callable[[int], Coroutine[Any, Any, LaterDownload]] | None = None,
    ) -> None:
        self._download = download
        self._path = path
        self._clock = clock
        self._run_in_thread = run_in_thread
        self._pulled_back = pulled_back
        self._known_length = known_length
        self._of_length = of_length
        self._pull_back = None if local_path is None else PullBack(local_path)
        self._delivered = False
        self._write_failure: Failure | None = None

    def __enter__(self) -> None:
        if self._pull_back is not None:
            self._pull_back.protect()

    def write_to_consumer(self, consumer: IConsumer) -> Deferred[None]:
        """Stream the file, or the part that a client asks for.

        Nothing is written in answer to a HEAD request.

        :returns: fires when the consumer has all bytes and their length and checksum were
            right; if Synapse pulls the file back, when it has its final name. Fails with
            :class:`ConsumerRequestedStopError` if the client closed its connection; with
            :class:`SynapseError` if Swift failed (503 if a retry may help); or with what
            the consumer raised.
        """
        to_disk = isinstance(consumer, BackgroundFileConsumer)
        write = self._write_to_disk if to_disk else self._write_response
        written: Deferred[None] = make_deferred_yieldable(run_in_background(write, consumer))
        return written

    async def _write_response(self, consumer: IConsumer) -> None:
        if self._pull_back is not None:
            self._pull_back.unprotect()
        request = request_behind(consumer)
        try:
            length = required_length(consumer, self._path)
            if request is not None and request.method == b"HEAD":
                await self._pass_over(length)
                self._prepare(consumer, self._download.info)
                return
            download = await self._begun(length)
            if request is not None and request.channel is None:
                raise ConsumerStoppedError("the client has hung up meanwhile")
            part, length = self._prepare(consumer, download.info)
            if part is None or part:
                await make_deferred_yieldable(download.deliver(consumer, part, length))
        except Exception:
            self._fail(Failure(), consumer).raiseException()

    def _prepare(self, consumer: IConsumer, info: ObjectInfo) -> tuple[range | None, int | None]:
        """Set the headers of the response.

        :returns: which part to write, as :func:`choose_part`, and the announced length.
        :raises WrongLengthError: if the object is not as long as Synapse announces.
        """
        length = agree_on_length(consumer, info, self._path)
        # Another server gets multipart, in which there are no ranges.
        part = choose_part(consumer, info.size) if isinstance(consumer, Request) else None
        return part, length

    async def _begun(self, length: int | None) -> Download:
        await self._pass_over(length)
        if isinstance(self._download, LaterDownload):
            self._download = await self._download.begin()
        return self._download

    async def _pass_over(self, length: int | None) -> None:
        """Turn to another mirror if the object has another length, and a mirror has the right one.

        :param length: ``None`` if any is right.
        """
        if self._of_length is None or length is None or self._download.info.size in (None, length):
            return
        self._download.abandon()
        with contextlib.suppress(WrongLengthError):  # the caller will find it
            found = begin_for_caller(self._of_length, length)
            self._download = await make_deferred_yieldable(found)

    async def _write_to_disk(self, consumer: Any) -> None:
        if self._pull_back is not None:
            self._pull_back.begin()
        # The consumer may pause the download just after its thread has looked whether to
        # resume it. If the queue is empty then, only another item wakes the thread.
        wake = LoopingCall(_wake, consumer)
        wake.clock = self._clock
        try:
            length = await self._known_length()
            download = await self._begun(length)
            check_known_length(download.info, length)
            done = download.deliver(consumer, None, length)
            if not done.called:
                run_in_background(consumer.wait).addErrback(self._writer_failed)
                wake.start(WAKE_SECONDS, now=False)
            await make_deferred_yieldable(done)
            self._delivered = True
        except Exception:
            self._fail(Failure(), consumer).raiseException()
        finally:
            if wake.running:
                wake.stop()
        await consumer.wait()
        if self._pull_back is not None:
            await self._run_in_thread(self._pull_back.publish)
            self._pulled_back(download.info.size or 0)

    def _writer_failed(self, failure: Failure) -> Failure | None:
        """Synapse's writer thread could not write, for example because the disk is full.

        It may have paused the download before. A thread that has ended never resumes a
        download, so without this Synapse would wait for ever.
        """
        if self._delivered:
            return failure  # _write_to_disk() waits for the thread next, and gets its error.
        self._write_failure = failure
        self._download.abandon()
        return None

    def _fail(self, failure: Failure, consumer: IConsumer) -> Failure:
        if self._write_failure is not None:
            failure = self._write_failure
        request = request_behind(consumer)
        disconnected = request is not None and request.channel is None
        if disconnected or failure.check(ConsumerStoppedError, CancelledError):
            if request is not None:
                # After a cancellation the client may still be there.
                _break_off(request)
            raise ConsumerRequestedStopError("the client has gone") from failure.value
        error = failure.value
        if isinstance(error, SwiftProviderError):
            told = self._error_to_tell(error)
            if request is not None and _has_begun(consumer, request):
                _break_off(request)
            elif request is not None:
                for_another_server = request is not consumer and told.code >= 500
                if for_another_server or request.startedWriting:
                    _send_only_the_head(request)
                else:
                    refuse(request, told)
            raise told from error
        if request is not None:
            _break_off(request)
        logger.error("Cannot deliver %s: %s", self._path, error)
        return failure

    def _error_to_tell(self, error: SwiftProviderError) -> SynapseError:
        if isinstance(error, ObjectNotFoundError):
            logger.warning("%s was deleted while it was asked for: %s", self._path, error)
            return SynapseError(404, "Not found", Codes.NOT_FOUND)
        return error_for_client(error, "deliver", self._path)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._download.abandon()
        if self._pull_back is not None:
            self._pull_back.end()


def _wake(consumer: Any) -> None:
    with contextlib.suppress(Exception):  # it is closed, or its thread has failed
        consumer.write(b"")


def _has_begun(consumer: Any, request: Request) -> bool:
    """Whether a part of the file may have been written.

    When a download fails, Synapse's multipart consumer writes its closing boundary. If nothing
    else was written, the response is still a mere head: it has fewer bytes than it announces.
    """
    if not request.startedWriting:
        return False
    if consumer is request or not request.responseHeaders.hasHeader(b"Content-Length"):
        return True
    begun: bool = consumer.json_field_written
    return begun


def _send_only_the_head(request: Request) -> None:
    """Send the head of the response to another homeserver, and close the connection.

    It takes that for one broken file. After a 5xx, or without any answer, Synapse takes this
    whole homeserver to be down, and sends it nothing for ten minutes.
    """
    if not request.responseHeaders.hasHeader(b"Content-Length"):
        # Otherwise Synapse would end the empty body like a whole one.
        request.setHeader(b"Content-Length", b"1")
    request.write(b"")
    if request.channel is not None:
        request.channel.loseConnection()


def _break_off(request: Request) -> None:
    """Close the connection, so that the client sees that its response is incomplete.

    Synapse would finish the response. A client would wait for the missing bytes. Another
    homeserver, which gets multipart, would take the incomplete file for the whole one.
    """
    if request.channel is not None:
        connection: Any = request.channel.transport
        connection.abortConnection()
