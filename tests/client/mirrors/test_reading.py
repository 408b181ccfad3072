"""Downloads from a set of mirrors, of which one misbehaves."""

from __future__ import annotations

import pytest

from swift_provider.client.mirrors import breaker, member
from swift_provider.errors import DamagedError, ObjectNotFoundError, SwiftProviderError
from tests.client.conftest import Sink
from tests.client.mirrors.conftest import Mirrors
from tests.client.trouble import HUGE, LARGE, SMALL, begin, content_of, soon, stored, turn, until
from tests.servers.faults import (
    BEFORE_RESPONSE,
    Answer,
    Cut,
    Delay,
    FlipBit,
    Reset,
    Stall,
    in_response,
)

OBJECT = ("GET", "/object$")
ANY = (None, "/object$")


@pytest.mark.parametrize("size", [SMALL, LARGE])
async def test_the_first_member_is_read(mirrors: Mirrors, size: int) -> None:
    """As long as the first member works, the second is not asked."""
    await mirrors.put(content_of(size))
    assert await mirrors.get() == content_of(size)
    assert (await mirrors.store.head("object")).mirror == ""
    assert mirrors.requests(1) == mirrors.requests(1, "HEAD") == []


@pytest.mark.parametrize("size", [SMALL, LARGE])
@pytest.mark.parametrize("status", [401, 403, 500, 503])
async def test_an_error_of_one_member(mirrors: Mirrors, size: int, status: int) -> None:
    """The next member is asked within the same request, without a retry at the first."""
    await mirrors.put(content_of(size))
    first = mirrors.faulty[0].proxy
    # A new token is tried at once, and is refused again.
    first.add(Answer(status, match=OBJECT, times=2 if status == 401 else 1))
    assert await mirrors.get() == content_of(size)


async def test_a_member_that_is_down(mirrors: Mirrors) -> None:
    """After a few failures it is not asked any more, and is asked again once it works."""
    await mirrors.put(content_of(SMALL))
    await mirrors.stop(0)
    for _ in range(breaker.MOST_FAILURES):
        assert mirrors.watched[0].works
        assert await mirrors.get() == content_of(SMALL)
    assert not mirrors.watched[0].works
    assert (await mirrors.store.head("object")).mirror == "second"
    mirrors.start(0)
    await until(lambda: mirrors.watched[0].works)
    asked = len(mirrors.requests(0))
    assert await mirrors.get() == content_of(SMALL)
    assert len(mirrors.requests(0)) == asked + 1


