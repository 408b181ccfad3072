"""One request, its answer, and the connection and slot they take.

This is our own ``IAgent``: treq builds the request on top of it, Twisted's
``Agent`` speaks HTTP below it. In between it

* knows the connection's real transport, the only thing that can abort reliably
  (``loseConnection`` does not with TLS while a body is under way);
* keeps the time limits, which neither treq nor Twisted has beyond connecting;
* asks for ``identity`` in place of treq's ``gzip`` and hides the answer's
  ``Content-Encoding``, so that bytes arrive as they are stored;
* keeps reading while a body is sent, so that an early answer is seen;
* turns what Twisted raises into this project's errors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from hyperlink import EncodedURL
from OpenSSL import SSL
from service_identity import VerificationError
from treq.client import HTTPClient
from twisted.internet import error as network
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import Protocol as TwistedProtocol
from twisted.python.failure import Failure
from twisted.web.client import ResponseDone
from twisted.web.http_headers import Headers
from twisted.web.iweb import UNKNOWN_LENGTH, IAgent, IBodyProducer
from zope.interface import implementer

from swift_provider.client.bodies import Body
from swift_provider.client.http.proxies import TunnelRefusedError
from swift_provider.client.http.tls import tls_reason
from swift_provider.client.http.transport import Transport
from swift_provider.client.http.watchdog import Watchdog
from swift_provider.client.slots import Lease
from swift_provider.errors import (
    ConnectionFailedError,
    SwiftError,
    SwiftProviderError,
    TimedOutError,
    UntrustedServerError,
)

#: Twisted stops reading once an early answer's headers are in; see :meth:`Exchange._keep_reading`.
KEEP_READING_SECONDS = 0.05


@dataclass(frozen=True)
class Target:
    """What an exchange is about, for its errors."""

    operation: str
    container: str | None
    name: str | None

    def error(self, kind: type[SwiftError], reason: str, **details: Any) -> SwiftError:
        """An error of this kind about this target."""
        return kind(
            reason,
            operation=self.operation,
            container=self.container,
            name=self.name,
            **details,
        )


class Receiver(Protocol):
    """Who takes an answer's body; see :meth:`Exchange.stream`."""

    def chunk_received(self, data: bytes) -> None:
        """A piece of the body."""

    def body_ended(self, error: SwiftError | None) -> None:
        """Nothing more follows: the body is at its end (``None``), or broke."""


class _View:
    """A connection pool as ``Agent`` sees it: gives out connections to one exchange."""

    persistent = True

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    def getConnection(self, key: Any, endpoint: IStreamClientEndpoint) -> Deferred[_Link]:
        exchange = self._exchange
        connecting: Deferred[Any] = exchange.transport.connection(key, endpoint)
        return connecting.addCallback(lambda connection: _Link(exchange, connection))


class _Link:
    """A connection which tells the exchange about its transport."""

    def __init__(self, exchange: Exchange, connection: Any) -> None:
        self._exchange = exchange
        self._connection = connection

    def request(self, request: Any) -> Deferred[Any]:
        self._exchange.connected(self._connection)
        answer: Deferred[Any] = self._connection.request(request)
        return answer


