"""Bodies of PUT requests: how the bytes of a file get onto a connection.

Each attempt makes a new body. It reads its part of the file from the beginning, and
counts and hashes what it hands over: MD5 for the proof, and CRC-32 for the object's
metadata. A small part is read and hashed at once. A large one is read and hashed in a
thread, one chunk ahead of the connection, and handed over as fast as the connection takes
it.

``twisted.web.client.FileBodyProducer`` is not used: it reads on the reactor's thread,
cannot hash, and with TLS may be resumed after its end (Twisted #8473).
"""

from __future__ import annotations

import hashlib
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable
from enum import Enum

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IConsumer
from twisted.python.failure import Failure
from twisted.web.iweb import IBodyProducer
from zope.interface import implementer

from swift_provider.client.file_source import FileSource
from swift_provider.client.threads import Threads

#: Parts up to this size are read and hashed at once, on the caller's thread.
AT_ONCE_BYTES = 256 * 1024

#: What a larger part is read in.
CHUNK_BYTES = 512 * 1024


class Body(ABC):
    """What all bodies have in common, besides Twisted's ``IBodyProducer``.

    :ivar length: bytes that will be sent.
    :ivar declared_md5: the MD5, where it is known before the first byte is sent and
        Swift is to check it (it answers 422); ``None`` otherwise.
    :ivar declared_crc32: the CRC-32, where it is known by then; ``None`` otherwise.
    :ivar on_progress: called with the number of bytes of each chunk handed over.
    """

    length: int
    declared_md5: str | None = None
    declared_crc32: int | None = None
    on_progress: Callable[[int], None]

    @property
    @abstractmethod
    def finished(self) -> bool:
        """Every byte was handed to the connection."""

    @property
    @abstractmethod
    def md5(self) -> str:
        """Hex digest of what was sent; complete once :attr:`finished`."""

    @property
    @abstractmethod
    def crc32(self) -> int:
        """CRC-32 of what was sent; complete once :attr:`finished`."""

    @abstractmethod
    def stopProducing(self) -> None:
        """Hand nothing over any more."""


@implementer(IBodyProducer)
class BytesBody(Body):
    """Bytes in memory.

    :param declare: whether Swift is to check them against their MD5.
    """

    def __init__(self, content: bytes, *, declare: bool = True) -> None:
        self._content = content
        self._md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()
        self._crc32 = self.declared_crc32 = zlib.crc32(content)
        self._finished = False
        self.length = len(content)
        self.declared_md5 = self._md5 if declare else None
        self.on_progress = ignore

    @property
    def finished(self) -> bool:
        return self._finished

    @property
    def md5(self) -> str:
        return self._md5

    @property
    def crc32(self) -> int:
        return self._crc32

    def startProducing(self, consumer: IConsumer) -> Deferred[None]:
        """Hand everything over and drop it: a finished exchange stays in memory until the
        garbage collector breaks its cycles.
        """
        content, self._content = self._content, b""
        consumer.write(content)
        self._finished = True
        self.on_progress(self.length)
        return succeed(None)

    def pauseProducing(self) -> None:
        """Everything was handed over at once: there is nothing to pause."""

    def resumeProducing(self) -> None:
        """Everything was handed over at once: there is nothing to resume."""

    def stopProducing(self) -> None:
        """Everything was handed over at once: there is nothing to stop."""


class _State(Enum):
    READY = "not started"
    FLOWING = "the connection takes bytes"
    PAUSED = "the connection's buffer is full"
    DONE = "every byte was handed over"
    STOPPED = "nothing is handed over any more"


