"""One piece of work in each turn of the reactor, so that others get theirs in between.

Twisted serves all connections that have something to read in one turn. With
forty large downloads that is forty pieces to hash and write before a request of
somebody else is looked at; one at a time they take no longer as a whole, and the
other request waits for one of them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime


class Turns:
    """Hands them out, first come, first served.

    :param clock: the reactor, or a clock in its place.
    """

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._waiting: deque[Callable[[], None]] = deque()
        self._next: IDelayedCall | None = None

    def take(self, work: Callable[[], None]) -> None:
        """Call ``work`` now, if nobody had this turn yet; otherwise in a later one.

        It cannot be taken back: ``work`` looks by itself whether it is still wanted.
        """
        if self._next is not None:
            self._waiting.append(work)
            return
        self._next = self._clock.callLater(0, self._turn)
        work()

    def _turn(self) -> None:
        self._next = None
        if self._waiting:
            self.take(self._waiting.popleft())
