"""What is read while something is owed; debts that wait behind others; a full member."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet import reactor
from twisted.internet.task import deferLater

from swift_provider.client.drained import drained
from swift_provider.client.request import Request
from tests.client.conftest import Sink
from tests.client.mirrors.conftest import Mirrors
from tests.client.mirrors.test_at_odds import three  # noqa: F401
from tests.client.trouble import HUGE, LARGE, SMALL, begin, content_of, soon, stored, until
from tests.servers.faults import (
    Answer,
    Crawl,
)

OBJECT = ("GET", "/object$")
PUT = ("PUT", "/object$")


async def after(seconds: float) -> None:
    await deferLater(reactor, seconds)


async def settled(mirrors: Mirrors) -> None:
    await until(lambda: all(one.debts == 0 for one in mirrors.watched))


async def test_what_is_owed_is_read_from_the_holder(mirrors: Mirrors) -> None:
    """A file that was stored just now is what the next reader gets."""
    old, new = content_of(SMALL), content_of(SMALL)[::-1]
    await mirrors.put(old)
    mirrors.faulty[0].proxy.add(Answer(503, times=None, match=PUT))
    await soon(begin(mirrors.put(new)))
    assert mirrors.watched[0].debts == 1
    got = await mirrors.get()
    mirrors.faulty[0].proxy.clear()
    await settled(mirrors)
    assert got == new, "it is the old one"


async def test_a_full_member(mirrors: Mirrors) -> None:
    """It gets what it lacks once it has space again."""
    mirrors.faulty[0].proxy.add(Answer(507, times=None, match=("PUT", "/object")))
    for number in range(5):
        await soon(begin(mirrors.put(content_of(SMALL), f"object{number}")))
    await after(0.5)
    owed = mirrors.watched[0].debts
    mirrors.faulty[0].proxy.clear()
    await settled(mirrors)
    have = [await stored(mirrors.plain[0], f"object{number}") is not None for number in range(5)]
    assert all(have), f"owed were {owed}: {have}"


async def test_debts_of_a_holder_that_is_down(three: Mirrors) -> None:  # noqa: F811
    """They do not keep back those of another holder."""
    for number in range(12):
        await three.put(content_of(SMALL), f"a{number}", at=1)
    await three.put(content_of(SMALL), "z", at=2)
    three.faulty[1].proxy.add(Answer(503, times=None, match=("HEAD", "/a")))
    for number in range(12):
        assert await three.get(f"a{number}") == content_of(SMALL)
    assert await three.get("z") == content_of(SMALL)
    began = reactor.seconds()
    while await stored(three.plain[0], "z") is None and reactor.seconds() < began + 20:
        await after(0.2)
    took = reactor.seconds() - began
    three.faulty[1].proxy.clear()
    await three.store._debts.stop()
    assert took < 2, f"it came after {took:.0f} seconds"


async def test_a_link_to_nothing(mirrors: Mirrors, caplog: pytest.LogCaptureFixture) -> None:
    """A member has a link whose target is gone: that is said once, and left to a person."""
    await mirrors.put(content_of(SMALL), at=1)
    place = mirrors.plain[0]
    headers = {b"X-Symlink-Target": f"{place.container}/gone".encode(), b"Content-Type": b"a/b"}
    await place.client.requester.perform(
        Request("PUT", place.container, "object", headers=headers), drained
    )
    for _ in range(3):
        assert await mirrors.get() == content_of(SMALL)
        await settled(mirrors)
    assert caplog.text.count("cannot be copied") == 1
    assert "to an object that is gone has this name: delete the link" in caplog.text


async def test_an_object_that_expires(mirrors: Mirrors) -> None:
    """The member that was left out had the same bytes, but Swift will delete them."""
    await mirrors.put(content_of(SMALL))
    place = mirrors.plain[0]
    await place.client.requester.perform(
        Request("POST", place.container, "object", headers={b"X-Delete-After": b"3600"}), drained
    )
    await mirrors.stop(0)
    await soon(begin(mirrors.put(content_of(SMALL))))
    mirrors.start(0)
    await settled(mirrors)
    assert not (await place.head("object")).expires


async def test_a_part_of_an_object_with_a_missing_segment(mirrors: Mirrors) -> None:
    """A part that lies in the missing segment comes from the other member."""
    await mirrors.put(content_of(LARGE))
    segments = mirrors.store.members[0].segments
    names = sorted([row.name async for page in segments.list() for row in page])
    await segments.delete(names[1])
    sink = Sink()
    part = range(1_200_000, 2_900_000)
    await soon((await mirrors.store.get("object")).deliver(sink, part))
    assert sink.content == content_of(LARGE)[part.start : part.stop]


async def test_a_slow_reader(mirrors: Mirrors, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that reads slowly is not the member's fault."""
    monkeypatch.setattr("swift_provider.client.downloads.SLOW_SECONDS", 1.5)
    await mirrors.put(content_of(HUGE))
    sink = Sink()
    paused = 0

    def write() -> None:
        nonlocal paused
        if sink.producer is not None:
            paused += 1
            sink.producer.pauseProducing()
            reactor.callLater(0.02, lambda: sink.producer and sink.producer.resumeProducing())

    sink.on_write = write
    done = (await mirrors.store.get("object")).deliver(sink)
    await soon(done)
    assert sink.content == content_of(HUGE)
    assert mirrors.requests(1) == []
    assert mirrors.watched[0].works


async def test_both_are_slow(mirrors: Mirrors, monkeypatch: pytest.MonkeyPatch) -> None:
    """The own line is narrow: no member is left out for it, and no byte is fetched twice."""
    monkeypatch.setattr("swift_provider.client.downloads.SLOW_SECONDS", 0.5)
    await mirrors.put(content_of(200_000))
    crawl = [Crawl(0.0, times=None, match=OBJECT, bytes_per_second=60_000) for _ in (0, 1)]
    for faulty, one in zip(mirrors.faulty, crawl, strict=True):
        faulty.proxy.add_optional(one)
    works = True
    getting = begin(mirrors.get())
    ended: list[Any] = []
    getting.addBoth(ended.append)
    began = reactor.seconds()
    while not ended and reactor.seconds() < began + 15:
        works = works and all(one.works for one in mirrors.watched)
        await after(0.02)
    asked = [len(mirrors.requests(number)) for number in (0, 1)]
    for faulty in mirrors.faulty:
        faulty.proxy.clear()
    for one in crawl:
        one.release()
    await until(lambda: ended)
    assert works, f"left out; requests: {asked}"
