"""What one read from a TLS connection brings is handed up together, and nothing is lost or late.

The server is OpenSSL in memory, so that a test decides which bytes come in one read.
"""

from __future__ import annotations

from typing import Any

import pytest
from OpenSSL import SSL
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.main import CONNECTION_DONE, CONNECTION_LOST
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.web._newclient import HTTP11ClientProtocol, Request
from twisted.web.client import ResponseDone
from twisted.web.http import PotentialDataLoss
from twisted.web.http_headers import Headers

from swift_provider.client.http.tls import TlsPolicy
from swift_provider.client.http.tls_records import TlsEndpoint
from tests.servers.tls import Authority

#: The most that a record holds (RFC 8446 section 5.1).
RECORD_BYTES = 16 * 1024


class Wire(StringTransport):
    """The TCP connection."""

    def setTcpNoDelay(self, enabled: bool) -> None:
        """Twisted's HTTP client asks for it."""

    def pauseProducing(self) -> None:
        """As TCP's, also while the connection is being closed."""
        self.producerState = "paused"

    def resumeProducing(self) -> None:
        """As TCP's: without effect while the connection is being closed."""
        if not self.disconnecting:
            self.producerState = "producing"


class Heard(Protocol):
    """Notes what it is told.

    :ivar on_data: called after each chunk was noted.
    """

    def __init__(self) -> None:
        self.events: list[Any] = []
        self.on_data: Any = lambda: None

    def dataReceived(self, data: bytes) -> None:
        self.events.append(data)
        self.on_data()

    def connectionLost(self, reason: Failure) -> None:
        self.events.append(reason.type)


class Connection:
    """A TLS connection: ours, and the server's end of it.

    :ivar wire: our TCP transport.
    :ivar tls: the protocol's transport.
    """

    def __init__(self, authority: Authority, protocol: Protocol, context: Any = None) -> None:
        self.wire = Wire(peerAddress=IPv4Address("TCP", "127.0.0.1", 443))
        self._server = SSL.Connection(context or authority.server_context().getContext(), None)
        self._server.set_accept_state()
        creator = TlsPolicy(str(authority.ca), None).creatorForNetloc(b"127.0.0.1", 443)
        connected: list[Any] = []
        factory = Factory.forProtocol(lambda: protocol)
        TlsEndpoint(creator, self).connect(factory).addCallback(connected.append)
        assert connected == [protocol]
        self.tls: Any = protocol.transport
        self._shake_hands()

    def connect(self, factory: Factory) -> Deferred[Any]:
        """As an endpoint: at once."""
        self._below = factory.buildProtocol(self.wire.getPeer())
        self._below.makeConnection(self.wire)
        return succeed(self._below)

    def _shake_hands(self) -> None:
        while True:
            self.take()
            try:
                self._server.do_handshake()
            except SSL.WantReadError:
                self.read(self.sent())
            else:
                self.read(self.sent())
                return

    def take(self) -> None:
        """Give the server what we have sent."""
        sent = self.wire.value()
        self.wire.clear()
        if sent:
            self._server.bio_write(sent)

    def record(self, content: bytes) -> bytes:
        """The server's bytes for one record."""
        assert len(content) <= RECORD_BYTES
        self._server.send(content)
        return self.sent()

    def ask_for_renegotiation(self) -> bytes:
        """The server's bytes that ask for another handshake."""
        assert self._server.renegotiate()
        self._server.do_handshake()
        return self.sent()

    def close_alert(self) -> bytes:
        """The server's bytes that end TLS."""
        self._server.shutdown()
        return self.sent()

    def sent(self) -> bytes:
        """What the server has to send."""
        try:
            return self._server.bio_read(1024 * 1024)
        except SSL.WantReadError:
            return b""

    def read(self, data: bytes) -> None:
        """These bytes come in one read from the connection."""
        if data:
            self._below.dataReceived(data)

    def lose(self, reason: Exception) -> None:
        """The TCP connection ends."""
        self._below.connectionLost(Failure(reason))


@pytest.fixture
def heard() -> Heard:
    """Has the place of the HTTP protocol."""
    return Heard()


@pytest.fixture
def connection(authority: Authority, heard: Heard) -> Connection:
    """TLS is up."""
    return Connection(authority, heard)


def test_the_records_of_one_read_come_together(connection: Connection, heard: Heard) -> None:
    """Also if they are small, and if something that is no data comes between them."""
    small = [b"%d" % number * 4000 for number in range(4)]
    connection.read(b"".join(connection.record(content) for content in small))
    large = [b"x" * RECORD_BYTES, b"y" * RECORD_BYTES]
    connection.read(b"".join(connection.record(content) for content in large))
    assert heard.events == [b"".join(small), b"".join(large)]