@implementer(IBodyProducer)
class FileBody(Body):
    """A part of a file, read in a thread.

    READY → FLOWING ⇄ PAUSED → DONE | STOPPED. At most one read is in flight, and at
    most one chunk waits for the connection. The result of a read that is in flight when
    the body is stopped is dropped; the file may be closed meanwhile.

    :param reading: the threads that read and hash the file.
    :param crc32: what the request's headers say about these bytes; ``None`` if nothing.
    """

    def __init__(
        self,
        source: FileSource,
        offset: int,
        length: int,
        reading: Threads,
        crc32: int | None = None,
    ) -> None:
        self.length = length
        self.on_progress = ignore
        self._source = source
        self._position = offset
        self._end = offset + length
        self._threads = reading
        self._hash = hashlib.md5(usedforsecurity=False)
        self._crc32 = 0
        self.declared_crc32 = crc32
        self._state = _State.READY
        self._reading: Deferred[bytes] | None = None
        self._chunk: bytes | None = None
        self._done: Deferred[None] | None = None

    @property
    def finished(self) -> bool:
        return self._state is _State.DONE

    @property
    def md5(self) -> str:
        return self._hash.hexdigest()

    @property
    def crc32(self) -> int:
        return self._crc32

    def startProducing(self, consumer: IConsumer) -> Deferred[None]:
        """:returns: fires once every byte was handed over; fails if the file cannot be read."""
        self._consumer = consumer
        self._done = Deferred(lambda _: self.stopProducing())
        done = self._done
        self._state = _State.FLOWING
        self._go_on()
        return done

    def pauseProducing(self) -> None:
        """The connection's buffer is full."""
        if self._state is _State.FLOWING:
            self._state = _State.PAUSED

    def resumeProducing(self) -> None:
        """The connection's buffer has room."""
        if self._state is _State.PAUSED:
            self._state = _State.FLOWING
            self._go_on()

    def stopProducing(self) -> None:
        """Stop. As ``IBodyProducer`` wants it, the Deferred of :meth:`startProducing` does
        not fire any more.
        """
        self._done = None
        self._stop(None)

    def _go_on(self) -> None:
        while self._state is _State.FLOWING and self._chunk is not None:
            chunk, self._chunk = self._chunk, None
            self._read_ahead()
            last = self._position == self._end and self._reading is None
            self._consumer.write(chunk)
            if last:
                self._state = _State.DONE  # before the progress is reported
            self.on_progress(len(chunk))
            if last:
                self._fire(None)
                return
        if self._state is _State.FLOWING:
            self._read_ahead()

    def _read_ahead(self) -> None:
        if self._reading is None and self._chunk is None and self._position < self._end:
            length = min(CHUNK_BYTES, self._end - self._position)
            self._reading = self._threads.run(self._read, self._position, length)
            self._position += length
            self._reading.addCallbacks(self._was_read, self._not_read)

    def _read(self, offset: int, length: int) -> bytes:
        """Runs in a thread."""
        data = self._source.read_at(offset, length)
        self._hash.update(data)
        self._crc32 = zlib.crc32(data, self._crc32)
        if offset + length == self._end:
            # Before the last bytes are sent: without them Swift stores nothing.
            self._source.check_unchanged()
            # A change within one tick of the filesystem's clock leaves size and mtime as they
            # were, and so does a program that sets the mtime back.
            self._source.check_same(self._crc32, self.declared_crc32)
        return data

    def _was_read(self, chunk: bytes) -> None:
        self._reading = None
        if self._state not in (_State.DONE, _State.STOPPED):
            self._chunk = chunk
            self._go_on()

    def _not_read(self, failure: Failure) -> None:
        self._reading = None
        self._stop(failure)

    def _stop(self, failure: Failure | None) -> None:
        if self._state is not _State.DONE:
            self._state = _State.STOPPED
            self._chunk = None
            self._fire(failure)

    def _fire(self, failure: Failure | None) -> None:
        done, self._done = self._done, None
        if done is None:
            return
        if failure is None:
            done.callback(None)
        else:
            done.errback(failure)


def ignore(_count: int) -> None:
    """Nobody wants to know the progress."""


def make_body(
    source: FileSource, offset: int, length: int, reading: Threads, crc32: int | None = None
) -> Body:
    """The right body for a part of a file, for one attempt.

    :param crc32: of the part, if an earlier reading has shown it; else ``None``.
    :raises FileChangedError: if the file was written to since it was opened, or has other bytes
        than at that reading.
    :raises OSError: if it cannot be read.
    """
    if length <= AT_ONCE_BYTES:
        content = source.read_at(offset, length)
        source.check_unchanged()
        body = BytesBody(content)
        source.check_same(body.crc32, crc32)
        return body
    return FileBody(source, offset, length, reading, crc32)
