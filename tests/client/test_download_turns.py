"""One piece of work in each turn of the reactor."""

from __future__ import annotations

import pytest
from twisted.internet import reactor
from twisted.internet.task import deferLater
from twisted.logger import LogEvent

from swift_provider.client.download_turns import SECONDS_PER_CHUNK, Turns
from swift_provider.client.next_turn import next_turn
from tests.client.trouble import TurningClock, set_back


async def test_one_in_each_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first call is made at once, the others one by one in later turns."""
    now = reactor.seconds()
    monkeypatch.setattr(reactor, "seconds", lambda: now)  # No turn is long.
    turns = Turns(reactor)
    done: list[int] = []
    for number in range(5):
        turns.take(lambda number=number: done.append(number))  # type: ignore[misc]
    seen = [len(done)]
    for _ in range(6):
        await next_turn(reactor)
        seen.append(len(done))
    assert seen == [1, 2, 3, 4, 5, 5, 5]
    assert done == sorted(done)
    turns.take(lambda: done.append(5))
    assert len(done) == 6  # nothing is before it any more
    await next_turn(reactor)


def test_long_turns_take_more() -> None:
    """A longer turn of the reactor is followed by more calls in the next."""
    clock = TurningClock()
    turns = Turns(clock)
    done: list[int] = []
    for number in range(40):
        turns.take(lambda number=number: done.append(number))  # type: ignore[misc]
    clock.rightNow += 20.5 * SECONDS_PER_CHUNK
    clock.calls[0].func()
    assert done == list(range(21))


async def test_work_that_fails_harms_no_other(unhandled_failures: list[LogEvent]) -> None:
    """An exception of one call is logged, and the next call is still made."""
    turns = Turns(reactor)
    done: list[str] = []

    def fail() -> None:
        raise ValueError("fails")

    with pytest.raises(ValueError, match="fails"):
        turns.take(fail)
    turns.take(fail)
    turns.take(lambda: done.append("last"))
    for _ in range(3):
        await deferLater(reactor, 0)
    assert done == ["last"]
    assert len(unhandled_failures) == 1
    unhandled_failures.clear()


async def test_a_clock_that_is_set_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Turns follow the reactor, not the clock: downloads do not stop until it has caught up."""
    turns = Turns(reactor)
    done: list[int] = []
    for number in range(3):
        turns.take(lambda number=number: done.append(number))  # type: ignore[misc]
    set_back(monkeypatch)
    for _ in range(4):
        await next_turn(reactor)
    assert done == [0, 1, 2]
