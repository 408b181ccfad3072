"""The CRC-32 that this client stores with an object, and what a download finds with it."""

from __future__ import annotations

import hashlib
import json
import os
import zlib
from collections.abc import Callable
from typing import Any

import pytest

from swift_provider.client import FileSource, Patience, Place
from swift_provider.client.downloads import WHOLE_BYTES
from swift_provider.client.upload_bodies import AT_ONCE_BYTES
from swift_provider.errors import DamagedError, FileChangedError
from tests.client.conftest import Faulty, PutObject, Sink
from tests.client.test_large_objects import MIB, SIZE, Raw, cutting, raw
from tests.client.test_rgw_downloads import Rgw, rgw
from tests.client.trouble import (
    HUGE,
    LARGE,
    NO_PATIENCE,
    SMALL,
    MakeFile,
    begin,
    content_of,
    fetch,
    gets,
    nothing_in_flight,
    puts,
    soon,
    stored,
)
from tests.servers.faults import Answer, Cut, FlipBit, Stall, Then, in_request, in_response

__all__ = ["cutting", "raw", "rgw"]

NAME = "X-Object-Meta-Content-Crc32"


def noted(content: bytes) -> str:
    return f"{zlib.crc32(content):08x}"


# What is stored


@pytest.mark.parametrize("size", [0, 1, SMALL, AT_ONCE_BYTES, AT_ONCE_BYTES + 1, LARGE])
async def test_an_object_carries_it(
    store: Place, container: str, make_file: MakeFile, raw: Raw, size: int
) -> None:
    """Whatever the size; it is read back as a number."""
    content = content_of(size)
    await store.put("name", make_file(content))
    assert raw("HEAD", f"{container}/name").headers[NAME] == noted(content)
    assert (await store.head("name")).content_crc32 == zlib.crc32(content)


async def test_leading_zeros_are_kept(store: Place, make_file: MakeFile) -> None:
    """The value has eight digits always."""
    content = next(text for n in range(10**6) if zlib.crc32(text := b"%d" % n) < 1 << 24)
    await store.put("name", make_file(content))
    assert (await store.head("name")).content_crc32 == zlib.crc32(content)


async def test_a_manifest_carries_that_of_the_whole_file(
    cutting: Callable[..., Place], container: str, make_file: MakeFile, raw: Raw
) -> None:
    """The segments carry none: nobody downloads a segment alone."""
    content = content_of(SIZE)
    store = cutting()
    await store.put("name", make_file(content))
    assert (await store.head("name")).content_crc32 == zlib.crc32(content)
    for name in raw.names(f"{container}_segments"):
        assert NAME not in raw("HEAD", f"{container}_segments/{name}").headers
    assert await stored(store, "name") == content


