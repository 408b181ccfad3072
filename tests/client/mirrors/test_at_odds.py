"""Members that disagree: in what they have, in what is owed to them, and in the time."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.task import deferLater

from swift_provider.client import FileSource, MirrorSet, Place
from swift_provider.client.mirrors import breaker, debts, member
from swift_provider.errors import (
    ConnectionFailedError,
    ObjectNotFoundError,
    SwiftProviderError,
    Target,
)
from tests.client.conftest import Faulty, Sink
from tests.client.mirrors.conftest import NAMES, Mirrors, Watched, background
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
    Cut,
    Stall,
    in_request,
    in_response,
)

OBJECT = ("GET", "/object$")
PUT = ("PUT", "/object$")
DELETE = ("DELETE", "/object$")


async def settled(mirrors: Mirrors) -> None:
    await until(lambda: all(one.debts == 0 for one in mirrors.watched))


def make_set(mirrors: Mirrors, count: int = 2) -> MirrorSet:
    """Another process with the same members, which reaches them past the proxies."""
    return MirrorSet(list(mirrors.plain[:count]), reactor, background)


async def after(seconds: float) -> None:
    await deferLater(reactor, seconds)


# A download


async def _break_off(mirrors: Mirrors, *faults: Any) -> tuple[Sink, Any]:
    """A download of which a part has come; then these faults begin."""
    await mirrors.put(content_of(HUGE))
    sink = Sink(pause_after=500_000)
    done = (await mirrors.store.get("object")).deliver(sink)
    await until(lambda: len(sink.content) >= 500_000)
    for faulty, fault in zip(mirrors.faulty, faults, strict=True):
        if fault is not None:
            faulty.proxy.add_optional(fault)
        faulty.proxy.reset_open()
    sink.producer.resumeProducing()  # type: ignore[union-attr]
    return sink, done


async def test_both_cut_each_body(mirrors: Mirrors) -> None:
    """The retries end after a while (IMPATIENT: 2 seconds), with pauses in between."""
    cut = [Cut(in_response(0), times=None, match=OBJECT) for _ in NAMES]
    _, done = await _break_off(mirrors, *cut)
    ended: list[Any] = []
    done.addBoth(ended.append)
    await after(6)
    asked = [len(mirrors.requests(number)) for number in (0, 1)]
    was_ended = bool(ended)
    for faulty in mirrors.faulty:
        faulty.proxy.clear()
    done.cancel()
    assert was_ended, f"still trying after 6 seconds, with {asked} requests"


async def test_one_object_breaks_at_a_member_that_works(mirrors: Mirrors) -> None:
    """The rest comes from the other member, although the first works for other objects."""
    await mirrors.put(content_of(SMALL), "other")
    cut = Cut(in_response(0), times=None, match=OBJECT)
    _sink, done = await _break_off(mirrors, cut, None)
    ended: list[Any] = []
    done.addBoth(ended.append)
    began = reactor.seconds()
    while not ended and reactor.seconds() < began + 6:
        await mirrors.store.head("other")
    asked = len(mirrors.requests(0))
    mirrors.faulty[0].proxy.clear()
    await soon(done)
    assert asked < 20, f"{asked} requests to the first member, and the other one was not asked"


async def test_the_rest_from_a_member_that_is_back(mirrors: Mirrors) -> None:
    """Both were down; one is back, and its next probe is not due yet."""
    await mirrors.put(content_of(HUGE))
    sink = Sink(pause_after=500_000)
    done = (await mirrors.store.get("object")).deliver(sink)
    await until(lambda: len(sink.content) >= 500_000)
    error = Target("GET", "container", "other").error(ConnectionFailedError, "refused")
    for one in mirrors.store._members:
        # As in a longer outage.
        one.breaker._pause, one.breaker._closed_at = 30.0, reactor.seconds()
        for _ in range(breaker.MOST_FAILURES):
            one.failed(error)
    await mirrors.stop(0)
    asked = len(mirrors.requests(1))
    sink.producer.resumeProducing()  # type: ignore[union-attr]
    try:
        await soon(done)
    except SwiftProviderError as failed:
        asked = len(mirrors.requests(1)) - asked
        pytest.fail(f"{asked} requests to the member that is back: {failed}")
    assert sink.content == content_of(HUGE)


async def test_one_hangs_and_the_other_fails_once(
    mirrors: Mirrors, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other one is asked again soon."""
    monkeypatch.setattr(member, "ANSWER_SECONDS", 0.3)
    await mirrors.put(content_of(SMALL))
    mirrors.faulty[0].proxy.add_optional(Stall(times=None, place=BEFORE_RESPONSE, match=OBJECT))
    mirrors.faulty[1].proxy.add(Answer(503, match=OBJECT))
    assert await soon(begin(mirrors.get())) == content_of(SMALL)


