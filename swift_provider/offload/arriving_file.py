"""A file that arrives from Swift, and is written in threads.

A disk that hangs, such as one on NFS, blocks the thread that writes to it. So that is never the
reactor's thread, which handles signals and says what a run waits for.
"""

from __future__ import annotations

from functools import partial

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IConsumer, IProducer, IPushProducer
from twisted.python.failure import Failure
from zope.interface import implementer

from swift_provider.offload.disk import Expected
from swift_provider.offload.job_threads import JobThreads
from swift_provider.offload.new_file import MediaStore, NewFile

#: So many bytes are written at once. While they are, about as many more may come.
BATCH_BYTES = 1 << 18


@implementer(IConsumer)
class ArrivingFile:
    """Consumes a download. Comes from :func:`open_arriving`, and has to be closed.

    Call its coroutines one after the other, and only when no byte comes any more.
    """

    def __init__(self, threads: JobThreads, new: NewFile) -> None:
        self._threads = threads
        self._new = new
        self._producer: IPushProducer | None = None
        self._batch: list[bytes] = []
        self._batch_bytes = 0
        self._is_writing = False
        self._idle: Deferred[None] | None = None
        self._failure: Failure | None = None

    @property
    def size(self) -> int:
        """How many bytes have been written."""
        return self._new.size

    def registerProducer(self, producer: IProducer, streaming: bool) -> None:
        """The producer is paused while too many bytes wait for the disk."""
        self._producer = IPushProducer(producer)

    def unregisterProducer(self) -> None:
        """No byte comes any more."""
        self._producer = None

    def write(self, data: bytes) -> None:
        """:raises OSError: if an earlier write failed."""
        self._raise_failure()
        self._batch.append(data)
        self._batch_bytes += len(data)
        if self._batch_bytes < BATCH_BYTES:
            return
        if self._is_writing:
            assert self._producer is not None
            self._producer.pauseProducing()
        else:
            self._write_batch()

    def _write_batch(self) -> None:
        self._is_writing = True
        data = b"".join(self._batch)
        self._batch, self._batch_bytes = [], 0
        self._threads.writing.run(self._new.write, data).addErrback(self._failed).addCallback(
            self._written
        )

    def _failed(self, failure: Failure) -> None:
        self._failure = failure

    def _written(self, _: None) -> None:
        self._is_writing = False
        if self._batch_bytes >= BATCH_BYTES and self._failure is None:
            self._write_batch()
        if self._producer is not None:
            self._producer.resumeProducing()  # If a write failed, the next one says so.
        if self._idle is not None and not self._is_writing:
            idle, self._idle = self._idle, None
            idle.callback(None)

    def _raise_failure(self) -> None:
        if self._failure is not None:
            self._failure.raiseException()

    async def flush(self) -> None:
        """Write what has not been written yet.

        :raises OSError: if a write fails, or failed before.
        """
        await self._until_idle()
        self._raise_failure()
        if self._batch:
            self._write_batch()
            await self._until_idle()
            self._raise_failure()

    async def keep(self, *, keep_bad: bool) -> str | None:
        """Give the file its final name, once it is flushed. See :meth:`.NewFile.keep`."""
        return await self._threads.lookups.run(partial(self._new.keep, keep_bad=keep_bad))

    async def close(self) -> None:
        """Close the file, and delete it unless it was kept."""
        await self._until_idle()
        await self._threads.writing.run(self._new.close)

    async def _until_idle(self) -> None:
        """Two threads must not use the file at once."""
        if self._is_writing:
            self._idle = Deferred()
            await self._idle


async def open_arriving(threads: JobThreads, store: MediaStore, file: Expected) -> ArrivingFile:
    """Begin a file.

    :raises OSError: if it cannot be created.
    """
    return ArrivingFile(threads, await threads.writing.run(NewFile, store, file))
