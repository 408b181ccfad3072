"""Downloads from a real Swift behind a proxy that breaks, stalls, damages and lies."""

from __future__ import annotations

import hashlib
import os
import random
import zlib
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred

from swift_provider.client import Patience, Place
from swift_provider.client.downloads import State, StreamedDownload
from swift_provider.client.http.transport import BUFFER_BYTES
from swift_provider.client.observer import Observer
from swift_provider.errors import (
    ConnectionFailedError,
    ConsumerStoppedError,
    DamagedError,
    ObjectChangedError,
    ObjectNotFoundError,
    SwiftError,
    SwiftProviderError,
)
from tests.client.conftest import Faulty, PutObject, Sink
from tests.client.trouble import MIB, descriptors, fetch, gets, settled, started, turn, until
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
from tests.servers.tls import Authority

SMALL = random.Random(1).randbytes(60_000)
LARGE = random.Random(2).randbytes(3_000_000)
MD5 = hashlib.md5(LARGE).hexdigest()
GET = ("GET", "/object$")


def parked_after(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    monkeypatch.setattr("swift_provider.client.downloads.PARK_SECONDS", seconds)


# Back-pressure


class Pieces(Sink):
    """A sink that keeps the chunks apart."""

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
    faulty: Faulty, container: str, put_object: PutObject, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bytes for a paused consumer stay in the kernels' buffers, not in this process."""
    parked_after(monkeypatch, 60)
    content = random.Random(3).randbytes(64 * MIB)
    await put_object(content)
    sink = Pieces(pause_after=1)
    download = await faulty.store(container).get("object")
    before = resident_bytes()
    done = download.deliver(sink)
    sent = await settled(lambda: faulty.proxy.bytes_to_client)
    # Both kernels' socket buffers, 6 MiB each at most, and a few reads.
    assert sent < 24 * MIB
    assert sum(map(len, sink.pieces)) <= 2 * BUFFER_BYTES
    assert resident_bytes() - before < 8 * MIB
    assert sink.producer is not None
    sink.producer.resumeProducing()
    await done
    assert b"".join(sink.pieces) == content


async def test_a_pause_within_the_first_bytes_is_kept(faulty: Faulty, container: str) -> None:
    """A pause during the bytes that came with the headers holds."""
    faulty.proxy.add(Answer(200, LARGE, {"ETag": MD5}))
    sink = Pieces(pause_after=1)
    download = await faulty.store(container).get("object")
    await turn()
    done = download.deliver(sink)
    assert sink.pieces, "they did not come together"
    await settled(lambda: len(sink.pieces))
    assert sum(map(len, sink.pieces)) <= BUFFER_BYTES
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
    faulty: Faulty,
    container: str,
    put_object: PutObject,
    break_off: Callable[[int], Fault],
    offset: int,
) -> None:
    """After a lost connection one conditional request asks for the rest."""
    await put_object(LARGE)
    faulty.proxy.add(break_off(offset))
    assert await fetch(faulty.store(container)) == LARGE
    _, second = gets(faulty)
    assert second.headers["if-match"] == MD5
    assert second.headers.get("range") == (f"bytes={offset}-" if offset else None)
    assert second.response_bytes == len(LARGE) - offset


async def test_a_body_that_breaks_again_and_again(
    faulty: Faulty, container: str, put_object: PutObject
) -> None:
    """A body is resumed as often as it breaks, if each request gets further."""
    await put_object(LARGE)
    faults = [CUTS[n % 2](100_000 + 7 * n) for n in range(20)]
    faulty.proxy.add(*faults)
    assert await fetch(faulty.store(container)) == LARGE
    assert [fault.fired for fault in faults] == [1] * 20
    assert len(gets(faulty)) == 21


