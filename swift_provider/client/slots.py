"""How many exchanges with Swift may be in flight at once, and in which order they begin.

One :class:`twisted.internet.defer.DeferredSemaphore` of ``threadpool_size`` bounds all
exchanges. Uploads pass a second, smaller semaphore first, so that a download does not
queue behind five hundred uploads, neither here nor in Swift. The script has no
downloads to protect: there uploads may take every slot.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from enum import Enum
from itertools import count
from typing import Any, Protocol

from twisted.internet.defer import DeferredSemaphore

from swift_provider.client.next_turn import call_next_turn
from swift_provider.client.observer import Observer


class Lane(Enum):
    """What a slot is for."""

    #: Downloads, and requests without a body: a user may be waiting for the response.
    READ = "read"
    #: Uploads.
    WRITE = "write"


class Slot(Protocol):
    """What an exchange needs of the slot that it holds."""

    def offer(self, release: Callable[[], None]) -> None: ...

    def withdraw(self) -> None: ...

    def release(self) -> None: ...


class Lease:
    """One slot, held by one exchange.

    :param slots: ``None`` for a lease without a slot.
    """

    def __init__(self, slots: Slots | None, lane: Lane) -> None:
        self._slots: Slots | None = slots
        self._lane = lane

    def offer(self, release: Callable[[], None]) -> None:
        """Let another exchange have the slot if it needs one.

        :param release: called once, to end this exchange: now if another exchange
            waits, otherwise when the next one does, unless :meth:`withdraw` is called first.
        """
        if self._slots is not None:
            self._slots._offer(self, release)

    def withdraw(self) -> None:
        """Take an offer back. May be called again, and without an offer."""
        if self._slots is not None:
            self._slots._offers.pop(self, None)

    def release(self) -> None:
        """Make the slot free for the next exchange. May be called again, to no effect."""
        self.withdraw()
        slots, self._slots = self._slots, None
        if slots is not None:
            slots._release(self._lane)


#: At least so many uploads at once, as long as one slot is left for downloads.
FEW_UPLOADS = 4


def uploads_beside_readers(size: int) -> int:
    """How many of ``size`` slots uploads may take where downloads need slots, too.

    A quarter: with a one-node Swift and 500 uploads in the queue, the first byte of a
    small file then takes 4 to 6 times as long as without them. With three quarters it
    takes 10 times as long.
    """
    return max(1, min(size - 1, max(FEW_UPLOADS, size // 4)))


#: In which order two slots of different clients are taken; see :func:`acquire_both`.
_NUMBERS = count()


class Slots:
    """The slots of one client.

    :param size: most exchanges at once (``threadpool_size``).
    :param for_uploads: how many of them uploads may take.
    :ivar waiting: how many calls of :meth:`acquire` are pending.
    """

    def __init__(self, size: int, for_uploads: int, reactor: Any, observer: Observer) -> None:
        self.size = size
        self.for_uploads = for_uploads
        self.waiting = 0
        self._number = next(_NUMBERS)
        self._reactor = reactor
        self._all = DeferredSemaphore(size)
        self._writes = DeferredSemaphore(for_uploads)
        self._observer = observer
        #: How many calls of :meth:`acquire` may take any slot that becomes free.
        self._wanted = 0
        self._offers: dict[Lease, Callable[[], None]] = {}

    @property
    def in_flight(self) -> int:
        """How many slots are taken."""
        return self.size - self._all.tokens

    async def acquire(self, lane: Lane) -> Lease:
        """Wait for a slot. Cancelling the wait leaves nothing behind."""
        has_to_wait = not self._all.tokens or (lane is Lane.WRITE and not self._writes.tokens)
        if has_to_wait:
            self._wait(1)
        try:
            if lane is Lane.WRITE:
                await self._writes.acquire()
            try:
                await self._acquire_any()
            except BaseException:
                if lane is Lane.WRITE:
                    self._writes.release()
                raise
        finally:
            if has_to_wait:
                self._wait(-1)
        if not has_to_wait:
            self._observer.slots_changed(self.in_flight, self.waiting)
        return Lease(self, lane)

    async def _acquire_any(self) -> None:
        self._wanted += 1
        try:
            if not self._all.tokens:
                self._take_offer()
            await self._all.acquire()
        finally:
            self._wanted -= 1

    def _wait(self, change: int) -> None:
        self.waiting += change
        self._observer.slots_changed(self.in_flight, self.waiting)

    def _offer(self, lease: Lease, release: Callable[[], None]) -> None:
        self._offers[lease] = release
        if self._wanted:
            self._take_offer()

    def _take_offer(self) -> None:
        """End the exchange whose offer is the oldest, if there is one."""
        lease = next(iter(self._offers), None)
        if lease is not None:
            self._offers.pop(lease)()

    def _release(self, lane: Lane) -> None:
        if self.waiting:
            # Wake the waiter on the next reactor turn, so that its code never runs
            # inside `release()`.
            call_next_turn(self._reactor, self._hand_over, lane)
        else:
            self._hand_over(lane)

    def _hand_over(self, lane: Lane) -> None:
        self._all.release()
        if lane is Lane.WRITE:
            self._writes.release()
        self._observer.slots_changed(self.in_flight, self.waiting)


async def acquire_both(reading: Slots, writing: Slots) -> tuple[Lease, Lease]:
    """Wait for a slot for a download from one place and one for an upload to another.

    Two that each hold what the other waits for would wait for ever. So all take what they
    need in the same order: first the right to upload, then the slots, those of the older
    client first. Nobody who holds one of these waits for an earlier one.

    :returns: for the download, and for the upload. Of one and the same client both
        exchanges share one slot.
    """
    if reading is writing:
        return Lease(None, Lane.READ), await writing.acquire(Lane.WRITE)
    with ExitStack() as undo:
        for slots in (reading, writing):
            slots._wait(1)
            undo.callback(slots._wait, -1)
        await writing._writes.acquire()
        with ExitStack() as failed:
            failed.callback(writing._writes.release)
            for slots in sorted((reading, writing), key=lambda slots: slots._number):
                await slots._acquire_any()
                failed.callback(slots._all.release)
            failed.pop_all()
    return Lease(reading, Lane.READ), Lease(writing, Lane.WRITE)
