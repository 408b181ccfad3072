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
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any

from synapse.media._base import ConsumerRequestedStopError, Responder
from synapse.media.media_storage import BackgroundFileConsumer
from synapse.module_api import make_deferred_yieldable, run_in_background
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IConsumer
from twisted.internet.task import LoopingCall
from twisted.python.failure import Failure
from twisted.web.http import Request

from swift_provider.client import Download
from swift_provider.errors import ConsumerStoppedError, SwiftProviderError
from swift_provider.module.byte_ranges import choose_part
from swift_provider.module.client_request import request_behind
from swift_provider.module.later_download import LaterDownload
from swift_provider.module.matrix_errors import error_for_client
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
    """

    def __init__(
        self,
        download: Download | LaterDownload,
        path: str,
        local_path: str | None,
        clock: Any,
        run_in_thread: Callable[[Callable[[], None]], Awaitable[None]],
    ) -> None:
        self._download = download
        self._path = path
        self._clock = clock
        self._run_in_thread = run_in_thread
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
        part = None
        if request is not None:
            if request is consumer:  # a client's; another server's gets multipart
                part = choose_part(request, self._download.info.size)
            if request.method == b"HEAD" or (part is not None and not part):
                return
        try:
            download = await self._begun()
            await make_deferred_yieldable(download.deliver(consumer, part))
        except Exception:
            self._fail(Failure(), consumer).raiseException()

    async def _begun(self) -> Download:
        if isinstance(self._download, LaterDownload):
            self._download = await self._download.begin()
        return self._download

    async def _write_to_disk(self, consumer: Any) -> None:
        if self._pull_back is not None:
            self._pull_back.begin()
        # The consumer may pause the download just after its thread has looked whether to
        # resume it. If the queue is empty then, only another item wakes the thread.
        wake = LoopingCall(_wake, consumer)
        wake.clock = self._clock
        try:
            download = await self._begun()
            done = download.deliver(consumer)
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
            raise ConsumerRequestedStopError("the client has gone") from failure.value
        if request is not None:
            _break_off(request)
        error = failure.value
        if isinstance(error, SwiftProviderError):
            raise error_for_client(error, "deliver", self._path) from error
        logger.error("Cannot deliver %s: %s", self._path, error)
        return failure

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


def _break_off(request: Request) -> None:
    """Close the connection, so that the client sees that its response is incomplete.

    Synapse would finish the response. A client would wait for the missing bytes. Another
    homeserver, which gets multipart, would take the incomplete file for the whole one.
    """
    if request.channel is not None:
        connection: Any = request.channel.transport
        connection.abortConnection()
