"""Little work in each turn of the reactor, so that others get theirs in between.

Twisted serves all connections that have something to read in one turn. With
forty large downloads that is forty pieces to hash and write before a request of
somebody else is looked at. One at a time they take no longer as a whole, and the
other request waits for one of them.

Where others make the turns long, one piece in each would be next to nothing: the
longer a turn was, the more pieces has the next one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime

#: One piece of work for so much of the turn before; it takes about a third of that itself.
PIECE_SECONDS = 0.001


class Turns:
    """Hands them out, first come, first served.

    :param clock: the reactor, or a clock in its place.
    """

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._waiting: deque[Callable[[], None]] = deque()
        self._began = 0.0
        self._next: IDelayedCall | None = None

    def take(self, work: Callable[[], None]) -> None:
        """Call ``work`` now, if nobody had this turn yet; otherwise in a later one.

        It cannot be taken back: ``work`` looks by itself whether it is still wanted.
        """
        if self._next is not None:
            self._waiting.append(work)
            return
        self._begin()
        work()

    def _begin(self) -> None:
        self._began = self._clock.seconds()
        self._next = self._clock.callLater(0, self._turn)

    def _turn(self) -> None:
        self._next = None
        if not self._waiting:
            return
        pieces = max(1, int((self._clock.seconds() - self._began) / PIECE_SECONDS))
        self._begin()
        for _ in range(min(pieces, len(self._waiting))):
            self._waiting.popleft()()
