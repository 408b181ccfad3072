"""The fault proxy does exactly what each fault says, to the byte, and leaves nothing behind."""

from __future__ import annotations

import socket

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import (
    HostnameEndpoint,
    TCP4ClientEndpoint,
    connectProtocol,
    wrapClientTLS,
)
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.error import ConnectionRefusedError as RefusedError
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.ssl import Certificate, KeyPair, PrivateCertificate, optionsForClientTLS
from twisted.web.resource import Resource
from twisted.web.server import Site

from tests.servers.fault_proxy import FaultProxy
from tests.servers.faults import (
    AFTER_RESPONSE,
    AFTER_STATUS_LINE,
    BEFORE_RESPONSE,
    ON_REQUEST,
    Answer,
    Crawl,
    Cut,
    Delay,
    FlipBit,
    Pass,
    Reset,
    Stall,
    Then,
    in_request,
    in_response,
)
from tests.servers.forward_proxy import ForwardProxy
from tests.servers.tls import make_ca

BODY = bytes(range(256)) * 40
GET = b"GET /file HTTP/1.1\r\nHost: x\r\n\r\n"


def put(body: bytes = BODY, path: str = "/file", extra: str = "") -> bytes:
    head = f"PUT {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n{extra}\r\n"
    return head.encode() + body


