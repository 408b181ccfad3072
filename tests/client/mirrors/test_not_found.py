"""Objects that a member lacks, where that takes Swift a while to say, or it cannot say it."""

from __future__ import annotations

import pytest
from twisted.internet import reactor
from twisted.internet.task import deferLater

from swift_provider.client.mirrors import breaker, member
from swift_provider.errors import ObjectUnclearError, TemporaryError
from tests.client.mirrors.conftest import Mirrors
from tests.client.trouble import SMALL, content_of, stored, until
from tests.servers.faults import ON_REQUEST, Answer, Delay, Fault, Stall


def container_of(mirrors: Mirrors, number: int) -> tuple[str, str]:
    """Matches the question for a container."""
    return ("HEAD", f"/{mirrors.store.members[number].container}$")


async def test_each_answer_has_its_time(mirrors: Mirrors, monkeypatch: pytest.MonkeyPatch) -> None:
    """To say that it lacks an object a place may be asked three times. It gets the object."""
    monkeypatch.setattr(member, "ANSWER_SECONDS", 2.0)
    monkeypatch.setattr(member, "LOOK_SECONDS", 0.05)
    mirrors.faulty[0].proxy.add_optional(Delay(0.9, times=None))
    for number in range(breaker.MOST_FAILURES):
        await mirrors.put(content_of(SMALL), f"object{number}", at=1)
        mirrors.store.members[0].client.requester._seen.forget(mirrors.store.members[0].container)
        assert await mirrors.get(f"object{number}") == content_of(SMALL)
    assert mirrors.watched[0].works
    mirrors.faulty[0].proxy.clear()
    await until(lambda: mirrors.watched[0].debts == 0)
    for number in range(breaker.MOST_FAILURES):
        assert await stored(mirrors.plain[0], f"object{number}") == content_of(SMALL)


@pytest.mark.parametrize(
    "fault",
    [
        lambda match: Answer(503, times=None, match=match),
        lambda match: Stall(ON_REQUEST, times=None, match=match),
    ],
    ids=["fails", "hangs"],
)
async def test_a_container_that_cannot_be_asked(
    mirrors: Mirrors, fault: type[Fault], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The place delivers what it has all the same."""
    monkeypatch.setattr(member, "ANSWER_SECONDS", 0.5)
    mirrors.faulty[0].proxy.add(fault(match=container_of(mirrors, 0)))
    for number in range(breaker.MOST_FAILURES):
        await mirrors.put(content_of(SMALL), f"object{number}", at=1)
        assert await mirrors.get(f"object{number}") == content_of(SMALL)
    assert mirrors.watched[0].works
    await mirrors.put(content_of(SMALL), "only here", at=0)
    assert await mirrors.get("only here") == content_of(SMALL)
    with pytest.raises(TemporaryError) as raised:
        await mirrors.get("nowhere")
    assert isinstance(raised.value, ObjectUnclearError)


async def test_another_program_that_answers_404(mirrors: Mirrors) -> None:
    """Such as a load balancer without a backend. The place is left out, and stays so."""
    await mirrors.put(content_of(SMALL))
    mirrors.faulty[0].proxy.add(Answer(404, b"default backend", foreign=True, times=None))
    for _ in range(10):
        assert await mirrors.get() == content_of(SMALL)
        if not mirrors.watched[0].works:
            break
    assert not mirrors.watched[0].works
    asked = len(mirrors.requests(0, "HEAD"))
    await until(lambda: len(mirrors.requests(0, "HEAD")) >= asked + 2)
    await deferLater(reactor, 0.2)
    assert not mirrors.watched[0].works, "after a probe"


@pytest.mark.parametrize("hangs", [False, True])
async def test_a_place_that_is_back_though_its_container_is_not(
    mirrors: Mirrors, hangs: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A probe asks for an object, and the answer to that is enough."""
    monkeypatch.setattr(member, "ANSWER_SECONDS", 0.5)
    await mirrors.put(content_of(SMALL))
    await mirrors.stop(0)
    for _ in range(breaker.MOST_FAILURES):
        assert await mirrors.get() == content_of(SMALL)
    assert not mirrors.watched[0].works
    match = container_of(mirrors, 0)
    proxy = mirrors.faulty[0].proxy
    if hangs:
        proxy.add(Stall(ON_REQUEST, times=None, match=match))
    else:
        proxy.add(Answer(503, times=None, match=match))
    mirrors.start(0)
    await until(lambda: mirrors.watched[0].works)
