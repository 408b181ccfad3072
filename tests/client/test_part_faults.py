"""Parts of objects, from a real Swift behind a proxy that breaks and lies."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable

import pytest

from swift_provider.client import FileSource, Place
from swift_provider.config import MIB
from swift_provider.errors import ConsumerStoppedError, ObjectChangedError, ObjectNotFoundError
from tests.client.conftest import Faulty, PutObject, Sink
from tests.client.trouble import gets, settled, soon, until
from tests.servers.faults import Answer, Cut, Fault, Pass, Reset, Stall, in_response

CONTENT = random.Random(4).randbytes(3_000_000)
MD5 = hashlib.md5(CONTENT).hexdigest()
GET = ("GET", "/object$")
PARTS = [
    range(1_000_000, 2_000_000),
    range(2_999_999, 3_000_000),
    range(1, 3_000_000),
    range(1_500_000),
    range(1),
    range(3_000_000),
]


async def fetch_part(
    faulty: Faulty, container: str, part: range, sink: Sink | None = None
) -> bytes:
    sink = sink or Sink()
    download = await faulty.store(container).get("object")
    await download.deliver(sink, part)
    return sink.content


@pytest.mark.parametrize("part", PARTS)
async def test_parts(faulty: Faulty, container: str, put_object: PutObject, part: range) -> None:
    """Each part comes as it is in the object; only one with another start is asked for."""
    await put_object(CONTENT)
    assert await fetch_part(faulty, container, part) == CONTENT[part.start : part.stop]
    _, *others = gets(faulty)
    until_end = "" if part.stop == len(CONTENT) else part.stop - 1
    assert [(seen.headers["range"], seen.headers["if-match"]) for seen in others] == (
        [(f"bytes={part.start}-{until_end}", MD5)] if part.start else []
    )


async def test_parts_of_segments(
    faulty: Faulty, container: str, make_file: Callable[[bytes], FileSource]
) -> None:
    """A part may lie across the segments of a large object."""
    store = faulty.store(container, segment_size=MIB)
    await store.put("object", make_file(CONTENT))
    for part in (range(MIB - 1, 2 * MIB + 1), range(MIB, 2 * MIB), range(2 * MIB, len(CONTENT))):
        assert await fetch_part(faulty, container, part) == CONTENT[part.start : part.stop]


async def test_the_connection_of_a_part_is_used_again(
    faulty: Faulty, container: str, put_object: PutObject
) -> None:
    """A part ends with its response, so its connection stays; that of the whole is aborted."""
    await put_object(CONTENT)
    store = faulty.store(container)
    connections = []
    for _ in range(3):
        await (await store.get("object")).deliver(Sink(), range(100, 200_000))
        whole, part = gets(faulty)[-2:]
        connections.append((whole.connection, part.connection))
    assert connections[1][0] == connections[0][1]
    assert connections[2][0] == connections[1][1]


async def test_a_part_needs_one_slot(faulty: Faulty, container: str, put_object: PutObject) -> None:
    """The whole releases its slot before the part takes one, so that one slot is enough."""
    await put_object(CONTENT)
    sink = Sink()
    download = await faulty.store(container, threadpool_size=1).get("object")
    await soon(download.deliver(sink, PARTS[0]))
    assert sink.content == CONTENT[1_000_000:2_000_000]


@pytest.mark.parametrize("break_off", [Cut, Reset])
@pytest.mark.parametrize("part", PARTS[:1] + PARTS[3:4])
async def test_a_broken_part_is_resumed(
    faulty: Faulty,
    container: str,
    put_object: PutObject,
    break_off: Callable[..., Fault],
    part: range,
) -> None:
    """After a lost connection one conditional request asks for what is missing of the part."""
    await put_object(CONTENT)
    if part.start:
        faulty.proxy.add(Pass(match=GET))
    faulty.proxy.add(break_off(in_response(300_000), match=GET))
    assert await fetch_part(faulty, container, part) == CONTENT[part.start : part.stop]
    last = gets(faulty)[-1]
    assert last.headers["range"] == f"bytes={part.start + 300_000}-{part.stop - 1}"
    assert last.headers["if-match"] == MD5
    assert last.response_bytes == len(part) - 300_000


async def test_a_range_that_is_ignored(
    faulty: Faulty, container: str, put_object: PutObject
) -> None:
    """If the whole object comes instead of the part, only the part is delivered."""
    await put_object(CONTENT)
    faulty.proxy.add(Pass(match=GET), Answer(200, CONTENT, {"ETag": MD5}, match=GET))
    assert await fetch_part(faulty, container, PARTS[0]) == CONTENT[1_000_000:2_000_000]


async def test_an_object_that_was_replaced(
    faulty: Faulty, container: str, put_object: PutObject
) -> None:
    """Nothing is delivered of an object that took the other's place before the part came."""
    await put_object(CONTENT)
    sink = Sink()
    download = await faulty.store(container).get("object")
    await put_object(CONTENT[::-1])
    with pytest.raises(ObjectChangedError):
        await download.deliver(sink, PARTS[0])
    assert sink.content == b""


