"""Relays one client connection to its server, and carries out the faults on the way.

A client connection has at most one connection to the server, made when the
first request needs it. Requests are relayed one after the other: a pipelined
one waits until the exchange before it is over.
"""

from __future__ import annotations

import fcntl
import struct
import termios
from dataclasses import dataclass

from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.error import ConnectionDone
from twisted.internet.protocol import Protocol

from tests.servers import faults
from tests.servers.framing import End, FramingError, Head, Parser, Payload, Piece, Wrapping
from tests.servers.hangup import HangupWatch
from tests.servers.pipe import TURN, Pipe

_FLUSH_POLL_SECONDS = 0.002
#: Between two pieces of a body that crawls.
_STEP_SECONDS = 0.25


@dataclass
class Seen:
    """A request as the proxy saw it.

    :param headers: names in lower case.
    :param status: the server's answer, even if a fault kept it from the client;
        ``None`` if there was none.
    :param connection: the client connection's number, from 1.
    """

    method: str
    path: str
    headers: dict[str, str]
    connection: int
    status: int | None = None
    #: Bytes of payload relayed, or read in the case of a canned answer.
    request_bytes: int = 0
    response_bytes: int = 0


class Exchange:
    """One request and its response, in flight."""

    def __init__(self, seen: Seen, fault: faults.Fault | None) -> None:
        self.seen = seen
        self.fault = fault
        self.canned = isinstance(fault, faults.Answer)
        self.place = None if isinstance(fault, faults.FlipBit) else getattr(fault, "place", None)
        self.answering = False
        self.request_done = False
        self.response_done = False

    @property
    def step_bytes(self) -> int | None:
        """The most bytes in one piece of a body that crawls; ``None`` if it does not."""
        fault = self.fault
        if not isinstance(fault, faults.Crawl) or not fault.crawling:
            return None
        return max(1, int(fault.bytes_per_second * _STEP_SECONDS))