async def test_a_member_that_does_not_answer(
    mirrors: Mirrors, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is given up after a few seconds, and requests that wait for it move on at once."""
    monkeypatch.setattr(member, "ANSWER_SECONDS", 0.3)
    await mirrors.put(content_of(LARGE))
    mirrors.faulty[0].proxy.add(Stall(times=None, place=BEFORE_RESPONSE))
    # More than there are slots: the others wait for one, without a time limit of their own.
    sinks = [begin(mirrors.get()) for _ in range(24)]
    for sink in sinks:
        assert await soon(sink) == content_of(LARGE)
    assert not mirrors.watched[0].works


async def test_the_slow_one_is_all_there_is(
    mirrors: Mirrors, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the other member fails, the slow one is waited for."""
    monkeypatch.setattr(member, "ANSWER_SECONDS", 0.2)
    await mirrors.put(content_of(LARGE))
    mirrors.faulty[0].proxy.add(Delay(1.0, times=None, match=OBJECT))
    mirrors.faulty[1].proxy.add(Answer(503, times=None, match=OBJECT))
    assert await soon(begin(mirrors.get())) == content_of(LARGE)


async def test_only_the_second_has_it(mirrors: Mirrors) -> None:
    """A 404 of one member is no answer; what it lacks is copied to it."""
    await mirrors.put(content_of(LARGE), at=1)
    assert await mirrors.get() == content_of(LARGE)
    await until(lambda: mirrors.watched[0].debts == 0)
    assert await stored(mirrors.plain[0], "object") == content_of(LARGE)


async def test_no_member_has_it(mirrors: Mirrors) -> None:
    """Only then the answer is that there is no such object."""
    with pytest.raises(ObjectNotFoundError):
        await mirrors.get()
    with pytest.raises(ObjectNotFoundError):
        await mirrors.store.head("object")


@pytest.mark.parametrize("gone", [0, 1])
async def test_one_is_down_and_the_other_lacks_it(mirrors: Mirrors, gone: int) -> None:
    """Nobody knows whether there is such an object; with an open breaker that is said at once."""
    await mirrors.stop(gone)
    with pytest.raises(SwiftProviderError) as caught:
        await soon(begin(mirrors.get()))
    assert caught.value.temporary
    assert not isinstance(caught.value, ObjectNotFoundError)
    await until(lambda: not mirrors.watched[gone].works)
    asked = len(mirrors.requests(1 - gone))
    with pytest.raises(SwiftProviderError, match=("first", "second")[gone]) as caught:
        await mirrors.get()
    assert caught.value.temporary
    assert len(mirrors.requests(1 - gone)) == asked + 1


@pytest.mark.parametrize(
    "fault",
    [Cut(in_response(1_000_000)), Reset(in_response(1_000_000)), Stall(place=in_response(0))],
)
async def test_a_body_that_breaks(mirrors: Mirrors, fault: Cut | Reset | Stall) -> None:
    """It goes on at the same byte in the other member, if the first does not deliver."""
    await mirrors.put(content_of(HUGE))
    download = await mirrors.store.get("object")
    mirrors.faulty[0].proxy.add_optional(fault)
    sink = Sink(pause_after=500_000)
    done = download.deliver(sink)
    await until(lambda: len(sink.content) >= 500_000)
    await mirrors.stop(0)
    sink.producer.resumeProducing()  # type: ignore[union-attr]
    await soon(done)
    assert sink.content == content_of(HUGE)
    ranges = [one.headers.get("range", "") for one in mirrors.requests(1)]
    assert ranges[-1].startswith("bytes=")
    assert not ranges[-1].startswith("bytes=0-")


async def test_a_body_that_crawls(mirrors: Mirrors, monkeypatch: pytest.MonkeyPatch) -> None:
    """A member that delivers next to nothing is left for the other."""
    monkeypatch.setattr("swift_provider.client.downloads.SLOW_SECONDS", 0.3)
    await mirrors.put(content_of(HUGE))
    mirrors.faulty[0].proxy.add(Stall(place=in_response(200_000), match=OBJECT))
    assert await soon(begin(mirrors.get())) == content_of(HUGE)


async def test_the_other_member_has_another_object(mirrors: Mirrors) -> None:
    """Its bytes are not mixed in: the download fails."""
    await mirrors.put(content_of(HUGE), at=0)
    await mirrors.put(content_of(HUGE)[::-1], at=1)
    download = await mirrors.store.get("object")
    sink = Sink(pause_after=500_000)
    done = download.deliver(sink)
    await until(lambda: len(sink.content) >= 500_000)
    await mirrors.stop(0)
    sink.producer.resumeProducing()  # type: ignore[union-attr]
    with pytest.raises(SwiftProviderError):
        await soon(done)
    assert content_of(HUGE).startswith(sink.content)


async def test_a_small_object_is_damaged_on_its_way(mirrors: Mirrors) -> None:
    """It is taken from the other member."""
    await mirrors.put(content_of(SMALL))
    mirrors.faulty[0].proxy.add(FlipBit(in_response(100), match=OBJECT))
    assert await mirrors.get() == content_of(SMALL)
    assert len(mirrors.requests(1)) == 1


async def test_a_member_that_delivers_wrong_bytes(mirrors: Mirrors) -> None:
    """The download fails before its last byte; the next one begins at the other member."""
    await mirrors.put(content_of(LARGE))
    mirrors.faulty[0].proxy.add(FlipBit(in_response(100), match=OBJECT))
    sink = Sink()
    with pytest.raises(DamagedError):
        await mirrors.get(sink=sink)
    assert len(sink.content) < LARGE
    assert await mirrors.get() == content_of(LARGE)
    assert len(mirrors.requests(1)) == 1


async def test_both_fail_for_a_while(mirrors: Mirrors) -> None:
    """The members are asked again after a while, as one place would be."""
    await mirrors.put(content_of(LARGE))
    for faulty in mirrors.faulty:
        faulty.proxy.add(Answer(503, times=2, match=OBJECT))
    assert await mirrors.get() == content_of(LARGE)


async def test_a_request_is_cancelled(mirrors: Mirrors) -> None:
    """Nothing goes on, and no member is blamed."""
    await mirrors.put(content_of(LARGE))
    stall = Stall(match=OBJECT)
    mirrors.faulty[0].proxy.add(stall)
    getting = begin(mirrors.get())
    getting.addErrback(lambda _: None)
    await soon(stall.happened())
    getting.cancel()
    await turn()
    assert mirrors.requests(1) == []
    assert await mirrors.get() == content_of(LARGE)
