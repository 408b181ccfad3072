"""Large objects: on the real Swift, and as Ceph RGW serves them, by a stand-in."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor

from swift_provider.client import FileSource, Place, SwiftClient
from swift_provider.client.drained import drained
from swift_provider.client.request import Request
from swift_provider.client.slots import Lane
from swift_provider.client.upload_bodies import BytesBody
from swift_provider.config import MIB
from swift_provider.errors import (
    DamagedError,
    ObjectChangedError,
    ObjectNotFoundError,
    SwiftError,
    TimedOutError,
)
from tests.client.conftest import Faulty, RecordingProxy, Sink
from tests.servers.faults import ON_REQUEST, Cut, FlipBit, Pass, Stall, in_response
from tests.servers.stand_in import RgwStandIn

CONTENT = random.Random(1).randbytes(2 * MIB + 500_000)
BIG = ("GET", "/big$")


async def fetch(store: Place, name: str = "big") -> bytes:
    sink = Sink()
    await (await store.get(name)).deliver(sink)
    return sink.content


async def put(
    client: SwiftClient,
    container: str,
    name: str,
    content: bytes,
    query: str = "",
    headers: dict[bytes, bytes] | None = None,
) -> None:
    """A PUT as somebody else's program might send it."""
    request = Request(
        "PUT",
        container,
        name,
        query=query,
        headers=headers or {},
        lane=Lane.WRITE,
        make_body=lambda: BytesBody(content, declare=False),
    )
    await client.requester.perform(request, drained)


async def put_slo(
    client: SwiftClient, container: str, name: str, rows: list[dict[str, Any]]
) -> None:
    await put(client, container, name, json.dumps(rows).encode(), "multipart-manifest=put")


async def segments(client: SwiftClient, container: str, sizes: list[int]) -> list[dict[str, Any]]:
    """CONTENT in pieces, and the rows of a manifest for them."""
    rows, start = [], 0
    for number, size in enumerate(sizes):
        part = CONTENT[start : start + size]
        name = f"parts/{number:04}"
        await put(client, container, name, part)
        etag = hashlib.md5(part).hexdigest()
        rows.append({"path": f"/{container}/{name}", "size_bytes": size, "etag": etag})
        start += size
    assert start == len(CONTENT)
    return rows


UNEVEN = [1, MIB, MIB + 499_998, 1]


@pytest_twisted.async_yield_fixture
async def foreign(client: SwiftClient, container: str) -> AsyncIterator[str]:
    """A container with the static large object ``big``, made by another program."""
    await put_slo(client, container, "big", await segments(client, container, UNEVEN))
    yield container


# Static large objects on Swift


async def test_our_own_large_object_is_checked(
    faulty: Faulty, container: str, make_file: Callable[[bytes], FileSource]
) -> None:
    """An object that this client uploaded is checked without reading its manifest."""
    store = faulty.store(container, segment_size=MIB)
    await store.put("big", make_file(CONTENT))
    assert await fetch(store) == CONTENT
    assert not [seen for seen in faulty.proxy.requests if "multipart-manifest=get" in seen.path]
    faulty.proxy.add(FlipBit(in_response(1_500_000), match=BIG))
    with pytest.raises(DamagedError):
        await fetch(store)


async def test_a_foreign_large_object_is_checked(faulty: Faulty, foreign: str) -> None:
    """The segment sizes of another program's object are read from its manifest."""
    store = faulty.store(foreign)
    assert await fetch(store) == CONTENT
    faulty.proxy.add(Pass(match=BIG), FlipBit(in_response(1_500_000), match=BIG))
    with pytest.raises(DamagedError):
        await fetch(store)


async def test_a_foreign_large_object_needs_one_slot(faulty: Faulty, foreign: str) -> None:
    """The slot is released before the manifest is read, so that one slot is enough."""
    store = faulty.store(foreign, threadpool_size=1)
    assert await fetch(store) == CONTENT


async def test_a_large_object_is_resumed(faulty: Faulty, foreign: str) -> None:
    """A large object is resumed within and between segments, and its checksum covers all."""
    faulty.proxy.add(
        Pass(match=BIG),
        *(Cut(in_response(offset), match=BIG) for offset in (1, MIB, 499_998)),
    )
    assert await fetch(faulty.store(foreign)) == CONTENT
    ranges = [s.headers.get("range") for s in faulty.proxy.requests if s.path.endswith("/big")]
    assert ranges == [None, None, "bytes=1-", f"bytes={MIB + 1}-", f"bytes={MIB + 499_999}-"]