async def test_a_segment_that_is_sent_again_counts_once(
    faulty: Faulty, cutting: Callable[..., Place], make_file: MakeFile
) -> None:
    """The CRC-32 of the manifest is that of the bytes in the last attempts."""
    store = cutting()
    await store.put("first", make_file(content_of(SIZE)))
    faulty.proxy.add(
        FlipBit(in_request(MIB // 2), match=("PUT", "_segments/.*/00000001")),
        Answer(503, after=None, match=("PUT", "_segments/.*/00000002")),
    )
    await store.put("name", make_file(content_of(SIZE)))
    assert (await store.head("name")).content_crc32 == zlib.crc32(content_of(SIZE))


@pytest.mark.parametrize("size", [SMALL, LARGE])
async def test_each_attempt_sends_it(
    faulty: Faulty, store: Place, container: str, make_file: MakeFile, size: int
) -> None:
    """A repeated PUT has it too."""
    faulty.proxy.add(Answer(503, match=("PUT", "")))
    await faulty.store(container).put("name", make_file(content_of(size)))
    assert [seen.headers[NAME.lower()] for seen in puts(faulty)] == [noted(content_of(size))] * 2


async def test_a_change_between_the_two_readings(
    faulty: Faulty, store: Place, container: str, make_file: MakeFile
) -> None:
    """A file whose bytes change while size and mtime stay is not stored: its CRC-32 was sent."""
    sending = faulty.store(container)
    faulty.proxy.add(stall := Stall(in_request(100_000), match=("PUT", "")))
    source = make_file(content_of(HUGE))
    upload = begin(sending.put("name", source))
    await soon(stall.happened())
    change_unseen(source)
    stall.release()
    with pytest.raises(FileChangedError, match=f"{source.path} .* read twice"):
        await soon(upload)
    await nothing_in_flight(faulty)
    assert await stored(store, "name") is None
    assert len(puts(faulty)) == 1


@pytest.mark.parametrize("size", [SMALL, LARGE])
async def test_a_change_between_two_attempts(
    faulty: Faulty, store: Place, container: str, make_file: MakeFile, size: int
) -> None:
    """What is stored has the CRC-32 of the bytes that were sent; or nothing is stored."""
    slowly = Patience(total_seconds=20, first_delay=1.0, longest_delay=1.0, operation_seconds=30)
    sending = faulty.store(container, patience=slowly)
    faulty.proxy.add(refusal := Answer(503, after=None, match=("PUT", "")))
    source = make_file(content_of(size))
    upload = begin(sending.put("name", source))
    await soon(refusal.happened())
    change_unseen(source)
    if size == SMALL:
        await soon(upload)
        content = await stored(store, "name")
        assert content != content_of(size)
        assert (await store.head("name")).content_crc32 == zlib.crc32(content or b"")
    else:
        with pytest.raises(FileChangedError):
            await soon(upload)
        assert await stored(store, "name") is None


def change_unseen(source: FileSource) -> None:
    """Change bytes near the end of a file, but not its size and mtime."""
    before = os.stat(source.path)
    with open(source.path, "r+b") as file:
        file.seek(before.st_size - 10)
        file.write(b"else")
    os.utime(source.path, ns=(before.st_atime_ns, before.st_mtime_ns))
    source.check_unchanged()


# What a download finds


async def test_a_small_download_with_a_wrong_value(
    store: Place, container: str, raw: Raw, caplog: pytest.LogCaptureFixture
) -> None:
    """The MD5 of all the bytes tells that it is the value that is wrong; the log says so once."""
    content = content_of(SMALL)
    raw("PUT", f"{container}/object", content, X_Object_Meta_Content_Crc32="0badcafe")
    for _ in range(2):
        assert await fetch(store) == content
    (line,) = [line for line in caplog.messages if "CRC-32" in line]
    assert f"{container}/object" in line


async def test_a_large_download_with_a_wrong_value(store: Place, container: str, raw: Raw) -> None:
    """The right bytes are refused once. The next download is compared with Swift's own MD5."""
    content = content_of(LARGE)
    raw("PUT", f"{container}/object", content, X_Object_Meta_Content_Crc32="0badcafe")
    assert await proven(store) == content
    with pytest.raises(DamagedError):
        await fetch(store)
    for _ in range(2):
        assert await fetch(store) == content


async def test_a_large_object_with_a_wrong_value(
    cutting: Callable[..., Place], container: str, make_file: MakeFile, raw: Raw
) -> None:
    """The same for one in segments, whose manifest has to be read."""
    store = cutting(patience=NO_PATIENCE)
    await store.put("object", make_file(content_of(SIZE)))
    raw("POST", f"{container}/object", X_Object_Meta_Content_Crc32="0badcafe")
    with pytest.raises(DamagedError):
        await fetch(store)
    assert await fetch(store) == content_of(SIZE)


@pytest.mark.parametrize("size", ["7", "1048575", "2000000", "99999999999999999999"])
async def test_a_segment_size_of_another_tool(
    cutting: Callable[..., Place], container: str, make_file: MakeFile, raw: Raw, size: str
) -> None:
    """The object is good, and the manifest tells the segments' sizes."""
    store = cutting(patience=NO_PATIENCE)
    source = make_file(content_of(SIZE))
    await store.put("object", source)
    raw("POST", f"{container}/object", X_Object_Meta_Segment_Size=size)
    assert await fetch(store) == content_of(SIZE)
    assert await proven(store) == content_of(SIZE)
    assert await store.same_content(await store.head("object", newest=True), source)


async def proven(store: Place) -> bytes:
    """The content of ``object``, checked with Swift's own MD5."""
    download = await store.get("object", prove=True)
    assert download.checked
    sink = Sink()
    await download.deliver(sink)
    return sink.content


async def flipped(faulty: Faulty, content: bytes) -> None:
    faulty.proxy.add(FlipBit(in_response(len(content) - 1), times=None, match=("GET", "")))


def answers(change: Callable[[bytes], bytes]) -> Any:
    """Swift's own headers, and another body."""

    async def answer(faulty: Faulty, content: bytes) -> None:
        headers = {"ETag": hashlib.md5(content).hexdigest(), NAME: noted(content)}
        faulty.proxy.add(Answer(200, change(content), headers, times=None, match=("GET", "")))

    return answer


#: What may be wrong with a body that is announced with the headers of the right one.
WRONG = {
    "flipped bit": (flipped, [SMALL, LARGE]),
    "truncated": (answers(lambda content: content[:-1]), [SMALL, LARGE]),
    "doubled chunk": (
        answers(lambda content: content[:16384] + content[:16384] + content[32768:]),
        [SMALL, LARGE],
    ),
    "swapped chunks": (
        answers(lambda content: content[16384:32768] + content[:16384] + content[32768:]),
        [SMALL, LARGE],
    ),
    "nothing": (answers(lambda content: b""), [SMALL, LARGE]),
}


@pytest.mark.parametrize(
    ("wrong", "size"), [(name, size) for name, (_, sizes) in WRONG.items() for size in sizes]
)
async def test_a_wrong_body_is_found(
    faulty: Faulty, container: str, put_object: PutObject, wrong: str, size: int
) -> None:
    """Damage that TCP and Swift let through is an error, whole in memory or streamed."""
    assert SMALL < WHOLE_BYTES < LARGE
    content = content_of(size)
    await put_object(content)
    store = faulty.store(container, patience=NO_PATIENCE)
    await store.check()
    make, _ = WRONG[wrong]
    await make(faulty, content)
    with pytest.raises(DamagedError):
        await fetch(store)


@pytest.mark.parametrize("first", [True, False])
async def test_damage_before_or_after_a_break_is_found(
    faulty: Faulty, container: str, put_object: PutObject, first: bool
) -> None:
    """A resumed download is checked as a whole, and not with the value of its last part."""
    await put_object(content_of(LARGE))
    if first:
        content = content_of(1000)
        headers = {"ETag": hashlib.md5(content_of(LARGE)).hexdigest(), "Content-Length": str(LARGE)}
        headers[NAME] = noted(content_of(LARGE))
        faulty.proxy.add(Answer(200, content, headers, then=Then.CLOSE))
    else:
        faulty.proxy.add(Cut(in_response(1_000_000)), FlipBit(in_response(1_000_000)))
    with pytest.raises(DamagedError):
        await fetch(faulty.store(container))
    assert len(gets(faulty)) == 2


async def test_it_covers_the_bytes_before_and_after_a_break(
    faulty: Faulty, container: str, put_object: PutObject
) -> None:
    """A resumed download is checked as a whole."""
    await put_object(content_of(LARGE))
    faulty.proxy.add(Cut(in_response(1_000_001)), Cut(in_response(999_999)))
    assert await fetch(faulty.store(container)) == content_of(LARGE)
    assert len(gets(faulty)) == 3


@pytest.mark.parametrize("value", ["", "none", "0x123456", "123456789", "1234567", "+1234567"])
@pytest.mark.parametrize("size", [SMALL, LARGE])
async def test_a_value_that_cannot_be_read_is_none(
    faulty: Faulty, container: str, raw: Raw, value: str, size: int
) -> None:
    """Such an object is checked by its MD5."""
    content = content_of(size)
    raw("PUT", f"{container}/object", content, X_Object_Meta_Content_Crc32=value)
    store = faulty.store(container, patience=NO_PATIENCE)
    assert (await store.head("object")).content_crc32 is None
    assert await fetch(store) == content
    faulty.proxy.add(FlipBit(in_response(5), times=None, match=("GET", "")))
    with pytest.raises(DamagedError):
        await fetch(store)


@pytest.mark.parametrize("size", [SMALL, LARGE, SIZE])
async def test_a_post_that_drops_the_metadata(
    faulty: Faulty,
    cutting: Callable[..., Place],
    container: str,
    make_file: MakeFile,
    raw: Raw,
    size: int,
) -> None:
    """The object is checked by its MD5 then, or by those of its segments."""
    content = content_of(size)
    store = cutting(patience=NO_PATIENCE, segment_size=SIZE - 1)
    await store.put("object", make_file(content))
    raw("POST", f"{container}/object", X_Object_Meta_Other="1")
    assert (await store.head("object")).content_crc32 is None
    assert await fetch(store) == content
    faulty.proxy.add(FlipBit(in_response(size // 2), times=None, match=("GET", "object$")))
    with pytest.raises(DamagedError):
        await fetch(store)


# Large objects


async def test_a_large_object_needs_no_manifest(
    faulty: Faulty, cutting: Callable[..., Place], container: str, make_file: MakeFile, raw: Raw
) -> None:
    """Not even if the size of its segments is lost."""
    await cutting().put("name", make_file(content_of(SIZE)))
    raw("POST", f"{container}/name", X_Object_Meta_Content_Crc32=noted(content_of(SIZE)))
    faulty.proxy.requests.clear()
    assert await stored(faulty.store(container), "name") == content_of(SIZE)
    assert [seen.path.endswith("/name") for seen in faulty.proxy.requests] == [True]


async def test_a_manifest_whose_segments_were_swapped(
    cutting: Callable[..., Place], container: str, make_file: MakeFile, raw: Raw
) -> None:
    """A manifest of the same segments in another order has a right ETag of its own; the
    CRC-32 that was copied into it does not fit.
    """
    store = cutting()
    await store.put("name", make_file(content_of(SIZE)))
    paths = [f"/{container}_segments/{name}" for name in raw.names(f"{container}_segments")]
    rows = [{"path": path} for path in (paths[1], paths[0], *paths[2:])]
    kept = {NAME: noted(content_of(SIZE))}
    raw("PUT", f"{container}/name?multipart-manifest=put", json.dumps(rows), **kept)
    assert (await store.head("name")).size == SIZE
    with pytest.raises(DamagedError):
        await stored(store, "name")


@pytest.mark.parametrize("change", ["swapped", "replaced", "doubled", "one bit"])
@pytest.mark.parametrize("prove", [False, True])
async def test_segments_that_ceph_rgw_changed(
    rgw: Rgw, make_file: MakeFile, change: str, prove: bool
) -> None:
    """Ceph RGW serves whatever has the segments' names."""
    await rgw.store.put("object", make_file(content_of(2 * MIB + 5)))
    assert await fetch(rgw.store) == content_of(2 * MIB + 5)
    held = rgw.server.containers["tests_segments"].objects
    first, second, _ = (held[name] for name in sorted(held))
    if change == "swapped":
        first.data, second.data = second.data, first.data
    elif change == "replaced":
        first.data = content_of(MIB)[::-1]
    elif change == "doubled":
        second.data = first.data
    else:
        second.data = bytes([second.data[0] ^ 1]) + second.data[1:]
    with pytest.raises(DamagedError):
        await (proven(rgw.store) if prove else fetch(rgw.store))


async def test_a_dynamic_large_object_may_have_an_old_value(
    store: Place, container: str, raw: Raw
) -> None:
    """Its content changes with each object in its folder, and its metadata does not."""
    raw("PUT", f"{container}/parts/1", b"content")
    headers = {NAME: "00000000", "X-Object-Manifest": f"{container}/parts/"}
    raw("PUT", f"{container}/object", b"", **headers)
    assert await fetch(store) == b"content"
    download = await store.get("object", prove=True)
    assert not download.checked
    await download.deliver(sink := Sink())
    assert sink.content == b"content"


# What it is not


async def test_it_is_no_proof_for_a_local_file(
    store: Place, container: str, make_file: MakeFile, raw: Raw
) -> None:
    """A local file is compared with Swift's own MD5, whatever the metadata says."""
    file, other = content_of(SMALL), content_of(SMALL)[::-1]
    raw("PUT", f"{container}/other", other, X_Object_Meta_Content_Crc32=noted(file))
    raw("PUT", f"{container}/same", file, X_Object_Meta_Content_Crc32=noted(other))
    assert not await store.same_content(await store.head("other", newest=True), make_file(file))
    assert await store.same_content(await store.head("same", newest=True), make_file(file))


async def test_it_is_no_proof_for_a_local_file_in_segments(
    cutting: Callable[..., Place], container: str, make_file: MakeFile, raw: Raw
) -> None:
    """The same for a large object."""
    store = cutting()
    await store.put("name", make_file(content_of(SIZE)))
    other = content_of(SIZE)[::-1]
    raw("POST", f"{container}/name", X_Object_Meta_Content_Crc32=noted(other))
    info = await store.head("name", newest=True)
    assert info.content_crc32 == zlib.crc32(other)
    assert not await store.same_content(info, make_file(other))
    assert await store.same_content(info, make_file(content_of(SIZE)))


async def test_a_copy_keeps_it(
    store: Place,
    cutting: Callable[..., Place],
    container: str,
    make_file: MakeFile,
    raw: Raw,
) -> None:
    """Swift copies a large object as a plain one, with its metadata, which is right still."""
    await cutting().put("name", make_file(content_of(SIZE)))
    raw("PUT", f"{container}/copy", b"", X_Copy_From=f"{container}/name")
    info = await store.head("copy")
    assert info.is_plain
    assert info.content_crc32 == zlib.crc32(content_of(SIZE))
    assert await stored(store, "copy") == content_of(SIZE)
