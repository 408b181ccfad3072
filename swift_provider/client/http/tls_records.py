"""TLS that hands up together what one read from the connection brings.

A TLS record has at most 16 KiB (RFC 8446 section 5.1), and many servers send smaller ones.
Twisted hands up each record by itself. Each then goes the whole way through the HTTP parser
and the checksum to the consumer, which costs as much as a chunk of any size. Measured inside
Synapse, with records of 4 KiB: 2.9 s of processor time for 1 GiB; joined, 2.0 s.

The bytes of one read are no more than without TLS: the size of the read, and the rest of a
record that the read before it began.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import (
    IAddress,
    IOpenSSLClientConnectionCreator,
    IProtocol,
    IProtocolFactory,
    IStreamClientEndpoint,
    ITransport,
)
from twisted.internet.protocol import Factory, Protocol
from twisted.protocols.tls import TLSMemoryBIOFactory, TLSMemoryBIOProtocol
from twisted.python.failure import Failure
from zope.interface import implementer


@implementer(IStreamClientEndpoint)
class TlsEndpoint:
    """TLS over another endpoint, in the place of Twisted's ``wrapClientTLS``."""

    def __init__(
        self, creator: IOpenSSLClientConnectionCreator, endpoint: IStreamClientEndpoint
    ) -> None:
        self._creator = creator
        self._endpoint = endpoint

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[Any]:
        """:returns: fires with the protocol that ``protocolFactory`` built."""
        tls = TLSMemoryBIOFactory(self._creator, True, _AboveFactory(protocolFactory))
        # By default Twisted keeps what is written until the next turn of the reactor, to join
        # small writes. Here each write is a whole request, or a large piece of a body.
        tls.protocol = TLSMemoryBIOProtocol
        connected: Deferred[Any] = self._endpoint.connect(_BelowFactory(tls))
        return connected.addCallback(lambda below: below.above.protocol)


class Above(Protocol):
    """Stands between TLS and a protocol, which keeps TLS as its transport.

    :ivar protocol: gets the bytes.
    """

    def __init__(self, protocol: IProtocol) -> None:
        self.protocol = protocol
        self._records: list[bytes] | None = None

    def gather(self) -> None:
        """Keep what comes until :meth:`hand_up`."""
        self._records = []

    def hand_up(self) -> None:
        """Hand up what has come, at once."""
        records, self._records = self._records, None
        if records:
            self.protocol.dataReceived(b"".join(records))

    def makeConnection(self, transport: ITransport) -> None:
        self.protocol.makeConnection(transport)

    def dataReceived(self, data: bytes) -> None:
        if self._records is None:  # TLS brings its last bytes when the connection is lost
            self.protocol.dataReceived(data)
        else:
            self._records.append(data)

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        self.protocol.connectionLost(reason)


class Below(Protocol):
    """Stands between a connection and TLS, which keeps the real transport.

    :param tls: Twisted's, with an :class:`Above` as its protocol.
    :param above: that.
    """

    def __init__(self, tls: TLSMemoryBIOProtocol, above: Above) -> None:
        self.above = above
        self._tls = tls

    def fail(self, reason: Failure) -> None:
        """End the connection before TLS is up; the protocol above gets ``reason``."""
        self._tls.failVerification(reason)

    def makeConnection(self, transport: ITransport) -> None:
        self._tls.makeConnection(transport)

    def dataReceived(self, data: bytes) -> None:
        self.above.gather()
        try:
            self._tls.dataReceived(data)
        finally:
            # The server's last bytes and its close alert may come together. TLS then asks the
            # transport to close, which loses the connection in a later turn of the reactor.
            self.above.hand_up()

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        self._tls.connectionLost(reason)


class _AboveFactory(Factory):
    noisy = False

    def __init__(self, factory: IProtocolFactory) -> None:
        self._factory = factory

    def buildProtocol(self, addr: IAddress) -> Above:  # type: ignore[override]
        protocol = self._factory.buildProtocol(addr)
        assert protocol is not None
        return Above(protocol)


class _BelowFactory(Factory):
    noisy = False

    def __init__(self, tls: TLSMemoryBIOFactory) -> None:
        self._tls = tls

    def buildProtocol(self, addr: IAddress) -> Below:  # type: ignore[override]
        tls = self._tls.buildProtocol(addr)
        assert isinstance(tls, TLSMemoryBIOProtocol)
        assert isinstance(tls.wrappedProtocol, Above)
        return Below(tls, tls.wrappedProtocol)