class Wire(Protocol):
    """A raw connection that keeps what comes in, and how it ended."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.ended = None
        self._waiting: list = []

    def dataReceived(self, data: bytes) -> None:
        self.data += data
        self._look()

    def connectionLost(self, reason) -> None:
        self.ended = reason.type
        self._look()

    def _look(self) -> None:
        for waiting in list(self._waiting):
            if waiting[0]():
                self._waiting.remove(waiting)
                waiting[1].callback(None)

    async def until(self, true) -> None:
        if not true():
            deferred: Deferred[None] = Deferred()
            self._waiting.append((true, deferred))
            await deferred.addTimeout(10, reactor)

    async def end(self):
        await self.until(lambda: self.ended is not None)
        return self.ended

    async def answer(self) -> tuple[bytes, bytes]:
        """One whole response with a Content-Length: head and body; taken off the data."""
        await self.until(lambda: b"\r\n\r\n" in self.data)
        head, _, rest = self.data.partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
        await self.until(lambda: len(self.data) >= len(head) + 4 + length)
        rest = self.data[len(head) + 4 :]
        self.data = rest[length:]
        return head, rest[:length]


class RawServer:
    """A server whose connections are Wires; answers nothing on its own."""

    def __init__(self) -> None:
        self.wires: list[Wire] = []
        self._waiting: list = []
        factory = Factory()
        factory.noisy = False
        factory.buildProtocol = self._build
        self._port = reactor.listenTCP(0, factory, interface="127.0.0.1")
        self.port = self._port.getHost().port

    def _build(self, _address) -> Wire:
        wire = Wire()
        self.wires.append(wire)
        for deferred in self._waiting:
            reactor.callLater(0, deferred.callback, None)
        self._waiting = []
        return wire

    async def wire(self, number: int = 0) -> Wire:
        while len(self.wires) <= number:
            deferred: Deferred[None] = Deferred()
            self._waiting.append(deferred)
            await deferred.addTimeout(10, reactor)
        return self.wires[number]

    async def stop(self) -> None:
        await self._port.stopListening()
        for wire in self.wires:
            if wire.ended is None:
                wire.transport.abortConnection()
                await wire.end()


class Files(Resource):
    """Answers a GET with BODY, plain or chunked, and a PUT with what it was sent."""

    isLeaf = True

    def render_GET(self, request):
        if request.path == b"/chunked":
            request.write(BODY[:5000])
            request.write(BODY[5000:])
            request.finish()
            return 1
        return BODY

    def render_PUT(self, request):
        return request.content.read()


class Bench:
    """The server, the proxy and the clients of one test."""

    def __init__(self) -> None:
        self._ends: list = []

    async def web(self, **options) -> FaultProxy:
        site = Site(Files())
        site.noisy = False
        port = reactor.listenTCP(0, site, interface="127.0.0.1")
        self._ends.append(port.stopListening)
        return await self.proxy(port.getHost().port, **options)

    async def raw(self) -> tuple[FaultProxy, RawServer]:
        server = RawServer()
        self._ends.append(server.stop)
        return await self.proxy(server.port), server

    async def proxy(self, port: int, **options) -> FaultProxy:
        proxy = FaultProxy(reactor, "127.0.0.1", port, **options)
        await proxy.start()
        self._ends.append(proxy.stop)
        return proxy

    async def client(self, proxy, data: bytes = b"") -> Wire:
        endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", proxy.port)
        return await self._client(endpoint, data)

    async def _client(self, endpoint, data: bytes) -> Wire:
        wire = await connectProtocol(endpoint, Wire())
        self._ends.append(lambda: self._leave(wire))
        wire.transport.write(data)
        return wire

    async def tls_client(self, proxy, options, data: bytes) -> Wire:
        endpoint = HostnameEndpoint(reactor, "127.0.0.1", proxy.port)
        return await self._client(wrapClientTLS(options, endpoint), data)

    async def _leave(self, wire: Wire) -> None:
        if wire.ended is None:
            wire.transport.abortConnection()
            await wire.end()

    async def stop(self) -> None:
        for end in reversed(self._ends):
            result = end()
            if result is not None:
                await result


@pytest_twisted.async_yield_fixture
async def bench():
    """Whatever a test starts is stopped; no socket is left, and ``conftest`` looks for timers."""
    before = set(reactor.getReaders() + reactor.getWriters())
    bench = Bench()
    yield bench
    await bench.stop()
    assert not set(reactor.getReaders() + reactor.getWriters()) - before


async def test_passes_on_every_byte(bench):
    """Without faults, client and server get exactly each other's bytes."""
    proxy, server = await bench.raw()
    sent = put() + b"GET /n HTTP/1.1\r\nX-Odd:  spaced \r\n\r\n"
    client = await bench.client(proxy, sent)
    wire = await server.wire()
    await wire.until(lambda: len(wire.data) == len(put()))
    first = b"HTTP/1.1 201 Fine\r\nTransfer-Encoding: chunked\r\n\r\n"
    first += b"5;x=1\r\nhello\r\n0\r\nT: 1\r\n\r\n"
    wire.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n" + first)
    await wire.until(lambda: len(wire.data) == len(sent))
    assert wire.data == sent
    second = b"HTTP/1.1 200 OK\r\nX-A: 1\r\nContent-Length: 3\r\n\r\nabc"
    wire.transport.write(second)
    await client.until(lambda: client.data.endswith(b"abc"))
    assert client.data == b"HTTP/1.1 100 Continue\r\n\r\n" + first + second
    await proxy.wait_idle()
    assert [(seen.method, seen.path, seen.status) for seen in proxy.requests] == [
        ("PUT", "/file", 201),
        ("GET", "/n", 200),
    ]
    assert proxy.requests[0].request_bytes == len(BODY)
    assert proxy.requests[0].response_bytes == 5
    assert proxy.requests[1].headers == {"x-odd": "spaced"}
    assert proxy.bytes_to_target == len(sent)
    assert proxy.bytes_to_client == len(client.data)
    assert (proxy.connections_ever, proxy.connections_open) == (1, 1)


async def test_passes_on_bodies_that_end_with_the_connection(bench):
    """A response without a length ends as the server closes, and the client sees the close."""
    proxy, server = await bench.raw()
    client = await bench.client(proxy, GET)
    wire = await server.wire()
    await wire.until(lambda: wire.data == GET)
    wire.transport.write(b"HTTP/1.1 200 OK\r\n\r\n" + BODY)
    wire.transport.loseConnection()
    assert await client.end() is ConnectionDone
    assert client.data == b"HTTP/1.1 200 OK\r\n\r\n" + BODY
    assert proxy.requests[0].response_bytes == len(BODY)


async def test_passes_on_a_reset_by_the_server(bench):
    """A server's RST reaches the client as RST, after the bytes before it."""
    proxy, server = await bench.raw()
    client = await bench.client(proxy, GET)
    wire = await server.wire()
    await wire.until(lambda: wire.data == GET)
    wire.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc")
    await client.until(lambda: client.data.endswith(b"abc"))
    wire.transport.abortConnection()
    assert await client.end() is ConnectionLost


