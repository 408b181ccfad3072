"""Bounds the work of downloads in one turn of the reactor.

Twisted reads from every readable connection in one turn. With forty large downloads that
is forty chunks to hash and write before any other event is handled. Here a download that
resumes waits for a turn of its own. The downloads together take no longer, and another
event waits for one chunk instead of forty.

Where other work makes the turns long, one chunk a turn would starve the downloads. So
the number of chunks per turn grows with the length of the previous turn.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from swift_provider.client.next_turn import call_next_turn

#: One chunk for so many seconds of the previous turn. A chunk takes a third of that.
SECONDS_PER_CHUNK = 0.001


class Turns:
    """Calls functions in turns of the reactor, first come, first served.

    :param reactor: tells the time, too.
    """

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._waiting: deque[Callable[[], None]] = deque()
        self._began = 0.0
        self._turn_is_due = False

    def take(self, work: Callable[[], None]) -> None:
        """Call ``work`` now if this turn has no work yet, otherwise in a later turn.

        The call cannot be cancelled: ``work`` has to check whether it is still wanted.
        """
        if self._turn_is_due:
            self._waiting.append(work)
            return
        self._begin()
        work()

    def _begin(self) -> None:
        self._began = self._reactor.seconds()
        self._turn_is_due = True
        call_next_turn(self._reactor, self._turn)

    def _turn(self) -> None:
        self._turn_is_due = False
        if not self._waiting:
            return
        chunks = max(1, int((self._reactor.seconds() - self._began) / SECONDS_PER_CHUNK))
        self._begin()
        for _ in range(min(chunks, len(self._waiting))):
            self._waiting.popleft()()
