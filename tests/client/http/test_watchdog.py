"""Time limits, with the clock moved by hand."""

from __future__ import annotations

import pytest
from twisted.internet.task import Clock

from swift_provider.client.http.watchdog import Watchdog


class Bench:
    """A watchdog and what it barked."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.barked: list[str] = []
        self.dog = Watchdog(self.clock, self.barked.append)


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_it_barks_once_at_the_limit(bench: Bench) -> None:
    """Not before, and not again."""
    bench.dog.watch(10, "no answer came")
    bench.clock.advance(9.9)
    assert bench.barked == []
    bench.clock.advance(0.1)
    assert bench.barked == ["no answer came for 10 seconds"]
    bench.clock.advance(100)
    assert len(bench.barked) == 1
    assert bench.clock.getDelayedCalls() == []


def test_a_renewed_limit_begins_anew(bench: Bench) -> None:
    """Counted from the last renewal, to the moment."""
    bench.dog.watch(10, "silence")
    for _ in range(50):
        bench.clock.advance(3)
        bench.dog.renew()
    bench.clock.advance(9.9)
    assert bench.barked == []
    bench.clock.advance(0.1)
    assert bench.barked == ["silence for 10 seconds"]


def test_renewing_costs_no_timer(bench: Bench) -> None:
    """However often it is renewed, there is one delayed call, and it is not moved."""
    bench.dog.watch(10, "silence")
    (call,) = bench.clock.getDelayedCalls()
    for _ in range(1000):
        bench.dog.renew()
    assert bench.clock.getDelayedCalls() == [call]
    assert call.getTime() == 10
    bench.dog.stop()
    assert bench.clock.getDelayedCalls() == []


def test_a_later_limit_costs_no_timer(bench: Bench) -> None:
    """Nor does resting in between: the call that there is looks, and waits for the rest."""
    bench.dog.watch(10, "no connection was made")
    (call,) = bench.clock.getDelayedCalls()
    bench.clock.advance(1)
    bench.dog.rest()
    bench.dog.watch(60, "no answer came")
    assert bench.clock.getDelayedCalls() == [call]
    bench.clock.advance(59.9)
    assert bench.barked == []
    bench.clock.advance(0.1)
    assert bench.barked == ["no answer came for 60 seconds"]


def test_a_nearer_limit_is_kept(bench: Bench) -> None:
    """It does not wait for the call of a later one."""
    bench.dog.watch(60, "no answer came")
    bench.dog.rest()
    bench.dog.watch(5, "the body fell silent")
    bench.clock.advance(5)
    assert bench.barked == ["the body fell silent for 5 seconds"]
    assert bench.clock.getDelayedCalls() == []


def test_a_new_limit_takes_the_place_of_the_old(bench: Bench) -> None:
    """Only the last one counts."""
    bench.dog.watch(1, "no connection was made")
    bench.dog.watch(5, "no answer came")
    bench.clock.advance(4.9)
    assert bench.barked == []
    bench.clock.advance(0.1)
    assert bench.barked == ["no answer came for 5 seconds"]


def test_a_resting_dog_is_silent(bench: Bench) -> None:
    """Resting twice is harmless, and renewing does not wake it."""
    bench.dog.watch(1, "silence")
    bench.dog.rest()
    bench.dog.rest()
    bench.dog.renew()
    bench.clock.advance(10)
    assert bench.barked == []
    assert bench.clock.getDelayedCalls() == []


def test_it_may_be_sent_to_watch_while_it_barks() -> None:
    """Whoever is told may begin the next limit at once."""
    clock = Clock()
    barked: list[str] = []

    def bark(why: str) -> None:
        barked.append(why)
        if len(barked) < 3:
            dog.watch(1, "again")

    dog = Watchdog(clock, bark)
    dog.watch(1, "first")
    clock.pump([1, 1, 1, 1])
    assert barked == ["first for 1 seconds", "again for 1 seconds", "again for 1 seconds"]