async def test_head_and_204_have_no_body(bench):
    """A HEAD's Content-Length announces no body, and the connection serves the next request."""
    proxy = await bench.web()
    client = await bench.client(proxy, b"HEAD /file HTTP/1.1\r\nHost: x\r\n\r\n" + GET)
    await client.until(lambda: len(client.data) > len(BODY) + 100 and client.data.endswith(BODY))
    await proxy.wait_idle()
    assert [seen.status for seen in proxy.requests] == [200, 200]
    assert proxy.requests[0].response_bytes == 0


async def test_a_client_that_leaves_is_seen_by_the_server(bench):
    """The server's connection ends as the client's did: FIN for FIN, RST for RST."""
    proxy, server = await bench.raw()
    for number, (leave, seen) in enumerate(
        [("loseConnection", ConnectionDone), ("abortConnection", ConnectionLost)]
    ):
        client = await bench.client(proxy, put()[:1000])
        wire = await server.wire(number)
        await wire.until(lambda wire=wire: len(wire.data) == 1000)
        getattr(client.transport, leave)()
        assert await wire.end() is seen
    await proxy.wait_idle()
    assert proxy.exchanges_open == 0


@pytest.mark.parametrize(("fault", "reason"), [(Reset, ConnectionLost), (Cut, ConnectionDone)])
@pytest.mark.parametrize("offset", [0, 1, 777, len(BODY)])
async def test_breaks_inside_the_response(bench, fault, reason, offset):
    """Exactly the asked number of body bytes arrive, then RST or FIN."""
    proxy = await bench.web()
    proxy.add(broken := fault(in_response(offset)))
    client = await bench.client(proxy, GET)
    assert await client.end() is reason
    assert client.data.partition(b"\r\n\r\n")[2] == BODY[:offset]
    assert broken.fired == 1
    await proxy.wait_idle()
    after = await bench.client(proxy, GET)
    assert (await after.answer())[1] == BODY


async def test_breaks_inside_a_chunked_response(bench):
    """Payload is counted without the chunks' own bytes, across a chunk's end."""
    proxy = await bench.web()
    proxy.add(Cut(in_response(5003)))
    client = await bench.client(proxy, GET.replace(b"/file", b"/chunked"))
    assert await client.end() is ConnectionDone
    chunked = client.data.partition(b"\r\n\r\n")[2]
    assert chunked == b"1388\r\n" + BODY[:5000] + b"\r\n1478\r\n" + BODY[5000:5003]


@pytest.mark.parametrize(("fault", "reason"), [(Reset, ConnectionLost), (Cut, ConnectionDone)])
@pytest.mark.parametrize("offset", [0, 1234, len(BODY)])
async def test_breaks_inside_the_request(bench, fault, reason, offset):
    """The server gets exactly the asked number of body bytes, the client RST or FIN."""
    proxy, server = await bench.raw()
    proxy.add(fault(in_request(offset)))
    client = await bench.client(proxy, put())
    assert await client.end() is reason
    assert client.data == b""
    wire = await server.wire()
    await wire.end()
    assert wire.data.partition(b"\r\n\r\n")[2] == BODY[:offset]


async def test_cut_of_a_running_upload_is_no_reset(bench):
    """A client that goes on sending after the cut sees FIN, and its bytes go nowhere."""
    proxy, server = await bench.raw()
    proxy.add(cut := Cut(in_request(1234)))
    client = await bench.client(proxy)
    client.transport.pauseProducing()
    client.transport.write(put(BODY * 500))
    await cut.happened()
    # All of it is taken while the client does not look.
    await settled(lambda: len(client.transport.dataBuffer) + client.transport._tempDataLen)
    client.transport.resumeProducing()
    assert await client.end() is ConnectionDone
    wire = await server.wire()
    await wire.end()
    assert wire.data.partition(b"\r\n\r\n")[2] == BODY[:1234]


@pytest.mark.parametrize(("fault", "reason"), [(Reset, ConnectionLost), (Cut, ConnectionDone)])
async def test_breaks_before_the_body(bench, fault, reason):
    """Breaks on request, before the response and after the status line send just that much."""
    proxy = await bench.web()
    proxy.add(fault(ON_REQUEST), fault(BEFORE_RESPONSE), fault(AFTER_STATUS_LINE))
    for status, got in [(None, b""), (200, b""), (200, b"HTTP/1.1 200 OK\r\n")]:
        client = await bench.client(proxy, GET)
        assert await client.end() is reason
        assert client.data == got
        assert proxy.requests[-1].status == status


