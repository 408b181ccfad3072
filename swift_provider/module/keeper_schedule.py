"""When the disk is looked through, and which tasks a run does. Only computes; time is given.

It is the time of a clock that nobody sets. Its caller converts the times that are remembered
across restarts.

A task is due

- ``KEEP``: if the disk was not measured yet, or is over a limit, or some time after the last
  run; ``ORPHANS``, ``REPAIR``, ``PRUNE``: once a day;
- ``REPAIR`` also after uploads failed, once it takes their files: it leaves alone what was
  written in the last :data:`.keeper_site.QUIET_SECONDS`. It is wanted until one was done
  that began so late. What it leaves alone just after this process has begun counts as failed:
  another process may have stored it;
- after it was not done, or did not bring the disk within its limits: after a pause that grows;
  ``ORPHANS`` and ``PRUNE`` after an hour, if a person has to act first.

Between two measurements the size of the media is estimated, as at least what it may be: the
last measurement and what the file system has grown by since, or what this process has
stored since, if that is more.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass

from swift_provider.config import LocalDiskSettings
from swift_provider.keeper import JUST_WRITTEN, Report, Space, Task, Trouble, over_limits
from swift_provider.module import keeper_site

#: Between the end of a run and the begin of the next one.
REST_SECONDS = 5.0
#: ``KEEP`` is due so long after it was done, or so many times as long as that run took, if
#: that is later. But a first run, which uploads everything, may take days.
AUDIT_SECONDS = 3600.0
AUDIT_FACTOR = 50.0
MOST_AUDIT_SECONDS = 86400.0
DAY_SECONDS = 86400.0
#: After failures in a row; the last one repeats.
RETRY_SECONDS = (60.0, 120.0, 240.0, 480.0, 600.0)
BUSY_SECONDS = 60.0
#: After a person has to act. ``ORPHANS`` and ``PRUNE`` list all objects each time.
REFUSED_SECONDS = 3600.0
#: After the last ``REPAIR``, which looks at all media.
REPAIR_SECONDS = 600.0
#: Uploads may fail all day long: ``REPAIR`` waits so long for the last one that fails.
MOST_REPAIR_SECONDS = 3600.0

_OF_THE_DAY = (Task.REPAIR, Task.ORPHANS, Task.PRUNE)
_CAN_WAIT = (Task.ORPHANS, Task.PRUNE)


@dataclass(frozen=True)
class _Measured:
    """:ivar size: of media and thumbnails, at the end of the run.
    :ivar used: of the file system when the run began, without what the run has freed. What
        other processes wrote during the run is not in ``size``, so it has to count as growth.
    :ivar stored: what this process had stored when the run began.
    """

    size: int
    used: int | None
    stored: int


@dataclass(frozen=True)
class _Retry:
    """:ivar failures: in a row."""

    failures: int
    since: float
    seconds: float


@dataclass(frozen=True)
class _Failed:
    """Uploads that no ``REPAIR`` has looked for yet.

    :ivar first: when the first one failed, or the last ``REPAIR`` began, if that is later.
    :ivar last: when the last one failed.
    """

    first: float
    last: float


class Schedule:
    """What is due in one process.

    :param limits: of ``local_disk``.
    :param repairs: whether this entry stores anything that could be missing.
    :param does_chores: whether Synapse names this process for its media chores;
        ``None`` if it names none, so that the holder of the lock does them.
    """

    def __init__(
        self, limits: LocalDiskSettings, *, repairs: bool, does_chores: bool | None
    ) -> None:
        self._limits = limits
        self._repairs = repairs
        self._does_chores = does_chores
        self._done: dict[Task, float] = {}
        self._retries: dict[Task, _Retry] = {}
        self._audit: tuple[float, float] | None = None
        self._measured: _Measured | None = None
        self._stored = 0
        self._stored_at_begin = 0
        self._used_at_begin: int | None = None
        self._failed: _Failed | None = None
        self._began = 0.0
        self._first_began: float | None = None
        self._ended: float | None = None
        self._running: frozenset[Task] = frozenset()

    @property
    def prunes(self) -> bool:
        """Whether this process prunes even if it does not hold the lock."""
        return self._limits.prune and self._does_chores is True

    @property
    def repair_wanted(self) -> bool:
        """Whether uploads failed that no run has looked for to its end."""
        return self._failed is not None or Task.REPAIR in self._running

    def remember(self, done: Mapping[str, float]) -> None:
        """Take over what another process did, or this one before a restart.

        :param done: when each task was done, by its name.
        """
        for task in _OF_THE_DAY:
            when = done.get(task.value)
            if when is not None:
                self._done[task] = max(when, self._done.get(task, when))

    def unpruned(self, now: float) -> float | None:
        """For how many seconds nothing was pruned; ``None`` if it never was."""
        pruned = self._done.get(Task.PRUNE)
        return None if pruned is None else now - pruned

    def stored(self, size: int) -> None:
        """This process wrote a file."""
        self._stored += size

    def upload_failed(self, when: float) -> None:
        """A file is not in Swift although it should be."""
        failed = self._failed or _Failed(when, when)
        self._failed = _Failed(min(failed.first, when), max(failed.last, when))

    def is_full(self) -> bool:
        """Whether what this process has stored is enough to exceed ``max_size``."""
        limit, measured = self._limits.max_size, self._measured
        if limit is None or measured is None:
            return False
        return measured.size + self._stored - measured.stored > limit

    def due(self, now: float, holder: bool, space: Space | None) -> frozenset[Task]:
        """What to do at once; nothing if it is empty.

        :param holder: whether this process holds the lock of the media store.
        :param space: of its file system; ``None`` if it is not known.
        """
        if self._ended is not None and not _passed(now, self._ended, REST_SECONDS):
            return frozenset()
        return frozenset(
            task for task in Task if self._may(task, holder) and self._is_due(task, now, space)
        )

    def begin(self, now: float, tasks: frozenset[Task], space: Space | None) -> None:
        """A run begins.

        :param space: of the file system, now.
        """
        self._running = tasks
        self._began = now
        if self._first_began is None:
            self._first_began = now
        self._stored_at_begin = self._stored
        self._used_at_begin = None if space is None else space.used

    def end(self, now: float, report: Report, died: bool, space: Space | None) -> None:
        """The run has ended.

        :param report: the last one that arrived.
        :param died: it is not the last one of a run that ended in order.
        :param space: of the file system, now.
        """
        self._ended = now
        if report.on_disk is not None:
            used = self._used_at_begin
            if used is not None:
                used -= report.freed
            self._measured = _Measured(report.on_disk, used, self._stored_at_begin)
        for task in self._running:
            done = task in report.done
            if task is Task.KEEP:
                done = done and not died and self._came_within(report, space)
                seconds = min(MOST_AUDIT_SECONDS, AUDIT_FACTOR * report.seconds)
                self._audit = (now, max(AUDIT_SECONDS, seconds))
            if task is Task.REPAIR:
                self._looked_for_failed(done)
                if JUST_WRITTEN in report.skipped and self._has_just_begun:
                    self.upload_failed(self._began)
            if done:
                self._done[task] = now
                self._retries.pop(task, None)
            else:
                self._retries[task] = self._retry(task, now, report.troubles)
        self._running = frozenset()

    @property
    def _has_just_begun(self) -> bool:
        first = self._first_began
        return first is not None and not _passed(self._began, first, keeper_site.QUIET_SECONDS)

    def _looked_for_failed(self, done: bool) -> None:
        """A ``REPAIR`` has ended: are there uploads that it may have left out?"""
        taken = self._began - keeper_site.QUIET_SECONDS
        if not done:
            # It is done again, also by the next process.
            self._failed = self._failed or _Failed(taken, taken)
        elif self._failed is not None:
            first, last = max(self._failed.first, self._began), self._failed.last
            self._failed = None if last <= taken else _Failed(min(first, last), last)

    def over(self, space: Space | None) -> int:
        """By how many bytes the disk is over its limits, as far as is known."""
        return over_limits(self._limits, self._size(space), space)

    def _may(self, task: Task, holder: bool) -> bool:
        if task is Task.PRUNE:
            chores = holder if self._does_chores is None else self._does_chores
            return self._limits.prune and chores
        if task is Task.REPAIR:
            return holder and self._repairs
        return holder and self._limits.limits_disk

    def _is_due(self, task: Task, now: float, space: Space | None) -> bool:
        retry = self._retries.get(task)
        if retry is not None:
            return _passed(now, retry.since, retry.seconds)
        if task is Task.KEEP:
            due = self._measured is None or self._audit is None or self.over(space) > 0
            return due or (self._audit is not None and _passed(now, *self._audit))
        done = self._done.get(task)
        if done is None or _passed(now, done, DAY_SECONDS):
            return True
        return task is Task.REPAIR and self._is_repair_due(now, done)

    def _is_repair_due(self, now: float, done: float) -> bool:
        failed = self._failed
        if failed is None or not _passed(now, done, REPAIR_SECONDS):
            return False
        return _passed(now, failed.last, keeper_site.QUIET_SECONDS) or _passed(
            now, failed.first, MOST_REPAIR_SECONDS
        )

    def _retry(self, task: Task, now: float, troubles: Container[Trouble]) -> _Retry:
        before = self._retries.get(task)
        failures = 0 if before is None else before.failures
        if Trouble.BUSY in troubles:
            return _Retry(failures, now, BUSY_SECONDS)
        if Trouble.REFUSED in troubles and task in _CAN_WAIT:
            return _Retry(failures + 1, now, REFUSED_SECONDS)
        seconds = RETRY_SECONDS[min(failures, len(RETRY_SECONDS) - 1)]
        return _Retry(failures + 1, now, seconds)

    def _came_within(self, report: Report, space: Space | None) -> bool:
        if report.on_disk is None or report.over > 0:
            return False
        return over_limits(self._limits, report.on_disk, space) == 0

    def _size(self, space: Space | None) -> int:
        """What media take now, as far as is known."""
        measured = self._measured
        if measured is None:
            return 0
        growth = self._stored - measured.stored
        if space is not None and measured.used is not None:
            growth = max(growth, space.used - measured.used)
        return measured.size + growth


def _passed(now: float, since: float, seconds: float) -> bool:
    return now >= since + seconds