async def test_ranges_and_nested_manifests_go_by_length(
    faulty: Faulty, client: SwiftClient, container: str
) -> None:
    """Objects whose segments' hashes are no MD5 of the bytes are checked by length."""
    rows = await segments(client, container, UNEVEN)
    await put_slo(client, container, "inner", rows)
    outer = [{"path": f"/{container}/inner"}, {**rows[1], "range": "0-99"}]
    await put_slo(client, container, "big", outer)
    assert await fetch(faulty.store(container)) == CONTENT + CONTENT[1:101]


async def test_a_missing_segment_is_an_error(
    faulty: Faulty, client: SwiftClient, foreign: str
) -> None:
    """An object that lacks a segment is an error."""
    await Place(client, foreign).delete("parts/0002")
    with pytest.raises(SwiftError):
        await fetch(faulty.store(foreign))


async def test_a_dynamic_large_object_goes_by_length(
    faulty: Faulty, client: SwiftClient, container: str
) -> None:
    """Dynamic large objects are read, and resumed."""
    await segments(client, container, UNEVEN)
    manifest = {b"X-Object-Manifest": f"{container}/parts/".encode()}
    await put(client, container, "big", b"", headers=manifest)
    faulty.proxy.add(Cut(in_response(1_500_000), match=BIG))
    assert await fetch(faulty.store(container)) == CONTENT


# Ceph RGW


class Rgw:
    """The stand-in behind a fault proxy, and the container ``box`` there.

    :ivar server: what is stored, and what was asked.
    :ivar client: reaches it through the proxy.
    """

    def __init__(self, server: RgwStandIn, proxy: RecordingProxy, client: SwiftClient) -> None:
        self.server = server
        self.proxy = proxy
        self.client = client
        self.store = Place(client, "box")

    def asked(self) -> list[tuple[str, str | None, str | None, int | None]]:
        """Requests for ``big``: method, range, condition and status."""
        return [
            (seen.method, seen.headers.get("range"), seen.headers.get("if-match"), seen.status)
            for seen in self.proxy.requests
            if seen.path.endswith("/big")
        ]


@pytest_twisted.async_yield_fixture
async def rgw(
    make_client: Callable[..., SwiftClient],
    make_fault_proxy: Callable[..., Awaitable[RecordingProxy]],
) -> AsyncIterator[Rgw]:
    server = RgwStandIn(reactor)
    await server.start()
    proxy = await make_fault_proxy(server.port)
    user, key = server.credentials
    client = make_client(
        auth_type="v1password",
        auth={"auth_url": server.auth_url, "username": user, "password": key},
        region_name=None,
        storage_url=proxy.url_for(server.url),
        idle_timeout=1,
        segment_size=MIB,
    )
    store = Place(client, "box")
    await store.create()
    yield Rgw(server, proxy, client)
    await server.stop()


def etag_of(sizes: list[int]) -> str:
    sums, start = "", 0
    for size in sizes:
        sums += hashlib.md5(CONTENT[start : start + size]).hexdigest()
        start += size
    return hashlib.md5(sums.encode()).hexdigest()


async def test_if_match_on_a_large_object_of_rgw(
    rgw: Rgw, make_file: Callable[[bytes], FileSource]
) -> None:
    """RGW's 412 to a large object's own ETag is checked once for a download."""
    await rgw.store.put("big", make_file(CONTENT))
    rgw.proxy.requests.clear()
    rgw.proxy.add(Cut(in_response(1_000_000), match=BIG))
    # The 412 uses up a turn.
    rgw.proxy.add(Pass(match=BIG), Cut(in_response(1_000_000), match=BIG))
    assert await fetch(rgw.store) == CONTENT
    etag = etag_of([MIB, MIB, 500_000])
    assert rgw.asked() == [
        ("GET", None, None, 200),
        ("GET", "bytes=1000000-", etag, 412),
        ("HEAD", None, None, 200),
        ("GET", "bytes=1000000-", None, 206),
        ("GET", "bytes=2000000-", None, 206),
    ]


