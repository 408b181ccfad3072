"""Copies from one place to another: what arrives, how it is proven, and what is refused."""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Callable
from typing import Any

import pytest

from swift_provider.client import Place, SwiftClient, copy
from swift_provider.client.copy_bodies import PassingBytes
from swift_provider.client.drained import drained
from swift_provider.client.request import Request
from swift_provider.client.slots import Lane
from swift_provider.client.upload_bodies import BytesBody
from swift_provider.errors import KeptError, ObjectExistsError, ObjectNotFoundError
from tests.client.copies import OWNER, Pair, limits
from tests.client.trouble import MIB, MakeFile, begin, content_of, slo_etag, soon, stored

#: Four segments of one mebibyte, the last of them short.
SIZE = 3 * MIB + 12_345


async def put(place: Place, name: str, content: bytes, query: str = "", **headers: str) -> None:
    """A PUT as somebody else's program might send it."""
    request = Request(
        "PUT",
        place.container,
        place.object_name(name),
        query=query,
        headers={key.replace("_", "-").encode(): value.encode() for key, value in headers.items()},
        lane=Lane.WRITE,
        make_body=lambda: BytesBody(content, declare=False),
    )
    await place.client.requester.perform(request, drained)


async def put_slo(place: Place, name: str, sizes: list[int], **more: Any) -> bytes:
    """A large object of another program; returns its content.

    :param more: further keys of each row.
    """
    await place.segments.create()
    content, rows = content_of(sum(sizes)), []
    start = 0
    for number, size in enumerate(sizes):
        await put(place.segments, f"theirs/{number}", content[start : start + size])
        path = f"/{place.segments.container}/{place.object_name(f'theirs/{number}')}"
        rows.append({"path": path, **more})
        start += size
    await put(place, name, json.dumps(rows).encode(), "multipart-manifest=put")
    return content


@pytest.mark.parametrize("size", [0, 100, 64 * 1024, 64 * 1024 + 1, 300_000, SIZE])
async def test_a_plain_object(pair: Pair, make_file: MakeFile, size: int) -> None:
    """The copy has the bytes, the owner's mark and the CRC-32; one GET and one PUT make it."""
    content = content_of(size)
    source = pair.source.past_proxy(segment_size=5 * MIB)
    await source.put("name", make_file(content))
    info = await pair.copy()
    assert (info.size, info.etag) == (size, hashlib.md5(content).hexdigest())
    assert await stored(pair.target.direct, "name") == content
    found = await pair.target.direct.head("name")
    assert found.is_plain
    assert (found.owner, found.content_crc32) == (OWNER, zlib.crc32(content))
    assert found.content_type == "application/octet-stream"
    assert len(pair.source.seen("GET")) == len(pair.target.seen("PUT")) == 1
    assert pair.target.seen("PUT")[0].headers["etag"] == info.etag
    await pair.nothing_in_flight()


@pytest.mark.parametrize("size", [100, 300_000])
async def test_an_object_of_another_program(pair: Pair, size: int) -> None:
    """Without an owner the copy has none either. A CRC-32 is noted if it is known in time."""
    content = content_of(size)
    await put(pair.source.direct, "name", content)
    await pair.copy()
    found = await pair.target.direct.head("name")
    assert found.owner == ""
    assert found.content_crc32 == (zlib.crc32(content) if size == 100 else None)
    assert await stored(pair.target.direct, "name") == content


@pytest.mark.parametrize("size", [100, 300_000])
async def test_a_wrong_note_is_corrected(pair: Pair, size: int) -> None:
    """The MD5 proves the bytes, so the copy gets the CRC-32 that they really have."""
    content = content_of(size)
    await put(pair.source.direct, "name", content, X_Object_Meta_Content_Crc32="00000001")
    await pair.copy()
    assert (await pair.target.direct.head("name")).content_crc32 == zlib.crc32(content)
    assert await stored(pair.target.direct, "name") == content


async def test_a_large_object_stays_as_it_is(pair: Pair, make_file: MakeFile) -> None:
    """It is cut as the original, whatever segment size the target has."""
    content = content_of(SIZE)
    original = await pair.source.past_proxy().put("name", make_file(content))
    target = pair.target.place(segment_size=2 * MIB)
    info = await copy(pair.source.place(), target, "name")
    assert info.etag == original.etag == slo_etag(content)
    found = await pair.target.direct.head("name")
    assert (found.static_large, found.segment_size, found.owner) == (True, MIB, OWNER)
    assert found.content_crc32 == zlib.crc32(content)
    assert await pair.target.direct.flaw(found) is None
    assert await stored(pair.target.direct, "name") == content
    names = await pair.target.names()
    assert names[1:] == [f"name/{found.attempt}/{number:08d}" for number in range(4)]
    segment = await pair.target.direct.segments.head(names[1])
    assert (segment.owner, segment.manifest_container) == (OWNER, pair.target.container)
    assert all(
        "if-match" in seen.headers
        for seen in pair.source.seen("GET")
        if "manifest" not in seen.path
    )


