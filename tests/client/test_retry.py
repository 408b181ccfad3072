"""How often an operation is retried, and after how long."""

from __future__ import annotations

import pytest
from twisted.internet.task import Clock

from swift_provider.client import Patience
from swift_provider.client.retry import Tries
from swift_provider.errors import (
    AccessDeniedError,
    AuthUnavailableError,
    ConfigError,
    ServerBusyError,
)

BUSY = ServerBusyError("busy", operation="GET")


PATIENCE = Patience(total_seconds=100, first_delay=1, longest_delay=8, operation_seconds=1000)


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_pauses_double_up_to_a_limit(share: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each delay is between half and all of a limit that doubles up to the longest."""
    monkeypatch.setattr("random.uniform", lambda low, high: low + share * (high - low))
    tries = Tries(PATIENCE, Clock())
    delays = [tries.delay_after(BUSY) for _ in range(6)]
    whole = [1, 2, 4, 8, 8, 8]
    assert delays == [(0.5 + share / 2) * delay for delay in whole]


def test_pauses_are_drawn() -> None:
    """Delays are random, so that clients that failed together do not retry together."""
    delays = {Tries(PATIENCE, Clock()).delay_after(BUSY) for _ in range(20)}
    assert len(delays) > 1


def test_no_try_begins_too_late() -> None:
    """There is no retry after the time allowed."""
    clock = Clock()
    tries = Tries(PATIENCE, clock)
    clock.advance(98.9)
    assert tries.delay_after(BUSY) is not None
    clock.advance(1.0)
    assert tries.delay_after(BUSY) is None


def test_the_clock_is_set_back() -> None:
    """The retries do not go on until it is where it was."""
    clock = Clock()
    clock.advance(36_000)
    tries = Tries(PATIENCE, clock)
    assert tries.delay_after(BUSY) is not None
    clock.rightNow -= 30_000
    assert tries.delay_after(BUSY) is not None
    clock.advance(PATIENCE.total_seconds)
    assert tries.delay_after(BUSY) is None


def test_progress_begins_anew_and_waiting_does_not_count() -> None:
    """Progress resets the count, and excused time does not count."""
    clock = Clock()
    tries = Tries(PATIENCE, clock)
    clock.advance(150)
    tries.excuse(100)
    assert tries.delay_after(BUSY) is not None
    clock.advance(100)
    assert tries.delay_after(BUSY) is None
    tries.refill()
    assert 0.5 <= (tries.delay_after(BUSY) or 0) <= 1


@pytest.mark.parametrize(("asked", "expected"), [(0.0, None), (30.0, 30.0), (101.0, "final")])
def test_swift_may_ask_for_a_pause(asked: float, expected: object) -> None:
    """``Retry-After`` is obeyed, unless it exceeds the time that is left."""
    delay = Tries(PATIENCE, Clock()).delay_after(
        ServerBusyError("busy", operation="GET", retry_after=asked)
    )
    if expected == "final":
        assert delay is None
    elif expected is None:
        assert delay is not None
        assert 0.5 <= delay <= 1
    else:
        assert delay == expected


def test_keystone_may_ask_for_a_pause() -> None:
    """The ``Retry-After`` of Keystone is obeyed too."""
    assert Tries(PATIENCE, Clock()).delay_after(AuthUnavailableError("busy", 20.0)) == 20.0


def test_final_errors_are_final() -> None:
    """An error that is not temporary is not retried."""
    tries = Tries(PATIENCE, Clock())
    assert tries.delay_after(AccessDeniedError("no", operation="GET")) is None
    assert tries.delay_after(ConfigError("no")) is None
