"""Timers that survive a clock set back, and the end of something in work."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred


def not_later(call: Any, clock: Any, seconds: float, otherwise: float | None = None) -> Any:
    """Make sure that a timer fires within so many seconds.

    The reactor's clock is the system's. After it was set back, timers would fire late.

    :param call: ``None`` for no timer.
    :param otherwise: seconds to wait if it would be later; ``None`` for ``seconds``.
    :returns: the timer, perhaps a new one.
    """
    if call is None or call.getTime() - clock.seconds() <= seconds:
        return call
    function = call.func
    call.cancel()
    return clock.callLater(seconds if otherwise is None else otherwise, function)


def ended(working: Deferred[Any]) -> Deferred[None]:
    """Fires when something in work has ended, however it has. May be cancelled."""
    over: Deferred[None] = Deferred()

    def end(result: Any) -> Any:
        if not over.called:
            over.callback(None)
        return result

    working.addBoth(end)
    return over
