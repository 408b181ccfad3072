"""Downloads from a real Swift behind a proxy that breaks, stalls, damages and lies."""

from __future__ import annotations

import gzip
import hashlib
import os
import random
import socket
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred, ensureDeferred

from swift_provider.client import FileSource, Patience, SwiftClient
from swift_provider.client.bodies import BytesBody
from swift_provider.client.client import WHOLE_BYTES
from swift_provider.client.downloads import State, StreamedDownload
from swift_provider.client.observer import Observer
from swift_provider.client.requester import Request, drained
from swift_provider.client.slots import Lane
from swift_provider.errors import (
    ConnectionFailedError,
    ConsumerStoppedError,
    DamagedError,
    ObjectChangedError,
    ObjectNotFoundError,
    SwiftError,
    SwiftProviderError,
    TimedOutError,
)
from tests.client.conftest import Faulty, Sink
from tests.servers.faults import (
    AFTER_STATUS_LINE,
    BEFORE_RESPONSE,
    ON_REQUEST,
    Answer,
    Cut,
    Fault,
    FlipBit,
    Pass,
    Reset,
    Stall,
    Then,
    in_response,
)
from tests.servers.tls import Authority, make_ca

SMALL = random.Random(1).randbytes(60_000)
LARGE = random.Random(2).randbytes(3_000_000)
MD5 = hashlib.md5(LARGE).hexdigest()
GET = ("GET", "/object$")
MIB = 1024 * 1024

Store = Callable[..., Awaitable[None]]


@pytest.fixture
def store(client: SwiftClient, container: str, make_file: Callable[[bytes], FileSource]) -> Store:
    """Puts an object into Swift, past the proxy."""

    async def store(content: bytes, name: str = "object") -> None:
        await client.put_object(container, name, make_file(content))

    return store


async def fetch(client: SwiftClient, container: str, sink: Sink | None = None) -> bytes:
    """The content of ``object``, as a consumer gets it."""
    sink = sink or Sink()
    download = await client.get_object(container, "object")
    await download.deliver(sink)
    return sink.content


def started(coroutine: Any) -> tuple[Deferred[Any], list[Any]]:
    """An operation under way, and, once it has ended, its result or error."""
    outcome: list[Any] = []
    deferred = ensureDeferred(coroutine)
    deferred.addCallbacks(outcome.append, lambda failure: outcome.append(failure.value))
    return deferred, outcome


async def until(true: Callable[[], Any], seconds: float = 10.0) -> None:
    """Lets the reactor turn until it is true."""
    end = reactor.seconds() + seconds
    while not true():
        assert reactor.seconds() < end, "it did not come to that"
        turn: Deferred[None] = Deferred()
        reactor.callLater(0.005, turn.callback, None)
        await turn


async def settled(number: Callable[[], int]) -> int:
    """Returns a number once it has not changed for a quarter of a second."""
    last, since = None, reactor.seconds()
    while reactor.seconds() - since < 0.25:
        if number() != last:
            last, since = number(), reactor.seconds()
        turn: Deferred[None] = Deferred()
        reactor.callLater(0.01, turn.callback, None)
        await turn
    assert last is not None
    return last


def gets(faulty: Faulty) -> list[Any]:
    """The requests for the object, in order."""
    return [r for r in faulty.proxy.requests if r.method == "GET" and r.path.endswith("/object")]


