"""Copies while the connections break, stall and lie, and while objects change."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.defer import CancelledError

from swift_provider.client import copy, downloads
from swift_provider.errors import (
    AccessDeniedError,
    DamagedError,
    ObjectChangedError,
    ObjectNotFoundError,
    ServerBusyError,
    SwiftProviderError,
)
from tests.client.copies import Pair
from tests.client.trouble import (
    HUGE,
    LONG_PATIENCE,
    MIB,
    MakeFile,
    begin,
    content_of,
    settled,
    slo_etag,
    soon,
    stored,
    until,
)
from tests.servers.faults import (
    BEFORE_RESPONSE,
    ON_REQUEST,
    Answer,
    Cut,
    Fault,
    FlipBit,
    Pass,
    Reset,
    Stall,
    in_request,
    in_response,
)

#: Four segments of one mebibyte, the last of them short.
SIZE = 3 * MIB + 12_345
GET, PUT = ("GET", "/p/name"), ("PUT", "/p/name")
SEGMENT = ("PUT", "_segments/p/name/.*/0000000[0-3]")
PART = ("GET", "/p/name$")


async def put(pair: Pair, make_file: MakeFile, *, large: bool) -> bytes:
    """Put the original where it is copied from."""
    content = content_of(SIZE)
    source = pair.source.past_proxy(segment_size=MIB if large else 5 * MIB)
    info = await source.put("name", make_file(content))
    assert info.etag == (slo_etag(content) if large else hashlib.md5(content).hexdigest())
    await pair.target.direct.segments.create()
    return content


async def check_whole(pair: Pair, content: bytes, *, large: bool) -> None:
    """The copy is there, and nothing else."""
    assert await stored(pair.target.direct, "name") == content
    found = await pair.target.direct.head("name")
    assert found.static_large == large
    assert await pair.target.direct.flaw(found) is None
    assert len(await pair.target.names()) == (5 if large else 1)
    await pair.nothing_in_flight()


async def check_nothing(pair: Pair) -> None:
    """Nothing of the copy is there."""
    assert await pair.target.names() == []
    await pair.nothing_in_flight()


OFFSETS = (0, 1, 500_000, MIB - 1)


@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize("kind", [Cut, Reset])
@pytest.mark.parametrize("offset", [*OFFSETS, "on request", "before response"])
async def test_a_download_that_breaks_is_resumed(
    pair: Pair, make_file: MakeFile, large: bool, kind: Callable[..., Fault], offset: Any
) -> None:
    """The upload goes on: it is not sent again."""
    content = await put(pair, make_file, large=large)
    places = {"on request": ON_REQUEST, "before response": BEFORE_RESPONSE}
    pair.source.proxy.add(kind(places.get(offset) or in_response(offset), match=PART))
    await pair.copy()
    assert len(pair.target.seen("PUT")) == (5 if large else 1)
    await check_whole(pair, content, large=large)


@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize("kind", [Cut, Reset])
@pytest.mark.parametrize("offset", [*OFFSETS, "on request", "before response"])
async def test_an_upload_that_breaks_begins_anew(
    pair: Pair, make_file: MakeFile, large: bool, kind: Callable[..., Fault], offset: Any
) -> None:
    """With a fresh download."""
    content = await put(pair, make_file, large=large)
    places = {"on request": ON_REQUEST, "before response": BEFORE_RESPONSE}
    match = SEGMENT if large else PUT
    pair.target.proxy.add(kind(places.get(offset) or in_request(offset), match=match))
    await pair.copy()
    await check_whole(pair, content, large=large)


@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize("offset", [0, 500_000])
async def test_a_download_that_falls_silent(
    pair: Pair, make_file: MakeFile, large: bool, offset: int
) -> None:
    """It is resumed before the upload's server loses its patience."""
    content = await put(pair, make_file, large=large)
    pair.source.proxy.add(Stall(in_response(offset), match=PART))
    target = pair.target.place(idle_timeout=9)
    await soon(begin(copy(pair.source.place(), target, "name")))
    assert len(pair.target.seen("PUT")) == (5 if large else 1)
    await check_whole(pair, content, large=large)