async def test_stale_connections(bench):
    """A kept connection can be ended after its response, or as its next request comes in."""
    proxy = await bench.web()
    proxy.add(Cut(AFTER_RESPONSE), Reset(ON_REQUEST, reused=True))
    client = await bench.client(proxy, GET)
    assert (await client.answer())[1] == BODY
    assert await client.end() is ConnectionDone
    client = await bench.client(proxy, GET)
    assert (await client.answer())[1] == BODY
    client.transport.write(GET)
    assert await client.end() is ConnectionLost
    assert client.data == b""
    assert [seen.connection for seen in proxy.requests] == [1, 2, 2]


async def test_closes_idle_connections_only(bench):
    """``close_idle`` ends what waits for a request, and leaves an exchange alone."""
    proxy = await bench.web()
    idle = await bench.client(proxy, GET)
    await idle.answer()
    busy = await bench.client(proxy, put()[:500])
    await bench_wait(lambda: len(proxy.requests) == 2, proxy)
    proxy.close_idle()
    assert await idle.end() is ConnectionDone
    busy.transport.write(put()[500:])
    assert (await busy.answer())[1] == BODY


async def bench_wait(true, proxy) -> None:
    """Lets the reactor turn until it is true; for what has no event of its own."""
    for _ in range(2000):
        if true():
            return
        pause: Deferred[None] = Deferred()
        reactor.callLater(0.002, pause.callback, None)
        await pause
    raise AssertionError("never became true")


async def test_stalls_inside_the_response_until_released(bench):
    """Exactly the asked bytes arrive, and the rest after the release."""
    proxy = await bench.web()
    proxy.add(stall := Stall(in_response(300)))
    client = await bench.client(proxy, GET)
    await stall.happened()
    await client.until(lambda: client.data.endswith(BODY[:300]))
    turn: Deferred[None] = Deferred()
    reactor.callLater(0.1, turn.callback, None)
    await turn
    assert client.data.partition(b"\r\n\r\n")[2] == BODY[:300]
    assert proxy.exchanges_open == 1
    stall.release()
    assert (await client.answer())[1] == BODY


async def test_stalls_inside_the_request_until_released(bench):
    """The server gets the asked bytes, and the rest after the release."""
    proxy, server = await bench.raw()
    proxy.add(stall := Stall(in_request(300)))
    await bench.client(proxy, put())
    await stall.happened()
    wire = await server.wire()
    await wire.until(lambda: wire.data.endswith(BODY[:300]))
    turn: Deferred[None] = Deferred()
    reactor.callLater(0.1, turn.callback, None)
    await turn
    assert wire.data.partition(b"\r\n\r\n")[2] == BODY[:300]
    stall.release()
    await wire.until(lambda: wire.data == put())


@pytest.mark.parametrize("place", [ON_REQUEST, in_request(10), BEFORE_RESPONSE, in_response(10)])
@pytest.mark.parametrize("leave", ["loseConnection", "abortConnection"])
async def test_a_stall_ends_when_the_client_leaves(bench, place, leave):
    """A client that gives up during a stall is noticed, though it is not read from."""
    proxy = await bench.web()
    proxy.add(stall := Stall(place))
    # More than the proxy reads at once, but no more than the kernel takes: a FIN
    # comes after all that was written, so behind a full kernel it would never come.
    upload = put(BODY * 9)
    client = await bench.client(proxy, upload if "request" in place.name else GET)
    await stall.happened()
    getattr(client.transport, leave)()
    await proxy.wait_closed()
    assert proxy.exchanges_open == 0


@pytest.mark.parametrize(("body", "place"), [("in", in_request(4321)), ("out", in_response(4321))])
async def test_flips_one_bit(bench, body, place):
    """One bit of one byte is changed, and lengths stay."""
    proxy = await bench.web()
    proxy.add(flip := FlipBit(place, bit=3))
    client = await bench.client(proxy, put())
    answer = (await client.answer())[1]
    wrong = bytearray(BODY)
    wrong[4321] ^= 8
    assert answer == bytes(wrong)
    assert flip.fired == 1