async def test_an_object_that_was_deleted(
    faulty: Faulty, container: str, put_object: PutObject, store: Place
) -> None:
    """A part of an object that is no longer there is an error."""
    await put_object(CONTENT)
    download = await faulty.store(container).get("object")
    await store.delete("object")
    with pytest.raises(ObjectNotFoundError):
        await download.deliver(sink := Sink(), PARTS[0])
    assert sink.content == b""


async def test_the_part_of_another_object(
    faulty: Faulty, container: str, put_object: PutObject
) -> None:
    """A 206 with another ETag is refused, also if the server ignored If-Match."""
    await put_object(CONTENT)
    headers = {"ETag": "0" * 32, "Content-Range": "bytes 1000000-1999999/3000000"}
    faulty.proxy.add(Pass(match=GET))
    faulty.proxy.add(Answer(206, bytes(1_000_000), headers, match=GET, times=2))
    sink = Sink()
    with pytest.raises(ObjectChangedError):
        await fetch_part(faulty, container, PARTS[0], sink)
    assert sink.content == b""


async def test_a_part_that_comes_too_long(
    faulty: Faulty, container: str, put_object: PutObject
) -> None:
    """What a 206 brings beyond the part is not delivered."""
    await put_object(CONTENT)
    headers = {"ETag": MD5, "Content-Range": "bytes 900000-2999999/3000000"}
    faulty.proxy.add(Pass(match=GET), Answer(206, CONTENT[900_000:], headers, match=GET))
    assert await fetch_part(faulty, container, PARTS[0]) == CONTENT[1_000_000:2_000_000]


@pytest.mark.parametrize("moment", ["before", "within"])
async def test_the_consumer_goes_away(
    faulty: Faulty, container: str, put_object: PutObject, moment: str
) -> None:
    """A consumer that leaves before the part comes, or within it, leaves nothing behind."""
    await put_object(CONTENT)
    stall = Stall(in_response(0 if moment == "before" else 300_000), match=GET)
    faulty.proxy.add(Pass(match=GET), stall)
    sink = Sink()
    done = (await faulty.store(container).get("object")).deliver(sink, PARTS[0])
    await stall.happened()
    await settled(lambda: len(sink.content))
    assert sink.producer is not None
    sink.producer.stopProducing()
    with pytest.raises(ConsumerStoppedError):
        await done
    await faulty.proxy.wait_idle()


async def test_a_paused_part_releases_its_slot(
    faulty: Faulty, container: str, put_object: PutObject, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A part that waits for its consumer is parked, and goes on where it was."""
    monkeypatch.setattr("swift_provider.client.downloads.PARK_SECONDS", 0.05)
    await put_object(CONTENT)
    store = faulty.store(container)
    sink = Sink(pause_after=1)
    done = (await store.get("object")).deliver(sink, PARTS[0])
    await until(lambda: sink.content and not faulty.clients[0].slots.in_flight)
    assert sink.producer is not None
    sink.producer.resumeProducing()
    await done
    assert sink.content == CONTENT[1_000_000:2_000_000]
    assert gets(faulty)[-1].headers["range"].endswith("-1999999")
