"""Reaching Swift through an HTTP proxy.

``http_proxy``, ``https_proxy``, ``all_proxy`` and ``no_proxy`` are read by the function
of ``requests`` that keystoneauth1 uses for Keystone, so that Swift and Keystone are
reached in the same way. For https the proxy is asked for a tunnel (RFC 9110 section
9.3.6, CONNECT), and TLS runs inside it, end to end.
"""

from __future__ import annotations

import base64
import os
import re
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

from requests.utils import get_environ_proxies, select_proxy
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectError
from twisted.internet.interfaces import (
    IAddress,
    IProtocol,
    IProtocolFactory,
    IStreamClientEndpoint,
    ITCPTransport,
)
from twisted.internet.protocol import Factory, Protocol
from twisted.python.failure import Failure
from zope.interface import implementer

from swift_provider.client.http.tls_records import Below
from swift_provider.client.secrets_hidden import clean, header_secrets
from swift_provider.errors import ConfigError

_LONGEST_ANSWER_BYTES = 16 * 1024

#: What a proxy may send in a tunnel that it has opened, if it cannot reach the host after
#: all. TLS never begins like this.
_BUSY = re.compile(rb"HTTP/1\.[01] (?:5\d\d|408|429)")
_LONGEST_STATUS_BYTES = 100


@dataclass(frozen=True)
class Proxy:
    """Where the proxy is, and how to authenticate to it.

    :ivar authorization: value of ``Proxy-Authorization``; ``None`` if the URL names no user.
    """

    host: str
    port: int
    authorization: bytes | None = field(default=None, repr=False)


def proxy_for(url: str) -> Proxy | None:
    """The proxy that the environment names for this URL; ``None`` for a direct connection.

    :raises ConfigError: if it is malformed, or not an ``http://`` proxy.
    """
    chosen = select_proxy(url, get_environ_proxies(url))
    if not chosen:
        return None
    try:
        parts = urlsplit(chosen if "://" in chosen else f"http://{chosen}")
        port = parts.port
        (parts.hostname or "").encode("idna")
    except ValueError:  # not chained: it quotes the URL
        raise ConfigError(
            f"{_variable(url, chosen)} is not a URL like http://user:password@host:port: write "
            "'/' as %2F, '@' as %40 and ':' as %3A in its user and password, and check its port"
        ) from None
    if parts.scheme != "http" or not parts.hostname:
        raise ConfigError(
            f"the proxy for {urlsplit(url).scheme} in the environment must be "
            f"http://host:port, not {parts.scheme}://…"
        )
    authorization = None
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        authorization = b"Basic " + base64.b64encode(pair.encode())
    return Proxy(parts.hostname, port or 80, authorization)


def _variable(url: str, chosen: str) -> str:
    """The name of the environment variable that holds a proxy's URL."""
    scheme = urlsplit(url).scheme
    names = [f"{scheme}_proxy", f"{scheme}_proxy".upper(), "all_proxy", "ALL_PROXY"]
    return next((name for name in names if os.environ.get(name) == chosen), names[0])


class TunnelRefusedError(ConnectError):
    """The proxy did not open the tunnel."""

    def __init__(self, reason: str) -> None:
        super().__init__(string=f"the proxy opened no tunnel: {reason}")  # type: ignore[no-untyped-call]


@implementer(IStreamClientEndpoint)
class TunnelEndpoint:
    """Connects to a host through a proxy's tunnel.

    :param proxy_endpoint: how to reach the proxy.
    :param host: the host to reach through it.
    :param port: its port.
    """

    def __init__(
        self, proxy: Proxy, proxy_endpoint: IStreamClientEndpoint, host: str, port: int
    ) -> None:
        self._proxy = proxy
        self._proxy_endpoint = proxy_endpoint
        netloc = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        self._netloc = netloc.encode("ascii")

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """:returns: fires with the factory's protocol once the tunnel stands."""
        begun: list[_Handshake] = []

        def give_up(_ready: Deferred[IProtocol]) -> None:
            opening.cancel()
            for handshake in begun:
                handshake.abort()

        def opened(handshake: _Handshake) -> None:
            begun.append(handshake)
            handshake.begin()

        ready: Deferred[IProtocol] = Deferred(give_up)

        factory = Factory.forProtocol(
            lambda: _Handshake(self._netloc, self._proxy.authorization, protocolFactory, ready)
        )
        opening = self._proxy_endpoint.connect(factory)
        opening.addCallbacks(opened, ready.errback)
        return ready