async def test_answers_at_once_and_reads_on(bench):
    """An early answer comes while the body is being sent; the connection can be used again."""
    proxy = await bench.web()
    proxy.add(Answer(412, b"no", {"X-Why": "test"}))
    request = put()
    client = await bench.client(proxy, request[:200])
    head, body = await client.answer()
    assert (head, body) == (
        b"HTTP/1.1 412 Canned\r\nX-Why: test\r\nX-Trans-Id: canned\r\nContent-Length: 2",
        b"no",
    )
    assert proxy.exchanges_open == 1
    client.transport.write(request[200:] + GET)
    assert (await client.answer())[1] == BODY
    assert proxy.requests[0].request_bytes == len(BODY)
    assert proxy.connections_ever == 1
    assert proxy.bytes_to_target == len(GET)


async def test_answers_after_part_or_all_of_the_body(bench):
    """``after`` bytes are read first; ``None`` waits for the end, and sends 100 if asked to."""
    proxy = await bench.web()
    proxy.add(Answer(503, after=100), Answer(503, after=None))
    request = put()
    start = len(request) - len(BODY)
    client = await bench.client(proxy, request[: start + 99])
    await bench_wait(lambda: proxy.requests and proxy.requests[0].request_bytes == 99, proxy)
    assert client.data == b""
    client.transport.write(request[start + 99 : start + 100])
    await client.answer()
    client = await bench.client(proxy, put(extra="Expect: 100-continue\r\n")[:-1])
    await client.until(lambda: client.data == b"HTTP/1.1 100 Continue\r\n\r\n")
    await bench_wait(lambda: proxy.requests[-1].request_bytes == len(BODY) - 1, proxy)
    assert client.data == b"HTTP/1.1 100 Continue\r\n\r\n"
    client.transport.write(BODY[-1:])
    await client.until(lambda: b" 503 " in client.data)


async def test_answers_and_stops_reading(bench):
    """After its answer nothing is read: a large upload stands still, and the connection stays."""
    proxy = await bench.web()
    proxy.add(Answer(412, b"no", then=Then.STOP_READING))
    client = await bench.client(proxy, put(BODY * 2000))
    await client.answer()
    await settled(lambda: proxy.requests[0].request_bytes)
    # One read of the proxy at most came before the answer.
    assert proxy.requests[0].request_bytes <= 65536
    assert (proxy.connections_open, proxy.exchanges_open) == (1, 1)


async def test_answers_and_closes(bench):
    """The server's close in the middle of an upload is a real one, with bytes left unread."""
    proxy = await bench.web()
    proxy.add(Answer(412, b"no", then=Then.CLOSE))
    client = await bench.client(proxy, put(BODY * 2000))
    await client.end()
    await proxy.wait_closed()
    assert proxy.requests[0].request_bytes < len(BODY) * 2000


async def test_answers_headers_first_and_body_later(bench):
    """Headers and body come in two segments, with the asked time between."""
    proxy = await bench.web()
    proxy.add(Answer(412, b"later", body_delay=0.1, then=Then.CLOSE))
    client = await bench.client(proxy, GET)
    await client.until(lambda: client.data.endswith(b"\r\n\r\n"))
    began = reactor.seconds()
    assert await client.end() is ConnectionDone
    assert client.data.endswith(b"Content-Length: 5\r\n\r\nlater")
    assert reactor.seconds() - began > 0.08


async def test_answers_with_garbage_or_a_short_body(bench):
    """What is not HTTP, and a body shorter than announced, go out as they are."""
    proxy = await bench.web()
    proxy.add(
        Answer(200, raw=b"garbage\r\n", then=Then.CLOSE),
        Answer(200, b"abc", {"Content-Length": "5"}, then=Then.CLOSE),
    )
    client = await bench.client(proxy, GET)
    assert await client.end() is ConnectionDone
    assert client.data == b"garbage\r\n"
    client = await bench.client(proxy, GET)
    assert await client.end() is ConnectionDone
    head = b"HTTP/1.1 200 Canned\r\nContent-Length: 5\r\nX-Trans-Id: canned\r\n\r\n"
    assert client.data == head + b"abc"


