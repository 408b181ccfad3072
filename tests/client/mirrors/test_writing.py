"""Uploads to a set of mirrors, deletions from it, and what is owed to a member afterwards."""

from __future__ import annotations

import os

import pytest
from twisted.internet.defer import CancelledError

from swift_provider.client.mirrors import debts, writing
from swift_provider.errors import (
    AccessDeniedError,
    FileChangedError,
    ObjectNotFoundError,
    SwiftProviderError,
)
from tests.client.mirrors.conftest import NAMES, Mirrors
from tests.client.trouble import LARGE, SMALL, begin, content_of, soon, stored, until
from tests.servers.faults import BEFORE_RESPONSE, Answer, Stall, in_request

PUT = ("PUT", "/object$")


async def paid(mirrors: Mirrors, number: int) -> None:
    await until(lambda: mirrors.watched[number].debts == 0)


@pytest.mark.parametrize("size", [0, SMALL, LARGE])
async def test_all_members_get_a_file(mirrors: Mirrors, size: int) -> None:
    """When the upload is done, each member has the file; nothing is owed."""
    await mirrors.put(content_of(size))
    for place in mirrors.plain:
        assert await stored(place, "object") == content_of(size)
    assert [one.debts for one in mirrors.watched] == [0, 0]


@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize("size", [SMALL, LARGE])
async def test_one_member_is_down(mirrors: Mirrors, number: int, size: int) -> None:
    """One member is enough; the other gets the file when it works again."""
    told: list[None] = []
    mirrors.store.on_debt = lambda: told.append(None)
    await mirrors.stop(number)
    await soon(begin(mirrors.put(content_of(size))))
    assert await stored(mirrors.plain[1 - number], "object") == content_of(size)
    assert (mirrors.watched[number].debts, len(told)) == (1, 1)
    mirrors.start(number)
    await paid(mirrors, number)
    assert await stored(mirrors.plain[number], "object") == content_of(size)


async def test_an_outage_opens_the_breaker(mirrors: Mirrors) -> None:
    """After a few uploads the member is not asked any more, and all are made up for."""
    await mirrors.stop(1)
    for number in range(6):
        await soon(begin(mirrors.put(content_of(number), f"object{number}")))
    assert not mirrors.watched[1].works
    assert mirrors.watched[1].debts == 6
    mirrors.start(1)
    await paid(mirrors, 1)
    for number in range(6):
        assert await stored(mirrors.plain[1], f"object{number}") == content_of(number)


async def test_all_members_are_down(mirrors: Mirrors) -> None:
    """The upload fails, with the name of a member, and nothing is owed."""
    for number in (0, 1):
        await mirrors.stop(number)
    with pytest.raises(SwiftProviderError, match=r"^(first|second): PUT .*refused") as caught:
        await soon(begin(mirrors.put(content_of(SMALL))))
    assert caught.value.temporary
    assert [one.debts for one in mirrors.watched] == [0, 0]


async def test_a_member_refuses(mirrors: Mirrors) -> None:
    """An error that no retry can help is one member's, too."""
    mirrors.faulty[0].proxy.add(Answer(403, match=PUT, after=None))
    await mirrors.put(content_of(SMALL))
    assert mirrors.watched[0].debts == 1
    await paid(mirrors, 0)
    for number, faulty in enumerate(mirrors.faulty):
        faulty.proxy.add(Answer(403, match=PUT, after=None))
        assert NAMES[number]
    with pytest.raises(AccessDeniedError):
        await mirrors.put(content_of(SMALL))


