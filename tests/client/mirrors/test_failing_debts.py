"""Copies and deletions that fail: because of the place, or because of one object."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet import reactor
from twisted.internet.defer import CancelledError
from twisted.internet.task import deferLater

from swift_provider.client import copying
from swift_provider.client.mirrors import debts
from swift_provider.client.mirrors.repaying import Debt, repay
from swift_provider.errors import DamagedError, Target
from tests.client.mirrors.conftest import Mirrors
from tests.client.trouble import LARGE, SMALL, begin, content_of, soon, stored, until
from tests.servers.faults import ON_REQUEST, Answer, FlipBit, Stall, in_response

PUT = ("PUT", "/object")
DELETE = ("DELETE", "/object$")


@pytest.fixture
def quick(mirrors: Mirrors, monkeypatch: pytest.MonkeyPatch) -> None:
    """The pauses after failures are short."""
    set_pauses(mirrors, 0.02)
    for name in ("FIRST", "LONGEST"):
        monkeypatch.setattr(debts, f"{name}_PAUSE_SECONDS", 0.02)
    monkeypatch.setattr(debts, "LONGEST_OBJECT_PAUSE_SECONDS", 0.02, raising=False)


def set_pauses(mirrors: Mirrors, seconds: float) -> None:
    """How long all debts of a place wait after its next failure."""
    for accounts in mirrors.store._debts._accounts.values():
        for account in accounts.values():
            account._pause = seconds


def account_of(mirrors: Mirrors, member: int, holder: int) -> Any:
    members = mirrors.store._members
    return mirrors.store._debts._accounts[members[member]][members[holder]]


def owe(mirrors: Mirrors, path: str, *, stored: bool = False) -> None:
    """The first member lacks an object of the second."""
    member, holder = mirrors.store._members
    mirrors.store._debts.owe(member, Debt(path, holder, stored=stored))


async def settled(mirrors: Mirrors) -> None:
    await until(lambda: all(one.debts == 0 for one in mirrors.watched))


# The place


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("status", [402, 405])
async def test_a_member_that_refuses_all_gets_all_later(
    mirrors: Mirrors, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    """The account is suspended, or read-only: no object is given up for that."""
    monkeypatch.setattr(debts, "MOST_REFUSALS", 2)
    mirrors.faulty[0].proxy.add(Answer(status, times=None, match=PUT))
    paths = [f"object{number}" for number in range(3)]
    for path in paths:
        await soon(begin(mirrors.put(content_of(SMALL), path)))
    await until(lambda: len(mirrors.requests(0, "PUT")) > 20 or not mirrors.watched[0].debts)
    mirrors.faulty[0].proxy.clear()
    await settled(mirrors)
    assert all([await stored(mirrors.plain[0], path) for path in paths])


async def test_a_place_that_fails_counts_once(mirrors: Mirrors) -> None:
    """One attempt is one failure for the breaker."""
    await mirrors.put(content_of(SMALL), at=1)
    mirrors.faulty[0].proxy.add(Answer(503, times=None))
    owe(mirrors, "object")
    account = account_of(mirrors, 0, 1)
    await until(lambda: not account._in_work)
    assert mirrors.store._members[0].breaker._failures == 1
    mirrors.faulty[0].proxy.clear()
    await settled(mirrors)


# One object


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_unreadable_objects_do_not_hold_up_others(mirrors: Mirrors, method: str) -> None:
    """503 for some of the holder's objects, because their disks are down."""
    bad = [f"bad{number}" for number in range(6)]
    for path in [*bad, "good"]:
        await mirrors.put(content_of(SMALL), path, at=1)
    mirrors.faulty[1].proxy.add(Answer(503, times=None, match=(method, "/bad")))
    set_pauses(mirrors, 60.0)

    def asked(path: str) -> bool:
        return any(one.path.endswith(path) for one in mirrors.requests(1, method))

    for path in bad:
        owe(mirrors, path)
    await until(lambda: all(asked(path) for path in bad))
    owe(mirrors, "good")
    await until(lambda: mirrors.watched[0].debts == len(bad))
    assert await stored(mirrors.plain[0], "good") == content_of(SMALL)
    assert mirrors.watched[1].works, "readers do not get its other objects"
    mirrors.faulty[1].proxy.clear()
    await settled(mirrors)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("size", [SMALL, LARGE])
async def test_a_damaged_object_is_given_up(
    mirrors: Mirrors, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, size: int
) -> None:
    """It is not downloaded for ever, and the log says which one it is."""
    monkeypatch.setattr(debts, "MOST_UNREADABLE", 3)
    await mirrors.put(content_of(size), at=1)
    mirrors.faulty[1].proxy.add(FlipBit(in_response(100), times=None, match=("GET", "/object$")))
    owe(mirrors, "object")
    await settled(mirrors)
    warnings = [one.getMessage() for one in caplog.records if one.levelname == "WARNING"]
    assert len(warnings) == 1
    assert "Swift first lacks object, and it cannot be copied from a mirror: second" in warnings[0]
    assert "upload --all" in warnings[0]
    asked = len(mirrors.requests(1))
    owe(mirrors, "object")  # as the next reader does
    assert mirrors.watched[0].debts == 0
    assert len(mirrors.requests(1)) == asked
    mirrors.faulty[1].proxy.clear()


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("has_failed", [False, True])
async def test_what_a_failed_copy_has_left_is_replaced(
    mirrors: Mirrors, monkeypatch: pytest.MonkeyPatch, has_failed: bool
) -> None:
    """Though it is newer than the right object. What others have stored stays."""
    await mirrors.put(content_of(SMALL), at=1)
    damaged = Target("PUT", mirrors.plain[0].container, "object").error(DamagedError, "damaged")

    async def fail_once(*arguments: Any) -> bool:
        monkeypatch.setattr(debts, "repay", repay)
        await mirrors.put(b"damaged", at=0)
        if has_failed:
            raise damaged
        return await repay(*arguments)

    monkeypatch.setattr(debts, "repay", fail_once)
    owe(mirrors, "object")
    await settled(mirrors)
    right = content_of(SMALL) if has_failed else b"damaged"
    assert await stored(mirrors.plain[0], "object") == right


