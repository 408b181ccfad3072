"""How many exchanges with Swift may be under way at once, and who goes first.

One :class:`twisted.internet.defer.DeferredSemaphore` of ``threadpool_size``
bounds all exchanges. Uploads pass a second, smaller one before it: a picture
that a user waits for does not queue behind five hundred uploads, neither here
nor, where that queue would only move to, in Swift. In the script, where nobody
waits, uploads may take every slot.
"""

from __future__ import annotations

from enum import Enum

from twisted.internet.defer import DeferredSemaphore
from twisted.internet.interfaces import IReactorTime

from swift_provider.client.observer import Observer


class Lane(Enum):
    """Who asks for a slot."""

    #: Somebody waits for the answer: downloads, and questions about objects.
    READ = "read"
    #: Uploads.
    WRITE = "write"


class Lease:
    """One slot, held by one exchange. :meth:`release` may be called again, to no effect."""

    def __init__(self, slots: Slots, lane: Lane) -> None:
        self._slots: Slots | None = slots
        self._lane = lane

    def release(self) -> None:
        """Give the slot back."""
        slots, self._slots = self._slots, None
        if slots is not None:
            slots._release(self._lane)


#: Uploads at once where readers wait too, if there are as many slots and one more.
FEW_UPLOADS = 4


def uploads_beside_readers(size: int) -> int:
    """Of so many slots, how many uploads may take where readers wait, too.

    A quarter: the first byte of a small file, while 500 uploads wait for a Swift of
    one node, takes 4 to 6 times as long as without them, and 10 times with three quarters.
    """
    return max(1, min(size - 1, max(FEW_UPLOADS, size // 4)))


class Slots:
    """The slots of one client.

    :param size: most exchanges at once (``threadpool_size``).
    :param for_uploads: how many of them uploads may take.
    :param clock: the reactor, or a clock in its place.
    """

    def __init__(
        self, size: int, for_uploads: int, clock: IReactorTime, observer: Observer
    ) -> None:
        self.size = size
        self._clock = clock
        self._all = DeferredSemaphore(size)
        self._writes = DeferredSemaphore(for_uploads)
        self._observer = observer
        self.waiting = 0

    @property
    def in_flight(self) -> int:
        """How many slots are taken."""
        return self.size - self._all.tokens

    async def acquire(self, lane: Lane) -> Lease:
        """Wait for a slot. Cancelling the wait leaves nothing behind."""
        self.waiting += 1
        try:
            if lane is Lane.WRITE:
                await self._writes.acquire()
            try:
                await self._all.acquire()
            except BaseException:
                if lane is Lane.WRITE:
                    self._writes.release()
                raise
        finally:
            self.waiting -= 1
        self._observer.slots_changed(self.in_flight, self.waiting)
        return Lease(self, lane)

    def _release(self, lane: Lane) -> None:
        if self.waiting:
            # Not at once: whoever releases a slot must not find himself running
            # the one who waited for it, in the middle of what he is doing.
            self._clock.callLater(0, self._hand_over, lane)
        else:
            self._hand_over(lane)

    def _hand_over(self, lane: Lane) -> None:
        self._all.release()
        if lane is Lane.WRITE:
            self._writes.release()
        self._observer.slots_changed(self.in_flight, self.waiting)
