"""The body of a PUT whose bytes come from a GET at another place.

The GET begins when the connection of the PUT asks for its body. It reads as fast as that
connection takes the bytes. A GET that breaks or falls silent is resumed within the same
PUT, if that goes fast: a server does not wait for long for the rest of a body. Otherwise
the body fails, and the next attempt begins anew. The last chunk is handed over when the
download has ended and its checksum was right, so without it nothing is stored.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable, Coroutine
from typing import Any

from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.interfaces import IConsumer, IProducer, IPushProducer, IReactorTime
from twisted.python.failure import Failure
from twisted.web.iweb import IBodyProducer
from zope.interface import implementer

from swift_provider.client.checksum import Checksum
from swift_provider.client.downloads import Download
from swift_provider.client.http.time_limit import TimeLimit
from swift_provider.client.upload_bodies import Body, ignore
from swift_provider.errors import SwiftProviderError, Target, TimedOutError


class PassingBytes:
    """The checksum of what goes from one place to the other.

    :param md5: which the bytes must have; ``None`` if it is not known.
    :param proof: a further checksum that must be right; ``None`` for none.
    :param noted_crc32: what the metadata of the copy will say; ``None`` for nothing.
    """

    def __init__(self, md5: str | None, proof: Checksum | None, noted_crc32: int | None) -> None:
        self.expected_md5 = md5
        self.noted_crc32 = noted_crc32
        self.crc32 = 0
        self._md5 = hashlib.md5(usedforsecurity=False)
        self._proof = proof

    @property
    def md5(self) -> str:
        """Of the bytes so far, in hex."""
        return self._md5.hexdigest()

    def update(self, data: bytes) -> None:
        """The next bytes."""
        self._md5.update(data)
        self.crc32 = zlib.crc32(data, self.crc32)
        if self._proof is not None:
            self._proof.update(data)

    @property
    def proven(self) -> bool:
        """Whether these are the original's bytes."""
        right = self._proof is None or self._proof.right()
        return right and self.expected_md5 in (None, self.md5)

    def right(self) -> bool:
        """Whether they are, and what the metadata of the copy will say is right as well."""
        return self.proven and self.noted_crc32 in (None, self.crc32)


@implementer(IConsumer, IBodyProducer)
class CopyBody(Body):
    """The body of one attempt: a consumer of the download, and a producer of the upload.

    :param open_download: begins the download; :meth:`startProducing` calls it.
    :param passing: the download's checksum.
    :param target: of the download, for the errors.
    :param failed: makes the body's failure from that of the download.
    :param patience: after so many seconds without a byte the body fails.
    """

    def __init__(
        self,
        length: int,
        open_download: Callable[[], Coroutine[Deferred[Any], Any, Download]],
        passing: PassingBytes,
        target: Target,
        failed: Callable[[SwiftProviderError], SwiftProviderError],
        clock: IReactorTime,
        patience: float,
    ) -> None:
        self.length = length
        self.declared_md5 = passing.expected_md5
        self.declared_crc32 = passing.noted_crc32
        self.on_progress = ignore
        self._open_download = open_download
        self._passing = passing
        self._target = target
        self._translated = failed
        self._patience = patience
        self._time_limit = TimeLimit(clock, self._silent)
        self._gave_up: SwiftProviderError | None = None
        self._producer: IPushProducer | None = None
        self._paused = False
        self._received = 0
        self._last: bytes | None = None
        self._finished = False
        self._copying: Deferred[None] | None = None
        self._done: Deferred[None] | None = None

    @property
    def finished(self) -> bool:
        return self._finished

    @property
    def md5(self) -> str:
        return self._passing.md5

    @property
    def crc32(self) -> int:
        return self._passing.crc32

    # For the upload

    def startProducing(self, consumer: IConsumer) -> Deferred[None]:
        """:returns: fires once every byte was handed over; fails if the download does."""
        self._connection = consumer
        done: Deferred[None] = Deferred(lambda _: self.stopProducing())
        self._done = done
        self._time_limit.watch(self._patience, "no byte came")
        self._copying = ensureDeferred(self._copy())
        self._copying.addErrback(self._not_copied)
        return done

    def pauseProducing(self) -> None:
        """The connection's buffer is full."""
        self._paused = True
        self._time_limit.rest()
        if self._producer is not None:
            self._producer.pauseProducing()

    def resumeProducing(self) -> None:
        """The connection's buffer has room."""
        if not self._paused:
            return
        self._paused = False
        if self._done is not None:
            self._time_limit.watch(self._patience, "no byte came")
        if self._producer is not None:
            self._producer.resumeProducing()

    def stopProducing(self) -> None:
        """Stop. As ``IBodyProducer`` wants it, the Deferred of :meth:`startProducing` does
        not fire any more.
        """
        self._done = None
        self._time_limit.rest()
        copying, self._copying = self._copying, None
        if copying is not None:
            copying.cancel()

    # For the download

    def registerProducer(self, producer: IProducer, streaming: bool) -> None:
        """The download is about to begin."""
        self._producer = IPushProducer(producer)
        if self._paused:
            self._producer.pauseProducing()

    def unregisterProducer(self) -> None:
        """The download has ended."""
        self._producer = None

    def write(self, data: bytes) -> None:
        """A chunk, which goes on to the connection, unless it is the last one."""
        self._received += len(data)
        if self._received < self.length:
            self._hand_over(data)
        else:
            self._last = data

    def _hand_over(self, data: bytes) -> None:
        if not self._paused:
            self._time_limit.renew()
        self._connection.write(data)
        self.on_progress(len(data))

    async def _copy(self) -> None:
        download = await self._open_download()
        await download.deliver(self)
        done, self._done = self._done, None
        if done is None:
            return
        self._time_limit.rest()
        last, self._last = self._last, None
        self._finished = True  # before the progress is reported
        if last is not None:
            self._hand_over(last)
        self._copying = None
        done.callback(None)

    def _not_copied(self, failure: Failure) -> None:
        self._time_limit.rest()
        done, self._done = self._done, None
        if done is None:
            return  # stopped; its errors come from that
        error = self._gave_up or failure.value
        self._copying = None
        if isinstance(error, SwiftProviderError):
            done.errback(self._translated(error))
        else:
            done.errback(failure)

    def _silent(self, what: str) -> None:
        self._gave_up = self._target.error(TimedOutError, what)
        if self._copying is not None:
            self._copying.cancel()