async def test_a_body_without_progress_ends_in_an_error(
    faulty: Faulty, container: str, put_object: PutObject
) -> None:
    """A body that breaks at the same byte each time fails within the patience."""
    await put_object(LARGE)
    faulty.proxy.add(Reset(in_response(1000)), Reset(in_response(0), times=None))
    sink = Sink()
    began = reactor.seconds()
    with pytest.raises(ConnectionFailedError, match="in the middle of its answer"):
        await fetch(faulty.store(container), sink)
    assert reactor.seconds() - began < 6
    assert sink.content == LARGE[:1000]
    assert sink.events == ["registered", "unregistered"]
    assert len(gets(faulty)) > 5
    await faulty.proxy.wait_closed()


@pytest.mark.parametrize("offset", [0, 100_000])
async def test_a_silent_body_is_resumed(
    faulty: Faulty, container: str, put_object: PutObject, offset: int
) -> None:
    """A silent body is resumed on another connection, and the silent one is closed."""
    await put_object(LARGE)
    faulty.proxy.add(stall := Stall(in_response(offset)))
    assert await fetch(faulty.store(container, idle_timeout=1)) == LARGE
    assert stall.fired == 1
    assert len({seen.connection for seen in gets(faulty)}) == 2
    await until(lambda: faulty.proxy.connections_open <= 1)


async def test_a_broken_answer_to_the_request_for_the_rest(
    faulty: Faulty, container: str, put_object: PutObject
) -> None:
    """The request for the rest is retried like any other."""
    await put_object(LARGE)
    faulty.proxy.add(
        Cut(in_response(1000)),
        Answer(503),
        Reset(AFTER_STATUS_LINE),
        Cut(BEFORE_RESPONSE),
        Answer(200, raw=b"garbage\r\n\r\n", then=Then.CLOSE),
    )
    assert await fetch(faulty.store(container)) == LARGE
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
    faulty: Faulty, container: str, put_object: PutObject, fault: Callable[[], Fault]
) -> None:
    """A damaged small body is fetched again before the consumer gets any of it."""
    await put_object(SMALL)
    faulty.proxy.add(fault())
    sink = Sink()
    writes: list[int] = []
    sink.on_write = lambda: writes.append(len(sink.content))
    await fetch(faulty.store(container, idle_timeout=1), sink)
    assert sink.content == SMALL
    assert writes == [len(SMALL)]
    assert len(gets(faulty)) == 2


async def test_a_small_body_that_stays_wrong(
    faulty: Faulty, container: str, put_object: PutObject
) -> None:
    """Lasting damage in a small body is an error of ``get``, before anything is delivered."""
    await put_object(SMALL)
    faulty.proxy.add(FlipBit(in_response(1), times=None))
    with pytest.raises(DamagedError, match="checksum"):
        await faulty.store(container).get("object")
    assert len(gets(faulty)) > 2


# Damage and lies


async def test_a_flipped_bit_in_a_large_body(
    faulty: Faulty, container: str, put_object: PutObject
) -> None:
    """A large body with a wrong byte fails, and its last bytes are not delivered."""
    await put_object(LARGE)
    faulty.proxy.add(FlipBit(in_response(2_000_000)))
    sink = Sink()
    with pytest.raises(DamagedError):
        await fetch(faulty.store(container), sink)
    assert 2_000_000 < len(sink.content) < len(LARGE)
    assert sink.events == ["registered", "unregistered"]


async def test_a_flipped_bit_after_resuming(
    faulty: Faulty, container: str, put_object: PutObject
) -> None:
    """The checksum covers the bytes before and after a break."""
    await put_object(LARGE)
    faulty.proxy.add(Cut(in_response(1_000_000)), FlipBit(in_response(1_000_000)))
    with pytest.raises(DamagedError):
        await fetch(faulty.store(container))