@pytest.mark.parametrize("change", ["replaced", "other size", "deleted"])
async def test_a_large_object_of_rgw_that_changes(
    rgw: Rgw, make_file: Callable[[bytes], FileSource], change: str
) -> None:
    """After a 412 a changed object is an error."""
    await rgw.store.put("big", make_file(CONTENT))
    rgw.proxy.add(Cut(in_response(1_000_000), match=BIG), stall := Stall(match=BIG))
    sink = Sink()
    done = (await rgw.store.get("big")).deliver(sink)
    await stall.happened()
    held = rgw.server.containers["box"].objects
    if change == "replaced":
        held["big"].etag = '"' + "0" * 32 + '"'
    elif change == "other size":
        parts = held["big"].segments
        assert parts is not None
        held["big"].segments = [(parts[0][0], parts[0][1], 1), *parts[1:]]
    else:
        del held["big"]
    stall.release()
    with pytest.raises(ObjectNotFoundError if change == "deleted" else ObjectChangedError):
        await done
    assert sink.content == CONTENT[:1_000_000]


async def test_a_large_object_of_rgw_that_changes_later(
    rgw: Rgw, make_file: Callable[[bytes], FileSource]
) -> None:
    """Without If-Match the ETag of the 206 is compared."""
    await rgw.store.put("big", make_file(CONTENT))
    rgw.proxy.add(
        Cut(in_response(1_000_000), match=BIG),
        Pass(match=BIG),
        Cut(in_response(500_000), match=BIG),
        stall := Stall(ON_REQUEST, match=BIG),
    )
    sink = Sink()
    done = (await rgw.store.get("big")).deliver(sink)
    await stall.happened()
    rgw.server.containers["box"].objects["big"].etag = '"' + "0" * 32 + '"'
    stall.release()
    with pytest.raises(ObjectChangedError):
        await done
    assert sink.content == CONTENT[:1_500_000]
    assert rgw.asked()[-1] == ("GET", "bytes=1500000-", None, 206)


async def test_a_part_of_a_large_object_of_rgw(
    rgw: Rgw, make_file: Callable[[bytes], FileSource]
) -> None:
    """A part across segments arrives in spite of RGW's 412."""
    await rgw.store.put("big", make_file(CONTENT))
    rgw.proxy.requests.clear()
    part, sink = range(MIB - 10, 2 * MIB + 10), Sink()
    await (await rgw.store.get("big")).deliver(sink, part)
    assert sink.content == CONTENT[part.start : part.stop]
    wanted = f"bytes={part.start}-{part.stop - 1}"
    assert rgw.asked() == [
        ("GET", None, None, 200),
        ("GET", wanted, etag_of([MIB, MIB, 500_000]), 412),
        ("HEAD", None, None, 200),
        ("GET", wanted, None, 206),
    ]


async def test_a_plain_object_of_rgw_is_resumed(
    rgw: Rgw, make_file: Callable[[bytes], FileSource]
) -> None:
    """Plain objects match their own ETags."""
    content = CONTENT[:MIB]
    await rgw.store.put("big", make_file(content))
    rgw.proxy.add(Cut(in_response(1_000_000), match=BIG))
    assert await fetch(rgw.store) == content
    assert [asked[3] for asked in rgw.asked()[1:]] == [200, 206]


async def test_a_missing_segment_of_rgw_ends_in_silence(
    rgw: Rgw, make_file: Callable[[bytes], FileSource]
) -> None:
    """The limit on silence ends a download at a segment that RGW cannot find."""
    await rgw.store.put("big", make_file(CONTENT))
    held = rgw.server.containers["tests_segments"].objects
    del held[sorted(held)[1]]
    sink = Sink()
    with pytest.raises(TimedOutError, match="silent"):
        await (await rgw.store.get("big")).deliver(sink)
    assert sink.content == CONTENT[:MIB]
    await rgw.proxy.wait_closed()


async def test_a_foreign_large_object_of_rgw_goes_by_length(rgw: Rgw) -> None:
    """An object whose manifest RGW does not show is checked by its length."""
    rows = await segments(rgw.client, "box", UNEVEN)
    await put_slo(rgw.client, "box", "big", rows)
    # The first request, then one with If-Match, to which RGW answers 412, then one without.
    rgw.proxy.add(Pass(match=BIG, times=2), Cut(in_response(1_000_000), match=BIG))
    assert await fetch(rgw.store) == CONTENT


async def test_what_rgw_says_is_missing(rgw: Rgw) -> None:
    """RGW's 404 is understood, also to a HEAD that announces nine bytes and sends none."""
    for ask in (rgw.store.get, rgw.store.head):
        with pytest.raises(ObjectNotFoundError):
            await ask("nothing")
