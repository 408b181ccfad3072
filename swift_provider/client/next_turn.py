"""Calls a function in the next turn of the reactor, whatever the clock says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred


def call_next_turn(reactor: Any, call: Callable[..., Any], *arguments: Any) -> None:
    """Call ``call`` in the next turn of the reactor. It cannot be cancelled.

    Twisted's time is that of the machine. If it is set back by an hour just after
    ``callLater(0)``, the call comes an hour later. ``callFromThread`` uses no clock.

    :param reactor: an ``IReactorFromThreads``.
    """
    reactor.callFromThread(call, *arguments)


def next_turn(reactor: Any) -> Deferred[None]:
    """Fires in the next turn of the reactor; may be cancelled."""
    turned: Deferred[None] = Deferred()
    call_next_turn(reactor, turned.callback, None)
    return turned