async def test_a_source_that_does_not_answer(pair: Pair, make_file: MakeFile) -> None:
    """The upload is given up, and begins anew with a fresh download."""
    content = await put(pair, make_file, large=False)
    pair.source.proxy.add(Stall(ON_REQUEST, match=PART))
    target = pair.target.place(idle_timeout=1.5, patience=LONG_PATIENCE)
    await soon(begin(copy(pair.source.place(), target, "name")))
    assert len(pair.target.seen("PUT")) == 2
    await check_whole(pair, content, large=False)


@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize("place", [ON_REQUEST, in_response(0)], ids=str)
async def test_a_source_that_stays_silent(
    pair: Pair, make_file: MakeFile, large: bool, place: Any
) -> None:
    """The error is the source's, and nothing is left at the target."""
    await put(pair, make_file, large=large)
    pair.source.proxy.add(Stall(place, match=PART, times=None))
    target = pair.target.place(idle_timeout=1.5)
    with pytest.raises(SwiftProviderError, match=f"GET {pair.source.container}.*(silent|no byte)"):
        await soon(begin(copy(pair.source.place(), target, "name")))
    await check_nothing(pair)


@pytest.mark.parametrize("large", [False, True])
async def test_an_upload_that_falls_silent(pair: Pair, make_file: MakeFile, large: bool) -> None:
    """It begins anew."""
    content = await put(pair, make_file, large=large)
    pair.target.proxy.add(Stall(BEFORE_RESPONSE, match=SEGMENT if large else PUT))
    target = pair.target.place(response_timeout=1.5, patience=LONG_PATIENCE)
    await soon(begin(copy(pair.source.place(), target, "name")))
    await check_whole(pair, content, large=large)


@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize("offset", OFFSETS)
async def test_damage_on_the_way_from_the_source(
    pair: Pair, make_file: MakeFile, large: bool, offset: int
) -> None:
    """It is found before the last bytes are sent, and the copy begins anew."""
    content = await put(pair, make_file, large=large)
    pair.source.proxy.add(FlipBit(in_response(offset), match=PART))
    await pair.copy()
    incomplete = [seen for seen in pair.target.seen("PUT") if seen.status not in (200, 201)]
    assert len(incomplete) == 1
    assert incomplete[0].request_bytes < (MIB if large else SIZE)
    await check_whole(pair, content, large=large)


@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize("offset", OFFSETS)
async def test_damage_on_the_way_to_the_target(
    pair: Pair, make_file: MakeFile, large: bool, offset: int
) -> None:
    """The target compares the MD5, which is known beforehand, and stores nothing."""
    content = await put(pair, make_file, large=large)
    pair.target.proxy.add(FlipBit(in_request(offset), match=SEGMENT if large else PUT))
    await pair.copy()
    assert [seen.status for seen in pair.target.seen("PUT")].count(422) == 1
    await check_whole(pair, content, large=large)


@pytest.mark.parametrize("large", [False, True])
async def test_an_original_that_is_damaged(pair: Pair, make_file: MakeFile, large: bool) -> None:
    """Its last bytes never reach the target. It is not tried for ever."""
    await put(pair, make_file, large=large)
    pair.source.proxy.add(FlipBit(in_response(MIB - 1), match=PART, times=None))
    with pytest.raises(DamagedError, match=pair.source.container):
        await pair.copy()
    assert len([seen for seen in pair.source.seen("GET") if PART[1][:-1] in seen.path]) <= 11
    whole = MIB if large else SIZE
    damaged = [seen for seen in pair.target.seen("PUT") if seen.status != 201]
    assert damaged
    assert all(seen.request_bytes < whole for seen in damaged)
    await check_nothing(pair)