@pytest.mark.parametrize("sizes", [[300_000, 1, 200_000], [MIB, MIB, 5], [7]])
async def test_a_large_object_of_another_program(pair: Pair, sizes: list[int]) -> None:
    """Its manifest says how it is cut; the copy has the same ETag."""
    content = await put_slo(pair.source.direct, "name", sizes)
    original = await pair.source.direct.head("name")
    info = await pair.copy()
    assert info.etag == original.etag
    found = await pair.target.direct.head("name")
    assert await pair.target.direct.flaw(found) is None
    assert await stored(pair.target.direct, "name") == content
    assert found.content_crc32 == zlib.crc32(content)


async def test_a_target_that_takes_no_such_segments(pair: Pair, make_file: MakeFile) -> None:
    """The object is cut anew, and proven by the CRC-32 in its metadata."""
    content = content_of(SIZE)
    await pair.source.past_proxy(segment_size=2 * MIB).put("name", make_file(content))
    pair.target.proxy.add(limits(MIB))
    info = await pair.copy()
    assert info.etag == slo_etag(content)
    assert await stored(pair.target.direct, "name") == content


async def test_a_target_that_takes_fewer_segments(pair: Pair, make_file: MakeFile) -> None:
    """The segments become larger, or a single object."""
    content = content_of(SIZE)
    source = pair.source.past_proxy()
    await source.put("name", make_file(content))
    pair.target.proxy.add(limits(5 * MIB, 2))
    target = pair.target.place()
    await copy(source, target, "name")
    assert len(await pair.target.names()) == 3
    assert await stored(target, "name") == content
    pair.target.proxy.add(limits(5 * MIB, 0))
    await copy(source, pair.target.place(), "name")
    assert (await pair.target.direct.head("name")).is_plain
    assert await stored(target, "name") == content


async def test_a_plain_object_that_is_too_large(pair: Pair, make_file: MakeFile) -> None:
    """It becomes a large one, proven by its CRC-32."""
    content = content_of(SIZE)
    await pair.source.past_proxy(segment_size=5 * MIB).put("name", make_file(content))
    pair.target.proxy.add(limits(2 * MIB))
    info = await pair.copy()
    assert info.etag == slo_etag(content)
    assert await stored(pair.target.direct, "name") == content


async def test_nothing_could_prove_the_copy(pair: Pair) -> None:
    """An object that has to be cut anew, and has no CRC-32, is not copied."""
    await put(pair.source.direct, "name", content_of(SIZE))
    pair.target.proxy.add(limits(2 * MIB))
    with pytest.raises(KeptError, match="nothing could prove"):
        await pair.copy()
    assert await pair.target.names() == []


async def test_segments_that_are_parts_of_objects(pair: Pair) -> None:
    """The ETag of such an object proves nothing, and another program noted no CRC-32."""
    await put_slo(pair.source.direct, "name", [300_000, 200_000], range="0-99999")
    with pytest.raises(KeptError, match="nothing could prove"):
        await pair.copy()
    assert await pair.target.names() == []


@pytest.mark.parametrize("flaw", ["X-Delete-At", "a link", "dynamic", "is gone"])
async def test_what_cannot_be_relied_on(pair: Pair, make_file: MakeFile, flaw: str) -> None:
    """It is not copied, and the error says why."""
    place = pair.source.direct
    if flaw == "X-Delete-At":
        await put(place, "name", b"content", X_Delete_After="1000")
    elif flaw == "a link":
        await put(place, "other", b"content")
        await put(place, "name", b"", X_Symlink_Target=f"{place.container}/p/other")
    elif flaw == "dynamic":
        await put(place, "parts/1", b"content")
        await put(place, "name", b"", X_Object_Manifest=f"{place.container}/p/parts/")
    else:
        await pair.source.past_proxy().put("name", make_file(content_of(SIZE)))
        found = await place.head("name")
        await place.segments.delete(f"name/{found.attempt}/00000001")
    with pytest.raises(KeptError, match=flaw):
        await pair.copy()
    assert await pair.target.names() == []
    await pair.nothing_in_flight()


