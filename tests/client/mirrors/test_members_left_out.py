"""Members that are left out, paused, slow or late, and what is asked of them nevertheless."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
from twisted.internet import reactor
from twisted.internet.defer import CancelledError
from twisted.internet.task import deferLater

from swift_provider.client import Place
from swift_provider.client.mirrors import breaker, member
from swift_provider.errors import (
    ConnectionFailedError,
    ObjectNotFoundError,
    SwiftProviderError,
    Target,
)
from tests.client.conftest import Sink
from tests.client.mirrors.conftest import Mirrors
from tests.client.mirrors.test_at_odds import deferred_from_thread, three  # noqa: F401
from tests.client.trouble import (
    HUGE,
    LARGE,
    SMALL,
    begin,
    content_of,
    set_back,
    soon,
    stored,
    until,
)
from tests.servers.faults import (
    BEFORE_RESPONSE,
    ON_REQUEST,
    Answer,
    Crawl,
    Delay,
    FlipBit,
    Stall,
    in_request,
)

OBJECT = ("GET", "/object$")
PUT = ("PUT", "/object$")
DELETE = ("DELETE", "/object$")


async def after(seconds: float) -> None:
    await deferLater(reactor, seconds)


async def settled(mirrors: Mirrors) -> None:
    await until(lambda: all(one.debts == 0 for one in mirrors.watched))


def skew(place: Place, seconds: float) -> None:
    """The clocks of this place's cluster are ahead."""
    head = place.head

    async def ahead(*args: Any, **options: Any) -> Any:
        info = await head(*args, **options)
        assert info.timestamp is not None
        return replace(info, timestamp=info.timestamp + seconds)

    place.head = ahead  # type: ignore[method-assign]


# Uploads


async def test_an_upload_fails_though_a_paused_member_would_take_it(mirrors: Mirrors) -> None:
    """Uploads to the first failed a moment ago; now it works, and the second fails."""
    mirrors.faulty[0].proxy.add(Answer(503, times=None, match=("PUT", "/old")))
    for number in range(3):
        await mirrors.put(content_of(SMALL), f"old{number}")
    mirrors.faulty[0].proxy.clear()
    await until(lambda: mirrors.watched[0].works)
    mirrors.faulty[1].proxy.add(Answer(503, times=None, match=PUT))
    await soon(begin(mirrors.put(content_of(SMALL))))
    assert await stored(mirrors.plain[0], "object") == content_of(SMALL)


async def test_an_upload_fails_though_an_open_member_is_back(mirrors: Mirrors) -> None:
    """The breaker of the first is open, it is back, and the second fails."""
    error = Target("GET", "container", "other").error(ConnectionFailedError, "refused")
    one = mirrors.store._members[0]
    one.breaker._pause, one.breaker._closed_at = 30.0, reactor.seconds()
    for _ in range(breaker.MOST_FAILURES):
        one.failed(error)
    mirrors.faulty[1].proxy.add(Answer(503, times=None, match=PUT))
    await soon(begin(mirrors.put(content_of(SMALL))))
    assert await stored(mirrors.plain[0], "object") == content_of(SMALL)


async def test_a_damaged_upload_stays(mirrors: Mirrors, monkeypatch: pytest.MonkeyPatch) -> None:
    """Uploads to the second are damaged, and cannot be removed at once."""
    for place in mirrors.store.members:
        monkeypatch.setattr(
            place.client, "settings", replace(place.client.settings, segment_size=5 * LARGE)
        )
    mirrors.faulty[0].proxy.add(Delay(0.5, BEFORE_RESPONSE, match=PUT))
    proxy = mirrors.faulty[1].proxy
    proxy.add(FlipBit(in_request(1000), times=None, match=PUT))
    proxy.add_optional(Answer(503, times=None, match=DELETE))
    await soon(begin(mirrors.put(content_of(LARGE))))
    owed = mirrors.watched[1].debts
    assert owed == 1
    await after(4)
    proxy.clear()
    await settled(mirrors)
    info = [await place.head("object", newest=True) for place in mirrors.plain]
    assert info[0].etag == info[1].etag, "the damaged one stays, and nothing is owed"


