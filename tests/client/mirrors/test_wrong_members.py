"""A member that delivers wrong bytes, or fails in a way that the other does not."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

import pytest
from twisted.internet import reactor
from twisted.internet.task import deferLater

from swift_provider.client import WholeDownload
from swift_provider.client.answers import crc32_mark
from swift_provider.client.drained import drained
from swift_provider.client.mirrors import member, writing
from swift_provider.client.request import Request
from swift_provider.client.slots import Lane
from swift_provider.client.upload_bodies import BytesBody
from swift_provider.errors import DamagedError, SwiftProviderError
from swift_provider.module.log_context import begin_for_caller
from swift_provider.module.metrics import Metrics
from swift_provider.module.small_files import PROVEN_SECONDS, SmallFiles
from tests.client.conftest import Sink
from tests.client.mirrors.conftest import Mirrors
from tests.client.trouble import HUGE, LARGE, SMALL, begin, content_of, soon, stored, until
from tests.servers.faults import (
    BEFORE_RESPONSE,
    Answer,
    Delay,
    FlipBit,
    Stall,
    in_request,
    in_response,
)

OBJECT = ("GET", "/object$")
PUT = ("PUT", "/object$")


async def settled(mirrors: Mirrors) -> None:
    await until(lambda: all(one.debts == 0 for one in mirrors.watched))


async def after(seconds: float) -> None:
    await deferLater(reactor, seconds)


async def test_the_wrong_member_is_doubted(mirrors: Mirrors) -> None:
    """The bytes of the second were wrong: the next download is right."""
    await mirrors.put(content_of(HUGE))
    sink = Sink(pause_after=500_000)
    done = (await mirrors.store.get("object")).deliver(sink)
    await until(lambda: len(sink.content) >= 500_000)
    await mirrors.stop(0)
    mirrors.faulty[1].proxy.add_optional(FlipBit(in_response(100), times=2, match=OBJECT))
    sink.producer.resumeProducing()  # type: ignore[union-attr]
    with pytest.raises(DamagedError):
        await soon(done)
    mirrors.start(0)
    await until(lambda: mirrors.watched[0].works)
    assert await soon(begin(mirrors.get())) == content_of(HUGE)


async def test_memory_is_proven_by_the_other_member(
    mirrors: Mirrors, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first member hangs: the second can say whether the object is still there."""
    monkeypatch.setattr(member, "ANSWER_SECONDS", 2.0)
    await mirrors.put(content_of(SMALL))

    class Ahead:
        """The reactor, an hour later."""

        offset = 0.0

        def seconds(self) -> float:
            return reactor.seconds() + self.offset

        def callLater(self, *arguments: Any) -> Any:
            return reactor.callLater(*arguments)

    clock = Ahead()
    files = SmallFiles(mirrors.store, 1 << 20, clock, Metrics("here", "c"))
    for _ in range(2):
        assert isinstance(await begin_for_caller(files.get, "object"), WholeDownload)
    assert files.has("object")
    clock.offset = PROVEN_SECONDS + 10
    for place in mirrors.plain:
        await place.delete("object")
    # The first member has nothing and hangs; the second says 404.
    mirrors.faulty[0].proxy.add(Stall(times=None, place=BEFORE_RESPONSE))
    served = 0
    for _ in range(4):
        try:
            await begin_for_caller(files.get, "object")
            served += 1
        except SwiftProviderError:
            pass
        clock.offset += 70
    mirrors.faulty[0].proxy.clear()
    assert not mirrors.watched[0].works, f"served {served} times, each after 3 seconds"


async def test_a_failed_upload_leaves_word(
    mirrors: Mirrors, caplog: pytest.LogCaptureFixture
) -> None:
    """A process that ends with debts says so: nothing else knows what a member lacks."""
    mirrors.faulty[0].proxy.add(Answer(503, times=None, match=PUT))
    await soon(begin(mirrors.put(content_of(SMALL))))
    assert mirrors.watched[0].debts == 1
    await soon(begin(mirrors.store.close()))
    told = [r.getMessage() for r in caplog.records if r.levelname in ("WARNING", "ERROR")]
    assert any("first" in line for line in told), f"warnings: {told}"


async def test_an_upload_that_is_cancelled_after_one_has_it(mirrors: Mirrors) -> None:
    """What one member has got is made up for, although the caller has gone."""
    mirrors.faulty[0].proxy.add(Stall(place=in_request(1000), match=PUT))
    putting = begin(mirrors.put(content_of(SMALL)))
    ended: list[Any] = []
    putting.addBoth(ended.append)
    await until(lambda: bool(mirrors.requests(1, "PUT")))
    await soon(begin(mirrors.faulty[1].proxy.wait_idle()))
    await after(0.1)
    putting.cancel()
    await settled(mirrors)
    have = [await stored(place, "object") is not None for place in mirrors.plain]
    timers = [c for c in reactor.getDelayedCalls() if "_leave_all" in str(c)]
    assert not timers
    assert have == [True, True], have


async def test_a_member_that_has_lost_its_segments_is_left_out(mirrors: Mirrors) -> None:
    """One damaged object does not take a whole member out of use."""
    await mirrors.put(content_of(LARGE))
    await mirrors.put(content_of(SMALL), "other")
    segments = mirrors.store.members[0].segments
    names = sorted([row.name async for page in segments.list() for row in page])
    await segments.delete(names[1])
    worked = True
    for _ in range(4):
        assert await soon(begin(mirrors.get())) == content_of(LARGE)
        worked = worked and mirrors.watched[0].works
    assert worked