@implementer(IAgent)
class Exchange:
    """One request and its answer. Call :meth:`close` in any case; it may be called again.

    :param lease: the slot that this exchange holds; given back by :meth:`close`.
    :ivar status: HTTP status, once :meth:`send` has returned.
    :ivar headers: the answer's headers, likewise.
    :ivar length: bytes of the answer's body, likewise; ``None`` if it does not say.
    :ivar reused: the connection had carried another exchange before.
    :ivar answered: the answer's headers have come.
    """

    def __init__(
        self,
        transport: Transport,
        lease: Lease,
        target: Target,
        on_sent: Callable[[int], None],
    ) -> None:
        self._on_sent = on_sent
        self.transport = transport
        self.target = target
        self.reused = False
        self.answered = False
        self._lease = lease
        self._watchdog = Watchdog(transport.reactor, self._limit_passed)
        self._keeping: Any = None
        self._wire: Any = None
        self._body: Body | None = None
        self._sending: Deferred[Any] | None = None
        self._why: str | None = None
        self._stream: _Stream | None = None
        self._whole = False
        self._closed = False

    # The request

    async def send(
        self, method: str, url: bytes, headers: Headers, body: Body | None = None
    ) -> None:
        """Send a request and wait for the answer's headers.

        :param url: percent-encoded.
        :param body: a body made for this attempt; ``None`` for none.
        :raises SwiftError: if no answer came.
        :raises FileChangedError: from the body.
        """
        self._body = body
        limits = self.transport.limits
        self._watchdog.watch(limits.connect, "no connection was made")
        try:
            self._sending = HTTPClient(self).request(
                method,
                _ReadyURL(url),
                headers=headers,
                data=body,  # type: ignore[arg-type]  # each body provides IBodyProducer
                unbuffered=True,
                allow_redirects=False,
                reactor=self.transport.reactor,
            )
            self._response = await self._sending
        except Exception as error:
            raise self._translated(error) from None
        finally:
            self._sending = None
            self._watchdog.rest()
        self.answered = True
        self.status: int = self._response.code
        self.headers: Headers = self._response.headers
        length = self._response.length
        self.length: int | None = None if length is UNKNOWN_LENGTH else length

    def request(
        self,
        method: bytes,
        uri: bytes,
        headers: Headers | None = None,
        bodyProducer: IBodyProducer | None = None,
    ) -> Deferred[Any]:
        """``IAgent``: called by treq, with the headers as treq wants them."""
        assert headers is not None
        headers.setRawHeaders(b"Accept-Encoding", [b"identity"])
        agent = self.transport.agent(uri, _View(self))
        answer: Deferred[Any] = agent.request(method, uri, headers, bodyProducer)
        return answer.addCallback(_hide_encoding)

    def connected(self, connection: Any) -> None:
        """A connection is there, and the request is about to be written to it."""
        self._wire = wire = connection.transport
        self.reused = getattr(connection, "carried_an_exchange", False)
        connection.carried_an_exchange = True
        if not self.reused:
            self.transport.tune(wire)
        limits = self.transport.limits
        body = self._body
        if body is None or body.length == 0:
            self._watchdog.watch(limits.response, "no answer came")
            return
        self._watchdog.watch(limits.idle, "no byte could be sent")
        body.on_progress = self._sent
        self._keeping = self.transport.reactor.callLater(KEEP_READING_SECONDS, self._keep_reading)

    def _sent(self, count: int) -> None:
        self._on_sent(count)
        assert self._body is not None
        if self._body.finished:
            self._watchdog.watch(self.transport.limits.response, "no answer came")
        else:
            self._watchdog.renew()

    def _keep_reading(self) -> None:
        """Go on reading while a body is sent.

        Having parsed an early answer's headers, Twisted stops reading until the
        request is written; if the server has stopped reading too, that is never.
        """
        self._keeping = None
        if self._sending is not None and self._body is not None and not self._body.finished:
            self._wire.resumeProducing()
            self._keeping = self.transport.reactor.callLater(
                KEEP_READING_SECONDS, self._keep_reading
            )

    # The answer

    def stream(self, receiver: Receiver) -> None:
        """Hand the answer's body to ``receiver`` as it comes. Call once."""
        self._stream = stream = _Stream(self, receiver)
        self._watchdog.watch(self.transport.limits.idle, "the body fell silent")
        self._response.deliverBody(stream)
        stream.begun()

    async def read(self, limit: int) -> bytes:
        """The answer's body.

        :param limit: bytes after which the rest is not waited for.
        :raises SwiftError: if the body broke off.
        """
        collected = _Collected(self, limit)
        self.stream(collected)
        return await collected.done

    def pause(self) -> None:
        """Stop reading from the connection; silence is allowed from now on."""
        if self._stream is not None:
            self._watchdog.rest()
            self._stream.pause()

    def resume(self) -> None:
        """Read on."""
        if self._stream is not None and not self._closed:
            self._watchdog.watch(self.transport.limits.idle, "the body fell silent")
            self._stream.resume()

    def moved(self) -> None:
        """A piece of the body came."""
        self._watchdog.renew()

    def ended(self, receiver: Receiver, reason: Failure) -> None:
        """The body is over, one way or another."""
        self._watchdog.rest()
        self._stream = None
        if self._closed:
            return  # by the receiver itself, which knows
        if reason.check(ResponseDone):
            self._whole = True
            receiver.body_ended(None)
        else:
            assert reason.value is not None
            error = self._translated(reason.value)
            if not isinstance(error, SwiftError):
                error = self.target.error(ConnectionFailedError, "the connection was lost")
            receiver.body_ended(error)

    # The end

    def close(self) -> None:
        """Give the slot back; abort the connection unless the exchange is complete."""
        if self._closed:
            return
        self._closed = True
        self._watchdog.stop()
        if self._keeping is not None:
            self._keeping.cancel()
            self._keeping = None
        body_is_over = self._body is None or self._body.finished
        if self._wire is not None and not (self._whole and body_is_over):
            self._wire.abortConnection()
        if not body_is_over:
            self._body.stopProducing()  # type: ignore[union-attr]
        self._wire = None
        self._lease.release()

    def abort_after(self) -> None:
        """Do not use this connection again, though the answer was complete."""
        self._whole = False

    def _limit_passed(self, why: str) -> None:
        self._why = why
        if self._sending is not None:
            self._sending.cancel()
        elif self._wire is not None:
            self._wire.abortConnection()

    def _translated(self, error: BaseException) -> BaseException:
        """What Twisted raised, in our words."""
        if self._why is not None:
            return self.target.error(TimedOutError, self._why)
        reasons = list(_reasons(error))
        for reason in reasons:
            if isinstance(reason, (CancelledError, network.ConnectingCancelledError)):
                return CancelledError()
            if isinstance(reason, (network.ConnectError, network.DNSLookupError)):
                return self._not_connected(reason)
            if isinstance(reason, (SwiftProviderError, OSError)):
                return reason  # from the body: an OSError is the local file's
        for reason in reasons:
            # Once TLS is agreed on, its errors are those of a broken line.
            if isinstance(reason, (SSL.Error, VerificationError)) and not self.answered:
                return self.target.error(UntrustedServerError, tls_reason(reason))
        where = "in the middle of its answer" if self.answered else "before it answered"
        return self.target.error(ConnectionFailedError, f"Swift closed the connection {where}")

    def _not_connected(self, reason: BaseException) -> SwiftError:
        kind = TimedOutError if isinstance(reason, network.TimeoutError) else ConnectionFailedError
        return self.target.error(kind, f"cannot connect: {_connect_reason(reason)}")