@pytest.mark.parametrize("missing", [0, 1, 1_000_000])
async def test_a_body_without_a_length(
    faulty: Faulty, container: str, put_object: PutObject, missing: int
) -> None:
    """After a close without a length the rest is asked for, unless the bytes are right."""
    await put_object(LARGE)
    raw = b"HTTP/1.1 200 OK\r\nX-Trans-Id: tx1\r\nETag: %b\r\n\r\n" % MD5.encode()
    raw += LARGE[: len(LARGE) - missing]
    faulty.proxy.add(Answer(200, raw=raw, then=Then.CLOSE))
    assert await fetch(faulty.store(container)) == LARGE
    assert [seen.status for seen in gets(faulty)] == [200, 206][: 1 + bool(missing)]


async def test_a_chunked_body_that_is_short(
    faulty: Faulty, container: str, put_object: PutObject
) -> None:
    """A chunked body that ends cleanly but lacks bytes fails."""
    await put_object(LARGE)
    raw = b"HTTP/1.1 200 OK\r\nX-Trans-Id: tx1\r\nETag: %b\r\n" % MD5.encode()
    raw += b"Transfer-Encoding: chunked\r\n\r\n"
    raw += b"%x\r\n%b\r\n0\r\n\r\n" % (len(LARGE) - 1, LARGE[:-1])
    faulty.proxy.add(Answer(200, raw=raw))
    with pytest.raises(DamagedError):
        await fetch(faulty.store(container))


async def test_a_rest_that_is_longer_than_announced(
    faulty: Faulty, container: str, put_object: PutObject
) -> None:
    """A chunked 206 that goes on after the object's end fails there; nobody waits for its end."""
    await put_object(LARGE)
    raw = b"HTTP/1.1 206 X\r\nX-Trans-Id: tx1\r\nETag: %b\r\n" % MD5.encode()
    raw += b"Content-Range: bytes 1000000-2999999/3000000\r\nTransfer-Encoding: chunked\r\n\r\n"
    raw += b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (LARGE[1_000_000:], b"more"))
    faulty.proxy.add(Cut(in_response(1_000_000)), Answer(206, raw=raw))
    sink = Sink()
    with pytest.raises(DamagedError, match="goes on after the object's 3000000 bytes"):
        await fetch(faulty.store(container), sink)
    assert len(sink.content) <= len(LARGE)
    await faulty.proxy.wait_closed()


@pytest.mark.parametrize("content", [SMALL, LARGE], ids=["small", "large"])
async def test_a_short_body_with_a_right_length(
    faulty: Faulty, container: str, put_object: PutObject, content: bytes
) -> None:
    """A body whose length agrees with the headers but not with the ETag fails."""
    await put_object(content)
    etag = hashlib.md5(content).hexdigest()
    faulty.proxy.add(Answer(200, content[:-1], {"ETag": etag}, times=None))
    with pytest.raises(DamagedError):
        await fetch(faulty.store(container))


@pytest.mark.parametrize(
    "etag", [f'"{MD5}"', f'W/"{MD5}"', MD5.upper(), f'"{MD5.upper()}"'], ids=str
)
async def test_an_etag_in_any_writing(
    faulty: Faulty, container: str, put_object: PutObject, etag: str
) -> None:
    """Quotes, ``W/`` and case do not make another ETag."""
    await put_object(LARGE)
    headers = {"ETag": etag, "Content-Length": str(len(LARGE))}
    faulty.proxy.add(Answer(200, LARGE[:500_000], headers, then=Then.CLOSE))
    assert await fetch(faulty.store(container)) == LARGE
    assert gets(faulty)[1].status == 206


async def test_without_an_etag_nothing_is_patched_together(
    faulty: Faulty, container: str, put_object: PutObject
) -> None:
    """A broken body without an ETag is not resumed; the CRC-32 is that of its uploader."""
    await put_object(LARGE)
    noted = f"{zlib.crc32(LARGE):08x}"
    headers = {"Content-Length": str(len(LARGE)), "X-Object-Meta-Content-Crc32": noted}
    faulty.proxy.add(Answer(200, LARGE[:500_000], headers, then=Then.CLOSE))
    with pytest.raises(SwiftError, match="without an ETag"):
        await fetch(faulty.store(container))


