"""Reaching Swift through an HTTP proxy.

``http_proxy``, ``https_proxy``, ``all_proxy`` and ``no_proxy`` are read by the function
of ``requests`` that keystoneauth1 uses for Keystone, so that Swift and Keystone are
reached in the same way. For https the proxy is asked for a tunnel (RFC 9110 section
9.3.6, CONNECT), and TLS runs inside it, end to end.
"""

from __future__ import annotations

import base64
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

from swift_provider.client.secrets_hidden import clean, header_secrets
from swift_provider.errors import ConfigError

_LONGEST_ANSWER_BYTES = 16 * 1024


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

    :raises ConfigError: if it is not an ``http://`` proxy.
    """
    chosen = select_proxy(url, get_environ_proxies(url))
    if not chosen:
        return None
    parts = urlsplit(chosen if "://" in chosen else f"http://{chosen}")
    if parts.scheme != "http" or not parts.hostname:
        raise ConfigError(
            f"the proxy for {urlsplit(url).scheme} in the environment must be "
            f"http://host:port, not {parts.scheme}://…"
        )
    authorization = None
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        authorization = b"Basic " + base64.b64encode(pair.encode())
    return Proxy(parts.hostname, parts.port or 80, authorization)


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

    def begin(self) -> None:
        assert self.transport is not None
        self.transport.write(self._request + b"\r\n")

    def dataReceived(self, data: bytes) -> None:
        if self._inner is not None:
            self._inner.dataReceived(data)
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
            said = b" ".join(status[1:]).decode("latin-1")
            shown = clean(self._secrets.hidden(said))[:80]
            self._fail(f"it answered CONNECT with {shown!r}")
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
            inner.dataReceived(rest)

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