async def test_a_member_that_crawls(mirrors: Mirrors, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is waited for a while only, and gets the file later."""
    monkeypatch.setattr(writing, "LATER_SECONDS", 0.2)
    stall = Stall(place=in_request(1000), match=PUT)
    mirrors.faulty[0].proxy.add(stall)
    await soon(begin(mirrors.put(content_of(SMALL))))
    assert await stored(mirrors.plain[1], "object") == content_of(SMALL)
    await paid(mirrors, 0)
    assert await stored(mirrors.plain[0], "object") == content_of(SMALL)


async def test_the_answer_comes_too_late(mirrors: Mirrors, monkeypatch: pytest.MonkeyPatch) -> None:
    """An object that is there already is not sent again."""
    monkeypatch.setattr(writing, "LATER_SECONDS", 3.0)
    mirrors.faulty[0].proxy.add(Stall(place=BEFORE_RESPONSE, match=PUT))
    await soon(begin(mirrors.put(content_of(SMALL))))
    await paid(mirrors, 0)
    assert len(mirrors.requests(0, "PUT")) == 1
    assert await stored(mirrors.plain[0], "object") == content_of(SMALL)


async def test_the_file_changes(mirrors: Mirrors) -> None:
    """That is no member's fault: the upload fails."""
    source = mirrors.make_file(content_of(LARGE))
    os.truncate(source.path, 5)
    with pytest.raises(FileChangedError):
        await mirrors.store.put("object", source)
    assert [one.debts for one in mirrors.watched] == [0, 0]


async def test_an_upload_is_cancelled(mirrors: Mirrors) -> None:
    """Both uploads end, and nothing is owed."""
    for faulty in mirrors.faulty:
        faulty.proxy.add(Stall(place=in_request(1000), match=PUT))
    putting = begin(mirrors.put(content_of(SMALL)))
    await until(lambda: all(mirrors.requests(number, "PUT") for number in (0, 1)))
    putting.cancel()
    with pytest.raises(CancelledError):
        await putting
    assert [one.debts for one in mirrors.watched] == [0, 0]


async def test_the_newer_file_is_copied(mirrors: Mirrors) -> None:
    """Synapse makes a thumbnail anew: the member that was down gets the new one."""
    await mirrors.put(content_of(SMALL))
    await mirrors.stop(0)
    await soon(begin(mirrors.put(content_of(SMALL + 1))))
    mirrors.start(0)
    await paid(mirrors, 0)
    assert await stored(mirrors.plain[0], "object") == content_of(SMALL + 1)


async def test_what_a_member_has_is_not_overwritten(mirrors: Mirrors) -> None:
    """A file that was lacking when it was read may have come meanwhile."""
    await mirrors.put(content_of(SMALL), at=1)
    stall = Stall(match=("HEAD", "/object$"))
    mirrors.faulty[1].proxy.add(stall)
    assert await mirrors.get() == content_of(SMALL)
    await soon(stall.happened())
    await mirrors.put(content_of(SMALL + 1), at=0)
    stall.release()
    await paid(mirrors, 0)
    assert await stored(mirrors.plain[0], "object") == content_of(SMALL + 1)


async def test_deleted_from_all(mirrors: Mirrors) -> None:
    """A deletion is one of all members."""
    await mirrors.put(content_of(LARGE))
    assert await mirrors.store.delete("object")
    for place in mirrors.plain:
        assert await stored(place, "object") is None
    assert not await mirrors.store.delete("object")


async def test_deleted_while_a_member_is_down(mirrors: Mirrors) -> None:
    """It gets the deletion when it works again."""
    await mirrors.put(content_of(SMALL))
    await mirrors.stop(0)
    assert await soon(begin(mirrors.store.delete("object")))
    mirrors.start(0)
    await paid(mirrors, 0)
    assert await stored(mirrors.plain[0], "object") is None


async def test_nothing_is_deleted(mirrors: Mirrors) -> None:
    """With all members down the deletion fails."""
    await mirrors.put(content_of(SMALL))
    for number in (0, 1):
        await mirrors.stop(number)
    with pytest.raises(SwiftProviderError):
        await soon(begin(mirrors.store.delete("object")))


async def test_deleted_while_it_is_copied(mirrors: Mirrors) -> None:
    """The copy ends first, so it does not bring the object back."""
    await mirrors.put(content_of(LARGE), at=1)
    stall = Stall(place=in_request(1000), match=PUT)
    mirrors.faulty[0].proxy.add(stall)
    assert await mirrors.get() == content_of(LARGE)
    await soon(stall.happened())
    await soon(begin(mirrors.store.delete("object")))
    stall.release()
    assert mirrors.watched[0].debts == 0
    for place in mirrors.plain:
        assert await stored(place, "object") is None


async def test_deleted_before_it_is_copied(mirrors: Mirrors) -> None:
    """Nothing is left to copy: that settles the debt."""
    await mirrors.stop(0)
    await soon(begin(mirrors.put(content_of(SMALL))))
    await mirrors.plain[1].delete("object")
    mirrors.start(0)
    await paid(mirrors, 0)
    with pytest.raises(ObjectNotFoundError):
        await mirrors.store.head("object")


async def test_debts_are_bounded(
    mirrors: Mirrors, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What is too much is left to the script, and said once."""
    monkeypatch.setattr(debts, "MOST_OWED", 2)
    await mirrors.stop(1)
    for number in range(5):
        await soon(begin(mirrors.put(content_of(number), f"object{number}")))
    assert mirrors.watched[1].debts == 2
    assert caplog.text.count("swift_media_upload sync") == 1
