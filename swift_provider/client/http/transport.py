"""Connections to Swift: the pool, TLS, proxies, time limits and buffer sizes.

Owns what all exchanges of one client share. The pool only keeps idle connections. It
does not limit their number (:mod:`swift_provider.client.slots` does), and it does not
retry (:mod:`swift_provider.client.requester` does, with a fresh body).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.interfaces import IStreamClientEndpoint, IWriteDescriptor
from twisted.internet.main import CONNECTION_LOST
from twisted.python.failure import Failure
from twisted.web.client import URI, Agent, HTTPConnectionPool, ProxyAgent
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent, IAgentEndpointFactory, IPolicyForHTTPS
from zope.interface import implementer

from swift_provider.client.http.incoming import Incoming
from swift_provider.client.http.proxies import Proxy, TunnelEndpoint, proxy_for
from swift_provider.client.http.tls_records import TlsEndpoint

#: An idle connection is closed after this; Swift closes it after 57 s (its
#: ``keepalive_timeout`` follows ``client_timeout``, 60 s), Ceph RGW after 62 s.
IDLE_CONNECTION_SECONDS = 30

#: How much to read from a connection at once, and to send. Measured inside Synapse, for 40
#: downloads at once (processor time for 1 GiB): with 64 KiB 1.21 s, with 128 KiB 1.11 s, with
#: 256 KiB 0.98 s; over TLS 1.72, 1.55 and 1.33 s. Another request does not wait longer meanwhile,
#: because downloads take turns (:mod:`swift_provider.client.download_turns`). 200 readers that
#: are slow take 30 MB of memory instead of 12.
BUFFER_BYTES = 256 * 1024


@dataclass(frozen=True)
class Limits:
    """Time limits, in seconds.

    :param connect: until a connection is made.
    :param response: from the end of the request to the answer's headers.
    :param idle: without a byte moving, in a body of either direction.
    """

    connect: float = 10.0
    response: float = 60.0
    idle: float = 60.0


class _Pool(HTTPConnectionPool):
    retryAutomatically = False
    cachedConnectionTimeout = IDLE_CONNECTION_SECONDS


@implementer(IAgentEndpointFactory)
class _Endpoints:
    """How to reach a host: TCP or TLS, directly or through a proxy's tunnel.

    Twisted asks for each request. To look up the proxy and the certificates each time
    would cost more than the rest of the request, so endpoints are kept.
    """

    def __init__(self, reactor: Any, tls: IPolicyForHTTPS, limits: Limits) -> None:
        self._reactor = reactor
        self._tls = tls
        self._limits = limits
        self._known: dict[tuple[bytes, bytes, int], IStreamClientEndpoint] = {}

    def tcp(self, host: str, port: int) -> IStreamClientEndpoint:
        endpoint: IStreamClientEndpoint = HostnameEndpoint(
            self._reactor, host.encode("idna"), port, timeout=self._limits.connect
        )
        return endpoint

    def endpointForURI(self, uri: URI) -> IStreamClientEndpoint:
        place = (uri.scheme, uri.host, uri.port)
        if place not in self._known:
            self._known[place] = self._endpoint(uri)
        return self._known[place]

    def _endpoint(self, uri: URI) -> IStreamClientEndpoint:
        host = uri.host.decode("ascii")
        if uri.scheme == b"http":
            return self.tcp(host, uri.port)
        proxy = proxy_for(uri.toBytes().decode("ascii"))
        endpoint = self.tcp(host, uri.port)
        if proxy is not None:
            endpoint = TunnelEndpoint(proxy, self.tcp(proxy.host, proxy.port), host, uri.port)
        creator = self._tls.creatorForNetloc(uri.host, uri.port)
        return TlsEndpoint(creator, endpoint)


class Transport:
    """What all exchanges of a client share.

    :param reactor: makes connections and tells the time.
    :param connections: how many idle connections to keep, at most.
    :ivar incoming: of each open connection, by its HTTP protocol.
    """

    def __init__(
        self,
        reactor: Any,
        tls: IPolicyForHTTPS,
        limits: Limits,
        connections: int,
    ) -> None:
        self.reactor = reactor
        self.limits = limits
        self.incoming: dict[Any, Incoming] = {}
        self._pool = _Pool(reactor)  # type: ignore[no-untyped-call]
        self._pool.maxPersistentPerHost = connections
        self._endpoints = _Endpoints(reactor, tls, limits)
        self._proxies: dict[bytes, tuple[Proxy, IStreamClientEndpoint] | None] = {}

    def agent(self, url: bytes, pool: Any) -> IAgent:
        """An agent for one request, which takes its connection from ``pool``.

        :param pool: passes ``getConnection`` on to :meth:`connection`.
        """
        proxied = self._plain_proxy(url)
        if proxied is None:
            agent: IAgent = Agent.usingEndpointFactory(self.reactor, self._endpoints, pool)
            return agent
        proxy, endpoint = proxied
        return _ThroughProxy(ProxyAgent(endpoint, self.reactor, pool), proxy)

    def proxy_authorization(self, url: bytes) -> bytes | None:
        """What a request for this URL shows to a proxy; ``None`` if it shows nothing.

        In a tunnel the proxy sees no request.
        """
        proxied = self._plain_proxy(url)
        return None if proxied is None else proxied[0].authorization

    def _plain_proxy(self, url: bytes) -> tuple[Proxy, IStreamClientEndpoint] | None:
        """The proxy for an ``http://`` URL; https goes through a tunnel instead."""
        if not url.startswith(b"http://"):
            return None
        host = url.split(b"/", 3)[2]
        if host not in self._proxies:
            proxy = proxy_for(url.decode("ascii"))
            self._proxies[host] = (
                None if proxy is None else (proxy, self._endpoints.tcp(proxy.host, proxy.port))
            )
        return self._proxies[host]

    def connection(self, key: Any, endpoint: IStreamClientEndpoint) -> Deferred[Any]:
        """Get a connection from the pool, which asks ``endpoint`` if it has no idle one.

        :returns: fires with the connection's HTTP protocol.
        """
        return self._pool.getConnection(key, endpoint)

    def prepare(self, wire: Any) -> None:
        """Set the buffer sizes of a new connection's transport, and let it take early answers."""
        tcp = _tcp_of(wire)
        tcp.doWrite = partial(_write, tcp)
        tcp.bufferSize = BUFFER_BYTES
        tcp.SEND_LIMIT = BUFFER_BYTES

    def send_now(self, wire: Any) -> None:
        """Send what has been written to a connection. What it does not take is sent later.

        Twisted sends at the end of the reactor's turn, when all else that this turn brings is
        done. With 40 GETs at a time and a round trip of 50 ms, answers come in bursts, and each
        new request would wait for a burst: 542 GETs per second then, 737 if sent at once.
        """
        tcp = _tcp_of(wire)
        # While the connection is being closed, the reactor needs what doWrite returns.
        if not tcp.disconnecting and IWriteDescriptor.providedBy(tcp):
            tcp.doWrite()

    def drop_idle(self) -> None:
        """Close the idle connections, after one of them turned out to be dead."""
        self.close().addErrback(_ignore)

    def close(self) -> Deferred[None]:
        """Close the idle connections. Call when no exchange is in flight."""
        closed: Deferred[None] = self._pool.closeCachedConnections()  # type: ignore[no-untyped-call]
        return closed