def parked_after(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    monkeypatch.setattr("swift_provider.client.downloads.PARK_SECONDS", seconds)


# Back-pressure


class Pieces(Sink):
    """A sink for much."""

    def __init__(self, pause_after: int | None = None) -> None:
        super().__init__(pause_after)
        self.pieces: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.pieces.append(data)
        self.content = b""
        super().write(data)


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def test_a_paused_consumer_stops_the_server(
    faulty: Faulty, container: str, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is on its way to a consumer that has paused is in the kernels' buffers, not in ours."""
    parked_after(monkeypatch, 60)
    content = random.Random(3).randbytes(64 * MIB)
    await store(content)
    sink = Pieces(pause_after=1)
    download = await faulty.client().get_object(container, "object")
    before = resident_bytes()
    done = download.deliver(sink)
    sent = await settled(lambda: faulty.proxy.bytes_to_client)
    # Both kernels' socket buffers, 6 MiB each at most, and a few reads.
    assert sent < 24 * MIB
    assert sum(map(len, sink.pieces)) <= 2 * 64 * 1024
    assert resident_bytes() - before < 8 * MIB
    assert sink.producer is not None
    sink.producer.resumeProducing()
    await done
    assert b"".join(sink.pieces) == content


async def test_a_pause_within_the_first_bytes_is_kept(faulty: Faulty, container: str) -> None:
    """Bytes that came together with the headers are written at once; a pause in them holds."""
    faulty.proxy.add(Answer(200, LARGE, {"ETag": MD5}))
    sink = Pieces(pause_after=1)
    download = await faulty.client().get_object(container, "object")
    turn: Deferred[None] = Deferred()
    reactor.callLater(0, turn.callback, None)
    await turn
    done = download.deliver(sink)
    assert sink.pieces, "they did not come together"
    await settled(lambda: len(sink.pieces))
    assert sum(map(len, sink.pieces)) <= 64 * 1024
    assert sink.producer is not None
    sink.producer.resumeProducing()
    await done
    assert b"".join(sink.pieces) == LARGE


# Broken bodies


CUTS: list[Callable[[int], Fault]] = [
    lambda n: Cut(in_response(n)),
    lambda n: Reset(in_response(n)),
]


@pytest.mark.parametrize("break_off", CUTS)
@pytest.mark.parametrize("offset", [0, 1, 64 * 1024, 1_234_567, len(LARGE) - 1])
async def test_a_broken_body_is_resumed(
    faulty: Faulty, container: str, store: Store, break_off: Callable[[int], Fault], offset: int
) -> None:
    """A lost connection is followed by a conditional request for the rest, and for no more."""
    await store(LARGE)
    faulty.proxy.add(break_off(offset))
    assert await fetch(faulty.client(), container) == LARGE
    _, second = gets(faulty)
    assert second.headers["if-match"] == MD5
    assert second.headers.get("range") == (f"bytes={offset}-" if offset else None)
    assert second.response_bytes == len(LARGE) - offset


async def test_a_body_that_breaks_again_and_again(
    faulty: Faulty, container: str, store: Store
) -> None:
    """Each break further on is mended, however many there are."""
    await store(LARGE)
    faults = [CUTS[n % 2](100_000 + 7 * n) for n in range(20)]
    faulty.proxy.add(*faults)
    assert await fetch(faulty.client(), container) == LARGE
    assert [fault.fired for fault in faults] == [1] * 20
    assert len(gets(faulty)) == 21


async def test_a_body_without_progress_ends_in_an_error(
    faulty: Faulty, container: str, store: Store
) -> None:
    """A body that breaks at the same byte each time is given up within the patience."""
    await store(LARGE)
    faulty.proxy.add(Reset(in_response(1000)), Reset(in_response(0), times=None))
    sink = Sink()
    began = reactor.seconds()
    with pytest.raises(ConnectionFailedError, match="in the middle of its answer"):
        await fetch(faulty.client(), container, sink)
    assert reactor.seconds() - began < 6
    assert sink.content == LARGE[:1000]
    assert sink.events == ["registered", "unregistered"]
    assert len(gets(faulty)) > 5
    await faulty.proxy.wait_closed()


@pytest.mark.parametrize("offset", [0, 100_000])
async def test_a_silent_body_is_resumed(
    faulty: Faulty, container: str, store: Store, offset: int
) -> None:
    """A body that falls silent is resumed on another connection, and the silent one closed."""
    await store(LARGE)
    faulty.proxy.add(stall := Stall(in_response(offset)))
    assert await fetch(faulty.client(idle_timeout=0.2), container) == LARGE
    assert stall.fired == 1
    assert len({seen.connection for seen in gets(faulty)}) == 2
    await until(lambda: faulty.proxy.connections_open <= 1)


async def test_a_broken_answer_to_the_request_for_the_rest(
    faulty: Faulty, container: str, store: Store
) -> None:
    """What goes wrong on the way to the rest is tried again, too."""
    await store(LARGE)
    faulty.proxy.add(
        Cut(in_response(1000)),
        Answer(503),
        Reset(AFTER_STATUS_LINE),
        Cut(BEFORE_RESPONSE),
        Answer(200, raw=b"garbage\r\n\r\n", then=Then.CLOSE),
    )
    assert await fetch(faulty.client(), container) == LARGE
    assert [seen.headers.get("range") for seen in gets(faulty)] == [None] + 5 * ["bytes=1000-"]


# Small bodies


@pytest.mark.parametrize(
    "fault",
    [
        lambda: FlipBit(in_response(30_000), bit=5),
        lambda: Cut(in_response(30_000)),
        lambda: Reset(in_response(0)),
        lambda: Stall(in_response(59_999)),
        lambda: Answer(200, SMALL[:-1], {"ETag": hashlib.md5(SMALL).hexdigest()}),
    ],
    ids=["damaged", "cut", "reset", "stalled", "short"],
)
async def test_a_small_body_is_right_before_it_is_delivered(
    faulty: Faulty, container: str, store: Store, fault: Callable[[], Fault]
) -> None:
    """What is wrong with a small body is mended before the consumer sees any of it."""
    await store(SMALL)
    faulty.proxy.add(fault())
    sink = Sink()
    writes: list[int] = []
    sink.on_write = lambda: writes.append(len(sink.content))
    await fetch(faulty.client(idle_timeout=0.2), container, sink)
    assert sink.content == SMALL
    assert writes == [len(SMALL)]
    assert len(gets(faulty)) == 2


async def test_a_small_body_that_stays_wrong(faulty: Faulty, container: str, store: Store) -> None:
    """Damage that does not go away is an error of *get_object*, before anything is delivered."""
    await store(SMALL)
    faulty.proxy.add(FlipBit(in_response(1), times=None))
    with pytest.raises(DamagedError, match="MD5"):
        await faulty.client().get_object(container, "object")
    assert len(gets(faulty)) > 2


# Damage and lies


async def test_a_flipped_bit_in_a_large_body(faulty: Faulty, container: str, store: Store) -> None:
    """Wrong bytes that were delivered already make the download fail at its end."""
    await store(LARGE)
    faulty.proxy.add(FlipBit(in_response(2_000_000)))
    sink = Sink()
    with pytest.raises(DamagedError):
        await fetch(faulty.client(), container, sink)
    assert len(sink.content) == len(LARGE)
    assert sink.events == ["registered", "unregistered"]


async def test_a_flipped_bit_after_resuming(faulty: Faulty, container: str, store: Store) -> None:
    """The sum is that of all pieces."""
    await store(LARGE)
    faulty.proxy.add(Cut(in_response(1_000_000)), FlipBit(in_response(1_000_000)))
    with pytest.raises(DamagedError):
        await fetch(faulty.client(), container)


@pytest.mark.parametrize("missing", [0, 1, 1_000_000])
async def test_a_body_without_a_length(
    faulty: Faulty, container: str, store: Store, missing: int
) -> None:
    """A close may be the end or a break: the rest is asked for, and 416 says there is none."""
    await store(LARGE)
    raw = b"HTTP/1.1 200 OK\r\nETag: %b\r\n\r\n" % MD5.encode()
    raw += LARGE[: len(LARGE) - missing]
    faulty.proxy.add(Answer(200, raw=raw, then=Then.CLOSE))
    assert await fetch(faulty.client(), container) == LARGE
    assert [seen.status for seen in gets(faulty)] == [200, 206 if missing else 416]


async def test_a_chunked_body_that_is_short(faulty: Faulty, container: str, store: Store) -> None:
    """A chunked body that ends in good order but lacks bytes is no success."""
    await store(LARGE)
    raw = b"HTTP/1.1 200 OK\r\nETag: %b\r\nTransfer-Encoding: chunked\r\n\r\n" % MD5.encode()
    raw += b"%x\r\n%b\r\n0\r\n\r\n" % (len(LARGE) - 1, LARGE[:-1])
    faulty.proxy.add(Answer(200, raw=raw))
    with pytest.raises(DamagedError):
        await fetch(faulty.client(), container)


@pytest.mark.parametrize("content", [SMALL, LARGE], ids=["small", "large"])
async def test_a_short_body_with_a_right_length(
    faulty: Faulty, container: str, store: Store, content: bytes
) -> None:
    """A server that announces as few bytes as it sends is not believed."""
    await store(content)
    etag = hashlib.md5(content).hexdigest()
    faulty.proxy.add(Answer(200, content[:-1], {"ETag": etag}, times=None))
    with pytest.raises(DamagedError):
        await fetch(faulty.client(), container)


@pytest.mark.parametrize(
    "etag", [f'"{MD5}"', f'W/"{MD5}"', MD5.upper(), f'"{MD5.upper()}"'], ids=str
)
async def test_an_etag_in_any_writing(
    faulty: Faulty, container: str, store: Store, etag: str
) -> None:
    """Quotes, weakness and case make no other object of it."""
    await store(LARGE)
    headers = {"ETag": etag, "Content-Length": str(len(LARGE))}
    faulty.proxy.add(Answer(200, LARGE[:500_000], headers, then=Then.CLOSE))
    assert await fetch(faulty.client(), container) == LARGE
    assert gets(faulty)[1].status == 206


async def test_without_an_etag_nothing_is_patched_together(
    faulty: Faulty, container: str, store: Store
) -> None:
    """Where nothing tells one object from another, a broken body is not continued."""
    await store(LARGE)
    headers = {"Content-Length": str(len(LARGE))}
    faulty.proxy.add(Answer(200, LARGE[:500_000], headers, then=Then.CLOSE))
    with pytest.raises(SwiftError, match="without an ETag"):
        await fetch(faulty.client(), container)


async def test_if_match_that_never_matches(faulty: Faulty, container: str, store: Store) -> None:
    """A 412 is believed only if the object really is another one."""
    await store(LARGE)
    faulty.proxy.add(Cut(in_response(1_000_000)), Answer(412, match=GET))
    assert await fetch(faulty.client(), container) == LARGE
    assert [seen.headers.get("if-match") for seen in gets(faulty)] == [None, MD5, None]


# The object meanwhile


async def test_an_object_that_was_replaced(faulty: Faulty, container: str, store: Store) -> None:
    """Bytes of two objects are never mixed."""
    await store(LARGE)
    faulty.proxy.add(Cut(in_response(1_000_000)), stall := Stall(ON_REQUEST))
    sink = Sink()
    _, outcome = started(fetch(faulty.client(), container, sink))
    await stall.happened()
    await store(LARGE[::-1])
    stall.release()
    await until(lambda: outcome)
    assert isinstance(outcome[0], ObjectChangedError)
    assert sink.content == LARGE[:1_000_000]
    assert sink.events == ["registered", "unregistered"]


@pytest.mark.parametrize("status", [200, 206])
async def test_an_answer_with_another_etag(
    faulty: Faulty, container: str, store: Store, status: int
) -> None:
    """A server that ignores If-Match gives itself away by its ETag."""
    await store(LARGE)
    headers = {"ETag": "0" * 32, "Content-Range": f"bytes 1000000-2999999/{len(LARGE)}"}
    faulty.proxy.add(Cut(in_response(1_000_000)), Answer(status, LARGE[1_000_000:], headers))
    faulty.proxy.add(Answer(200, b"", {"ETag": "0" * 32}, match=("HEAD", "")))
    sink = Sink()
    with pytest.raises(ObjectChangedError):
        await fetch(faulty.client(), container, sink)
    assert sink.content == LARGE[:1_000_000]


async def test_an_object_that_was_deleted(
    faulty: Faulty, container: str, store: Store, client: SwiftClient
) -> None:
    """An object that vanishes in the middle of its download is an error."""
    await store(LARGE)
    faulty.proxy.add(Cut(in_response(1_000_000)), stall := Stall(ON_REQUEST))
    _, outcome = started(fetch(faulty.client(), container))
    await stall.happened()
    await client.delete_object(container, "object")
    stall.release()
    await until(lambda: outcome)
    assert isinstance(outcome[0], ObjectNotFoundError)


async def test_a_range_that_is_ignored(faulty: Faulty, container: str, store: Store) -> None:
    """A 200 in place of a 206 is skipped up to where the consumer is."""
    await store(LARGE)
    faulty.proxy.add(Cut(in_response(1_000_000)), Answer(200, LARGE, {"ETag": MD5}))
    assert await fetch(faulty.client(), container) == LARGE


@pytest.mark.parametrize("shown", ["bytes 1000001-2999999/3000000", "nonsense", ""])
async def test_a_range_that_was_not_asked_for(
    faulty: Faulty, container: str, store: Store, shown: str
) -> None:
    """A 206 that leaves a gap, or does not say where it begins, is refused."""
    await store(LARGE)
    headers = {"ETag": MD5, "Content-Range": shown}
    faulty.proxy.add(Cut(in_response(1_000_000)), Answer(206, LARGE[1_000_001:], headers))
    with pytest.raises(SwiftError, match="asked for the bytes from 1000000 on"):
        await fetch(faulty.client(), container)


async def test_a_token_that_ends_meanwhile(faulty: Faulty, container: str, store: Store) -> None:
    """A 401 to the request for the rest is followed by a new token."""
    await store(LARGE)
    faulty.proxy.add(Cut(in_response(1_000_000)), Answer(401))
    assert await fetch(faulty.client(), container) == LARGE
    tokens = [seen.headers["x-auth-token"] for seen in gets(faulty)]
    assert tokens[0] == tokens[1] != tokens[2]
    assert gets(faulty)[2].headers["range"] == "bytes=1000000-"


# Parking


async def test_slow_readers_do_not_stop_others(
    faulty: Faulty, container: str, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Consumers that stay paused leave their slots and connections to others, and go on later."""
    parked_after(monkeypatch, 0.1)
    await store(LARGE)
    client = faulty.client(threadpool_size=2)
    slow = [Sink(pause_after=1) for _ in range(4)]
    done = [(await client.get_object(container, "object")).deliver(sink) for sink in slow]
    assert await fetch(client, container) == LARGE
    await until(lambda: client.slots.in_flight == 0)
    await until(lambda: faulty.proxy.connections_open <= 1)
    # Nobody asks for anything as long as all are asleep.
    before = len(faulty.proxy.requests)
    await settled(lambda: len(faulty.proxy.requests))
    assert len(faulty.proxy.requests) == before
    assert {len(sink.content) < len(LARGE) for sink in slow} == {True}
    for sink in slow:
        assert sink.producer is not None
        sink.producer.resumeProducing()
    for deferred in done:
        await deferred
    assert [sink.content == LARGE for sink in slow] == [True] * 4
    assert {seen.headers["range"] for seen in gets(faulty)[5:]} != set()


async def test_a_download_that_waits_for_its_consumer(
    faulty: Faulty, container: str, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A download that nobody delivers gives its slot back, and works when delivered later."""
    parked_after(monkeypatch, 0.1)
    await store(LARGE)
    client = faulty.client(threadpool_size=1)
    download = await client.get_object(container, "object")
    await until(lambda: client.slots.in_flight == 0)
    await faulty.proxy.wait_closed()
    sink = Sink()
    await download.deliver(sink)
    assert sink.content == LARGE


async def test_a_server_that_leaves_while_the_consumer_sleeps(
    faulty: Faulty, container: str, store: Store
) -> None:
    """A connection that is lost during a pause is noticed at its end, and made up for."""
    await store(LARGE)
    faulty.proxy.add(cut := Reset(in_response(len(LARGE) - 10)))
    sink = Sink(pause_after=1)
    done = (await faulty.client().get_object(container, "object")).deliver(sink)
    await cut.happened()
    assert sink.producer is not None
    sink.producer.resumeProducing()
    await done
    assert sink.content == LARGE


# Consumers that go away or fail


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.parametrize("moment", ["before", "at once", "during", "paused"])
async def test_a_consumer_that_goes_away(
    faulty: Faulty, container: str, store: Store, moment: str
) -> None:
    """Whenever the consumer leaves, connection and slot are given back at once."""
    await store(LARGE)
    client = faulty.client()
    before = descriptors()
    download = await client.get_object(container, "object")
    sink = Sink(pause_after=1 if moment == "paused" else None)
    if moment == "before":
        download.abandon()
    else:
        if moment == "during":
            sink.on_write = lambda: sink.producer and sink.producer.stopProducing()
        done = download.deliver(sink)
        if moment == "paused":
            await until(lambda: sink.content)
        if moment != "during":
            assert sink.producer is not None
            sink.producer.stopProducing()
        with pytest.raises(ConsumerStoppedError):
            await done
        assert sink.events == ["registered", "unregistered"]
    assert client.slots.in_flight == 0
    await faulty.proxy.wait_closed()
    assert len(sink.content) < len(LARGE)
    await until(lambda: descriptors() <= before)


async def test_a_consumer_that_raises(faulty: Faulty, container: str, store: Store) -> None:
    """What a consumer raises is the download's error, and everything is given back."""
    await store(LARGE)
    client = faulty.client()
    sink = Sink()

    def disk_full() -> None:
        raise OSError(28, "No space left on device")

    sink.on_write = disk_full
    with pytest.raises(OSError, match="No space left"):
        await fetch(client, container, sink)
    assert sink.events == ["registered", "unregistered"]
    assert client.slots.in_flight == 0
    await faulty.proxy.wait_closed()


# Time limits


@pytest.fixture
def blackhole() -> Iterator[str]:
    """A URL to which no connection is ever made: the queue of its port is full."""
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    listening.listen(0)
    waiting = []
    for _ in range(4):
        filler = socket.socket()
        filler.setblocking(False)
        filler.connect_ex(listening.getsockname())
        waiting.append(filler)
    yield f"http://127.0.0.1:{listening.getsockname()[1]}/v1/AUTH_x"
    for each in (*waiting, listening):
        each.close()


async def test_a_refused_connection_says_so(faulty: Faulty, container: str) -> None:
    """Nobody listens: tried again for a while, and named."""
    client = faulty.client()
    await faulty.proxy.refuse()
    with pytest.raises(ConnectionFailedError, match="connection refused"):
        await client.get_object(container, "object")


async def test_an_unknown_host_says_so(
    make_client: Callable[..., SwiftClient], container: str
) -> None:
    """A host that no name server knows is named as the reason, and it may be known later."""
    client = make_client(storage_url="http://swift.invalid/v1/AUTH_x")
    with pytest.raises(ConnectionFailedError, match="no such host"):
        await client.get_object(container, "object")


async def test_a_host_that_does_not_answer(
    make_client: Callable[..., SwiftClient], container: str, blackhole: str
) -> None:
    """The limit on connecting, and its name."""
    client = make_client(storage_url=blackhole, connect_timeout=0.2)
    with pytest.raises(TimedOutError, match=r"no connection was made for 0\.2 seconds"):
        await client.get_object(container, "object")
    assert client.slots.in_flight == 0


async def test_a_server_without_an_answer(faulty: Faulty, container: str, store: Store) -> None:
    """The limit on waiting for headers, and its name."""
    await store(SMALL)
    faulty.proxy.add(Stall(BEFORE_RESPONSE, times=None))
    with pytest.raises(TimedOutError, match=r"no answer came for 0\.2 seconds"):
        await faulty.client(response_timeout=0.2).get_object(container, "object")
    await faulty.proxy.wait_closed()


@pytest.mark.parametrize("content", [SMALL, LARGE], ids=["small", "large"])
async def test_a_body_that_stays_silent(
    faulty: Faulty, container: str, store: Store, content: bytes
) -> None:
    """The limit on silence in a body, and its name."""
    await store(content)
    faulty.proxy.add(Stall(in_response(1000)), Stall(in_response(0), times=None))
    with pytest.raises(TimedOutError, match=r"the body fell silent for 0\.2 seconds"):
        await fetch(faulty.client(idle_timeout=0.2), container)
    await faulty.proxy.wait_closed()


async def test_a_paused_body_may_be_silent(faulty: Faulty, container: str, store: Store) -> None:
    """The consumer's own slowness is not taken for the server's."""
    await store(LARGE)
    sink = Sink(pause_after=1)
    done = (await faulty.client(idle_timeout=0.1).get_object(container, "object")).deliver(sink)
    await until(lambda: sink.content)
    pause: Deferred[None] = Deferred()
    reactor.callLater(0.4, pause.callback, None)
    await pause
    assert sink.producer is not None
    sink.producer.resumeProducing()
    await done
    assert len(gets(faulty)) == 1


# Cancelling


class Moment:
    """When to cancel: set up what stalls, then wait until it does."""

    def __init__(self, content: bytes, *faults: Fault, deliver: bool = False) -> None:
        self.content = content
        self.faults = faults
        self.deliver = deliver


MOMENTS = {
    "waiting for headers": lambda: Moment(SMALL, Stall(BEFORE_RESPONSE)),
    "after the status line": lambda: Moment(SMALL, Stall(AFTER_STATUS_LINE)),
    "reading a small body": lambda: Moment(SMALL, Stall(in_response(30_000))),
    "delivering": lambda: Moment(LARGE, Stall(in_response(300_000)), deliver=True),
    "asking for the rest": lambda: Moment(
        LARGE, Cut(in_response(300_000)), Stall(ON_REQUEST), deliver=True
    ),
    "delivering the rest": lambda: Moment(
        LARGE, Cut(in_response(300_000)), Stall(in_response(1000)), deliver=True
    ),
}


@pytest.mark.parametrize("moment", MOMENTS)
async def test_cancelling_frees_everything(
    faulty: Faulty, container: str, store: Store, moment: str
) -> None:
    """Whenever *get_object* or *deliver* is cancelled, nothing is left of it."""
    what = MOMENTS[moment]()
    await store(what.content)
    faulty.proxy.add(*what.faults)
    client = faulty.client()
    sink = Sink()
    if what.deliver:
        download = await client.get_object(container, "object")
        deferred, outcome = started(_awaited(download.deliver(sink)))
    else:
        deferred, outcome = started(client.get_object(container, "object"))
    await what.faults[-1].happened()
    # What has been relayed by now is to reach the client first.
    await settled(lambda: len(sink.content))
    assert client.slots.in_flight == 1
    assert not outcome
    deferred.cancel()
    assert isinstance(outcome[0], (CancelledError, ConsumerStoppedError))
    assert client.slots.in_flight == 0
    assert sink.events in ([], ["registered", "unregistered"])
    await faulty.proxy.wait_closed()


async def _awaited(deferred: Deferred[None]) -> None:
    await deferred


async def test_cancelling_while_waiting_for_a_slot(
    faulty: Faulty, container: str, store: Store
) -> None:
    """Who leaves the queue takes nobody's place."""
    await store(LARGE)
    client = faulty.client(threadpool_size=1)
    first = await client.get_object(container, "object")
    deferred, outcome = started(client.get_object(container, "object"))
    assert client.slots.waiting == 1
    deferred.cancel()
    assert isinstance(outcome[0], CancelledError)
    assert (client.slots.waiting, client.slots.in_flight) == (0, 1)
    first.abandon()
    assert await fetch(client, container) == LARGE


async def test_cancelling_while_connecting(
    make_client: Callable[..., SwiftClient], container: str, blackhole: str
) -> None:
    """A connection that is being made is given up."""
    client = make_client(storage_url=blackhole)
    before = descriptors()
    deferred, outcome = started(client.get_object(container, "object"))
    await until(lambda: descriptors() > before)
    await settled(descriptors)
    deferred.cancel()
    assert isinstance(outcome[0], CancelledError)
    assert client.slots.in_flight == 0
    await until(lambda: descriptors() <= before)


@pytest.mark.parametrize("deliver", [False, True])
async def test_cancelling_between_two_tries(
    faulty: Faulty, container: str, store: Store, deliver: bool
) -> None:
    """Who waits for the next try holds no slot, and its timer goes with it."""
    await store(LARGE)
    slowly = Patience(total_seconds=500, first_delay=100, longest_delay=100, operation_seconds=900)
    client = faulty.client(patience=slowly)
    faulty.proxy.add(Cut(in_response(1000)) if deliver else Answer(503))
    deferred, outcome = started(fetch(client, container))
    await until(lambda: client.slots.in_flight == 0 and gets(faulty))
    await settled(lambda: len(gets(faulty)))
    assert not outcome
    deferred.cancel()
    assert isinstance(outcome[0], (CancelledError, ConsumerStoppedError))


# What is stored


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
    await client._requester.perform(request, drained)


@pytest.mark.parametrize("size", [1000, 1_000_000])
async def test_stored_bytes_are_not_decoded(
    faulty: Faulty, container: str, client: SwiftClient, size: int
) -> None:
    """An object stored with Content-Encoding is delivered, checked and resumed as it is stored."""
    content = gzip.compress(random.Random(4).randbytes(size))
    assert (len(content) > WHOLE_BYTES) == (size > 1000)
    await put_with(client, container, content, {b"Content-Encoding": b"gzip"})
    faulty.proxy.add(Cut(in_response(len(content) // 2)))
    assert await fetch(faulty.client(), container) == content
    assert len(gets(faulty)) == 2
    assert gets(faulty)[0].headers["accept-encoding"] == "identity"


async def test_answers_without_a_body_that_announce_one(faulty: Faulty, container: str) -> None:
    """Ceph RGW's HEAD 404 announces bytes that never come: nothing waits for them."""
    client = faulty.client(response_timeout=5, idle_timeout=5)
    for length in ("9", "12"):
        faulty.proxy.add(
            Answer(404, headers={"Content-Length": length}, match=("HEAD", "/object$"))
        )
        with pytest.raises(ObjectNotFoundError):
            await client.head_object(container, "object")


@pytest.mark.parametrize("then", [Then.READ_ON, Then.CLOSE])
@pytest.mark.parametrize("delay", [None, 0.05])
async def test_bodies_of_404_are_read_or_dropped(
    faulty: Faulty, container: str, then: Then, delay: float | None
) -> None:
    """A 404 is final however its body comes, and its connection is not left hanging."""
    client = faulty.client()
    await client.head_container(container)
    faulty.proxy.add(
        *(Answer(404, b"<html>" * n, then=then, body_delay=delay) for n in (0, 1, 10_000))
    )
    for _ in range(3):
        with pytest.raises(ObjectNotFoundError):
            await client.get_object(container, "object")
    assert len(gets(faulty)) == 3
    assert client.slots.in_flight == 0
    await until(lambda: faulty.proxy.connections_open <= 1)


class Told(Observer):
    """What a download tells."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.bytes = 0

    def retried(self, error: Exception) -> None:
        self.log.append(f"retried {type(error).__name__}")

    def resumed(self) -> None:
        self.log.append("resumed")

    def failed(self, error: Exception) -> None:
        self.log.append(f"failed {type(error).__name__}")

    def received(self, count: int) -> None:
        self.bytes += count


async def test_the_observer_is_told(faulty: Faulty, container: str, store: Store) -> None:
    """A break and its mending are counted, and each byte once."""
    await store(LARGE)
    told = Told()
    faulty.proxy.add(Pass(), Cut(in_response(1_000_000)))
    client = faulty.client(observer=told)
    await client.head_object(container, "object")
    assert await fetch(client, container) == LARGE
    assert told.log == ["retried ConnectionFailedError", "resumed"]
    assert told.bytes == len(LARGE)


async def test_states_are_seen_from_outside(faulty: Faulty, container: str, store: Store) -> None:
    """A large object is streamed, and its state says how far it is."""
    await store(LARGE)
    download = await faulty.client().get_object(container, "object")
    assert isinstance(download, StreamedDownload)
    assert download.state is State.OPEN
    await download.deliver(Sink())
    assert download.state is State.DONE


# TLS


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return make_ca(tmp_path_factory.mktemp("ca"))


TLS_BREAKS: list[Callable[[int], Fault]] = [
    *CUTS,
    lambda n: Cut(in_response(n), close_notify=False),
    lambda n: Stall(in_response(n)),
]


@pytest.mark.parametrize(
    "break_off", TLS_BREAKS, ids=["cut", "reset", "cut without notify", "stall"]
)
async def test_a_broken_body_is_resumed_over_tls(
    make_faulty: Callable[..., Awaitable[Faulty]],
    authority: Authority,
    container: str,
    store: Store,
    break_off: Callable[[int], Fault],
) -> None:
    """Under TLS breaks and silence look different, and are mended alike."""
    await store(LARGE)
    faulty = await make_faulty(tls=authority.server_context())
    faulty.proxy.add(break_off(1_234_567), break_off(500_000))
    client = faulty.client(cacert=str(authority.ca), idle_timeout=0.3)
    assert await fetch(client, container) == LARGE
    assert [seen.headers.get("range") for seen in gets(faulty)] == [
        None,
        "bytes=1234567-",
        "bytes=1734567-",
    ]
    await until(lambda: faulty.proxy.connections_open <= 1)


@pytest.mark.parametrize("moment", ["undelivered", "flowing", "paused", "parked"])
async def test_an_abandoned_body_is_closed_at_once_over_tls(
    make_faulty: Callable[..., Awaitable[Faulty]],
    authority: Authority,
    container: str,
    store: Store,
    monkeypatch: pytest.MonkeyPatch,
    moment: str,
) -> None:
    """No TLS connection waits for the rest of a body that nobody wants."""
    parked_after(monkeypatch, 0.1 if moment == "parked" else 60)
    await store(random.Random(5).randbytes(16 * MIB))
    faulty = await make_faulty(tls=authority.server_context())
    client = faulty.client(cacert=str(authority.ca))
    download = await client.get_object(container, "object")
    sink = Sink(pause_after=1 if moment in ("paused", "parked") else None)
    if moment == "parked":
        done = download.deliver(sink)
        await until(lambda: client.slots.in_flight == 0)
        await faulty.proxy.wait_closed()
        assert not done.called
    elif moment != "undelivered":
        done = download.deliver(sink)
        await until(lambda: sink.content)
    download.abandon()
    assert client.slots.in_flight == 0
    await faulty.proxy.wait_closed()
    assert faulty.proxy.bytes_to_client < 16 * MIB
    if moment != "undelivered":
        with pytest.raises(SwiftProviderError):
            await done
