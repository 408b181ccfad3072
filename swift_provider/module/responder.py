"""Delivers a file from Swift to the consumer that Synapse names.

Follows ``Responder`` in Synapse's ``synapse/media/_base.py``. The consumer is one of three:

* a request of a Matrix client;
* Synapse's multipart consumer around a request of another homeserver;
* a ``BackgroundFileConsumer``: Synapse pulls the file back to its disk, for example to
  make a thumbnail. It writes under the file's final name.
"""

from __future__ import annotations

import contextlib
import logging
import os
from types import TracebackType
from typing import Any

from synapse.media._base import ConsumerRequestedStopError, Responder
from synapse.media.media_storage import BackgroundFileConsumer
from synapse.module_api import make_deferred_yieldable, run_in_background
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IConsumer
from twisted.python.failure import Failure
from twisted.web.http import Request

from swift_provider.client import Download
from swift_provider.errors import ConsumerStoppedError, SwiftProviderError
from swift_provider.module.matrix_errors import error_for_client

logger = logging.getLogger(__name__)


class SwiftResponder(Responder):
    """One download. Must be used as a context manager, as Synapse does.

    :param path: the file's path, relative to the media store; for the log.
    :param local_path: where Synapse would keep its local copy; ``None`` if it keeps none.
    """

    def __init__(self, download: Download, path: str, local_path: str | None) -> None:
        self._download = download
        self._path = path
        self._local_path = local_path
        self._pulls_back = False
        self._delivered = False
        self._write_failure: Failure | None = None

    def write_to_consumer(self, consumer: IConsumer) -> Deferred[None]:
        """Stream the file.

        :returns: fires when the consumer has all bytes and their length and checksum were
            right. Fails with :class:`ConsumerRequestedStopError` if the client closed its
            connection; with :class:`SynapseError` if Swift failed (503 if a retry may
            help); or with what the consumer raised.
        """
        done = self._download.deliver(consumer)
        if isinstance(consumer, BackgroundFileConsumer):
            self._pulls_back = True
            if not done.called:
                run_in_background(consumer.wait).addErrback(self._writer_failed)
        delivered: Deferred[None] = make_deferred_yieldable(done)
        return delivered.addCallbacks(self._end, self._fail, errbackArgs=(consumer,))

    def _end(self, result: None) -> None:
        self._delivered = True

    def _writer_failed(self, failure: Failure) -> Failure | None:
        """Synapse's writer thread could not write, for example because the disk is full.

        It may have paused the download before. A thread that has ended never resumes a
        download, so without this Synapse would wait for ever.
        """
        if self._delivered:
            return failure  # Synapse waits for the thread next, and gets its error there.
        self._write_failure = failure
        self._download.abandon()
        return None

    def _fail(self, failure: Failure, consumer: Any) -> Failure:
        if self._write_failure is not None:
            failure = self._write_failure
        request = getattr(consumer, "wrapped_consumer", consumer)
        disconnected = isinstance(request, Request) and request.channel is None
        if disconnected or failure.check(ConsumerStoppedError):
            raise ConsumerRequestedStopError("the client has gone") from failure.value
        if isinstance(request, Request):
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
        if kind is not None and self._pulls_back and self._local_path is not None:
            # Synapse writes what it pulls back under the final name. It would serve
            # an incomplete file from then on.
            with contextlib.suppress(OSError):
                os.unlink(self._local_path)


def _break_off(request: Request) -> None:
    """Close the connection, so that the client sees that its response is incomplete.

    Synapse would finish the response. A client would wait for the missing bytes. Another
    homeserver, which gets multipart, would take the incomplete file for the whole one.
    """
    if request.channel is not None:
        connection: Any = request.channel.transport
        connection.abortConnection()
