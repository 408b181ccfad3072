"""One request, its response, and the connection that carries both.

Keeps the time limits, which neither treq nor Twisted has once the connection is made,
and aborts the connection where the exchange is not complete. The request is sent
through :mod:`swift_provider.client.http.agent`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.protocol import Protocol as TwistedProtocol
from twisted.python.failure import Failure
from twisted.web.client import ResponseDone
from twisted.web.http_headers import Headers
from twisted.web.iweb import UNKNOWN_LENGTH

from swift_provider.client.http.acknowledged import bytes_acknowledged
from swift_provider.client.http.agent import send_request
from swift_provider.client.http.failures import server_of, translated
from swift_provider.client.http.time_limit import TimeLimit
from swift_provider.client.http.transport import Transport
from swift_provider.client.slots import Slot
from swift_provider.errors import (
    ConnectionFailedError,
    ServerBusyError,
    SwiftError,
    Target,
    TimedOutError,
)

#: Twisted stops reading once an early response's headers are in; see
#: :meth:`Exchange._keep_reading`.
KEEP_READING_SECONDS = 0.05


class OutgoingBody(Protocol):
    """What an exchange needs of a request's body, besides ``IBodyProducer``.

    :ivar length: bytes that will be sent.
    :ivar finished: every byte was handed to the connection.
    :ivar on_progress: called with the number of bytes of each chunk handed over.
    """

    length: int
    on_progress: Callable[[int], None]

    @property
    def finished(self) -> bool: ...

    def stopProducing(self) -> None: ...


class Receiver(Protocol):
    """Takes a response's body; see :meth:`Exchange.stream`."""

    def chunk_received(self, data: bytes) -> None:
        """A chunk of the body."""

    def body_ended(self, error: SwiftError | None) -> None:
        """No more chunks follow: the body is complete (``None``), or broke."""