@pytest.mark.usefixtures("quick")
async def test_a_damaged_segment_is_the_holders(
    mirrors: Mirrors, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """So it is given up, though only the ETag of the whole large object shows the damage."""
    monkeypatch.setattr(debts, "MOST_UNREADABLE", 3)
    monkeypatch.setattr(copying, "_known_md5s", lambda _: {})
    await mirrors.store.members[1].put("object", mirrors.make_file(content_of(LARGE)))
    mirrors.faulty[1].proxy.add(FlipBit(in_response(100), times=None, match=("GET", "/object")))
    owe(mirrors, "object")
    await settled(mirrors)
    assert "Swift first lacks object, and it cannot be copied from a mirror: second" in caplog.text
    mirrors.faulty[1].proxy.clear()


@pytest.mark.usefixtures("quick")
async def test_an_object_that_alone_is_refused(
    mirrors: Mirrors, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Only refusals count after which the member took another object."""
    monkeypatch.setattr(debts, "MOST_REFUSALS", 2)
    mirrors.faulty[0].proxy.add(Answer(405, times=None, match=("PUT", "/object-bad")))
    await soon(begin(mirrors.put(content_of(SMALL), "object-bad")))

    def refusals() -> int:
        return sum("-bad" in one.path for one in mirrors.requests(0, "PUT"))

    for number in range(2):
        seen = refusals()
        await until(lambda seen=seen: refusals() > seen + 2)
        assert mirrors.watched[0].debts == 1
        await mirrors.put(content_of(SMALL), f"object{number}")
    await settled(mirrors)
    assert caplog.text.count("Swift first lacks object-bad, and it cannot be copied") == 1
    mirrors.faulty[0].proxy.clear()


@pytest.mark.usefixtures("quick")
async def test_a_deletion_that_alone_is_refused(
    mirrors: Mirrors, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The log says that the object is still there."""
    monkeypatch.setattr(debts, "MOST_REFUSALS", 1)
    proxy = mirrors.faulty[1].proxy
    proxy.add(Answer(405, times=None, match=("DELETE", "/bad")))
    proxy.add(Answer(405, times=3, match=("DELETE", "/good")))
    for path in ("bad", "good"):
        await mirrors.put(content_of(SMALL), path)
        assert await soon(begin(mirrors.store.delete(path)))
    await settled(mirrors)
    assert await stored(mirrors.plain[1], "good") is None
    warnings = [one.getMessage() for one in caplog.records if "still has it" in one.getMessage()]
    assert len(warnings) == 1
    assert warnings[0].startswith("bad was deleted, but Swift second still has it")
    assert "cannot be copied" not in caplog.text
    proxy.clear()


# What has changed meanwhile


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("from_upload", [False, True])
async def test_stored_while_it_is_copied(
    mirrors: Mirrors, caplog: pytest.LogCaptureFixture, from_upload: bool
) -> None:
    """Another process has stored it in the member: there is nothing to complain of."""
    await mirrors.put(content_of(SMALL), at=1)
    hold = Stall(place=ON_REQUEST, match=PUT)
    mirrors.faulty[0].proxy.add(hold)
    owe(mirrors, "object", stored=from_upload)
    await soon(hold.happened())
    await mirrors.put(content_of(SMALL), at=0)
    hold.release()
    await settled(mirrors)
    assert "cannot be copied" not in caplog.text


@pytest.mark.usefixtures("quick")
async def test_deleted_while_it_is_copied(
    mirrors: Mirrors, caplog: pytest.LogCaptureFixture
) -> None:
    """Another process has deleted it in the holder: there is nothing to copy."""
    await mirrors.put(content_of(SMALL), at=1)
    hold = Stall(place=ON_REQUEST, match=("GET", "/object$"))
    mirrors.faulty[1].proxy.add(hold)
    owe(mirrors, "object")
    await soon(hold.happened())
    await mirrors.plain[1].delete("object")
    hold.release()
    await settled(mirrors)
    assert "cannot be copied" not in caplog.text


async def test_a_deletion_is_cancelled_while_a_copy_is_owed(mirrors: Mirrors) -> None:
    """The holder has to delete it, so the copy is not owed any more."""
    await mirrors.put(content_of(SMALL), at=1)
    hold_copy = Stall(times=None, place=ON_REQUEST, match=PUT)
    mirrors.faulty[0].proxy.add(hold_copy)
    owe(mirrors, "object", stored=True)
    await soon(hold_copy.happened())
    mirrors.faulty[1].proxy.add_optional(Stall(place=ON_REQUEST, match=DELETE))
    deleting = begin(mirrors.store.delete("object"))
    await until(lambda: mirrors.requests(1, "DELETE"))
    await until(lambda: len(mirrors.requests(0, "HEAD")) > 1)
    await soon(begin(mirrors.faulty[0].proxy.wait_idle()))
    await deferLater(reactor, 0.2)  # so that the set knows that the first has none
    deleting.addErrback(lambda failure: failure.trap(CancelledError))
    deleting.cancel()
    await deleting
    for faulty in mirrors.faulty:
        faulty.proxy.clear()
    await settled(mirrors)
    assert [await stored(place, "object") for place in mirrors.plain] == [None, None]