async def test_if_match_that_never_matches(
    faulty: Faulty, container: str, put_object: PutObject
) -> None:
    """After a 412 the client checks itself whether the object has changed."""
    await put_object(LARGE)
    faulty.proxy.add(Cut(in_response(1_000_000)), Answer(412, match=GET))
    assert await fetch(faulty.store(container)) == LARGE
    assert [seen.headers.get("if-match") for seen in gets(faulty)] == [None, MD5, None]


# The object meanwhile


async def test_an_object_that_was_replaced(
    faulty: Faulty, container: str, put_object: PutObject
) -> None:
    """Bytes of two objects are never mixed."""
    await put_object(LARGE)
    faulty.proxy.add(Cut(in_response(1_000_000)), stall := Stall(ON_REQUEST))
    sink = Sink()
    _, outcome = started(fetch(faulty.store(container), sink))
    await stall.happened()
    await put_object(LARGE[::-1])
    stall.release()
    await until(lambda: outcome)
    assert isinstance(outcome[0], ObjectChangedError)
    assert sink.content == LARGE[:1_000_000]
    assert sink.events == ["registered", "unregistered"]


@pytest.mark.parametrize("status", [200, 206])
async def test_an_answer_with_another_etag(
    faulty: Faulty, container: str, put_object: PutObject, status: int
) -> None:
    """The ETag of the answer is compared, because a server may ignore If-Match."""
    await put_object(LARGE)
    headers = {"ETag": "0" * 32, "Content-Range": f"bytes 1000000-2999999/{len(LARGE)}"}
    faulty.proxy.add(Cut(in_response(1_000_000)), Answer(status, LARGE[1_000_000:], headers))
    faulty.proxy.add(Answer(200, b"", {"ETag": "0" * 32}, match=("HEAD", "")))
    sink = Sink()
    with pytest.raises(ObjectChangedError):
        await fetch(faulty.store(container), sink)
    assert sink.content == LARGE[:1_000_000]


async def test_an_object_that_was_deleted(
    faulty: Faulty, container: str, put_object: PutObject, store: Place
) -> None:
    """A download whose object is deleted meanwhile fails."""
    await put_object(LARGE)
    faulty.proxy.add(Cut(in_response(1_000_000)), stall := Stall(ON_REQUEST))
    _, outcome = started(fetch(faulty.store(container)))
    await stall.happened()
    await store.delete("object")
    stall.release()
    await until(lambda: outcome)
    assert isinstance(outcome[0], ObjectNotFoundError)


async def test_a_range_that_is_ignored(
    faulty: Faulty, container: str, put_object: PutObject
) -> None:
    """Of a 200 in place of a 206, the bytes that were delivered already are skipped."""
    await put_object(LARGE)
    faulty.proxy.add(Cut(in_response(1_000_000)), Answer(200, LARGE, {"ETag": MD5}))
    assert await fetch(faulty.store(container)) == LARGE


@pytest.mark.parametrize(
    "shown",
    [
        "bytes 1000001-2999999/3000000",
        "bytes 1000000-2999999/4000000",
        "bytes 0-999999/3000000",
        "bytes */3000000",
        "bytes \xb2-2999999/3000000",
        f"bytes {'0' * 5000}-2999999/3000000",
        "nonsense",
        "",
    ],
)
async def test_a_range_that_was_not_asked_for(
    faulty: Faulty, container: str, put_object: PutObject, shown: str
) -> None:
    """A 206 is refused if it lacks the first byte asked for, or does not say what it is."""
    await put_object(LARGE)
    headers = {"ETag": MD5, "Content-Range": shown}
    faulty.proxy.add(Cut(in_response(1_000_000)), Answer(206, LARGE[1_000_001:], headers))
    with pytest.raises(SwiftError, match="asked for the bytes from 1000000 on"):
        await fetch(faulty.store(container))


