"""``python -m tests.servers.gate_server PORT TARGET CONTROL``: a fault proxy as a process.

All three are loopback ports. Commands come on the last one, a line each; the
answer to each is a line of JSON. :class:`tests.servers.gate.Gate` starts and
speaks to it.
"""

from __future__ import annotations

import json
import sys

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory
from twisted.protocols.basic import LineOnlyReceiver

from tests.servers import process
from tests.servers.fault_proxy import FaultProxy
from tests.servers.faults import Answer, Crawl

#: Before the headers of an answer, when the network crawls.
CRAWL_HEAD_SECONDS = 2.0


class State:
    """One thing at a time is wrong, or nothing."""

    def __init__(self, proxy: FaultProxy) -> None:
        self._proxy = proxy
        self._refusing = False
        self._crawl: Crawl | None = None

    async def open(self) -> None:
        """Nothing is wrong any more, in exchanges in flight neither."""
        self._proxy.clear()
        if self._crawl is not None:
            self._crawl.release()
            self._crawl = None
        if self._refusing:
            self._refusing = False
            self._proxy.accept_again()

    async def busy(self) -> None:
        """Every new request gets 503."""
        self._proxy.add(Answer(503, times=None))

    async def crawl(self) -> None:
        """Every new exchange crawls."""
        self._crawl = Crawl(CRAWL_HEAD_SECONDS, times=None)
        self._proxy.add(self._crawl)

    async def refuse(self) -> None:
        """All connections are reset, and new ones refused."""
        self._refusing = True
        await self._proxy.stop()


class Control(LineOnlyReceiver):
    """Commands: ``look``, or a method's name of :class:`State`."""

    delimiter = b"\n"

    def lineReceived(self, line: bytes) -> None:
        Deferred.fromCoroutine(self._do(line.decode()))

    async def _do(self, command: str) -> None:
        state, proxy = self.factory.state, self.factory.proxy
        if command != "look":
            await state.open()
            if command != "open":
                await getattr(state, command)()
        told = {"requests": len(proxy.requests), "exchanges_open": proxy.exchanges_open}
        self.sendLine(json.dumps(told).encode())


def main() -> None:
    port, target, control = map(int, sys.argv[1:])
    factory = Factory.forProtocol(Control)
    factory.proxy = FaultProxy(reactor, process.LOOPBACK, target)
    factory.proxy.port = port
    factory.state = State(factory.proxy)
    Deferred.fromCoroutine(factory.proxy.start())
    reactor.listenTCP(control, factory, interface=process.LOOPBACK)
    reactor.run()


if __name__ == "__main__":
    main()