@pytest.mark.parametrize("status", [405, 413])
async def test_a_member_is_read_only_for_a_while(mirrors: Mirrors, status: int) -> None:
    """It is being maintained, or its quota is used up: it gets what it lacks afterwards."""
    mirrors.faulty[0].proxy.add(Answer(status, times=None, match=("PUT", "/object")))
    for number in range(3):
        await soon(begin(mirrors.put(content_of(SMALL), f"object{number}")))
    await after(1)
    owed = mirrors.watched[0].debts
    mirrors.faulty[0].proxy.clear()
    await settled(mirrors)
    have = [await stored(mirrors.plain[0], f"object{number}") is not None for number in range(3)]
    assert all(have), f"owed were {owed}: {have}"


async def test_a_deletion_is_cancelled_halfway(mirrors: Mirrors) -> None:
    """One member has deleted it: the other does not bring it back."""
    await mirrors.put(content_of(SMALL))
    mirrors.faulty[1].proxy.add_optional(Stall(place=ON_REQUEST, match=DELETE))
    deleting = begin(mirrors.store.delete("object"))
    await until(lambda: mirrors.requests(0, "DELETE") and mirrors.requests(1, "DELETE"))
    await soon(begin(mirrors.faulty[0].proxy.wait_idle()))
    await after(0.1)
    deleting.addErrback(lambda failure: failure.trap(CancelledError))
    deleting.cancel()
    await deleting
    mirrors.faulty[1].proxy.clear()
    with suppress(ObjectNotFoundError):
        await mirrors.get()
    await settled(mirrors)
    assert await stored(mirrors.plain[0], "object") is None, "it is back"


async def test_an_upload_is_cancelled_while_a_copy_is(mirrors: Mirrors) -> None:
    """What was owed is owed still."""
    await mirrors.stop(0)
    await soon(begin(mirrors.put(content_of(LARGE))))
    proxy = mirrors.faulty[0].proxy
    manifest = Stall(times=None, place=ON_REQUEST, match=("PUT", "multipart-manifest"))
    proxy.add(manifest)
    hold = Stall(times=None, place=ON_REQUEST, match=("DELETE", "_segments/"))
    proxy.add_optional(hold)
    get = Stall(times=None, place=ON_REQUEST, match=("GET", "_segments"))
    proxy.add_optional(get)
    mirrors.start(0)
    await soon(manifest.happened())
    head = Stall(times=None, place=ON_REQUEST, match=("HEAD", ""))
    proxy.add_optional(head)
    putting = begin(mirrors.put(content_of(LARGE)))
    await after(0.3)
    assert not mirrors.store._debts.owes(mirrors.store._members[0], "object")
    seen = [(one.method, one.path[-60:]) for one in proxy.requests][-6:]
    putting.addErrback(lambda failure: failure.trap(CancelledError))
    putting.cancel()
    await putting
    proxy.clear()
    for one in (hold, get, head, manifest):
        one.release()
    proxy.reset_open()
    await after(3)
    await settled(mirrors)
    assert await stored(mirrors.plain[0], "object") == content_of(LARGE), seen


# Downloads