# Deletions


async def test_read_while_it_is_deleted(mirrors: Mirrors) -> None:
    """What one member has deleted already is not copied to it again."""
    await mirrors.put(content_of(SMALL))
    mirrors.faulty[1].proxy.add(hold := Stall(ON_REQUEST, match=DELETE))
    deleting = begin(mirrors.store.delete("object"))
    await until(lambda: mirrors.requests(0, "DELETE") and mirrors.requests(1, "DELETE"))
    await soon(begin(mirrors.faulty[0].proxy.wait_idle()))
    await soon(begin(mirrors.get()))
    hold.release()
    assert await soon(deleting)
    await settled(mirrors)
    assert await stored(mirrors.plain[1], "object") is None
    assert await stored(mirrors.plain[0], "object") is None, "it is back"


async def test_read_while_a_deletion_is_owed(mirrors: Mirrors) -> None:
    """An object that shall go is not copied from where it still is."""
    await mirrors.put(content_of(SMALL))
    fault = Answer(503, times=None, match=DELETE)
    mirrors.faulty[1].proxy.add(fault)
    assert await soon(begin(mirrors.store.delete("object")))
    assert mirrors.watched[1].works
    assert mirrors.watched[1].debts == 1
    with pytest.raises(ObjectNotFoundError):
        await soon(begin(mirrors.get()))
    assert mirrors.watched[0].debts == 0
    mirrors.faulty[1].proxy.clear()
    await settled(mirrors)
    assert await stored(mirrors.plain[1], "object") is None
    assert await stored(mirrors.plain[0], "object") is None, "it is back"


async def test_a_deletion_is_owed_and_another_process_stores(mirrors: Mirrors) -> None:
    """A newer object is not deleted."""
    await mirrors.put(content_of(SMALL))
    await mirrors.stop(0)
    await soon(begin(mirrors.store.delete("object")))
    other = make_set(mirrors)
    await other.put("object", mirrors.make_file(content_of(SMALL)))
    mirrors.start(0)
    await settled(mirrors)
    await other.close()
    assert await stored(mirrors.plain[0], "object") == content_of(SMALL), "it is lost here"


# Overwritten


async def test_read_while_it_is_replaced(mirrors: Mirrors) -> None:
    """The older object is not copied over the newer one."""
    await mirrors.put(content_of(SMALL), at=1)
    hold_new = Stall(in_request(1000), match=PUT)
    mirrors.faulty[1].proxy.add(hold_new)
    pass_new = Stall(in_request(1000), match=PUT)  # so that the read finds nothing yet
    mirrors.faulty[0].proxy.add(pass_new)
    putting = begin(mirrors.put(content_of(SMALL)[::-1]))
    await soon(pass_new.happened())
    await soon(hold_new.happened())
    assert await mirrors.get() == content_of(SMALL)
    assert mirrors.watched[0].debts == 0
    pass_new.release()
    hold_new.release()
    await soon(putting)
    assert await stored(mirrors.plain[0], "object") == content_of(SMALL)[::-1]
    await settled(mirrors)
    await soon(begin(mirrors.faulty[0].proxy.wait_idle()))
    assert await stored(mirrors.plain[1], "object") == content_of(SMALL)[::-1]
    assert await stored(mirrors.plain[0], "object") == content_of(SMALL)[::-1], "it is the old one"


async def test_two_processes_owe(mirrors: Mirrors) -> None:
    """An older file is not copied over a newer one."""
    await mirrors.stop(0)
    await soon(begin(mirrors.put(content_of(SMALL))))
    # Another process: the first member is back, and the second fails.
    await mirrors.plain[0].put("object", mirrors.make_file(content_of(SMALL)[::-1]))
    mirrors.start(0)
    await settled(mirrors)
    assert await stored(mirrors.plain[0], "object") == content_of(SMALL)[::-1], "it is the old one"


# Debts that get lost


@pytest.mark.parametrize("status", [403, 401])
async def test_a_member_refuses_for_a_while(mirrors: Mirrors, status: int) -> None:
    """What it lacks is made up for when it takes files again."""
    fault = Answer(status, times=None)
    mirrors.faulty[0].proxy.add(fault)
    await soon(begin(mirrors.put(content_of(SMALL))))
    await after(0.5)
    debts_then = mirrors.watched[0].debts
    mirrors.faulty[0].proxy.clear()
    await settled(mirrors)
    lacking = await stored(mirrors.plain[0], "object") != content_of(SMALL)
    assert not lacking, f"it lacks the object, and {debts_then} is owed"


