"""Cancellations, closing and hurry at any moment."""

from __future__ import annotations

import gc
import random
from collections.abc import Iterator
from typing import Any

import pytest
from twisted.internet import reactor
from twisted.internet.defer import CancelledError
from twisted.internet.task import deferLater
from twisted.logger import LogLevel, globalLogPublisher

from swift_provider.client import MirrorSet
from swift_provider.client.mirrors import breaker, debts, member, writing
from swift_provider.errors import ConsumerStoppedError, SwiftProviderError
from tests.client.mirrors.conftest import Mirrors, background
from tests.client.trouble import LARGE, SMALL, begin, content_of, soon, stored, until
from tests.servers.faults import (
    BEFORE_RESPONSE,
    ON_REQUEST,
    Answer,
    Cut,
    Stall,
    in_response,
)


@pytest.fixture
def unhandled() -> Iterator[list[Any]]:
    found: list[Any] = []

    def observe(event: Any) -> None:
        if event.get("log_level") in (LogLevel.critical, LogLevel.error):
            found.append(str(event.get("log_failure") or event)[:600])

    globalLogPublisher.addObserver(observe)
    yield found
    globalLogPublisher.removeObserver(observe)


async def after(seconds: float) -> None:
    await deferLater(reactor, seconds)


@pytest.mark.parametrize("seed", range(6))
async def test_cancelled_at_any_moment(
    mirrors: Mirrors, seed: int, unhandled: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(member, "ANSWER_SECONDS", 0.3)
    monkeypatch.setattr(writing, "LATER_SECONDS", 0.2)
    monkeypatch.setattr(debts, "FIRST_PAUSE_SECONDS", 0.1)
    monkeypatch.setattr(breaker, "FIRST_PAUSE_SECONDS", 0.1)
    monkeypatch.setattr(breaker, "LONGEST_PAUSE_SECONDS", 0.3)
    luck = random.Random(seed)
    timers = len(reactor.getDelayedCalls())
    for turn in range(25):
        path = f"object{turn % 5}"
        size = luck.choice([SMALL, LARGE])
        trouble = luck.choice(["none", "none", "down", "hang", "busy", "cut"])
        bad = mirrors.faulty[luck.randrange(2)].proxy
        if trouble == "down":
            await bad.refuse()
            bad.reset_open()
        elif trouble == "hang":
            bad.add_optional(Stall(times=None, place=luck.choice([ON_REQUEST, BEFORE_RESPONSE])))
        elif trouble == "busy":
            bad.add_optional(Answer(503, times=luck.randrange(1, 5)))
        elif trouble == "cut":
            bad.add_optional(Cut(in_response(100_000), times=2))
        operations = []
        for _ in range(3):
            which = luck.choice(["put", "get", "get", "delete", "head"])
            if which == "put":
                operation = mirrors.store.put(path, mirrors.make_file(content_of(size)))
            elif which == "get":
                operation = mirrors.get(path)
            elif which == "delete":
                operation = mirrors.store.delete(path)
            else:
                operation = mirrors.store.head(path)
            one = begin(operation)
            one.addErrback(
                lambda failure: failure.trap(
                    CancelledError, SwiftProviderError, ConsumerStoppedError
                )
            )
            operations.append(one)
        await after(luck.random() * luck.choice([0.02, 0.2, 0.6]))
        for one in operations:
            one.cancel()
        await after(luck.choice([0, 0.05]))
        bad.clear()
        if trouble == "down":
            bad.accept_again()
        elif trouble == "hang":
            bad.reset_open()
    await until(lambda: all(one.works for one in mirrors.watched))
    await until(lambda: all(one.debts == 0 for one in mirrors.watched))
    slots = [place.client.slots for place in mirrors.store.members]
    await until(lambda: all(one.in_flight == 0 and one.waiting == 0 for one in slots))
    for number in range(5):
        have = [await stored(place, f"object{number}") for place in mirrors.plain]
        del have
    await after(0.6)
    gc.collect()
    await after(0)
    assert not unhandled, unhandled
    mine = [str(c)[:200] for c in reactor.getDelayedCalls() if "mirrors" in str(c)]
    assert not mine, (timers, mine)


@pytest.mark.parametrize("seed", range(6))
async def test_closed_at_any_moment(
    mirrors: Mirrors, seed: int, unhandled: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With debts in work, and a member that flaps."""
    monkeypatch.setattr(breaker, "FIRST_PAUSE_SECONDS", 0.05)
    monkeypatch.setattr(debts, "FIRST_PAUSE_SECONDS", 0.05)
    luck = random.Random(seed)
    await mirrors.stop(seed % 2)
    for number in range(5):
        await soon(begin(mirrors.put(content_of(SMALL + number), f"object{number}")))
    mirrors.start(seed % 2)
    await after(luck.random() * 0.3)
    mirrors.store.hurry()
    await soon(begin(mirrors.store.close()))
    slots = [place.client.slots for place in mirrors.store.members]
    left = [(one.in_flight, one.waiting) for one in slots]
    gc.collect()
    await after(0.5)
    mine = [str(c)[:200] for c in reactor.getDelayedCalls() if "mirrors" in str(c)]
    assert not unhandled
    assert not mine
    assert left == [(0, 0), (0, 0)]


async def test_hurry_ends_a_download(mirrors: Mirrors) -> None:
    """A script that is stopped does not wait for the retries."""
    await mirrors.put(content_of(LARGE))
    for faulty in mirrors.faulty:
        faulty.proxy.add_optional(Cut(in_response(0), times=None, match=("GET", "/object$")))
    getting = begin(mirrors.get())
    ended: list[Any] = []
    getting.addBoth(ended.append)
    await after(0.5)
    mirrors.store.hurry()
    await after(2)
    was = bool(ended)
    for faulty in mirrors.faulty:
        faulty.proxy.clear()
    getting.addErrback(lambda _: None)
    getting.cancel()
    assert was


async def test_two_processes_use_the_set(mirrors: Mirrors) -> None:
    """What one process owes, another has made up for: nothing is copied twice."""
    other = MirrorSet(list(mirrors.plain), reactor, background)
    await mirrors.stop(0)
    await soon(begin(mirrors.put(content_of(SMALL))))
    await other.put("object", mirrors.make_file(content_of(SMALL)))
    asked = len(mirrors.requests(0, "PUT"))
    mirrors.start(0)
    await until(lambda: mirrors.watched[0].debts == 0)
    assert len(mirrors.requests(0, "PUT")) == asked
    await other.close()
