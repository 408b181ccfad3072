"""``python -m tests.bench.relay PORT TARGET_PORT SECONDS``: a TCP relay for a long way.

Bytes arrive as late as over a network with this round trip, in order, and at
any rate. That connecting takes a round trip as well is not imitated.
"""

from __future__ import annotations

import sys
from collections import deque

from twisted.internet import reactor
from twisted.internet.endpoints import HostnameEndpoint, connectProtocol
from twisted.internet.protocol import Factory, Protocol

HOST = "127.0.0.1"


class Side(Protocol):
    """One end of a relayed connection; what it receives goes to ``other`` later."""

    delay = 0.0
    other: Side | None = None

    def __init__(self) -> None:
        self._late: deque[bytes | None] = deque()

    def connectionMade(self) -> None:
        self.transport.setTcpNoDelay(True)

    def dataReceived(self, data: bytes) -> None:
        self._pass(data)

    def connectionLost(self, reason: object) -> None:
        self._pass(None)

    def _pass(self, data: bytes | None) -> None:
        self._late.append(data)
        reactor.callLater(self.delay, self._arrive)

    def _arrive(self) -> None:
        data = self._late.popleft()
        if self.other is None:
            return
        if data is None:
            self.other.transport.loseConnection()
        else:
            self.other.transport.write(data)


class Front(Side):
    """A client's connection, which gets one of its own to the target."""

    target: HostnameEndpoint

    def connectionMade(self) -> None:
        super().connectionMade()
        self.transport.pauseProducing()
        back = Side()
        back.other = self
        connectProtocol(self.target, back).addCallbacks(self._connected, self._refused)

    def _connected(self, back: Side) -> None:
        self.other = back
        self.transport.resumeProducing()

    def _refused(self, reason: object) -> None:
        self.transport.abortConnection()


def main() -> None:
    port, target_port, seconds = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
    Side.delay = seconds / 2
    Front.target = HostnameEndpoint(reactor, HOST, target_port)
    reactor.listenTCP(port, Factory.forProtocol(Front), backlog=1024, interface=HOST)
    reactor.run()


if __name__ == "__main__":
    main()