class _Handshake(Protocol):
    """Asks for the tunnel, then passes all data on to the inner protocol."""

    def __init__(
        self,
        netloc: bytes,
        authorization: bytes | None,
        factory: IProtocolFactory,
        ready: Deferred[IProtocol],
    ) -> None:
        self._secrets = header_secrets([authorization] if authorization else [])
        self._request = b"CONNECT %b HTTP/1.1\r\nHost: %b\r\n" % (netloc, netloc)
        if authorization is not None:
            self._request += b"Proxy-Authorization: %b\r\n" % authorization
        self._factory = factory
        self._ready: Deferred[IProtocol] | None = ready
        self._answer = b""
        self._inner: IProtocol | None = None
        #: The first bytes from the tunnel, until they show what they are; then ``None``.
        self._first: bytes | None = b""
        self._ended = False

    def begin(self) -> None:
        assert self.transport is not None
        self.transport.write(self._request + b"\r\n")

    def dataReceived(self, data: bytes) -> None:
        if self._ended:
            return
        if self._inner is not None:
            self._pass_on(data)
            return
        self._answer += data
        head, end, rest = self._answer.partition(b"\r\n\r\n")
        if end:
            self._answered(head, rest)
        elif len(self._answer) > _LONGEST_ANSWER_BYTES:
            self._fail("its answer to CONNECT is too long")

    def _answered(self, head: bytes, rest: bytes) -> None:
        status = head.split(b"\r\n", 1)[0].split(b" ", 2)
        if len(status) < 2 or not status[0].startswith(b"HTTP/1.") or status[1][:1] != b"2":
            self._fail(f"it answered CONNECT with {self._shown(b' '.join(status[1:]))}")
            return
        assert self.transport is not None
        address: IAddress = self.transport.getPeer()
        inner = self._factory.buildProtocol(address)
        assert inner is not None
        self._inner = inner
        inner.makeConnection(self.transport)
        ready, self._ready = self._ready, None
        if ready is not None:
            ready.callback(inner)
        if rest:
            self._pass_on(rest)

    def _pass_on(self, data: bytes) -> None:
        inner = self._inner
        assert inner is not None
        if self._first is not None:
            data = self._first + data
            if data.startswith(b"H") and b"\n" not in data and len(data) < _LONGEST_STATUS_BYTES:
                self._first = data
                return
            self._first = None
            if _BUSY.match(data):
                self._close_tunnel(inner, data.split(b"\r\n", 1)[0])
                return
        inner.dataReceived(data)

    def _close_tunnel(self, inner: IProtocol, status: bytes) -> None:
        """End the connection inside, which would report a TLS error: that is final."""
        self._ended = True
        reason = f"it opened one and then answered {self._shown(status[9:])}"
        assert isinstance(inner, Below)  # all that goes through a tunnel
        inner.fail(Failure(TunnelRefusedError(reason)))

    def _shown(self, status: bytes) -> str:
        """The status of an answer, without the password, which it may repeat."""
        return repr(clean(self._secrets.hidden(status.decode("latin-1")))[:80])

    def _fail(self, reason: str) -> None:
        ready, self._ready = self._ready, None
        self.abort()
        if ready is not None:
            ready.errback(TunnelRefusedError(reason))

    def abort(self) -> None:
        """Close the connection; the Deferred of the tunnel does not fire any more."""
        self._ready = None
        connection: ITCPTransport = self.transport  # type: ignore[assignment]
        connection.abortConnection()

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        if self._inner is not None:
            self._inner.connectionLost(reason)
        ready, self._ready = self._ready, None
        if ready is not None:
            ready.errback(TunnelRefusedError("it closed the connection"))