async def test_segments_without_a_known_md5(
    pair: Pair, make_file: MakeFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the manifest cannot be read, the ETag of the whole finds damage in a segment. It is the
    source's.
    """
    await put(pair, make_file, large=True)
    manifest = ("GET", "multipart-manifest=get")
    pair.source.proxy.add(Answer(200, match=manifest, times=2))
    pair.source.proxy.add(FlipBit(in_response(5), match=PART))
    with pytest.raises(DamagedError, match=pair.source.container) as raised:
        await copy(pair.source.place(name="source"), pair.target.place(name="target"), "name")
    assert raised.value.mirror == "source"
    assert not [seen for seen in pair.target.seen("PUT") if "manifest" in seen.path]
    await check_nothing(pair)


@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize("change", ["deleted", "replaced"])
async def test_an_original_that_changes(
    pair: Pair, make_file: MakeFile, large: bool, change: str
) -> None:
    """It falls silent and cannot be resumed: nothing appears at the target."""
    await put(pair, make_file, large=large)
    pair.source.proxy.add(Stall(in_response(300_000), match=PART))
    pair.source.proxy.add(rest := Stall(ON_REQUEST, match=PART))
    copying = begin(copy(pair.source.place(), pair.target.place(idle_timeout=9), "name"))
    await soon(rest.happened())
    if change == "deleted":
        await pair.source.direct.delete("name")
        error: type[Exception] = ObjectNotFoundError
    else:
        await pair.source.direct.put("name", make_file(content_of(SIZE)[::-1]))
        error = ObjectChangedError
    rest.release()
    with pytest.raises(error, match=f"GET {pair.source.container}"):
        await soon(copying)
    await check_nothing(pair)


@pytest.mark.parametrize("size", [100, SIZE])
@pytest.mark.parametrize("change", ["deleted", "replaced"])
async def test_an_original_that_changes_before_its_download(
    pair: Pair, make_file: MakeFile, change: str, size: int
) -> None:
    """Only what was looked at is copied."""
    source = pair.source.past_proxy(segment_size=5 * MIB)
    await source.put("name", make_file(content_of(size)))
    pair.source.proxy.add(stall := Stall(ON_REQUEST, match=PART))
    copying = begin(pair.copy())
    await soon(stall.happened())
    if change == "deleted":
        await source.delete("name")
    else:
        await source.put("name", make_file(content_of(size)[::-1]))
    stall.release()
    error = ObjectNotFoundError if change == "deleted" else ObjectChangedError
    with pytest.raises(error, match=f"GET {pair.source.container}"):
        await soon(copying)
    await check_nothing(pair)


@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize(
    ("side", "place", "match"),
    [
        ("source", ON_REQUEST, ("HEAD", "/p/name$")),
        ("source", ON_REQUEST, GET),
        ("source", BEFORE_RESPONSE, PART),
        ("source", in_response(0), PART),
        ("source", in_response(500_000), PART),
        ("target", ON_REQUEST, ("PUT", "/p/name")),
        ("target", in_request(0), ("PUT", "/p/name")),
        ("target", in_request(500_000), ("PUT", "/p/name")),
        ("target", BEFORE_RESPONSE, ("PUT", "/p/name(/.*)?$")),
    ],
    ids=str,
)
async def test_cancelled_at_any_moment(
    pair: Pair, make_file: MakeFile, large: bool, side: str, place: Any, match: Any
) -> None:
    """Nothing is in flight, and nothing is left of a copy that was not complete."""
    await put(pair, make_file, large=large)
    stall = Stall(place, match=match)
    getattr(pair, side).proxy.add(stall)
    copying = begin(pair.copy())
    await soon(stall.happened())
    copying.cancel()
    with pytest.raises(CancelledError):
        await soon(copying)
    await pair.nothing_in_flight()
    if place is not BEFORE_RESPONSE or side == "source" or large:
        assert await pair.target.names() == []
    else:  # its whole body was there
        assert await stored(pair.target.direct, "name") == content_of(SIZE)


async def test_cancelled_while_it_waits_for_slots(pair: Pair, make_file: MakeFile) -> None:
    """What it had is free again, and others go on."""
    await put(pair, make_file, large=False)
    source, target = pair.source.place(threadpool_size=1), pair.target.place(threadpool_size=1)
    pair.source.proxy.add(stall := Stall(in_response(0), match=PART))
    first = begin(copy(source, target, "name"))
    await soon(stall.happened())
    others = [begin(copy(source, target, "name")) for _ in range(2)]
    await until(lambda: source.client.slots.waiting == 2)
    first.cancel()
    others[1].cancel()
    for copying in (first, others[1]):
        with pytest.raises(CancelledError):
            await soon(copying)
    await soon(others[0])
    await check_whole(pair, content_of(SIZE), large=False)


@pytest.mark.parametrize("large", [False, True])
async def test_a_target_that_refuses(pair: Pair, make_file: MakeFile, large: bool) -> None:
    """The error is the target's; the downloads end."""
    await put(pair, make_file, large=large)
    pair.target.proxy.add(Answer(403, match=SEGMENT if large else PUT, times=None))
    with pytest.raises(AccessDeniedError, match=f"PUT {pair.target.container}"):
        await pair.copy()
    await check_nothing(pair)


async def test_a_source_that_is_busy(pair: Pair, make_file: MakeFile) -> None:
    """Its error is not taken for the target's, and is retried as long as the target's would be."""
    content = await put(pair, make_file, large=False)
    pair.source.proxy.add(Pass(match=("HEAD", "")), Answer(503, match=PART, times=None))
    with pytest.raises(ServerBusyError, match=f"GET {pair.source.container}"):
        await pair.copy()
    assert await pair.target.names() == []
    pair.source.proxy.clear()
    await pair.copy()
    await check_whole(pair, content, large=False)


async def test_a_404_of_somebody_else(pair: Pair, make_file: MakeFile) -> None:
    """Whether the container exists is asked with the slot that the copy has already."""
    content = await put(pair, make_file, large=False)
    pair.source.proxy.add(Answer(404, foreign=True, match=PART))
    source = pair.source.place(threadpool_size=1)
    await soon(begin(copy(source, pair.target.place(idle_timeout=6), "name")))
    assert len(pair.target.seen("PUT")) == 1
    await check_whole(pair, content, large=False)


async def test_a_slow_target_holds_up_the_source(pair: Pair, make_file: MakeFile) -> None:
    """Back-pressure: while the target takes nothing, little more is read from the source."""
    content = content_of(HUGE)
    await pair.source.past_proxy(segment_size=5 * HUGE).put("name", make_file(content))
    pair.target.proxy.add(stall := Stall(in_request(100_000), match=PUT))
    source, target = pair.source.place(segment_size=5 * HUGE), pair.target.place()
    received = 0

    def count(number: int) -> None:
        nonlocal received
        received += number

    source.client.requester.observer.received = count  # type: ignore[method-assign]
    copying = begin(copy(source, target, "name"))
    await soon(stall.happened())
    assert await settled(lambda: received) < HUGE
    stall.release()
    await soon(copying)
    assert received == HUGE
    assert await stored(pair.target.direct, "name") == content
    await pair.nothing_in_flight()


async def test_a_long_pause_lets_go_of_the_source(
    pair: Pair, make_file: MakeFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its connection is closed meanwhile, and the download goes on where it was."""
    monkeypatch.setattr(downloads, "PARK_SECONDS", 0.2)
    content = content_of(HUGE)
    await pair.source.past_proxy(segment_size=5 * HUGE).put("name", make_file(content))
    pair.target.proxy.add(stall := Stall(in_request(100_000), match=PUT))
    source, target = pair.source.place(segment_size=5 * HUGE), pair.target.place()
    copying = begin(copy(source, target, "name"))
    await soon(stall.happened())
    await soon(begin(pair.source.proxy.wait_idle()))
    assert source.client.slots.in_flight == 1
    stall.release()
    await soon(copying)
    assert "range" in pair.source.seen("GET")[-1].headers
    assert await stored(pair.target.direct, "name") == content
    await pair.nothing_in_flight()