@pytest.mark.parametrize("operation", ["put", "delete"])
async def test_a_later_operation_fails(mirrors: Mirrors, operation: str) -> None:
    """What was owed before is still owed."""
    await mirrors.stop(0)
    await soon(begin(mirrors.put(content_of(SMALL))))
    assert mirrors.watched[0].debts == 1
    await mirrors.stop(1)
    doing = mirrors.put(content_of(SMALL)) if operation == "put" else mirrors.store.delete("object")
    with pytest.raises(SwiftProviderError):
        await soon(begin(doing))
    for number in (0, 1):
        mirrors.start(number)
    await until(lambda: all(one.works for one in mirrors.watched))
    await settled(mirrors)
    assert await stored(mirrors.plain[0], "object") == content_of(SMALL)


async def test_each_read_warns(mirrors: Mirrors, caplog: pytest.LogCaptureFixture) -> None:
    """An object that cannot be copied is reported once, not with each request."""
    await mirrors.put(content_of(SMALL), at=1)
    place = mirrors.plain[1]
    from swift_provider.client.drained import drained
    from swift_provider.client.request import Request

    headers = {b"X-Delete-After": b"3600"}
    await place.client.requester.perform(
        Request("POST", place.container, "object", headers=headers), drained
    )
    for _ in range(5):
        assert await mirrors.get() == content_of(SMALL)
        await settled(mirrors)
    assert caplog.text.count("cannot be copied from a mirror") == 1


# The end, and the clock


