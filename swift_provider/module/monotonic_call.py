"""A timer that goes by a clock which nobody sets.

Twisted's reactor goes by the wall clock: if that is set back by an hour, as NTP does after a
boot, ``callLater`` waits an hour longer. The reactor is Synapse's, so its clock stays as it
is. A thread waits instead, which ``threading`` does by the monotonic clock.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any


class MonotonicCall:
    """Calls a function on the reactor, once, unless it is cancelled before.

    :param seconds: until then.
    """

    def __init__(self, reactor: Any, seconds: float, function: Callable[[], object]) -> None:
        self._function = function
        self._is_active = True
        self._timer = threading.Timer(seconds, reactor.callFromThread, (self._call,))
        self._timer.name, self._timer.daemon = "swift_local_disk_timer", True
        self._delayed: Any = None
        try:
            self._timer.start()
        except RuntimeError:  # The system has no more threads.
            self._delayed = reactor.callLater(seconds, self._call)

    def cancel(self) -> None:
        """Do not call. Does nothing after the call, or a second time."""
        if not self._is_active:
            return
        self._is_active = False
        if self._delayed is None:
            self._timer.cancel()
        else:
            self._delayed.cancel()

    def _call(self) -> None:
        # The thread may have asked for the call just before it was cancelled.
        if self._is_active:
            self._is_active = False
            self._function()