async def test_a_token_that_ends_meanwhile(
    faulty: Faulty, container: str, put_object: PutObject
) -> None:
    """A 401 to the request for the rest leads to a new token."""
    await put_object(LARGE)
    faulty.proxy.add(Cut(in_response(1_000_000)), Answer(401))
    assert await fetch(faulty.store(container)) == LARGE
    tokens = [seen.headers["x-auth-token"] for seen in gets(faulty)]
    assert tokens[0] == tokens[1] != tokens[2]
    assert gets(faulty)[2].headers["range"] == "bytes=1000000-"


# Parking


async def test_slow_readers_do_not_stop_others(
    faulty: Faulty, container: str, put_object: PutObject, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Consumers that stay paused release slots and connections, and are resumed later."""
    parked_after(monkeypatch, 0.1)
    await put_object(LARGE)
    client = faulty.client(threadpool_size=2)
    store = Place(client, container)
    slow = [Sink(pause_after=1) for _ in range(4)]
    done = [(await store.get("object")).deliver(sink) for sink in slow]
    assert await fetch(store) == LARGE
    await until(lambda: client.slots.in_flight == 0)
    await until(lambda: faulty.proxy.connections_open <= 1)
    # No request is sent while all consumers are paused.
    before = len(faulty.proxy.requests)
    await settled(lambda: len(faulty.proxy.requests))
    assert len(faulty.proxy.requests) == before
    positions = [len(sink.content) for sink in slow]
    assert 0 < min(positions) <= max(positions) < len(LARGE)
    for sink in slow:
        assert sink.producer is not None
        sink.producer.resumeProducing()
    for deferred in done:
        await deferred
    assert [sink.content == LARGE for sink in slow] == [True] * 4
    ranges = [seen.headers.get("range") for seen in gets(faulty)[5:]]
    assert sorted(ranges) == sorted(f"bytes={position}-" for position in positions)


async def test_a_download_that_waits_for_its_consumer(
    faulty: Faulty, container: str, put_object: PutObject, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A download that is not delivered releases its slot, and can be delivered later."""
    parked_after(monkeypatch, 0.1)
    await put_object(LARGE)
    client = faulty.client(threadpool_size=1)
    store = Place(client, container)
    download = await store.get("object")
    await until(lambda: client.slots.in_flight == 0)
    await faulty.proxy.wait_closed()
    sink = Sink()
    await download.deliver(sink)
    assert sink.content == LARGE


async def test_a_server_that_leaves_while_the_consumer_sleeps(
    faulty: Faulty, container: str, put_object: PutObject
) -> None:
    """A connection that is lost during a pause is replaced after it."""
    await put_object(LARGE)
    faulty.proxy.add(cut := Reset(in_response(len(LARGE) - 10)))
    sink = Sink(pause_after=1)
    done = (await faulty.store(container).get("object")).deliver(sink)
    await cut.happened()
    assert sink.producer is not None
    sink.producer.resumeProducing()
    await done
    assert sink.content == LARGE


# Consumers that go away or fail


@pytest.mark.parametrize("moment", ["before", "at once", "during", "paused"])
async def test_a_consumer_that_goes_away(
    faulty: Faulty, container: str, put_object: PutObject, moment: str
) -> None:
    """When the consumer stops, connection and slot are released at once."""
    await put_object(LARGE)
    client = faulty.client()
    store = Place(client, container)
    before = descriptors()
    download = await store.get("object")
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


async def test_a_consumer_that_raises(
    faulty: Faulty, container: str, put_object: PutObject
) -> None:
    """An exception of the consumer fails the download and releases everything."""
    await put_object(LARGE)
    client = faulty.client()
    store = Place(client, container)
    sink = Sink()

    def disk_full() -> None:
        raise OSError(28, "No space left on device")

    sink.on_write = disk_full
    with pytest.raises(OSError, match="No space left"):
        await fetch(store, sink)
    assert sink.events == ["registered", "unregistered"]
    assert client.slots.in_flight == 0
    await faulty.proxy.wait_closed()


# Time limits


# Cancelling


class Moment:
    """What stalls a download, and when to cancel it."""

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
    faulty: Faulty, container: str, put_object: PutObject, moment: str
) -> None:
    """Cancelling ``get`` or ``deliver`` releases everything."""
    what = MOMENTS[moment]()
    await put_object(what.content)
    faulty.proxy.add(*what.faults)
    client = faulty.client()
    store = Place(client, container)
    sink = Sink()
    if what.deliver:
        download = await store.get("object")
        deferred, outcome = started(_awaited(download.deliver(sink)))
    else:
        deferred, outcome = started(store.get("object"))
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
    faulty: Faulty, container: str, put_object: PutObject
) -> None:
    """A cancelled wait for a slot takes no slot."""
    await put_object(LARGE)
    client = faulty.client(threadpool_size=1)
    store = Place(client, container)
    first = await store.get("object")
    deferred, outcome = started(store.get("object"))
    assert client.slots.waiting == 1
    deferred.cancel()
    assert isinstance(outcome[0], CancelledError)
    assert (client.slots.waiting, client.slots.in_flight) == (0, 1)
    first.abandon()
    assert await fetch(store) == LARGE


