"""Counts what a connection brings before the answer can be used, and bounds it.

Twisted keeps all of an answer's headers, and all of a body that comes while the request
is still being sent. Neither has a limit there. Swift's own headers are a few kilobytes:
its limits are 4096 bytes for an object's metadata and 8192 for one line (see
"Constraints" in its ``swift.conf``), and its error bodies have a few hundred bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IAddress, IProtocol, IProtocolFactory, ITransport
from twisted.internet.protocol import Factory, Protocol
from twisted.python.failure import Failure

#: Four times what Swift's limits allow in one answer's headers.
MOST_EARLY_BYTES = 64 * 1024


class Incoming(Protocol):
    """Stands between a connection and Twisted's HTTP protocol, which keeps the real transport.

    :param http: Twisted's protocol.
    :param connections: where to find this object by ``http`` while the connection is open.
    """

    def __init__(self, http: IProtocol, connections: dict[Any, Incoming]) -> None:
        self.http = http
        self._connections = connections
        self._on_flood: Callable[[], None] | None = None
        self._count = 0

    def begin(self, on_flood: Callable[[], None]) -> None:
        """A request is about to be written: count from here.

        :param on_flood: called once if more than :data:`MOST_EARLY_BYTES` come before
            :meth:`end`.
        """
        self._on_flood = on_flood
        self._count = 0

    def end(self) -> None:
        """Stop counting: the request has ended, or its answer has come.

        The reader of the body limits what comes from now on.
        """
        self._on_flood = None

    def makeConnection(self, transport: ITransport) -> None:
        self._connections[self.http] = self
        self.http.makeConnection(transport)

    def dataReceived(self, data: bytes) -> None:
        before = self._on_flood
        self.http.dataReceived(data)
        # Afterwards: the chunk that completes the headers may hold much of the body, too. But
        # the chunk that completes a body may let the next request begin.
        if self._on_flood is not None and self._on_flood is before:
            self._count += len(data)
            if self._count > MOST_EARLY_BYTES:
                on_flood, self._on_flood = self._on_flood, None
                on_flood()

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        self._connections.pop(self.http, None)
        self.http.connectionLost(reason)


class IncomingFactory(Factory):
    """Puts an :class:`Incoming` before each protocol that another factory builds."""

    noisy = False

    def __init__(self, factory: IProtocolFactory, connections: dict[Any, Incoming]) -> None:
        self._factory = factory
        self._connections = connections

    def buildProtocol(self, addr: IAddress) -> Incoming:  # type: ignore[override]
        http = self._factory.buildProtocol(addr)
        assert http is not None
        return Incoming(http, self._connections)