class _Stream(TwistedProtocol):
    """Between Twisted's body delivery and a :class:`Receiver`."""

    def __init__(self, exchange: Exchange, receiver: Receiver) -> None:
        self._exchange = exchange
        self._receiver = receiver
        self._paused = False

    def dataReceived(self, data: bytes) -> None:
        self._exchange.moved()
        self._receiver.chunk_received(data)

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        self.transport = None
        self._exchange.ended(self._receiver, reason)

    def begun(self) -> None:
        """Pause again what paused during ``deliverBody``, which ends by resuming."""
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


class _ReadyURL(EncodedURL):
    """A URL that needs no more encoding, in the form in which treq asks for it.

    Taking a URL apart, checking its host's name and putting it together again is
    about a fifth of a small request's processor time, and comes to the same bytes.
    """

    def __init__(self, url: bytes) -> None:
        self._text = url.decode("ascii")

    def to_uri(self) -> _ReadyURL:
        """Itself."""
        return self

    def to_text(self, with_password: bool = False) -> str:
        """As it was given."""
        return self._text


def _hide_encoding(response: Any) -> Any:
    """Twisted's ``Content-Encoding`` handling, which treq uses, must not see one."""
    response.headers.removeHeader(b"Content-Encoding")
    return response


def _reasons(error: BaseException) -> Iterator[BaseException]:
    """An error and those it wraps, as Twisted's request failures do."""
    yield error
    for failure in getattr(error, "reasons", ()):
        yield from _reasons(failure.value)


def _connect_reason(error: BaseException) -> str:
    if isinstance(error, TunnelRefusedError):
        return str(error)
    if isinstance(error, network.ConnectionRefusedError):
        return "connection refused"
    if isinstance(error, network.DNSLookupError):
        return "no such host"
    if isinstance(error, network.TimeoutError):
        return "no answer in time"
    return "network error"
