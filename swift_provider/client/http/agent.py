"""Our own ``IAgent``: treq builds the request above it, Twisted's ``Agent`` speaks HTTP below.

In between it

* reports the connection's real transport, the only object that aborts reliably
  (``loseConnection`` does not while a body is in flight over TLS);
* asks for ``identity`` in place of treq's ``gzip``, and hides the response's
  ``Content-Encoding`` from treq's decoder, so that bytes arrive as they are stored. The
  response has it as :data:`CONTENT_ENCODING`;
* bounds what Twisted keeps before the answer can be used
  (:mod:`swift_provider.client.http.incoming`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hyperlink import EncodedURL
from treq.client import HTTPClient
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProtocolFactory, IStreamClientEndpoint
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent, IBodyProducer
from zope.interface import implementer

from swift_provider.client.http.incoming import Incoming, IncomingFactory
from swift_provider.client.http.transport import Transport

#: The name under which a response's ``Content-Encoding`` is among its headers.
CONTENT_ENCODING = b"Hidden-Content-Encoding"

#: Told the real transport of a connection, and whether it carried a request before.
OnConnection = Callable[[Any, bool], None]


def send_request(
    transport: Transport,
    method: str,
    url: bytes,
    headers: Headers,
    body: Any,
    on_connection: OnConnection,
    on_flood: Callable[[], None],
) -> Deferred[Any]:
    """Send one request through treq.

    :param url: percent-encoded.
    :param body: an ``IBodyProducer`` made for this request; ``None`` for none.
    :param on_connection: called just before the request is written.
    :param on_flood: called if the server sends much more than an answer's headers before
        the Deferred fires; see :meth:`Incoming.begin`.
    :returns: fires with the response once its headers are in. Cancelling it aborts the
        connection.
    """
    response: Deferred[Any] = HTTPClient(_OneRequest(transport, on_connection, on_flood)).request(
        method,
        _EncodedURL(url),
        headers=headers,
        data=body,
        unbuffered=True,
        allow_redirects=False,
        reactor=transport.reactor,
    )
    return response


@implementer(IAgent)
class _OneRequest:
    """treq's agent for one request, and the pool from which Twisted's ``Agent`` takes
    the connection for it.
    """

    #: As of Twisted's ``HTTPConnectionPool``: connections are kept for later requests.
    persistent = True

    def __init__(
        self,
        transport: Transport,
        on_connection: OnConnection,
        on_flood: Callable[[], None],
    ) -> None:
        self._transport = transport
        self._on_connection = on_connection
        self._on_flood = on_flood

    def request(
        self,
        method: bytes,
        uri: bytes,
        headers: Headers | None = None,
        bodyProducer: IBodyProducer | None = None,
    ) -> Deferred[Any]:
        assert headers is not None
        headers.setRawHeaders(b"Accept-Encoding", [b"identity"])
        agent = self._transport.agent(uri, self)
        response: Deferred[Any] = agent.request(method, uri, headers, bodyProducer)
        return response.addCallback(_without_encoding)

    def getConnection(self, key: Any, endpoint: IStreamClientEndpoint) -> Deferred[Any]:
        connecting = _Connecting(endpoint, self._transport.incoming)
        got: Deferred[Any] = self._transport.connection(key, connecting)
        return got.addCallback(
            _Connection, connecting, self._transport, self._on_connection, self._on_flood
        )


@implementer(IStreamClientEndpoint)
class _Connecting:
    """An endpoint that notes whether the pool asked it for a new connection.

    :ivar asked: it did; otherwise the pool had an idle one.
    """

    def __init__(self, endpoint: IStreamClientEndpoint, connections: dict[Any, Incoming]) -> None:
        self._endpoint = endpoint
        self._connections = connections
        self.asked = False

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[Any]:
        self.asked = True
        connected: Deferred[Any] = self._endpoint.connect(
            IncomingFactory(protocolFactory, self._connections)
        )
        return connected.addCallback(lambda incoming: incoming.http)


class _Connection:
    """A connection from the pool, which reports its transport when the request is written."""

    def __init__(
        self,
        protocol: Any,
        connecting: _Connecting,
        transport: Transport,
        on_connection: OnConnection,
        on_flood: Callable[[], None],
    ) -> None:
        self._protocol = protocol
        self._is_new = connecting.asked
        self._transport = transport
        self._on_connection = on_connection
        self._on_flood = on_flood

    def request(self, request: Any) -> Deferred[Any]:
        wire = self._protocol.transport
        if self._is_new:
            self._transport.prepare(wire)
        self._on_connection(wire, not self._is_new)
        incoming = self._transport.incoming.get(self._protocol)
        if incoming is None:  # lost already, which the protocol reports
            lost: Deferred[Any] = self._protocol.request(request)
            return lost
        incoming.begin(self._on_flood)
        response: Deferred[Any] = self._protocol.request(request)
        if request.bodyProducer is None:
            self._transport.send_now(wire)
        return response.addBoth(_ended, incoming)


class _EncodedURL(EncodedURL):
    """A URL that needs no more encoding, in the form in which treq asks for it.

    Parsing a URL, checking its host name and joining it again is about a fifth of a
    small request's processor time, and results in the same bytes.
    """

    def __init__(self, url: bytes) -> None:
        self._text = url.decode("ascii")

    def to_uri(self) -> _EncodedURL:
        return self

    def to_text(self, with_password: bool = False) -> str:
        return self._text


def _ended(result: Any, incoming: Incoming) -> Any:
    incoming.end()
    return result


def _without_encoding(response: Any) -> Any:
    encodings = response.headers.getRawHeaders(b"Content-Encoding")
    response.headers.removeHeader(b"Content-Encoding")
    response.headers.removeHeader(CONTENT_ENCODING)
    if encodings is not None:
        response.headers.setRawHeaders(CONTENT_ENCODING, encodings)
    return response
