"""Time limits, with the clock moved by hand."""

from __future__ import annotations

import pytest
from twisted.internet.task import Clock

from swift_provider.client.http.time_limit import TimeLimit


class Bench:
    """A time limit, and the limits that it reported."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.reported: list[str] = []
        self.limit = TimeLimit(self.clock, self.reported.append)


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_a_limit_is_reported_once_when_it_passes(bench: Bench) -> None:
    """A limit is reported not before it passes, and not again."""
    bench.limit.watch(10, "no answer came")
    bench.clock.advance(9.9)
    assert bench.reported == []
    bench.clock.advance(0.1)
    assert bench.reported == ["no answer came for 10 seconds"]
    bench.clock.advance(100)
    assert len(bench.reported) == 1
    assert bench.clock.getDelayedCalls() == []


def test_renewing_begins_the_limit_anew(bench: Bench) -> None:
    """The limit counts from the last renewal."""
    bench.limit.watch(10, "silence")
    for _ in range(50):
        bench.clock.advance(3)
        bench.limit.renew()
    bench.clock.advance(9.9)
    assert bench.reported == []
    bench.clock.advance(0.1)
    assert bench.reported == ["silence for 10 seconds"]


def test_there_is_one_timer_however_often_it_is_renewed(bench: Bench) -> None:
    """Renewing moves the one timer, and resting cancels it."""
    bench.limit.watch(10, "silence")
    for _ in range(1000):
        bench.limit.renew()
    assert len(bench.clock.getDelayedCalls()) == 1
    bench.limit.rest()
    assert bench.clock.getDelayedCalls() == []


def test_a_longer_limit_counts_from_its_own_beginning(bench: Bench) -> None:
    """A limit that was ended by a rest has no effect on a longer one after it."""
    bench.limit.watch(10, "no connection was made")
    bench.clock.advance(1)
    bench.limit.rest()
    bench.limit.watch(60, "no answer came")
    bench.clock.advance(59.9)
    assert bench.reported == []
    bench.clock.advance(0.1)
    assert bench.reported == ["no answer came for 60 seconds"]


def test_a_shorter_limit_counts_from_its_own_beginning(bench: Bench) -> None:
    """A limit that was ended by a rest has no effect on a shorter one after it."""
    bench.limit.watch(60, "no answer came")
    bench.limit.rest()
    bench.limit.watch(5, "the body fell silent")
    bench.clock.advance(5)
    assert bench.reported == ["the body fell silent for 5 seconds"]
    assert bench.clock.getDelayedCalls() == []


@pytest.mark.parametrize("first", [1, 60])
def test_a_new_limit_replaces_the_old_one(bench: Bench, first: int) -> None:
    """A new limit replaces a shorter or longer one that is still running."""
    bench.limit.watch(first, "no connection was made")
    bench.limit.watch(5, "no answer came")
    bench.clock.advance(4.9)
    assert bench.reported == []
    bench.clock.advance(0.1)
    assert bench.reported == ["no answer came for 5 seconds"]
    bench.clock.advance(100)
    assert len(bench.reported) == 1


def test_renewing_after_a_new_limit_renews_the_new_one(bench: Bench) -> None:
    """Renewing uses the seconds of the last limit."""
    bench.limit.watch(60, "no answer came")
    bench.limit.watch(5, "the body fell silent")
    bench.clock.advance(4)
    bench.limit.renew()
    bench.clock.advance(4.9)
    assert bench.reported == []
    bench.clock.advance(0.1)
    assert bench.reported == ["the body fell silent for 5 seconds"]


def test_a_resting_watchdog_reports_nothing(bench: Bench) -> None:
    """A second rest does nothing, and renewing does not end the rest."""
    bench.limit.watch(1, "silence")
    bench.limit.rest()
    bench.limit.rest()
    bench.limit.renew()
    bench.clock.advance(10)
    assert bench.reported == []
    assert bench.clock.getDelayedCalls() == []


def test_the_next_limit_may_begin_while_one_is_reported() -> None:
    """The callback may begin the next limit itself."""
    clock = Clock()
    reported: list[str] = []

    def report(why: str) -> None:
        reported.append(why)
        if len(reported) < 3:
            limit.watch(1, "again")

    limit = TimeLimit(clock, report)
    limit.watch(1, "first")
    clock.pump([1, 1, 1, 1])
    assert reported == ["first for 1 seconds", "again for 1 seconds", "again for 1 seconds"]