class Relay:
    """One client connection.

    :param proxy: keeps the records, and gives each request its fault.
    :param front: the protocol of the client's connection, connected.
    """

    def __init__(self, proxy, front: Protocol, number: int) -> None:
        self._proxy = proxy
        self._reactor = proxy.reactor
        self._front = front
        # With TLS the transport wraps the socket's own.
        self._socket = front.transport.transport if proxy.tls else front.transport
        self._number = number
        self._requests = 0
        self._exchange: Exchange | None = None
        self._interim = False
        self._over = False
        self._client_gone = False
        self._dropped = False
        self._lost_target: bool | None = None
        self._connecting = None
        self.back: Protocol | None = None
        self._timers: set = set()
        self._watch: HangupWatch | None = None
        self._watching = (False, False)
        self._stalled = False
        self._request = Pipe(Parser(), self._on_request, self._request_limit, self._moved)
        self._response = Pipe(
            Parser(self._method), self._on_response, self._response_limit, self._moved
        )
        self._request.attach(front.transport)
        front.transport.registerProducer(self._response, True)

    # What comes in

    def from_client(self, data: bytes) -> None:
        """Bytes of requests."""
        self._feed(self._request, data)

    def from_target(self, data: bytes) -> None:
        """Bytes of responses."""
        self._feed(self._response, data)

    def _feed(self, pipe: Pipe, data: bytes) -> None:
        if self._over:
            return
        try:
            pipe.feed(data)
        except FramingError:
            self.abort()

    def client_lost(self, clean: bool) -> None:
        """The client's connection is gone."""
        self._over = self._client_gone = True
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()
        self._request.attach(None)
        if self._watch is not None:
            self._watch.stop()
        self._drop_target(clean)
        self._end_exchange()

    def target_made(self, back: Protocol) -> None:
        """The connection to the server is there."""
        self.back = back
        self._proxy.target_connections_open += 1
        self._connecting = None
        back.transport.registerProducer(self._request, True)
        self._response.attach(back.transport)
        self._request.release("connecting")

    def _target_failed(self, _failure) -> None:
        self._connecting = None
        if not self._over:
            self.abort()

    def target_lost(self, clean: bool) -> None:
        """The server has ended its connection: the client sees the same, after the rest."""
        self.back = None
        self._response.attach(None)
        self._proxy.target_closed()
        if self._over or (self._exchange is not None and self._exchange.canned):
            return
        self._lost_target = clean
        self._response.parser.close()
        self._response.pump()

    def _moved(self) -> None:
        self._set_watch()
        if self._lost_target is None or self._over or not self._response.empty:
            return
        self._over = True
        if self._lost_target:
            self._close()
        else:
            self._when_flushed(self.abort)

    # Requests

    def _method(self) -> str:
        return self._exchange.seen.method if self._exchange else ""

    def _on_request(self, piece: Piece) -> None:
        if self._over:
            return
        if isinstance(piece, Head) and self._exchange is None:
            self._begin(piece)
        exchange = self._exchange
        if self._over or exchange is None:
            return
        if exchange.canned:
            self._swallow(piece)
        elif self.back is None or self._request.held:
            self._request.put_back(piece)
            if self.back is None and self._connecting is None:
                self._connect()
        else:
            self._forward(piece)

    def _begin(self, head: Head) -> None:
        method, path, _ = head.words
        seen = Seen(method, path, head.headers, self._number)
        self._requests += 1
        fault = self._proxy.begin(seen, first=self._requests == 1)
        self._exchange = Exchange(seen, fault)
        self._reach(faults.ON_REQUEST)

    def _forward(self, piece: Piece) -> None:
        exchange, raw = self._exchange, piece.raw
        if isinstance(piece, Payload):
            raw = self._damaged(faults.REQUEST_BODY, exchange.seen.request_bytes, raw)
            exchange.seen.request_bytes += len(raw)
            self._step(self._request)
        if raw:
            self._proxy.bytes_to_target += len(raw)
            self.back.transport.write(raw)
        if isinstance(piece, (Head, Payload)):
            self._reach(faults.in_request(exchange.seen.request_bytes))
        if isinstance(piece, End):
            exchange.request_done = True
            self._settle()

    def _connect(self) -> None:
        self._request.hold("connecting")
        endpoint = TCP4ClientEndpoint(self._reactor, *self._proxy.target, timeout=10)
        self._connecting = connectProtocol(endpoint, _Back(self))
        self._connecting.addErrback(self._target_failed)

    # Responses

    def _on_response(self, piece: Piece) -> None:
        exchange = self._exchange
        if self._over:
            return
        if exchange is None or self._interim or (isinstance(piece, Head) and piece.interim):
            # 1xx, or a server that speaks unasked (408): none of a fault's business.
            self._interim = isinstance(piece, Head) and piece.interim
            self._to_client(piece.raw)
        elif isinstance(piece, Head):
            self._answer_head(piece)
        elif isinstance(piece, End):
            self._reach(faults.AFTER_RESPONSE)
            exchange.response_done = True
            self._settle()
        else:
            self._answer_part(piece)

    def _answer_head(self, head: Head) -> None:
        exchange = self._exchange
        if not exchange.answering:
            exchange.answering = True
            exchange.seen.status = int(head.words[1])
            self._reach(faults.BEFORE_RESPONSE)
            if self._over:
                return
            if self._response.held:
                self._response.put_back(head)
                return
        if exchange.place == faults.AFTER_STATUS_LINE:
            line, _, rest = head.raw.partition(b"\r\n")
            self._response.put_back(Wrapping(rest))
            self._to_client(line + b"\r\n")
            self._reach(faults.AFTER_STATUS_LINE)
            return
        self._to_client(head.raw)
        self._reach(faults.in_response(0))

    def _answer_part(self, piece: Piece) -> None:
        exchange, raw = self._exchange, piece.raw
        if not isinstance(piece, Payload):
            self._to_client(raw)
            return
        raw = self._damaged(faults.RESPONSE_BODY, exchange.seen.response_bytes, raw)
        exchange.seen.response_bytes += len(raw)
        self._to_client(raw)
        self._step(self._response)
        self._reach(faults.in_response(exchange.seen.response_bytes))

    def _to_client(self, raw: bytes) -> None:
        if raw:
            self._proxy.bytes_to_client += len(raw)
            self._front.transport.write(raw)

    # Canned answers

    def _swallow(self, piece: Piece) -> None:
        exchange, fault = self._exchange, self._exchange.fault
        if isinstance(piece, Head) and fault.after != 0 and "expect" in piece.headers:
            self._to_client(b"HTTP/1.1 100 Continue\r\n\r\n")
        if isinstance(piece, Payload):
            exchange.seen.request_bytes += len(piece.raw)
        if isinstance(piece, End):
            exchange.request_done = True
        enough = fault.after is not None and exchange.seen.request_bytes >= fault.after
        if not exchange.answering and (enough or exchange.request_done):
            exchange.answering = True
            self._send_answer(fault)
        elif exchange.request_done:
            self._settle()

    def _send_answer(self, fault: faults.Answer) -> None:
        head, body = fault.parts(self._exchange.seen.method)
        self._exchange.seen.status = fault.status
        if fault.then is faults.Then.STOP_READING:
            self._hold(self._request, "answered")
        if fault.body_delay is None:
            self._answered(fault, head + body)
        else:
            self._to_client(head)
            self._later(fault.body_delay, self._answered, fault, body)

    def _answered(self, fault: faults.Answer, last: bytes) -> None:
        self._to_client(last)
        self._exchange.response_done = True
        if fault.then is faults.Then.CLOSE:
            self._over = True
            self._end_exchange()
            self._close()
        else:
            self._settle()
        fault.count()

    # Faults

    def _request_limit(self) -> int | None:
        exchange = self._exchange
        if exchange is not None and exchange.canned:
            return _distance(exchange.fault.after, exchange.seen.request_bytes)
        return self._limit(faults.REQUEST_BODY, exchange and exchange.seen.request_bytes)

    def _response_limit(self) -> int | None:
        exchange = self._exchange
        return self._limit(faults.RESPONSE_BODY, exchange and exchange.seen.response_bytes)

    def _limit(self, body: str, offset: int | None) -> int | None:
        if self._exchange is not None and self._exchange.step_bytes is not None:
            return self._exchange.step_bytes
        place = self._exchange.place if self._exchange else None
        if place is None or place.name != body:
            return None
        return _distance(place.offset, offset)

    def _damaged(self, body: str, start: int, data: bytes) -> bytes:
        fault = self._exchange.fault
        return fault.damage(body, start, data) if isinstance(fault, faults.FlipBit) else data

    def _reach(self, place: faults.Place) -> None:
        exchange = self._exchange
        if exchange.place != place:
            return
        exchange.place = None
        fault = exchange.fault
        asked = place.name in (faults.ON_REQUEST.name, faults.REQUEST_BODY)
        pipe = self._request if asked else self._response
        if isinstance(fault, faults.Stall):
            self._hold(pipe, "fault")
            fault.hold(lambda: self._release(pipe))
        elif isinstance(fault, faults.Delay):
            pipe.hold("fault")
            self._later(fault.seconds, self._release, pipe)
        elif isinstance(fault, faults.Cut):
            self._cut(fault.close_notify)
        else:
            self._end_relay()
            self._when_flushed(self.abort)
        fault.count()

    def _step(self, pipe: Pipe) -> None:
        """Wait with the next piece if the exchange crawls."""
        if self._exchange.step_bytes is not None:
            pipe.hold("fault")
            self._later(_STEP_SECONDS, self._release, pipe)

    def _hold(self, pipe: Pipe, why: str) -> None:
        self._stalled = True
        pipe.hold(why)
        self._set_watch()

    def _release(self, pipe: Pipe) -> None:
        if not self._over:
            self._stalled = False
            pipe.release("fault")

    def _cut(self, close_notify: bool) -> None:
        self._end_relay()
        if not self._proxy.tls:
            # Only our side is ended, and what still comes is read and dropped: a
            # full close would turn into RST as soon as a byte is left unread.
            self._socket.loseWriteConnection()
        elif close_notify:
            self._front.transport.loseConnection()
        else:
            self._when_flushed(self._socket.loseWriteConnection)

    def _end_relay(self) -> None:
        """Nothing more is relayed; what was, still reaches both sides."""
        self._over = True
        self._drop_target(clean=True)
        self._front.transport.unregisterProducer()
        self._request.discard()
        self._end_exchange()

    # Ends

    def _settle(self) -> None:
        exchange = self._exchange
        if exchange is None or not exchange.request_done:
            return
        if not exchange.response_done:
            self._request.hold(TURN)
            return
        self._end_exchange()
        self._request.release(TURN)

    def _end_exchange(self) -> None:
        if self._exchange is not None:
            self._exchange = None
            self._proxy.end()

    def _drop_target(self, clean: bool) -> None:
        if self._connecting is not None:
            self._connecting.cancel()
        if self.back is None or self._dropped:
            return
        self._dropped = True
        self.back.transport.unregisterProducer()
        if clean:
            self.back.transport.loseConnection()
        else:
            self.back.transport.abortConnection()

    def _close(self) -> None:
        self._front.transport.unregisterProducer()
        self._front.transport.loseConnection()

    def abort(self) -> None:
        """Resets the client's connection at once, whatever is still to be sent."""
        self._over = True
        self._socket.abortConnection()

    @property
    def gone(self) -> bool:
        """Whether both connections are."""
        return self._client_gone and self.back is None

    def abort_target(self) -> None:
        """Resets the server's connection at once."""
        if self.back is not None:
            self.back.transport.abortConnection()

    @property
    def idle(self) -> bool:
        """Whether no exchange is in flight."""
        return self._exchange is None and not self._over

    def close_idle(self) -> None:
        """Ends the connection (FIN) as a server does that has waited long enough."""
        if self.idle:
            self._end_relay()
            self._front.transport.loseConnection()

    def _when_flushed(self, then) -> None:
        """Calls when the peer's kernel has all that was written.

        A reset throws away what is still in our buffer or in our kernel's.
        With TLS small writes are gathered until the reactor's next turn, so
        the first look is taken later in any case.
        """

        def look() -> None:
            if _unsent(self._socket):
                self._later(_FLUSH_POLL_SECONDS, look)
            else:
                then()

        self._later(_FLUSH_POLL_SECONDS, look)

    def _later(self, seconds: float, function, *args) -> None:
        def run() -> None:
            self._timers.discard(timer)
            function(*args)

        timer = self._reactor.callLater(seconds, run)
        self._timers.add(timer)

    def _set_watch(self) -> None:
        """Looks out for a client that leaves while it is not read from.

        A stalled client that ends its side has given up; one that is held by a
        slow server may have sent all it had and half-closed.
        """
        wanted = (self._request.paused and not self._over, self._stalled)
        if wanted == self._watching:
            return
        self._watching = wanted
        if self._watch is not None:
            self._watch.stop()
            self._watch = None
        if wanted[0]:
            self._watch = HangupWatch(self._reactor, self._socket.fileno(), self.abort, wanted[1])


class _Back(Protocol):
    """The connection to the server."""

    def __init__(self, relay: Relay) -> None:
        self._relay = relay

    def connectionMade(self) -> None:
        self._relay.target_made(self)

    def dataReceived(self, data: bytes) -> None:
        self._relay.from_target(data)

    def connectionLost(self, reason) -> None:
        self._relay.target_lost(bool(reason.check(ConnectionDone)))


def _distance(place: int | None, offset: int) -> int | None:
    """Bytes from here to the place; ``None`` if it is behind, here, or nowhere."""
    return place - offset if place is not None and place > offset else None


def _unsent(transport) -> int:
    """Bytes written to a TCP transport that the peer's kernel has not acknowledged."""
    waiting = len(transport.dataBuffer) - transport.offset + transport._tempDataLen
    answer = fcntl.ioctl(transport.fileno(), termios.TIOCOUTQ, struct.pack("i", 0))
    return waiting + struct.unpack("i", answer)[0]