async def test_there_is_no_such_object(pair: Pair) -> None:
    """The error is the source's."""
    with pytest.raises(ObjectNotFoundError, match=pair.source.container):
        await pair.copy()


@pytest.mark.parametrize("size", [100, 300_000, SIZE])
async def test_an_object_that_is_there_stays(pair: Pair, make_file: MakeFile, size: int) -> None:
    """With ``if_absent`` the target's object stays; without, the copy takes its place."""
    await pair.source.past_proxy().put("name", make_file(content_of(size)))
    await pair.target.direct.put("name", make_file(b"theirs"))
    with pytest.raises(ObjectExistsError):
        await pair.copy(if_absent=True)
    assert await stored(pair.target.direct, "name") == b"theirs"
    assert await pair.target.names() == ["name"]
    await pair.copy()
    assert await stored(pair.target.direct, "name") == content_of(size)
    await pair.nothing_in_flight()


async def test_the_target_has_no_container(
    pair: Pair, make_client: Callable[..., SwiftClient], make_file: MakeFile
) -> None:
    """It is made if the settings say so."""
    await pair.source.past_proxy().put("name", make_file(content_of(300_000)))
    container = f"{pair.target.container}-new"
    target = Place(make_client(container=container, create_container=True), container)
    await copy(pair.source.direct, target, "name")
    assert await stored(target, "name") == content_of(300_000)


@pytest.mark.parametrize("size", [300_000, SIZE])
@pytest.mark.parametrize("slots", [1, 2])
async def test_copies_in_opposite_directions(
    pair: Pair, make_file: MakeFile, size: int, slots: int
) -> None:
    """With one slot in each place, copies both ways do not wait for each other for ever."""
    one, other = (
        side.place(threadpool_size=slots, shares_reactor=True)
        for side in (pair.source, pair.target)
    )
    for number in range(3):
        await pair.source.past_proxy().put(f"one/{number}", make_file(content_of(size)))
        await pair.target.past_proxy().put(f"other/{number}", make_file(content_of(size)))
    copies = [
        begin(copying)
        for number in range(3)
        for copying in (copy(one, other, f"one/{number}"), copy(other, one, f"other/{number}"))
    ]
    for copied in copies:
        await soon(copied)
    for number in range(3):
        assert await stored(pair.target.direct, f"one/{number}") == content_of(size)
        assert await stored(pair.source.direct, f"other/{number}") == content_of(size)
    await pair.nothing_in_flight()


async def test_two_places_of_one_client(
    client: SwiftClient, make_file: MakeFile, pair: Pair
) -> None:
    """They share its slots: one is enough."""
    single = pair.source.place(threadpool_size=1).client
    here = Place(single, pair.source.container)
    there = Place(single, pair.target.container)
    await pair.source.past_proxy(segment_size=5 * MIB).put("name", make_file(content_of(SIZE)))
    await soon(begin(copy(here, there, "p/name")))
    assert await stored(there, "p/name") == content_of(SIZE)


def test_passing_bytes() -> None:
    """They are right only with every checksum that is known."""
    content = b"content"
    md5, crc32 = hashlib.md5(content).hexdigest(), zlib.crc32(content)

    class Proof:
        def __init__(self, is_right: bool) -> None:
            self.is_right = is_right

        def update(self, data: bytes) -> None: ...

        def right(self) -> bool:
            return self.is_right

    for passing, outcome in [
        (PassingBytes(None, None, None), (True, True)),
        (PassingBytes(md5, Proof(True), crc32), (True, True)),
        (PassingBytes("0" * 32, None, crc32), (False, False)),
        (PassingBytes(md5, Proof(False), crc32), (False, False)),
        (PassingBytes(md5, None, crc32 + 1), (True, False)),
    ]:
        passing.update(content)
        assert (passing.proven, passing.right()) == outcome
        assert (passing.md5, passing.crc32) == (md5, crc32)


@pytest.mark.parametrize("size", [100, 300_000, SIZE])
async def test_another_prefix(pair: Pair, make_file: MakeFile, size: int) -> None:
    """Each place has its own: the path is what is the same."""
    await pair.source.past_proxy().put("name", make_file(content_of(size)))
    target = Place(pair.target.direct.client, pair.target.container, "q/")
    await target.segments.create()
    await copy(pair.source.direct, target, "name")
    assert await stored(target, "name") == content_of(size)
    found = await target.head("name")
    assert found.name == "q/name"
    assert await target.flaw(found) is None
    assert await target.delete("name")
    assert [row async for page in target.segments.list() for row in page] == []