async def test_one_asks_to_wait_and_the_other_fails_once(mirrors: Mirrors) -> None:
    """The other member is asked again after a short pause, whatever the first asks for."""
    await mirrors.put(content_of(SMALL))
    headers = {"Retry-After": "600"}
    mirrors.faulty[0].proxy.add_optional(Answer(503, headers=headers, times=None, match=OBJECT))
    mirrors.faulty[1].proxy.add(Answer(503, match=OBJECT))
    assert await soon(begin(mirrors.get())) == content_of(SMALL)


async def test_a_member_that_is_only_read(
    mirrors: Mirrors, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its uploads hang, and its downloads work: uploads do not wait for it for ever."""
    monkeypatch.setattr(writing, "LATER_SECONDS", 2.0)
    await mirrors.put(content_of(SMALL))
    mirrors.faulty[0].proxy.add(Stall(times=None, place=BEFORE_RESPONSE, match=("PUT", "/new")))
    took = []
    for number in range(8):
        began = reactor.seconds()
        await soon(begin(mirrors.put(content_of(SMALL), f"new{number}")))
        took.append(round(reactor.seconds() - began, 2))
        await mirrors.get()
    mirrors.faulty[0].proxy.clear()
    assert min(took[-3:]) < 1.5, f"each takes as long as the first: {took}"


async def test_closed_while_an_upload_is_cleaned_up(
    mirrors: Mirrors, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is in flight any more."""
    monkeypatch.setattr(writing, "LATER_SECONDS", 0.5)
    proxy = mirrors.faulty[0].proxy
    proxy.add(Stall(times=None, place=BEFORE_RESPONSE, match=("PUT", "multipart-manifest")))
    hold = Stall(times=None, match=("DELETE", "_segments/"))
    proxy.add_optional(hold)
    get = Stall(times=None, match=("GET", "_segments"))
    proxy.add_optional(get)
    await soon(begin(mirrors.put(content_of(LARGE))))
    await soon(begin(mirrors.store.close()))
    slots = mirrors.store.members[0].client.slots
    left = slots.in_flight
    seen = [(one.method, one.path[-30:]) for one in proxy.requests][-4:]
    proxy.clear()
    for one in (hold, get):
        one.release()
    proxy.reset_open()
    await until(lambda: not slots.in_flight)
    assert left == 0, seen


async def test_a_damaged_upload_is_no_copy(
    mirrors: Mirrors, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An upload is damaged on its way to one member: that lacks the object."""
    for place in mirrors.store.members:
        monkeypatch.setattr(
            place.client, "settings", replace(place.client.settings, segment_size=5 * LARGE)
        )
    proxy = mirrors.faulty[0].proxy
    proxy.add(FlipBit(in_request(1000), match=PUT))
    proxy.add_optional(Delay(1.5, match=("DELETE", "/object$")))  # of the clean-up
    mirrors.faulty[1].proxy.add(Delay(0.3, BEFORE_RESPONSE, match=PUT))
    # The retry hangs, so the member is left behind when the other has the file.
    monkeypatch.setattr(writing, "LATER_SECONDS", 0.1)
    proxy.add_optional(Stall(place=in_request(1000), match=PUT))
    await soon(begin(mirrors.put(content_of(LARGE))))
    owed = mirrors.watched[0].debts
    await settled(mirrors)
    await after(2.5)
    puts = len(mirrors.requests(0, "PUT"))
    now = await stored(mirrors.plain[0], "object")
    assert now == content_of(LARGE), f"it lacks the object; owed were {owed}; {puts} PUTs"


async def _put_damaged(mirrors: Mirrors, at: int, content: bytes, wrong: bytes) -> None:
    """An object whose bytes are not those that its metadata is about."""
    await mirrors.put(content, at=at)
    place = mirrors.plain[at]
    info = await place.head("object")
    assert info.content_crc32 is not None
    headers = crc32_mark(info.content_crc32)
    request = Request(
        "PUT",
        place.container,
        "object",
        headers=headers,
        lane=Lane.WRITE,
        make_body=lambda: BytesBody(wrong),
        size=len(wrong),
    )
    await place.client.requester.perform(request, drained)


async def test_a_part_goes_on_with_wrong_bytes(mirrors: Mirrors) -> None:
    """The other member's object has another MD5: it is not the same, whatever was noted."""
    content = content_of(HUGE)
    wrong = content[: HUGE // 2] + content[HUGE // 2 :][::-1]
    await mirrors.put(content, at=0)
    await _put_damaged(mirrors, 1, content, wrong)
    part = range(1_000_000, HUGE - 10)
    sink = Sink(pause_after=500_000)
    done = (await mirrors.store.get("object")).deliver(sink, part)
    await until(lambda: len(sink.content) >= 500_000)
    await mirrors.stop(0)
    sink.producer.resumeProducing()  # type: ignore[union-attr]
    failed = False
    try:
        await soon(done)
    except SwiftProviderError:
        failed = True
    right = content[part.start : part.stop].startswith(sink.content)
    assert right, f"wrong bytes were delivered; the download failed: {failed}"


@pytest.mark.parametrize("place", ["copy"])
async def test_a_damaged_object_settles_a_debt(mirrors: Mirrors, place: str) -> None:
    """The member that was down has other bytes with the same note."""
    content = content_of(SMALL)
    await _put_damaged(mirrors, 0, content, content[::-1])
    await mirrors.stop(0)
    await soon(begin(mirrors.put(content)))
    assert mirrors.watched[0].debts == 1
    mirrors.start(0)
    await settled(mirrors)
    info = await mirrors.plain[0].head("object")
    assert info.etag == hashlib.md5(content).hexdigest(), "it still has the wrong bytes"