async def test_a_slow_member_that_alone_has_the_objects(
    mirrors: Mirrors, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mirror is new and empty: slow downloads do not make the objects unreachable."""
    monkeypatch.setattr("swift_provider.client.downloads.SLOW_SECONDS", 0.5)
    mirrors.store._debts._repays = False  # as long as the script has not copied them
    paths = [f"object{number}" for number in range(4)]
    for path in paths:
        await mirrors.put(content_of(300_000), path, at=0)
    crawl = Crawl(0.0, times=None, match=("GET", "/object"), bytes_per_second=60_000)
    mirrors.faulty[0].proxy.add_optional(crawl)
    getting = [begin(mirrors.get(path)) for path in paths]
    ended: list[Any] = []
    for one in getting:
        one.addBoth(ended.append)
    began = reactor.seconds()
    works = True
    while len(ended) < 4 and reactor.seconds() < began + 15:
        works = works and mirrors.watched[0].works
        if not works:
            break
        await after(0.02)
    missing = None
    try:
        await mirrors.store.head("object0")
    except SwiftProviderError as error:
        missing = error
    asked = [len(mirrors.requests(number)) for number in (0, 1)]
    mirrors.faulty[0].proxy.clear()
    crawl.release()
    await until(lambda: len(ended) == 4)
    assert works, f"left out; {asked} requests; {missing!r}"


async def test_all_are_slow_for_several_downloads(
    mirrors: Mirrors, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The own line is narrow: no member is left out for it."""
    monkeypatch.setattr("swift_provider.client.downloads.SLOW_SECONDS", 0.5)
    paths = [f"object{number}" for number in range(4)]
    for path in paths:
        await mirrors.put(content_of(200_000), path)
    crawl = [
        Crawl(0.0, times=None, match=("GET", "/object"), bytes_per_second=60_000) for _ in (0, 1)
    ]
    for faulty, one in zip(mirrors.faulty, crawl, strict=True):
        faulty.proxy.add_optional(one)
    ended: list[Any] = []
    for path in paths:
        begin(mirrors.get(path)).addBoth(ended.append)
    works = True
    began = reactor.seconds()
    while len(ended) < 4 and reactor.seconds() < began + 15:
        works = works and all(one.works for one in mirrors.watched)
        await after(0.02)
    asked = [len(mirrors.requests(number)) for number in (0, 1)]
    for faulty, one in zip(mirrors.faulty, crawl, strict=True):
        faulty.proxy.clear()
        one.release()
    await until(lambda: len(ended) == 4)
    assert works, f"left out; requests: {asked}"


async def test_the_rest_takes_two_requests(
    mirrors: Mirrors, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each has its own time to be answered: HEAD, which compares the objects, and GET."""
    monkeypatch.setattr(member, "ANSWER_SECONDS", 4.0)
    await mirrors.put(content_of(HUGE))
    sink = Sink(pause_after=500_000)
    done = (await mirrors.store.get("object")).deliver(sink)
    await until(lambda: len(sink.content) >= 500_000)
    mirrors.faulty[0].proxy.add_optional(Answer(503, times=None, match=OBJECT))
    for method in ("HEAD", "GET"):
        mirrors.faulty[1].proxy.add(Delay(2.2, BEFORE_RESPONSE, match=(method, "/object$")))
    mirrors.faulty[0].proxy.reset_open()
    sink.producer.resumeProducing()  # type: ignore[union-attr]
    await soon(done)
    assert sink.content == content_of(HUGE)
    assert len(mirrors.requests(1)) == 1


async def test_the_rest_of_what_was_deleted(mirrors: Mirrors) -> None:
    """The download fails with an error of Swift, not of Python."""
    await mirrors.put(content_of(HUGE))
    sink = Sink(pause_after=500_000)
    done = (await mirrors.store.get("object")).deliver(sink)
    await until(lambda: len(sink.content) >= 500_000)
    mirrors.faulty[0].proxy.add(Answer(503, times=None, match=("DELETE", "/object")))
    assert await soon(begin(mirrors.store.delete("object")))
    await mirrors.stop(1)
    error = Target("GET", "container", "other").error(ConnectionFailedError, "refused")
    for _ in range(breaker.MOST_FAILURES):
        mirrors.store._members[1].failed(error)
    mirrors.faulty[0].proxy.reset_open()
    sink.producer.resumeProducing()  # type: ignore[union-attr]
    with pytest.raises(SwiftProviderError):
        await soon(done)


async def test_a_hiccup_and_a_member_that_hangs(
    mirrors: Mirrors, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one that was late once is asked again, although the other one never answers."""
    monkeypatch.setattr(member, "ANSWER_SECONDS", 0.3)
    await mirrors.put(content_of(SMALL))
    mirrors.faulty[0].proxy.add(Stall(place=ON_REQUEST, match=OBJECT))
    hang = Stall(times=None, place=BEFORE_RESPONSE, match=OBJECT)
    mirrors.faulty[1].proxy.add(hang)
    getting = begin(mirrors.get())
    ended: list[Any] = []
    getting.addBoth(ended.append)
    began = reactor.seconds()
    while not ended and reactor.seconds() < began + 10:
        await after(0.05)
    was = bool(ended)
    mirrors.faulty[1].proxy.clear()
    hang.release()
    getting.cancel()
    await until(lambda: ended)
    assert was, "nothing after 10 seconds"


async def test_the_first_breaks_off_once_and_the_second_hangs(
    mirrors: Mirrors, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first is asked for the rest."""
    monkeypatch.setattr(member, "ANSWER_SECONDS", 0.3)
    await mirrors.put(content_of(HUGE))
    sink = Sink(pause_after=500_000)
    done = (await mirrors.store.get("object")).deliver(sink)
    await until(lambda: len(sink.content) >= 500_000)
    hang = Stall(times=None, place=BEFORE_RESPONSE)
    mirrors.faulty[1].proxy.add(hang)
    mirrors.faulty[0].proxy.reset_open()
    sink.producer.resumeProducing()  # type: ignore[union-attr]
    ended: list[Any] = []
    done.addBoth(ended.append)
    began = reactor.seconds()
    while not ended and reactor.seconds() < began + 12:
        await after(0.05)
    asked = [len(mirrors.requests(0)), len(mirrors.requests(1, "HEAD"))]
    was = bool(ended)
    mirrors.faulty[1].proxy.clear()
    hang.release()
    done.cancel()
    await after(0.1)
    assert was, f"nothing after 12 seconds; requests: {asked}"


# Timers


async def test_the_clock_is_set_back_while_debts_wait(
    mirrors: Mirrors, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are settled soon, with reads only."""
    mirrors.faulty[0].proxy.add(Answer(503, times=None, match=PUT))
    await soon(begin(mirrors.put(content_of(SMALL))))
    await until(
        lambda: any(
            account._call
            for accounts in mirrors.store._debts._accounts.values()
            for account in accounts.values()
        )
    )
    mirrors.faulty[0].proxy.clear()
    with monkeypatch.context() as patch:
        set_back(patch)
        for _ in range(60):
            await mirrors.get()
            await deferred_from_thread(0.1)
            if not mirrors.watched[0].debts:
                break
        owed = mirrors.watched[0].debts
    assert owed == 0


async def test_the_clock_is_set_back_during_a_request(
    mirrors: Mirrors, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is given up after a few seconds."""
    monkeypatch.setattr(member, "ANSWER_SECONDS", 0.5)
    await mirrors.put(content_of(SMALL))
    stall = Stall(times=None, place=ON_REQUEST, match=OBJECT)
    mirrors.faulty[0].proxy.add(stall)
    getting = begin(mirrors.get())
    ended: list[Any] = []
    getting.addBoth(ended.append)
    await soon(stall.happened())
    with monkeypatch.context() as patch:
        set_back(patch)
        for _ in range(40):
            await deferred_from_thread(0.1)
            await mirrors.store.head("object")
        was_ended = bool(ended)
        stall.release()
        mirrors.faulty[0].proxy.clear()
        if not ended:
            mirrors.faulty[0].proxy.reset_open()
        await until(lambda: ended)
    assert was_ended, "it still waits for the member after 4 seconds"


async def _deliver(place: Place, path: str) -> None:
    await (await place.get(path)).deliver(Sink())