def test_a_part_of_a_record_waits_and_the_rest_does_not(
    connection: Connection, heard: Heard
) -> None:
    """Each whole record of a read is handed up at once."""
    first, second, third = (connection.record(letter * 5000) for letter in (b"a", b"b", b"c"))
    connection.read(first + second[:100])
    assert heard.events == [b"a" * 5000]
    connection.read(second[100:-1])
    assert heard.events == [b"a" * 5000]
    connection.read(second[-1:] + third)
    assert heard.events == [b"a" * 5000, b"b" * 5000 + b"c" * 5000]


def test_a_close_alert_in_the_same_read(connection: Connection, heard: Heard) -> None:
    """The data come first, and the connection is closed in order."""
    connection.read(connection.record(b"a") + connection.record(b"b") + connection.close_alert())
    assert heard.events == [b"ab"]
    assert connection.wire.disconnecting
    connection.lose(CONNECTION_DONE)
    assert heard.events == [b"ab", ConnectionDone]


def test_a_connection_without_a_close_alert(connection: Connection, heard: Heard) -> None:
    """What came is handed up; the end is one that was not announced."""
    connection.read(connection.record(b"a") + connection.record(b"b")[:-1])
    connection.lose(CONNECTION_LOST)
    assert heard.events == [b"a", ConnectionLost]


def test_a_damaged_record(connection: Connection, heard: Heard) -> None:
    """The records before it are handed up, none after it is, and TLS names the error."""
    first, second, third = (connection.record(letter * 100) for letter in (b"a", b"b", b"c"))
    connection.read(first + second[:-1] + bytes([second[-1] ^ 1]) + third)
    assert heard.events == [b"a" * 100]
    assert connection.wire.disconnecting
    connection.lose(CONNECTION_DONE)
    assert heard.events == [b"a" * 100, SSL.Error]


def test_nothing_comes_after_an_abort(connection: Connection, heard: Heard) -> None:
    """The protocol may abort while it is handed data."""
    heard.on_data = lambda: connection.tls.abortConnection()
    connection.read(connection.record(b"a") + connection.record(b"b"))
    assert connection.wire.disconnected
    connection.lose(CONNECTION_DONE)
    assert heard.events == [b"ab", ConnectionLost]


def test_a_pause_stops_the_connection(connection: Connection, heard: Heard) -> None:
    """Reading stops at once: what came in one read is all that comes."""
    heard.on_data = lambda: connection.tls.pauseProducing()
    connection.read(connection.record(b"a" * RECORD_BYTES) + connection.record(b"b"))
    assert heard.events == [b"a" * RECORD_BYTES + b"b"]
    assert connection.wire.producerState == "paused"
    connection.tls.resumeProducing()
    assert connection.wire.producerState == "producing"
    connection.lose(CONNECTION_DONE)


class Body(Protocol):
    """A response's body."""

    def __init__(self) -> None:
        self.content = b""
        self.ended: Any = None

    def dataReceived(self, data: bytes) -> None:
        self.content += data

    def connectionLost(self, reason: Failure) -> None:
        self.ended = reason.type


@pytest.mark.parametrize("alert", [False, True], ids=["stays open", "close alert at once"])
@pytest.mark.parametrize(
    "length", [b"Content-Length: 32768\r\n", b""], ids=["length", "until close"]
)
def test_a_response_ends_at_the_edge_of_a_record(
    authority: Authority, length: bytes, alert: bool
) -> None:
    """Twisted's HTTP client has all of the body, and knows that it has ended."""
    http = HTTP11ClientProtocol()
    connection = Connection(authority, http)
    headers = Headers({b"Host": [b"127.0.0.1"]})
    body = Body()
    http.request(Request(b"GET", b"/", headers, None)).addCallback(
        lambda response: response.deliverBody(body)
    )
    read = connection.record(b"HTTP/1.1 200 OK\r\n" + length + b"Connection: close\r\n\r\n")
    read += connection.record(b"x" * RECORD_BYTES) + connection.record(b"y" * RECORD_BYTES)
    connection.read(read + (connection.close_alert() if alert else b""))
    assert body.content == b"x" * RECORD_BYTES + b"y" * RECORD_BYTES
    assert body.ended is (ResponseDone if length else None)
    connection.lose(CONNECTION_DONE)
    assert body.ended is (ResponseDone if length else PotentialDataLoss)


def test_a_renegotiation_between_records(authority: Authority, heard: Heard) -> None:
    """TLS up to 1.2 lets the server ask for one; the data around it are not touched."""
    context = authority.server_context().getContext()
    context.set_max_proto_version(SSL.TLS1_2_VERSION)
    connection = Connection(authority, heard, context)
    before = connection.record(b"before")
    asked = connection.ask_for_renegotiation()
    assert asked
    connection.read(before + asked + connection.record(b"after"))
    assert heard.events == [b"beforeafter"]
    assert not connection.wire.disconnecting
    connection.lose(CONNECTION_LOST)
