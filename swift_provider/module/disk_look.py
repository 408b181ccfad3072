"""What blocks if the media store's disk does: its lock, its free space, its files of ours."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

from swift_provider.keeper import (
    KeeperLock,
    Mark,
    Space,
    State,
    clear_mark,
    holder_of,
    load_state,
    mark_time,
    remove_leftovers,
    seconds_of,
    set_mark,
)


@dataclass(frozen=True)
class Look:
    """What a look at the disk found.

    :ivar holder: whether this process holds the lock.
    :ivar other: who else does, such as ``"media_worker1, process 1234"``.
    :ivar elected: this is the first look since the lock was taken.
    :ivar state: of the state file, if ``elected``.
    :ivar space: of the file system, if the lock is held.
    :ivar pruned: when any process last pruned, in seconds since the epoch.
    :ivar repair: when a process last lost uploads that no run has looked for yet; likewise.
    """

    holder: bool
    other: str | None = None
    elected: bool = False
    state: State | None = None
    space: Space | None = None
    pruned: float | None = None
    repair: float | None = None


class DiskLook:
    """The disk of a media store. Each method may block. Call one at a time.

    :meth:`ask_for_repair` may be called at any time.

    :param name: this process's, for the messages of others.
    :ivar wants_repair: this process has lost uploads: the next look tells the one with the lock.
    """

    def __init__(self, media_store: str, name: str) -> None:
        self._media_store = media_store
        self._name = name
        self._lock: KeeperLock | None = None
        self._elected = False
        self._repair: int | None = None
        self.wants_repair = False

    def look(self) -> Look:
        """Try to get the lock if it is not held; look at the space if it is.

        :raises OSError: if the disk cannot be used. :attr:`holds` may have changed.
        """
        try:
            self._take_lock()
        except BlockingIOError:
            self.ask_for_repair()
            other = holder_of(self._media_store)
            return Look(False, other, pruned=self._when(Mark.PRUNED))
        self.ask_for_repair()
        space = self.space()
        elected, self._elected = not self._elected, True
        if elected:
            remove_leftovers(self._media_store)
        # In this order: a mark that is set in between stays.
        self._repair = mark_time(self._media_store, Mark.REPAIR)
        repair = self._when(Mark.REPAIR)
        return Look(
            True,
            elected=elected,
            state=load_state(self._media_store) if elected else None,
            space=space,
            pruned=self._when(Mark.PRUNED),
            repair=repair,
        )

    @property
    def holds(self) -> bool:
        """Whether this process holds the lock."""
        return self._lock is not None

    def _take_lock(self) -> None:
        """Without a lock afterwards if it raises: the next look tries again.

        :raises BlockingIOError: if another process holds it.
        """
        lock, self._lock = self._lock, None
        if lock is None:
            self._elected = False
            lock = KeeperLock(self._media_store, self._name)
        elif lock.renew():
            self._elected = False
        self._lock = lock

    def _when(self, mark: Mark) -> float | None:
        set_at = mark_time(self._media_store, mark)
        if set_at is None:
            return None
        seconds = seconds_of(set_at)
        if seconds < set_at / 1e9:
            # The clock was ahead. It would seem to have been just now, again and again.
            with contextlib.suppress(OSError):
                set_mark(self._media_store, mark)
        return seconds

    def space(self) -> Space:
        """The file system's space.

        :raises OSError: if the disk cannot be read.
        """
        return Space.of(self._media_store)

    def ask_for_repair(self) -> None:
        """Leave word that Swift may lack files of this disk, if it is to be left."""
        if not self.wants_repair:
            return
        self.wants_repair = False  # Before: the reactor may set it meanwhile.
        try:
            set_mark(self._media_store, Mark.REPAIR)
        except OSError:  # The disk may be full. The next look tries again.
            self.wants_repair = True

    def repaired(self) -> None:
        """A run has looked for all that Swift lacked at the last look."""
        clear_mark(self._media_store, Mark.REPAIR, self._repair)

    def note_pruned(self) -> None:
        """This process has pruned."""
        with contextlib.suppress(OSError):
            set_mark(self._media_store, Mark.PRUNED)

    def close(self) -> None:
        """Release the lock. A second call does nothing."""
        lock, self._lock, self._elected = self._lock, None, False
        if lock is not None:
            lock.close()