@pytest.mark.parametrize("place", [ON_REQUEST, BEFORE_RESPONSE])
async def test_delays(bench, place):
    """The server gets the request, or the client its answer, only after the asked time."""
    proxy = await bench.web()
    proxy.add(delay := Delay(0.1, place))
    client = await bench.client(proxy, GET)
    await delay.happened()
    began = reactor.seconds()
    assert proxy.requests[0].status == (None if place is ON_REQUEST else 200)
    assert (await client.answer())[1] == BODY
    assert reactor.seconds() - began > 0.08


async def test_crawls_until_released(bench):
    """Both bodies come a few bytes at a time, and at once after the release."""
    proxy = await bench.web()
    proxy.add(crawl := Crawl(0.01, bytes_per_second=400, times=None))
    slow, upload = await bench.client(proxy, GET), await bench.client(proxy, put())
    began = reactor.seconds()
    await crawl.happened()
    seen = {request.method: request for request in proxy.requests}
    await bench_wait(lambda: seen["GET"].response_bytes >= 300, proxy)
    assert reactor.seconds() - began > 0.4
    assert seen["GET"].response_bytes < 1000
    assert seen["PUT"].request_bytes < 1000
    crawl.release()
    assert (await slow.answer())[1] == BODY
    await upload.answer()
    assert seen["PUT"].request_bytes == len(BODY)
    assert reactor.seconds() - began < 5


async def test_faults_come_in_order_and_by_match(bench):
    """Each request meets the first fault that has turns left and matches method and path."""
    proxy = await bench.web()
    proxy.add(
        Answer(500, match=("PUT", "/file$"), times=2),
        Pass(),
        Answer(501, match=(None, "fi")),
        Answer(502, times=None),
    )
    client = await bench.client(proxy)
    statuses = []
    for request in (GET, put(), GET, put(), GET, put(b"", "/other")):
        client.transport.write(request)
        statuses.append(int((await client.answer())[0].split()[1]))
    assert statuses == [200, 500, 501, 500, 502, 502]


async def test_refuses_connections_for_a_while(bench):
    """A closed port refuses, open connections go on, and the same port opens again."""
    proxy = await bench.web()
    client = await bench.client(proxy, GET)
    await client.answer()
    await proxy.refuse()
    with pytest.raises(RefusedError):
        await bench.client(proxy)
    client.transport.write(GET)
    await client.answer()
    proxy.accept_again()
    proxy.reset_connections(1)
    reset = await bench.client(proxy)
    assert await reset.end() is ConnectionLost
    again = await bench.client(proxy, GET)
    assert (await again.answer())[1] == BODY
    await proxy.refuse(seconds=0.05)
    turn: Deferred[None] = Deferred()
    reactor.callLater(0.15, turn.callback, None)
    await turn
    await (await bench.client(proxy, GET)).answer()


async def test_slow_client_slows_the_server_down(bench):
    """What the proxy holds for a client that does not read is bounded, and all of it arrives."""
    proxy, server = await bench.raw()
    total = 64 * 1024 * 1024
    client = await bench.client(proxy, GET)
    client.transport.pauseProducing()
    wire = await server.wire()
    await wire.until(lambda: wire.data == GET)
    wire.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % total)
    source = Source(wire.transport, total)
    await settled(lambda: proxy.bytes_to_client)
    # Both kernels' socket buffers, 6 MiB each at most, and a few reads of the proxy.
    assert source.sent < 32 * 1024 * 1024
    assert held_by(proxy) < 512 * 1024
    client.transport.resumeProducing()
    await client.until(lambda: len(client.data) > total)
    assert len(client.data.partition(b"\r\n\r\n")[2]) == total


async def test_send_buffer(bench):
    """The kernel holds back no more for new connections than the proxy is told."""
    proxy, _ = await bench.raw()
    proxy.send_buffer = 16 * 1024
    await bench.client(proxy, GET)
    await settled(lambda: proxy.connections_open)
    (relay,) = proxy._relays
    handle = relay._front.transport.getHandle()
    # Linux doubles what it is told, to have room for its own records.
    assert handle.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) <= 2 * proxy.send_buffer