@implementer(IAgent)
class _ThroughProxy:
    """Authenticates to the proxy, which Twisted's ``ProxyAgent`` cannot."""

    def __init__(self, agent: IAgent, proxy: Proxy) -> None:
        self._agent = agent
        self._proxy = proxy

    def request(
        self,
        method: bytes,
        uri: bytes,
        headers: Headers | None = None,
        bodyProducer: Any = None,
    ) -> Deferred[Any]:
        if headers is not None and self._proxy.authorization is not None:
            headers.setRawHeaders(b"Proxy-Authorization", [self._proxy.authorization])
        return self._agent.request(method, uri, headers, bodyProducer)


def _tcp_of(wire: Any) -> Any:
    """The TCP transport that TLS wraps, or ``wire`` itself."""
    return getattr(wire, "transport", wire)


def _write(tcp: Any) -> Any:
    """Write for the reactor. If that fails, read what came just before the connection ended.

    A server may answer early, and close. The reactor asks the kernel for all connections at once.
    When it comes to write to this one, the answer may have come meanwhile, and the end as well.
    """
    result = type(tcp).doWrite(tcp)
    if result is CONNECTION_LOST:
        tcp.doRead()
    return result


def _ignore(_failure: Failure) -> None:
    """An error while an idle connection is closed concerns no request."""
