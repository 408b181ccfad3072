"""The pauses between files."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from swift_provider.errors import NotBegunError
from swift_provider.offload.bandwidth import Bandwidth


def test_files_take_turns() -> None:
    """A file begins when those before it would be through at that rate."""
    clock = Clock()
    limit = Bandwidth(clock, 100)
    began: list[tuple[int, float]] = []
    for size in (300, 100, 50):
        turn = Deferred.fromCoroutine(limit.take(size))
        turn.addCallback(lambda _, size=size: began.append((size, clock.seconds())))
    clock.pump([0.5] * 20)
    assert began == [(300, 0.0), (100, 3.0), (50, 4.0)]
    assert not limit.busy
    assert not clock.getDelayedCalls()


def test_files_that_wait_are_dropped() -> None:
    """When a run is told to end, no further file moves, and nothing waits any longer."""
    clock = Clock()
    limit = Bandwidth(clock, 1)
    first, *turns = [Deferred.fromCoroutine(limit.take(1000)) for _ in range(3)]
    assert limit.busy
    limit.stop()
    turns.append(Deferred.fromCoroutine(limit.take(1000)))
    assert first.result is None
    for turn in turns:
        turn.addErrback(lambda failure: failure.check(NotBegunError))
        assert turn.result is NotBegunError
    assert not limit.busy
    assert not clock.getDelayedCalls()


def test_no_limit() -> None:
    """Without a limit nothing waits, and what a run has taken on is finished."""
    limit = Bandwidth(Clock())
    limit.stop()
    assert all(Deferred.fromCoroutine(limit.take(1 << 60)).called for _ in range(3))