async def test_slow_server_slows_the_client_down(bench):
    """What the proxy holds for a server that does not read is bounded, and all of it arrives."""
    proxy, server = await bench.raw()
    total = 64 * 1024 * 1024
    client = await bench.client(proxy, b"PUT /f HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % total)
    wire = await server.wire()
    await wire.until(lambda: wire.data.endswith(b"\r\n\r\n"))
    wire.transport.pauseProducing()
    source = Source(client.transport, total)
    await settled(lambda: proxy.bytes_to_target)
    assert source.sent < 32 * 1024 * 1024
    assert held_by(proxy) < 512 * 1024
    wire.transport.resumeProducing()
    await wire.until(lambda: len(wire.data) > total)
    assert len(wire.data.partition(b"\r\n\r\n")[2]) == total


class Source:
    """Writes zeros as fast as the transport takes them."""

    def __init__(self, transport, total: int) -> None:
        self.sent = 0
        self._left = total
        self._transport = transport
        transport.registerProducer(self, False)

    def resumeProducing(self) -> None:
        count = min(self._left, 65536)
        self._left -= count
        self.sent += count
        self._transport.write(bytes(count))
        if not self._left:
            self._transport.unregisterProducer()

    def stopProducing(self) -> None:
        self._left = 0


async def settled(number) -> None:
    """Returns when the number has not changed for a quarter of a second."""
    last, since = None, reactor.seconds()
    while reactor.seconds() - since < 0.25:
        if number() != last:
            last, since = number(), reactor.seconds()
        pause: Deferred[None] = Deferred()
        reactor.callLater(0.01, pause.callback, None)
        await pause


def held_by(proxy) -> int:
    """Bytes in the proxy's own buffers."""
    total = 0
    for relay in proxy._relays:
        total += relay._request.parser.buffered + relay._response.parser.buffered
        for side in (relay._front, relay.back):
            total += len(side.transport.dataBuffer) - side.transport.offset
            total += side.transport._tempDataLen
    return total


async def test_stop_in_the_middle_of_everything(bench):
    """Stalled, delayed, half-sent and idle connections are all gone after ``stop``."""
    proxy = await bench.web()
    proxy.add(
        Stall(in_response(5), match=(None, "/a")),
        Delay(500, match=(None, "/b")),
        Answer(200, b"x", body_delay=500, match=(None, "/c")),
        Stall(in_request(5), match=(None, "/d")),
    )
    clients = [await bench.client(proxy, put(path=path)) for path in ("/a", "/b", "/c", "/d", "/e")]
    await clients[4].answer()
    await bench_wait(lambda: len(proxy.requests) == 5, proxy)
    assert proxy.exchanges_peak in (4, 5)
    await proxy.stop()
    for client in clients:
        await client.end()
    assert proxy.exchanges_open == proxy.connections_open == proxy.target_connections_open == 0
    far = [call for call in reactor.getDelayedCalls() if call.getTime() > reactor.seconds() + 400]
    assert not far


async def test_peak_of_exchanges(bench):
    """The peak is the number of exchanges that were open together, not of all that were."""
    proxy = await bench.web()
    proxy.add(stall := Stall(BEFORE_RESPONSE, times=3))
    clients = [await bench.client(proxy, GET) for _ in range(3)]
    await bench_wait(lambda: stall.fired == 3, proxy)
    stall.release()
    for client in clients:
        await client.answer()
        client.transport.write(GET)
        await client.answer()
    await proxy.wait_idle()
    assert (proxy.exchanges_peak, len(proxy.requests), proxy.connections_peak) == (3, 6, 3)


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    """A CA and its certificates."""
    return make_ca(tmp_path_factory.mktemp("ca"))


def trusting(authority, with_certificate: bool = False):
    own = None
    if with_certificate:
        pem = authority.client_cert.read_bytes() + authority.client_key.read_bytes()
        own = PrivateCertificate.loadPEM(pem)
        assert isinstance(own.privateKey, KeyPair)
    root = Certificate.loadPEM(authority.ca.read_bytes())
    return optionsForClientTLS("127.0.0.1", trustRoot=root, clientCertificate=own)


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (lambda: Reset(in_response(777)), ConnectionLost),
        (lambda: Cut(in_response(777)), ConnectionDone),
        (lambda: Cut(in_response(777), close_notify=False), ConnectionLost),
    ],
)
async def test_breaks_under_tls(bench, authority, fault, reason):
    """Under TLS a reset, a clean end and one without close_notify come after the right byte."""
    proxy = await bench.web(tls=authority.server_context())
    proxy.add(fault())
    client = await bench.tls_client(proxy, trusting(authority), GET)
    assert await client.end() is reason
    assert client.data.partition(b"\r\n\r\n")[2] == BODY[:777]
    again = await bench.tls_client(proxy, trusting(authority), GET)
    assert (await again.answer())[1] == BODY
    assert (
        proxy.url_for("http://127.0.0.1:1/v1/a?b=c") == f"https://127.0.0.1:{proxy.port}/v1/a?b=c"
    )


