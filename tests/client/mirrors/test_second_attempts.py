"""Uploads and deletions that fail at some members and are then tried at the others, or again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from twisted.internet import reactor

from swift_provider.client import MirrorSet
from swift_provider.client.mirrors import breaker, writing
from swift_provider.errors import ConnectionFailedError, SwiftProviderError, Target
from tests.client.mirrors.conftest import Mirrors
from tests.client.mirrors.test_at_odds import deferred_from_thread
from tests.client.mirrors.test_members_left_out import skew
from tests.client.trouble import LARGE, SMALL, begin, content_of, set_back, soon, stored, until
from tests.servers.faults import ON_REQUEST, Answer, FlipBit, Stall, in_request

PUT = ("PUT", "/object$")
DELETE = ("DELETE", "/object$")


def in_one_piece(mirrors: Mirrors, monkeypatch: pytest.MonkeyPatch) -> None:
    for place in mirrors.store.members:
        settings = replace(place.client.settings, segment_size=5 * LARGE)
        monkeypatch.setattr(place.client, "settings", settings)


def hurry_first(mirrors: Mirrors, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first member is retried for a second only."""
    requester = mirrors.store.members[0].client.requester
    patience = replace(requester._patience, total_seconds=1.0)
    monkeypatch.setattr(requester, "_patience", patience)


async def both_are_the_same(mirrors: Mirrors) -> None:
    """Once nothing is owed, though the first member's clock is ahead."""
    mirrors.faulty[0].proxy.clear()
    skew(mirrors.store.members[0], 30)
    await until(lambda: all(one.debts == 0 for one in mirrors.watched))
    for place in mirrors.plain:
        assert await stored(place, "object") == content_of(LARGE)


def damage_first(mirrors: Mirrors, **options: Any) -> None:
    """Uploads to the first member leave a damaged object there."""
    mirrors.faulty[0].proxy.add(FlipBit(in_request(1000), match=PUT, **options))
    mirrors.faulty[0].proxy.add_optional(Answer(503, times=None, match=DELETE))


async def test_damaged_before_the_other_got_it(
    mirrors: Mirrors, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second member, which was left out, gets the file then; the first gets it anew."""
    in_one_piece(mirrors, monkeypatch)
    hurry_first(mirrors, monkeypatch)
    mirrors.store._members[1]._no_writes_since = reactor.seconds()
    damage_first(mirrors, times=None)
    await soon(begin(mirrors.put(content_of(LARGE))))
    await both_are_the_same(mirrors)


async def test_damaged_and_then_left_behind(
    mirrors: Mirrors, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The attempt after the damaged one hangs: what the first has is still damaged."""
    in_one_piece(mirrors, monkeypatch)
    hurry_first(mirrors, monkeypatch)
    monkeypatch.setattr(writing, "LATER_SECONDS", 0.5)
    damage_first(mirrors)
    hang = Stall(place=in_request(1000), match=PUT)
    mirrors.faulty[0].proxy.add(hang)
    hold = Stall(place=in_request(1000), match=PUT)
    mirrors.faulty[1].proxy.add(hold)
    putting = begin(mirrors.put(content_of(LARGE)))
    await soon(hang.happened())
    hold.release()
    await soon(putting)
    await until(lambda: "A damaged object may be left" in caplog.text)
    hang.release()
    await both_are_the_same(mirrors)


def put(mirrors: Mirrors) -> Any:
    return mirrors.put(content_of(SMALL))


def delete(mirrors: Mirrors) -> Any:
    return mirrors.store.delete("object")


@pytest.mark.parametrize("change", [put, delete])
async def test_all_fail_and_one_may_work_later(
    mirrors: Mirrors, monkeypatch: pytest.MonkeyPatch, change: Callable[[Mirrors], Any]
) -> None:
    """The first fails for a while. That the second, which was left out, refuses changes nothing."""
    second = mirrors.store._members[1]
    lost = Target("GET", "container", "object").error(ConnectionFailedError, "lost")
    for _ in range(breaker.MOST_FAILURES):
        second.failed(lost)
    place = mirrors.store.members[0]
    monkeypatch.setattr(
        place.client.requester, "_patience", place.client.requester._patience.once()
    )
    for number, status in ((0, 503), (1, 403)):
        for match in (PUT, ("HEAD", "/object$")):
            mirrors.faulty[number].proxy.add_optional(Answer(status, times=None, match=match))
    with pytest.raises(SwiftProviderError, match=r"^first: ") as caught:
        await soon(begin(change(mirrors)))
    assert caught.value.temporary


# What begins no more, and timers


async def test_the_background_cannot_begin(
    mirrors: Mirrors, caplog: pytest.LogCaptureFixture
) -> None:
    """A homeserver that stops begins nothing; what users asked for is done all the same."""

    def refuse(*_: Any) -> None:
        raise RuntimeError("the homeserver is shut down")

    stopping = MirrorSet(list(mirrors.store.members), reactor, refuse)
    mirrors.faulty[1].proxy.add(Answer(503, times=None, match=PUT))
    await soon(begin(stopping.put("object", mirrors.make_file(content_of(SMALL)))))
    mirrors.faulty[1].proxy.clear()
    await mirrors.put(content_of(LARGE), "other", at=1)
    (await stopping.get("other")).abandon()
    assert [one.debts for one in mirrors.watched] == [1, 1]
    assert "swift_repay_mirror cannot begin: the homeserver is shut down" in caplog.text
    await soon(begin(stopping.close()))


async def test_a_probe_cannot_begin(mirrors: Mirrors, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is put off."""
    monkeypatch.setattr(breaker, "FIRST_PAUSE_SECONDS", 0.05)
    refused: list[str] = []

    def refuse(name: str, _: Any) -> None:
        refused.append(name)
        raise RuntimeError("not now")

    stopping = MirrorSet(list(mirrors.store.members), reactor, refuse)
    lost = Target("GET", "container", "object").error(ConnectionFailedError, "lost")
    while mirrors.watched[0].works:
        stopping._members[0].failed(lost)
    await until(lambda: len(refused) >= 2)
    await soon(begin(stopping.close()))


async def test_the_clock_is_set_back_during_an_upload(
    mirrors: Mirrors, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One has the file and the other hangs: the upload ends, with reads only."""
    monkeypatch.setattr(writing, "LATER_SECONDS", 1.0)
    await mirrors.put(content_of(SMALL), "other")
    hang = Stall(times=None, place=ON_REQUEST, match=PUT)
    mirrors.faulty[1].proxy.add(hang)
    putting = begin(mirrors.put(content_of(SMALL)))
    ended: list[Any] = []
    putting.addBoth(ended.append)
    await soon(hang.happened())
    await until(lambda: mirrors.store._uploads and next(iter(mirrors.store._uploads)).done)
    with monkeypatch.context() as patch:
        set_back(patch)
        for _ in range(50):
            await mirrors.store.head("other")
            await deferred_from_thread(0.1)
            if ended:
                break
        was_ended = bool(ended)
    hang.release()
    mirrors.faulty[1].proxy.clear()
    if not ended:
        mirrors.faulty[1].proxy.reset_open()
    await until(lambda: ended)
    assert was_ended, "it still waits for the member after 5 seconds"