@pytest.mark.parametrize("deliver", [False, True])
async def test_cancelling_between_two_tries(
    faulty: Faulty, container: str, put_object: PutObject, deliver: bool
) -> None:
    """A download that waits for a retry holds no slot, and cancelling it cancels the timer."""
    await put_object(LARGE)
    slowly = Patience(total_seconds=500, first_delay=100, longest_delay=100, operation_seconds=900)
    client = faulty.client(patience=slowly)
    store = Place(client, container)
    faulty.proxy.add(Cut(in_response(1000)) if deliver else Answer(503))
    deferred, outcome = started(fetch(store))
    await until(lambda: client.slots.in_flight == 0 and gets(faulty))
    await settled(lambda: len(gets(faulty)))
    assert not outcome
    deferred.cancel()
    assert isinstance(outcome[0], (CancelledError, ConsumerStoppedError))


# What is stored


class Told(Observer):
    """Records what a download reports."""

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


async def test_the_observer_is_told(faulty: Faulty, container: str, put_object: PutObject) -> None:
    """The observer is told each break, each resumption and each byte once."""
    await put_object(LARGE)
    told = Told()
    faulty.proxy.add(Pass(), Cut(in_response(1_000_000)))
    store = faulty.store(container, observer=told)
    await store.head("object")
    assert await fetch(store) == LARGE
    assert told.log == ["retried ConnectionFailedError", "resumed"]
    assert told.bytes == len(LARGE)


async def test_states_are_seen_from_outside(
    faulty: Faulty, container: str, put_object: PutObject
) -> None:
    """A streamed download shows its state."""
    await put_object(LARGE)
    download = await faulty.store(container).get("object")
    assert isinstance(download, StreamedDownload)
    assert download.state is State.OPEN
    await download.deliver(Sink())
    assert download.state is State.DONE


# TLS


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
    put_object: PutObject,
    break_off: Callable[[int], Fault],
) -> None:
    """Under TLS a broken or silent body is resumed too."""
    await put_object(LARGE)
    faulty = await make_faulty(tls=authority.server_context())
    faulty.proxy.add(break_off(1_234_567), break_off(500_000))
    store = faulty.store(container, cacert=str(authority.ca), idle_timeout=1)
    assert await fetch(store) == LARGE
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
    put_object: PutObject,
    monkeypatch: pytest.MonkeyPatch,
    moment: str,
) -> None:
    """Abandoning a download closes its TLS connection without reading the rest."""
    parked_after(monkeypatch, 0.1 if moment == "parked" else 60)
    await put_object(random.Random(5).randbytes(16 * MIB))
    faulty = await make_faulty(tls=authority.server_context())
    client = faulty.client(cacert=str(authority.ca))
    store = Place(client, container)
    download = await store.get("object")
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
