"""What our agent changes about treq and Twisted."""

from __future__ import annotations

import contextlib
import gzip
import random
import select
import socket
import ssl
import threading
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.protocol import Protocol

from swift_provider.client import SwiftClient
from swift_provider.client.downloads import WHOLE_BYTES
from swift_provider.client.drained import drained
from swift_provider.client.http.exchange import Exchange
from swift_provider.client.request import Request
from swift_provider.client.slots import Lane
from swift_provider.client.upload_bodies import BytesBody
from tests.client.conftest import Faulty
from tests.client.trouble import begin, fetch, gets, soon, turn
from tests.servers.faults import Cut, Delay, in_response
from tests.servers.tls import Authority


async def put_with(
    client: SwiftClient,
    container: str,
    content: bytes,
    headers: dict[bytes, bytes],
    query: str = "",
) -> None:
    """A PUT of the test's own making."""
    request = Request(
        "PUT",
        container,
        "object",
        query=query,
        headers=headers,
        lane=Lane.WRITE,
        make_body=lambda: BytesBody(content, declare=False),
    )
    await client.requester.perform(request, drained)


@pytest.mark.parametrize("size", [1000, 1_000_000])
async def test_stored_bytes_are_not_decoded(
    faulty: Faulty, container: str, client: SwiftClient, size: int
) -> None:
    """An object stored with Content-Encoding is delivered, checked and resumed as it is stored."""
    content = gzip.compress(random.Random(4).randbytes(size))
    assert (len(content) > WHOLE_BYTES) == (size > 1000)
    await put_with(client, container, content, {b"Content-Encoding": b"gzip"})
    faulty.proxy.add(Cut(in_response(len(content) // 2)))
    assert await fetch(faulty.store(container)) == content
    assert len(gets(faulty)) == 2
    assert gets(faulty)[0].headers["accept-encoding"] == "identity"


# Connections


async def reused(client: SwiftClient, container: str) -> bool:
    """Whether the next request goes through a connection that carried one before."""

    async def handle(exchange: Exchange) -> bool:
        await drained(exchange)
        return exchange.reused

    return await client.requester.perform(Request("HEAD", container), handle)


@pytest.mark.parametrize("tls", [False, True])
async def test_a_reused_connection_is_told_from_a_new_one(
    make_faulty: Callable[..., Awaitable[Faulty]],
    authority: Authority,
    container: str,
    tls: bool,
) -> None:
    """``reused`` is false on a new connection and true on a kept one."""
    faulty = await make_faulty(tls=authority.server_context() if tls else None)
    client = faulty.client(**({"cacert": str(authority.ca)} if tls else {}))
    assert [await reused(client, container) for _ in range(3)] == [False, True, True]
    faulty.proxy.close_idle()
    await faulty.proxy.wait_closed()
    await turn()
    assert [await reused(client, container) for _ in range(2)] == [False, True]
    assert [seen.connection for seen in faulty.proxy.requests] == [1, 1, 1, 2, 2]


async def test_connections_at_once_are_both_new(faulty: Faulty, container: str) -> None:
    """A connection that is made while another is in use is a new one."""
    client = faulty.client()
    faulty.proxy.add(Delay(0.5), Delay(0.5))
    first, second = (begin(reused(client, container)) for _ in range(2))
    assert [await soon(first), await soon(second)] == [False, False]
    assert await reused(client, container) is True
    assert faulty.proxy.connections_ever == 2


class TwoAnswers:
    """A server in a thread of its own: takes one connection, and two requests from it.

    :ivar heard_second: the second request is there.
    """

    def __init__(self, context: ssl.SSLContext | None) -> None:
        self.heard_second = threading.Event()
        self._context = context
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]

    def serve(self) -> None:
        """Answer both; a client that goes away ends it."""
        with contextlib.suppress(OSError):
            connection, _ = self._listening.accept()
            connection.settimeout(30)
            if self._context is not None:
                connection = self._context.wrap_socket(connection, server_side=True)
            with connection:
                for heard in (threading.Event(), self.heard_second):
                    received = b""
                    while not received.endswith(b"\r\n\r\n"):
                        received += connection.recv(4096)
                    heard.set()
                    connection.sendall(b"HTTP/1.1 204 No Content\r\nX-Trans-Id: tx1\r\n\r\n")

    def close(self) -> None:
        self._listening.close()


@contextlib.contextmanager
def two_answers(authority: Authority | None) -> Iterator[TwoAnswers]:
    context = None
    if authority is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(authority.server_cert, authority.server_key)
    server = TwoAnswers(context)
    thread = threading.Thread(target=server.serve, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.close()
        thread.join(30)


@pytest.mark.parametrize("tls", [False, True])
async def test_a_request_leaves_at_once(make_client: Any, authority: Authority, tls: bool) -> None:
    """It does not wait for what else this turn of the reactor has to do."""
    with two_answers(authority if tls else None) as server:
        scheme = "https" if tls else "http"
        client = make_client(
            storage_url=f"{scheme}://127.0.0.1:{server.port}/v1/AUTH_x", cacert=str(authority.ca)
        )
        await reused(client, "container")
        second = begin(reused(client, "container"))
        assert server.heard_second.wait(10)  # the reactor stands still meanwhile
        assert await soon(second) is True


async def test_an_answer_that_comes_just_before_the_end(faulty: Faulty) -> None:
    """The reactor is about to write when it comes. It is read all the same."""
    server = socket.create_server(("127.0.0.1", 0))
    taken: Deferred[bytes] = Deferred()

    class Reader(Protocol):
        def dataReceived(self, data: bytes) -> None:
            taken.callback(data)

    with server:
        endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", server.getsockname()[1])
        reader = await connectProtocol(endpoint, Reader())
        tcp: Any = reader.transport
        faulty.client()._transport.prepare(tcp)
        peer, _ = server.accept()
        tcp.write(b"x" * 1000)
        peer.sendall(b"507")
        # What it has not read makes its end a reset.
        tcp.socket.send(b"x")
        peer.close()
        while not tcp.disconnected:
            tcp.write(b"x")
            reactor._doReadOrWrite(tcp, tcp.fileno(), select.EPOLLOUT)  # type: ignore[attr-defined]
        assert await soon(taken) == b"507"
