"""A small HTTP proxy as companies have them: absolute-URI requests and CONNECT, recorded.

Owns the way to whatever host a client names. It can ask for a password. TLS
inside a CONNECT tunnel is passed on unseen.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from urllib.parse import urlsplit

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, connectProtocol
from twisted.internet.protocol import Factory, Protocol

from tests.servers.framing import FramingError, Head, Parser
from tests.servers.pipe import Pipe

_TUNNEL_READY = b"HTTP/1.1 200 Connection established\r\n\r\n"
_NO_WAY = b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
_SIGN_IN = (
    b"HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm=test\r\n"
    b"Content-Length: 0\r\nConnection: close\r\n\r\n"
)
#: Headers between client and proxy only (RFC 9110, section 7.6.1).
_HOP_HEADERS = (b"proxy-authorization", b"proxy-connection")


@dataclass(frozen=True)
class Passed:
    """A request that came in.

    :param target: the request line's second word: an absolute URI, or host and port.
    :param headers: names in lower case.
    """

    method: str
    target: str
    headers: dict[str, str]


class ForwardProxy:
    """Listens on 127.0.0.1.

    :param user_and_password: ``user:password`` to ask for; ``None`` to let all in.
    """

    def __init__(self, reactor, user_and_password: str | None = None) -> None:
        self.reactor = reactor
        self.port = 0
        self.passed: list[Passed] = []
        self.tunnel_bytes = 0
        self._wanted = None
        if user_and_password is not None:
            self._wanted = "Basic " + base64.b64encode(user_and_password.encode()).decode()
        self._listening = None
        self._open: set[Protocol] = set()
        self._emptied: Deferred[None] | None = None

    @property
    def url(self) -> str:
        """As it is written into ``http_proxy``, without user and password."""
        return f"http://127.0.0.1:{self.port}"

    async def start(self) -> None:
        """Begins to listen."""
        factory = Factory.forProtocol(lambda: _Client(self))
        factory.noisy = False
        self._listening = self.reactor.listenTCP(0, factory, interface="127.0.0.1")
        self.port = self._listening.getHost().port

    async def stop(self) -> None:
        """Ends the port and all connections."""
        await self._listening.stopListening()
        if self._open:
            self._emptied = Deferred()
            for side in list(self._open):
                side.transport.abortConnection()
            await self._emptied

    def admits(self, headers: dict[str, str]) -> bool:
        """Whether the request has the password, if one is asked for."""
        return self._wanted is None or headers.get("proxy-authorization") == self._wanted

    def opened(self, side: Protocol) -> None:
        """One side of a connection is there."""
        self._open.add(side)

    def closed(self, side: Protocol) -> None:
        """One side of a connection is gone."""
        self._open.discard(side)
        if self._emptied is not None and not self._open:
            self._emptied.callback(None)


class _Client(Protocol):
    """A client's connection, to one host at a time."""

    def __init__(self, proxy: ForwardProxy) -> None:
        self._proxy = proxy
        self._place: tuple[str, int] | None = None
        self._far: _Far | None = None
        self._tunnel = False
        self._connecting: Deferred | None = None

    def connectionMade(self) -> None:
        self._proxy.opened(self)
        self._pipe = Pipe(Parser(), self._piece, lambda: None, lambda: None)
        self._pipe.attach(self.transport)

    def dataReceived(self, data: bytes) -> None:
        if self._tunnel:
            self._proxy.tunnel_bytes += len(data)
            self._far.transport.write(data)
            return
        try:
            self._pipe.feed(data)
        except FramingError:
            self.transport.abortConnection()

    def _piece(self, piece) -> None:
        if isinstance(piece, Head):
            self._head(piece)
        elif piece.raw:
            self._far.transport.write(piece.raw)

    def _head(self, head: Head) -> None:
        method, target, _ = head.words
        if self._connecting is None:
            self._proxy.passed.append(Passed(method, target, head.headers))
            if not self._proxy.admits(head.headers):
                self._refuse(_SIGN_IN)
                return
            place = _place_of(method, target)
            if place != self._place:
                self._connect(place, head)
                return
        self._connecting = None
        if method == "CONNECT":
            self._tunnel = True
            self.transport.write(_TUNNEL_READY)
        else:
            self._far.transport.write(_origin_form(head))

    def _connect(self, place: tuple[str, int], head: Head) -> None:
        if self._far is not None:
            self._far.leave()
        self._place = place
        self._pipe.put_back(head)
        self._pipe.hold("connecting")
        endpoint = HostnameEndpoint(self._proxy.reactor, *place)
        self._connecting = connectProtocol(endpoint, _Far(self._proxy, self))
        self._connecting.addCallbacks(self._connected, lambda _: self._refuse(_NO_WAY))

    def _connected(self, far: _Far) -> None:
        self._far = far
        # Each side is the other's producer: who is slow slows the other down.
        self.transport.registerProducer(far.transport, True)
        far.transport.registerProducer(self.transport, True)
        self._pipe.release("connecting")

    def _refuse(self, answer: bytes) -> None:
        self._pipe.hold("refused")
        self.transport.write(answer)
        self.transport.loseConnection()

    def far_lost(self) -> None:
        """The host has ended its connection."""
        self.transport.unregisterProducer()
        self.transport.loseConnection()

    def connectionLost(self, _reason) -> None:
        self._pipe.hold("gone")
        if self._connecting is not None:
            self._connecting.cancel()
        if self._far is not None:
            self._far.leave()
        self._proxy.closed(self)


class _Far(Protocol):
    """The connection to the host."""

    def __init__(self, proxy: ForwardProxy, client: _Client) -> None:
        self._proxy = proxy
        self._client: _Client | None = client

    def connectionMade(self) -> None:
        self._proxy.opened(self)

    def dataReceived(self, data: bytes) -> None:
        if self._client is not None:
            self._client.transport.write(data)

    def leave(self) -> None:
        """The client is gone, or wants another host."""
        client, self._client = self._client, None
        if client is not None:
            client.transport.unregisterProducer()
            self.transport.unregisterProducer()
            self.transport.loseConnection()

    def connectionLost(self, _reason) -> None:
        client, self._client = self._client, None
        if client is not None:
            client.far_lost()
        self._proxy.closed(self)


def _place_of(method: str, target: str) -> tuple[str, int]:
    if method == "CONNECT":
        target = "//" + target
    parts = urlsplit(target)
    return parts.hostname or "", parts.port or 80


def _origin_form(head: Head) -> bytes:
    """The same head as a server without a proxy in front would get it."""
    method, target, version = head.words
    # Cut, not parsed and joined again: a path may begin with two slashes.
    path = "/" + target.partition("://")[2].partition("/")[2]
    lines = [f"{method} {path} {version}".encode("iso-8859-1")]
    for line in head.raw[:-4].split(b"\r\n")[1:]:
        if line.split(b":")[0].strip().lower() not in _HOP_HEADERS:
            lines.append(line)
    return b"\r\n".join([*lines, b"", b""])