class Exchange:
    """One request and its response. Call :meth:`close` in any case; it may be called again.

    :param slot: released by :meth:`close`.
    :param on_sent: told how many bytes of the request's body were handed over.
    :ivar status: HTTP status, once :meth:`send` has returned.
    :ivar headers: the response's headers, likewise.
    :ivar length: bytes of the response's body, likewise; ``None`` if it does not say.
    :ivar reused: the connection had carried another exchange before.
    :ivar answered: the response's headers have come.
    :ivar kept: :meth:`keep` was called.
    """

    def __init__(
        self,
        transport: Transport,
        slot: Slot,
        target: Target,
        on_sent: Callable[[int], None],
    ) -> None:
        self.target = target
        self.reused = False
        self.answered = False
        self.kept = False
        self._transport = transport
        self._limits = transport.limits
        self._idle_seconds = transport.limits.idle
        self._slot = slot
        self._on_sent = on_sent
        self._time_limit = TimeLimit(transport.reactor, self._timed_out)
        self._keeping_reading: Any = None
        self._acknowledged: int | None = None
        self._wire: Any = None
        self._body: OutgoingBody | None = None
        self._sending: Deferred[Any] | None = None
        self._gave_up: SwiftError | None = None
        self._cancelled = False
        self._stream: _Stream | None = None
        self._complete = False
        self._closed = False
        self._server = ""

    # The request

    async def send(
        self, method: str, url: bytes, headers: Headers, body: OutgoingBody | None = None
    ) -> None:
        """Send a request and wait for the response's headers.

        :param url: percent-encoded.
        :param body: a body made for this request; ``None`` for none.
        :raises SwiftError: if no response came.
        :raises FileChangedError: from the body.
        :raises OSError: from the body.
        """
        self._body = body
        self._server = server_of(url)
        self._time_limit.watch(
            self._limits.connect, f"cannot reach Swift at {self._server}: no connection was made"
        )
        try:
            self._sending = send_request(
                self._transport, method, url, headers, body, self._connected, self._flooded
            )
            answered: Deferred[Any] = Deferred(self._cancel)
            self._sending.chainDeferred(answered)
            self._response = await answered
        except Exception as error:
            raise self._translated(error) from None
        finally:
            self._sending = None
            self._time_limit.rest()
        self.answered = True
        self.status: int = self._response.code
        self.headers: Headers = self._response.headers
        length = self._response.length
        self.length: int | None = None if length is UNKNOWN_LENGTH else length

    def _cancel(self, _answered: Deferred[Any]) -> None:
        """The caller cancels. Twisted reports that as a DNS error during name resolution."""
        self._cancelled = True
        if self._sending is not None:
            self._sending.cancel()

    def _connected(self, wire: Any, reused: bool) -> None:
        """A connection is there, and the request is about to be written to it."""
        self._wire = wire
        self.reused = reused
        body = self._body
        if body is None or body.length == 0:
            self._time_limit.watch(self._limits.response, "no answer came")
            return
        self._time_limit.watch(self._limits.idle, "no byte could be sent", self._bytes_left)
        body.on_progress = self._sent
        self._keep_reading_later()

    def _sent(self, count: int) -> None:
        self._on_sent(count)
        assert self._body is not None
        if self._body.finished:
            self._time_limit.watch(self._limits.response, "no answer came", self._bytes_left)
        else:
            self._time_limit.renew()

    def _bytes_left(self) -> bool:
        """Whether bytes of the request have left this machine since the last call.

        What was handed over may wait in Twisted's and the kernel's buffers: a slow line
        takes minutes to send it.
        """
        before, self._acknowledged = self._acknowledged, bytes_acknowledged(self._wire)
        return before != self._acknowledged

    def _keep_reading_later(self) -> None:
        self._keeping_reading = self._transport.reactor.callLater(
            KEEP_READING_SECONDS, self._keep_reading
        )

    def _keep_reading(self) -> None:
        """Resume reading while a body is sent.

        After the headers of an early response Twisted stops reading until the request
        is written. If the server has stopped reading too, that never happens.
        """
        self._keeping_reading = None
        if self._sending is not None and self._body is not None and not self._body.finished:
            self._wire.resumeProducing()
            self._keep_reading_later()

    # The response

    def stream(self, receiver: Receiver, idle_seconds: float | None = None) -> None:
        """Hand the response's body to ``receiver`` as it comes. Call once.

        :param idle_seconds: the longest silence; ``None`` for the usual.
        """
        self._stream = stream = _Stream(self._time_limit, receiver, self._ended)
        self._idle_seconds = idle_seconds or self._limits.idle
        self._time_limit.watch(self._idle_seconds, "the body fell silent")
        self._response.deliverBody(stream)
        stream.begun()

    async def read(self, limit: int) -> bytes:
        """The response's body.

        :param limit: bytes after which the rest is dropped, and the exchange closed.
        :raises SwiftError: if the body broke off.
        """
        collected = _Collected(self, limit)
        self.stream(collected)
        return await collected.done

    def pause(self) -> None:
        """Stop reading from the connection; silence is allowed from now on."""
        if self._stream is not None:
            self._time_limit.rest()
            self._stream.pause()

    def offer_slot(self, release: Callable[[], None]) -> None:
        """Let another exchange have the slot, if it needs one before :meth:`resume`.

        :param release: called once, to end this exchange; perhaps at once.
        """
        self._slot.offer(release)

    def resume(self) -> None:
        """Read on."""
        self._slot.withdraw()
        if self._stream is not None and not self._closed:
            self._time_limit.watch(self._idle_seconds, "the body fell silent")
            self._stream.resume()

    def _ended(self, receiver: Receiver, reason: Failure) -> None:
        self._time_limit.rest()
        self._stream = None
        if self._closed:
            return  # by the receiver itself, which knows
        if reason.check(ResponseDone):
            self._complete = True
            receiver.body_ended(None)
            return
        assert reason.value is not None
        error = self._translated(reason.value)
        if not isinstance(error, SwiftError):
            error = self.target.error(ConnectionFailedError, "the connection was lost")
        receiver.body_ended(error)

    # The end

    def keep(self) -> None:
        """Take over the duty to call :meth:`close` from the requester."""
        self.kept = True

    def close(self) -> None:
        """Release everything; abort the connection unless the exchange is complete."""
        if self._closed:
            return
        self._closed = True
        self._time_limit.rest()
        if self._keeping_reading is not None:
            self._keeping_reading.cancel()
            self._keeping_reading = None
        if self._stream is not None:
            self._stream.stop()
        body_is_over = self._body is None or self._body.finished
        if self._wire is not None and not (self._complete and body_is_over):
            self._wire.abortConnection()
        if not body_is_over:
            assert self._body is not None
            self._body.stopProducing()
        self._wire = None
        self._slot.release()

    def distrust_connection(self) -> None:
        """Do not reuse the connection, although the exchange is complete."""
        self._complete = False

    def _timed_out(self, what: str) -> None:
        self._give_up(TimedOutError, what)

    def _flooded(self) -> None:
        self._give_up(
            ServerBusyError,
            "the answer is not Swift's: its headers do not end, or it sends a long body while "
            "the request is still being sent",
        )

    def _give_up(self, kind: type[SwiftError], reason: str) -> None:
        """Abort the connection; what waits for it gets this error."""
        self._gave_up = self.target.error(kind, reason)
        if self._sending is not None:
            self._sending.cancel()
        elif self._wire is not None:
            self._wire.abortConnection()

    def _translated(self, error: BaseException) -> BaseException:
        if self._cancelled:
            return CancelledError()
        if self._gave_up is not None:
            return self._gave_up
        return translated(error, self.target, server=self._server, answered=self.answered)


