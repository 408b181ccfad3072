"""Calls in the reactor's next turn."""

from __future__ import annotations

import pytest
from twisted.internet import reactor
from twisted.internet.defer import CancelledError
from twisted.logger import LogEvent

from swift_provider.client.next_turn import call_next_turn, next_turn
from tests.client.trouble import set_back


async def test_the_next_turn_is_later_and_comes_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is called at once, and no clock delays the calls."""
    called: list[int] = []
    for number in range(3):
        call_next_turn(reactor, called.append, number)
    assert called == []
    set_back(monkeypatch)
    await next_turn(reactor)
    assert called == [0, 1, 2]


async def test_a_cancelled_wait_leaves_nothing_behind(unhandled_failures: list[LogEvent]) -> None:
    """The turn comes all the same, and finds nobody waiting."""
    waiting = next_turn(reactor)
    waiting.addErrback(lambda failure: failure.trap(CancelledError))
    waiting.cancel()
    await next_turn(reactor)
    assert unhandled_failures == []
