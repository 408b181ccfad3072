"""A proxy in front of a real server that breaks exchanges in exactly the way it is told.

Owns the listening port, the list of faults and the records; ``fault_relay``
carries the bytes, ``faults`` says what can be done to them. Without faults
every byte is passed on as it came, and a slow side slows the other
down. Runs on the test's own reactor, so a test sees a fault happen without
waiting for a clock.

::

    proxy = FaultProxy(reactor, "127.0.0.1", swift_port)
    await proxy.start()
    proxy.add(Answer(503, times=2), Reset(in_response(1000), match=("GET", "/file$")))
    …
    await proxy.stop()
"""

from __future__ import annotations

import socket
from urllib.parse import urlsplit, urlunsplit

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.protocol import Factory, Protocol
from twisted.protocols.tls import TLSMemoryBIOFactory

from tests.servers.fault_relay import Relay, Seen
from tests.servers.faults import Fault


class FaultProxy:
    """Listens on 127.0.0.1.

    :param tls: a context factory, as of ``tests.servers.tls``: the proxy speaks
        TLS with the client, and plain TCP with the server. ``None`` for no TLS.
    :ivar send_buffer: bytes that the kernel may hold back on each new connection to a client;
        ``None`` for its own choice, which is megabytes. A small one makes
        ``bytes_to_client`` count what was really sent.
    """

    def __init__(self, reactor, target_host: str, target_port: int, *, tls=None) -> None:
        self.reactor = reactor
        self.target = (target_host, target_port)
        self.tls = tls
        self.port = 0
        #: Every request, in the order in which their headers came.
        self.requests: list[Seen] = []
        self.exchanges_open = 0
        self.exchanges_peak = 0
        self.connections_open = 0
        self.connections_peak = 0
        self.connections_ever = 0
        self.target_connections_open = 0
        self.bytes_to_target = 0
        self.bytes_to_client = 0
        self.send_buffer: int | None = None
        self._faults: list[Fault] = []
        self._resets_left = 0
        self._relays: set[Relay] = set()
        self._listening = None
        self._reopening = None
        self._waiting: list[tuple] = []

    async def start(self) -> None:
        """Begins to listen, on a port that the system chooses."""
        self._listen()

    def _listen(self) -> None:
        factory = Factory.forProtocol(_Front)
        factory.noisy = False
        factory.proxy = self
        if self.tls is not None:
            factory = TLSMemoryBIOFactory(self.tls, False, factory)
            factory.noisy = False
        self._listening = self.reactor.listenTCP(self.port, factory, interface="127.0.0.1")
        self.port = self._listening.getHost().port

    async def stop(self) -> None:
        """Ends all connections and the port; nothing is left in the reactor."""
        await self.refuse()
        for relay in list(self._relays):
            relay.abort()
            relay.abort_target()
        await self._until(lambda: not self.connections_open and not self.target_connections_open)

    def url_for(self, url: str) -> str:
        """The same URL, by way of this proxy."""
        scheme = "https" if self.tls is not None else "http"
        return urlunsplit(urlsplit(url)._replace(scheme=scheme, netloc=f"127.0.0.1:{self.port}"))

    # Faults

    def add(self, *faults: Fault) -> None:
        """Appends faults; each request gets the first that wants it, or none."""
        self._faults.extend(faults)

    def clear(self) -> None:
        """Forgets all faults; those that are happening go on."""
        self._faults.clear()

    async def refuse(self, seconds: float | None = None) -> None:
        """Closes the port, so that connecting is refused; open connections stay.

        :param seconds: listen again after that long, in place of what an earlier call said;
            ``None`` to wait for :meth:`accept_again`.
        """
        if self._reopening is not None and self._reopening.active():
            self._reopening.cancel()
        if self._listening is not None:
            listening, self._listening = self._listening, None
            await listening.stopListening()
        if seconds is not None:
            self._reopening = self.reactor.callLater(seconds, self._listen)

    def accept_again(self) -> None:
        """Opens the port that :meth:`refuse` closed."""
        self._listen()

    def reset_connections(self, count: int) -> None:
        """The next so many connections are accepted and reset at once."""
        self._resets_left = count

    def reset_open(self) -> None:
        """Resets all open connections."""
        for relay in list(self._relays):
            relay.abort()

    def close_idle(self) -> None:
        """Ends all connections that wait for a request."""
        for relay in list(self._relays):
            relay.close_idle()

    # Records

    async def wait_idle(self) -> None:
        """Returns when no exchange is in flight."""
        await self._until(lambda: not self.exchanges_open)

    async def wait_closed(self) -> None:
        """Returns when no client is connected."""
        await self._until(lambda: not self.connections_open)

    async def _until(self, true) -> None:
        if not true():
            deferred: Deferred[None] = Deferred()
            self._waiting.append((true, deferred))
            await deferred

    def _changed(self) -> None:
        ready = [waiting for waiting in self._waiting if waiting[0]()]
        self._waiting = [waiting for waiting in self._waiting if waiting not in ready]
        for _, deferred in ready:
            deferred.callback(None)

    # For the relays

    def begin(self, seen: Seen, first: bool) -> Fault | None:
        """An exchange begins; returns what is to happen to it."""
        self.requests.append(seen)
        self.exchanges_open += 1
        self.exchanges_peak = max(self.exchanges_peak, self.exchanges_open)
        for fault in self._faults:
            if fault.wants(seen.method, seen.path, first):
                fault.taken += 1
                return fault
        return None

    def end(self) -> None:
        """An exchange is over."""
        self.exchanges_open -= 1
        self._changed()

    def client_opened(self, front: Protocol) -> Relay | None:
        """A client has connected; ``None`` if it is to be reset."""
        self.connections_ever += 1
        self.connections_open += 1
        self.connections_peak = max(self.connections_peak, self.connections_open)
        if self._resets_left:
            self._resets_left -= 1
            front.transport.abortConnection()
            return None
        if self.send_buffer is not None:
            handle = front.transport.getHandle()
            handle.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, self.send_buffer)
        relay = Relay(self, front, self.connections_ever)
        self._relays.add(relay)
        return relay

    def client_closed(self, relay: Relay | None, clean: bool) -> None:
        """A client's connection is gone."""
        self.connections_open -= 1
        if relay is not None:
            relay.client_lost(clean)
        self._forget_gone()

    def target_closed(self) -> None:
        """A connection to the server is gone."""
        self.target_connections_open -= 1
        self._forget_gone()

    def _forget_gone(self) -> None:
        self._relays = {relay for relay in self._relays if not relay.gone}
        self._changed()


class _Front(Protocol):
    """A client's connection."""

    def connectionMade(self) -> None:
        self.relay = self.factory.proxy.client_opened(self)

    def dataReceived(self, data: bytes) -> None:
        if self.relay is not None:
            self.relay.from_client(data)

    def connectionLost(self, reason) -> None:
        self.factory.proxy.client_closed(self.relay, bool(reason.check(ConnectionDone)))