class _Stream(TwistedProtocol):
    """Twisted's body protocol, which feeds a :class:`Receiver`."""

    def __init__(
        self,
        time_limit: TimeLimit,
        receiver: Receiver,
        on_ended: Callable[[Receiver, Failure], None],
    ) -> None:
        self._time_limit = time_limit
        self._receiver = receiver
        self._on_ended = on_ended
        self._paused = False
        self._stopped = False

    def stop(self) -> None:
        """Drop what still comes: Twisted hands over the rest of what it has read."""
        self._stopped = True

    def dataReceived(self, data: bytes) -> None:
        if self._stopped:
            return
        self._time_limit.renew()
        self._receiver.chunk_received(data)

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        self.transport = None
        self._on_ended(self._receiver, reason)

    def begun(self) -> None:
        """Repeat a pause made during ``deliverBody``, which ends by resuming."""
        if self._paused:
            self.pause()

    def pause(self) -> None:
        self._paused = True
        if self.transport is not None:
            self.transport.pauseProducing()  # type: ignore[attr-defined]

    def resume(self) -> None:
        self._paused = False
        if self.transport is not None:
            self.transport.resumeProducing()  # type: ignore[attr-defined]


class _Collected:
    """A small body, kept in memory."""

    def __init__(self, exchange: Exchange, limit: int) -> None:
        self._exchange = exchange
        self._limit = limit
        self._size = 0
        self._parts: list[bytes] | None = []
        self.done: Deferred[bytes] = Deferred(self._cancelled)

    def _cancelled(self, _done: Deferred[bytes]) -> None:
        self._parts = None
        self._exchange.close()

    def chunk_received(self, data: bytes) -> None:
        if self._parts is None:
            return
        self._parts.append(data)
        self._size += len(data)
        if self._size > self._limit:
            self.body_ended(None)
            self._exchange.close()

    def body_ended(self, error: SwiftError | None) -> None:
        parts, self._parts = self._parts, None
        if parts is None:
            return
        if error is not None:
            self.done.errback(error)
        else:
            self.done.callback(b"".join(parts))