async def test_a_stall_under_tls_ends_when_the_client_leaves(bench, authority):
    """A TLS client that gives up during a stalled upload is noticed."""
    proxy = await bench.web(tls=authority.server_context())
    proxy.add(stall := Stall(in_request(10)))
    client = await bench.tls_client(proxy, trusting(authority), put(BODY * 100))
    await stall.happened()
    client.transport.abortConnection()
    await proxy.wait_closed()


async def test_client_certificate_is_required(bench, authority):
    """With ``require_client`` only a client with a certificate of this CA is served."""
    proxy = await bench.web(tls=authority.server_context(require_client=True))
    client = await bench.tls_client(proxy, trusting(authority, with_certificate=True), GET)
    assert (await client.answer())[1] == BODY
    stranger = await bench.tls_client(proxy, trusting(authority), GET)
    await stranger.end()
    assert stranger.data == b""


async def test_another_authority_is_not_trusted(bench, authority, tmp_path):
    """A client that trusts another CA does not speak with the server."""
    proxy = await bench.web(tls=authority.server_context())
    client = await bench.tls_client(proxy, trusting(make_ca(tmp_path)), GET)
    await client.end()
    assert client.data == b""
    assert not proxy.requests


async def forward(bench, target, **options) -> ForwardProxy:
    way = ForwardProxy(reactor, **options)
    await way.start()
    bench._ends.append(way.stop)
    return way


async def test_forward_proxy_passes_absolute_requests(bench):
    """An absolute-URI request reaches its host in origin form, without the proxy's own headers."""
    proxy, server = await bench.raw()
    way = await forward(bench, proxy, user_and_password="me:secret")
    uri = f"http://127.0.0.1:{server.port}//a%20b?x=/y"
    head = f"GET {uri} HTTP/1.1\r\nHost: h\r\nProxy-Authorization: Basic bWU6c2VjcmV0\r\n\r\n"
    client = await bench.client(way, head.encode())
    wire = await server.wire()
    await wire.until(lambda: wire.data.endswith(b"\r\n\r\n"))
    assert wire.data == b"GET //a%20b?x=/y HTTP/1.1\r\nHost: h\r\n\r\n"
    wire.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")
    assert (await client.answer())[1] == b"hi"
    client.transport.write(head.encode())
    await wire.until(lambda: wire.data.count(b"GET") == 2)
    assert [(passed.method, passed.target) for passed in way.passed] == [("GET", uri)] * 2
    refused = await bench.client(way, f"GET {uri} HTTP/1.1\r\nHost: h\r\n\r\n".encode())
    assert await refused.end() is ConnectionDone
    assert refused.data.startswith(b"HTTP/1.1 407 ")


async def test_forward_proxy_opens_tunnels(bench):
    """CONNECT gives a tunnel that carries bytes both ways; an unreachable host is a 502."""
    proxy, server = await bench.raw()
    way = await forward(bench, proxy)
    client = await bench.client(
        way, f"CONNECT 127.0.0.1:{server.port} HTTP/1.1\r\nHost: h\r\n\r\n".encode()
    )
    await client.until(lambda: client.data.endswith(b"\r\n\r\n"))
    assert client.data.startswith(b"HTTP/1.1 200 ")
    client.transport.write(b"\x16\x03\x01" * 100)
    wire = await server.wire()
    await wire.until(lambda: len(wire.data) == 300)
    wire.transport.write(b"back")
    await client.until(lambda: client.data.endswith(b"back"))
    assert way.tunnel_bytes == 300
    wire.transport.loseConnection()
    assert await client.end() is ConnectionDone
    await proxy.refuse()
    lost = await bench.client(way, f"CONNECT 127.0.0.1:{proxy.port} HTTP/1.1\r\n\r\n".encode())
    assert await lost.end() is ConnectionDone
    assert lost.data.startswith(b"HTTP/1.1 502 ")