async def test_closed_during_a_probe(mirrors: Mirrors, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is in flight any more."""
    await mirrors.put(content_of(SMALL))
    await mirrors.stop(0)
    while mirrors.watched[0].works:
        await mirrors.get()
    stall = Stall(match=("HEAD", "probe"))
    mirrors.faulty[0].proxy.add(stall)
    mirrors.start(0)
    await soon(stall.happened())
    await soon(begin(mirrors.store.close()))
    slots = mirrors.store.members[0].client.slots
    left = slots.in_flight
    stall.release()
    await until(lambda: not slots.in_flight)
    assert left == 0


async def test_the_clock_is_set_back_while_a_member_is_down(
    mirrors: Mirrors, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is asked again soon once it works."""
    await mirrors.put(content_of(SMALL))
    await mirrors.stop(0)
    while mirrors.watched[0].works:
        await mirrors.get()
    with monkeypatch.context() as patch:
        set_back(patch)
        mirrors.start(0)
        for _ in range(50):
            assert await mirrors.get() == content_of(SMALL)
            await deferred_from_thread(0.1)
        works = mirrors.watched[0].works
        due = mirrors.store._members[0].breaker._call
        wait = None if due is None else due.getTime() - reactor.seconds()
    assert works, f"the next probe is in {wait} seconds"


async def deferred_from_thread(seconds: float) -> None:
    """Time that passes whatever the clock says."""
    import time

    from twisted.internet.threads import deferToThread

    await deferToThread(time.sleep, seconds)


async def test_the_clock_is_set_back_while_a_member_hangs(
    mirrors: Mirrors, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is given up after a few seconds."""
    monkeypatch.setattr(member, "ANSWER_SECONDS", 0.3)
    await mirrors.put(content_of(SMALL))
    assert await mirrors.get() == content_of(SMALL)  # its look is still to come
    with monkeypatch.context() as patch:
        set_back(patch)
        stall = Stall(times=None, place=ON_REQUEST, match=OBJECT)
        mirrors.faulty[0].proxy.add(stall)
        getting = begin(mirrors.get())
        ended: list[Any] = []
        getting.addBoth(ended.append)
        for _ in range(40):
            await deferred_from_thread(0.1)
        was_ended = bool(ended)
        stall.release()
        mirrors.faulty[0].proxy.clear()
        if not ended:
            mirrors.faulty[0].proxy.reset_open()
        await until(lambda: ended)
    assert was_ended, "it still waits for the member after 4 seconds"


# Three members


@pytest_twisted.async_yield_fixture
async def three(
    make_faulty: Callable[..., Awaitable[Faulty]],
    container: str,
    make_file: Callable[[bytes], FileSource],
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[Mirrors]:
    """Three containers of one account. A place is asked for long before another one is."""
    monkeypatch.setattr(member, "ANSWER_SECONDS", 10.0)
    faulty = [await make_faulty() for _ in range(3)]
    watched = [Watched() for _ in faulty]
    containers = [container, f"{container}-2", f"{container}-3"]
    plain = [Place(one.make_client(), where) for one, where in zip(faulty, containers, strict=True)]
    for one in plain:
        await one.create()
    places = [
        one.store(
            where,
            name=name,
            observer=observer,
            segment_size="1M",
            segment_container=f"{where}_segments",
            threadpool_size=8,
        )
        for one, where, name, observer in zip(
            faulty, containers, ("first", "second", "third"), watched, strict=True
        )
    ]
    mirror_set = MirrorSet(places, reactor, background)
    yield Mirrors(mirror_set, faulty, plain, watched, make_file)
    await soon(begin(mirror_set.close()))


async def test_an_older_object_of_a_third_member(
    three: Mirrors, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first member has the new object, though its answer was lost; the third has the old."""
    monkeypatch.setattr(debts, "FIRST_PAUSE_SECONDS", 0.3)
    old, new = content_of(SMALL), content_of(SMALL)[::-1]
    await three.put(old)
    for number in (0, 2):
        await three.stop(number)
    await soon(begin(three.put(new)))
    assert (three.watched[0].debts, three.watched[2].debts) == (1, 1)
    await three.plain[0].put("object", three.make_file(new))  # as if only the answer was lost
    await three.stop(1)
    three.start(0)
    three.start(2)
    await until(lambda: three.watched[0].works and three.watched[2].works)
    await after(4)
    owed = [one.debts for one in three.watched]
    three.start(1)
    await until(lambda: all(one.debts == 0 for one in three.watched))
    have = [await stored(place, "object") for place in three.plain]
    assert have[0] == new, f"the old one was copied over the new one; owed {owed}"
    assert have == [new, new, new]


async def test_a_third_member_has_the_old_object(three: Mirrors) -> None:
    """While the only holder of the new object is down, the old one settles no debt."""
    old, new = content_of(SMALL), content_of(SMALL)[::-1]
    await three.put(old)
    for number in (0, 2):
        await three.stop(number)
    await soon(begin(three.put(new)))
    await three.stop(1)
    three.start(0)
    three.start(2)
    await until(lambda: three.watched[0].works and three.watched[2].works)
    await after(4)
    owed = [one.debts for one in three.watched]
    three.start(1)
    await until(lambda: all(one.debts == 0 for one in three.watched))
    have = [await stored(place, "object") == new for place in three.plain]
    assert have == [True, True, True], f"owed while the holder was down: {owed}"


async def test_deleted_from_two_of_three(three: Mirrors) -> None:
    """What the third still has is not copied back."""
    await three.put(content_of(SMALL))
    await three.plain[0].delete("object")
    # The read finds it in the second; the copy to the first begins after the deletion.
    hold = Stall(match=OBJECT)
    three.faulty[1].proxy.add(hold)
    getting = begin(three.get())
    await soon(hold.happened())
    three.faulty[2].proxy.add(Answer(503, times=None, match=DELETE))
    assert await soon(begin(three.store.delete("object")))
    hold.release()
    await soon(getting)
    await until(lambda: three.watched[0].debts == three.watched[1].debts == 0)
    three.faulty[2].proxy.clear()
    await until(lambda: three.watched[2].debts == 0)
    have = [await stored(place, "object") is not None for place in three.plain]
    assert have == [False, False, False]


# Other segmentation


@pytest.mark.parametrize("part", [None, range(2_000_000, 12_000_000)])
async def test_the_other_member_has_other_segments(mirrors: Mirrors, part: range | None) -> None:
    """The rest of a large object comes from a member that has it in one piece."""
    await mirrors.put(content_of(HUGE), at=1)
    place = mirrors.store.members[0]
    await place.put("object", mirrors.make_file(content_of(HUGE)))
    sink = Sink(pause_after=500_000)
    done = (await mirrors.store.get("object")).deliver(sink, part)
    await until(lambda: len(sink.content) >= 500_000)
    await mirrors.stop(0)
    sink.producer.resumeProducing()  # type: ignore[union-attr]
    await soon(done)
    wanted = content_of(HUGE)
    assert sink.content == (wanted if part is None else wanted[part.start : part.stop])


async def test_a_segment_is_missing(mirrors: Mirrors) -> None:
    """The rest comes from the other member."""
    await mirrors.put(content_of(LARGE))
    names = [row.name async for page in mirrors.store.members[0].segments.list() for row in page]
    await mirrors.store.members[0].segments.delete(sorted(names)[1])
    assert await soon(begin(mirrors.get())) == content_of(LARGE)
