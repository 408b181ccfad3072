"""Keeps Synapse's disk within its budget: elects a process, starts runs, tells what they did.

Every :data:`LOOK_SECONDS` a look at the disk tries for the lock of the media store. The
process that holds it asks the :class:`Schedule` what is due, and has a child process do it,
one at a time. A look runs in a thread, so a disk that hangs does not block Synapse. While a
look or a run has not ended, no other begins.

Each look, with the run that it begins, is a background process of Synapse.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, TypeVar

from synapse.module_api import make_deferred_yieldable
from twisted.internet.defer import Deferred

from swift_provider.keeper import Report, Space, State, Task
from swift_provider.module import keeper_process, keeper_schedule
from swift_provider.module.daemon_thread import in_daemon_thread
from swift_provider.module.disk_look import DiskLook, Look
from swift_provider.module.keeper_log import KeeperLog
from swift_provider.module.keeper_metrics import KeeperMetrics
from swift_provider.module.keeper_process import Ended, KeeperProcess
from swift_provider.module.keeper_record import KeeperRecord
from swift_provider.module.keeper_schedule import Schedule
from swift_provider.module.keeper_site import Site
from swift_provider.module.monotonic_call import MonotonicCall

logger = logging.getLogger(__name__)

#: The first look after the start, and between two looks.
START_SECONDS = 3.0
LOOK_SECONDS = 60.0
#: A disk hangs if it has not answered for this long.
HANG_SECONDS = 30.0
#: A child process reports every few seconds. After this long without a report it is ended.
SILENT_SECONDS = 600.0
#: So long after the holder's start, and after the last time, somebody should have pruned.
PRUNE_START_SECONDS = 3600.0
UNPRUNED_SECONDS = 2 * 86400.0
#: Synapse stops: how long it waits until the state file is written.
SAVE_SECONDS = 0.3

Result = TypeVar("Result")
#: Begins a background process of Synapse: its name, and what it does.
Begin = Callable[[str, Callable[[], Coroutine[Any, Any, None]]], object]


class DiskKeeper:
    """Keeps the disk of one media store, for one entry of ``media_storage_providers``.

    :param begin: begins a background process of Synapse. It may raise: then no more looks begin.
    :param command: what runs the child process; ``None`` for :data:`keeper_process.COMMAND`.
    """

    def __init__(
        self, reactor: Any, begin: Begin, site: Site, command: Sequence[str] | None = None
    ) -> None:
        self._reactor = reactor
        self._begin = begin
        self._site = site
        self._command = command
        self._disk = DiskLook(site.media_store, site.instance)
        self._schedule = Schedule(
            site.limits, repairs=bool(site.repair_kinds), does_chores=site.does_chores
        )
        container = site.settings.container
        self._log = KeeperLog(f"local_disk, container {container}", site.limits)
        self._metrics = KeeperMetrics(site.server_name, container, site.limits.max_size)
        self._record = KeeperRecord(site)
        # All that waits goes by time.monotonic(); the wall clock may be set.
        self._timer: MonotonicCall | None = None
        self._next_look = 0.0
        self._started, self._began = time.monotonic(), time.time()
        self._process: KeeperProcess | None = None
        #: When the disk was asked for something that it has not answered yet.
        self._asked: float | None = None
        self._hangs = False
        self._busy = False
        #: A thread leaves word of uploads that failed.
        self._asks = False
        #: A thread writes the state file during a run. The lock is for all that write it.
        self._is_saving = self._save_again = False
        self._state_lock = threading.Lock()
        self._holder: bool | None = None
        #: When this process got the lock; 0 before. An admin may have brought files back before.
        self._kept_since = 0.0
        self._left: Deferred[None] | None = None

    @property
    def _stopped(self) -> bool:
        return self._left is not None

    def start(self) -> None:
        """Begin to look at the disk. The reactor must run: Synapse may fork before."""
        site = self._site
        if site.limits.prune and site.does_chores is False and site.chores_instance:
            self._log.prunes_elsewhere(site.chores_instance)
        self._set_timer(START_SECONDS)

    def stored(self, size: int) -> None:
        """Synapse has written a file of so many bytes to the media store."""
        self._schedule.stored(size)
        self._look_soon()

    def upload_failed(self) -> None:
        """An upload failed for good, or was dropped."""
        self._disk.wants_repair = True
        self._schedule.upload_failed(time.monotonic())
        self._ask_for_repair()

    def _ask_for_repair(self) -> None:
        """Leave word at once, also during a look or a run: this process may be killed then.

        What fails, or comes while the disk has not answered, is left by the next look.
        """
        if self._asks:
            return
        self._asks = True

        def end(_: object) -> None:
            self._asks = False

        in_daemon_thread(self._reactor, self._disk.ask_for_repair).addBoth(end)

    def stop(self, uploads_left: bool) -> Deferred[None]:
        """Synapse stops: end the child process. No more looks begin.

        :param uploads_left: whether uploads have not ended. The next process then looks for
            what Swift lacks.
        :returns: fires when the child process is gone, within two seconds.
        """
        if self._left is not None:
            again: Deferred[None] = Deferred()
            self._left.addCallback(lambda _: again.callback(None))
            return again
        gone: Deferred[None] = Deferred()
        self._left = gone
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._process is not None:
            self._process.stop().chainDeferred(gone)
        else:
            gone.callback(None)
        gone.addCallback(lambda _: self._leave(uploads_left))
        return gone

    def _leave(self, uploads_left: bool) -> Deferred[None] | None:
        """Tell the next process how this one ended, and release the lock."""
        if uploads_left or self._asks or (self._holder and self._schedule.repair_wanted):
            self._disk.wants_repair = True
        # A look that is under way uses the lock, and releases it at its end.
        asked = self._asked is not None
        if not (self._disk.wants_repair or (self._holder and not asked)):
            return None
        left: Deferred[None] = Deferred()
        waiting = MonotonicCall(self._reactor, SAVE_SECONDS, lambda: left.callback(None))

        def end(_: object) -> None:
            if not left.called:
                waiting.cancel()
                left.callback(None)

        leave = self._disk.ask_for_repair if asked else self._save_and_close
        in_daemon_thread(self._reactor, leave).addBoth(end)
        return left

    def _save_and_close(self) -> None:
        try:
            self._disk.ask_for_repair()
            if self._holder:
                # What could not be left as a mark is left like this.
                self._save(ended_well=not self._disk.wants_repair)
        finally:
            self._disk.close()

    # When to look

    def _set_timer(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._next_look = time.monotonic() + seconds
        self._timer = MonotonicCall(self._reactor, seconds, self._tick)

    def _look_soon(self) -> None:
        """Look before it is time if this process alone has filled the disk."""
        if self._timer is None or self._busy or not self._holder or not self._schedule.is_full():
            return
        rest = keeper_schedule.REST_SECONDS
        if self._next_look - time.monotonic() > rest:
            self._set_timer(rest)

    def _tick(self) -> None:
        self._set_timer(LOOK_SECONDS)
        if self._busy:
            self._warn_if_it_hangs()
            self._watch_process()
            return
        try:
            self._begin("swift_local_disk", self._look)
        except Exception as error:
            # Once a homeserver was shut down, it begins no background process any more.
            logger.warning("local_disk: no more looks at the disk can begin: %s", error)
            self.stop(uploads_left=True)

    def _warn_if_it_hangs(self) -> None:
        if self._asked is None:
            return
        seconds = time.monotonic() - self._asked
        if seconds >= HANG_SECONDS:
            self._cannot_use("hangs")
            if not self._hangs:
                self._hangs = True
                self._log.disk_hangs(self._site.media_store, seconds)

    def _watch_process(self) -> None:
        process = self._process
        if process is None:
            return
        if time.monotonic() - process.heard > SILENT_SECONDS:
            self._metrics.failed("silent")
            # One that the kernel cannot end, because the disk hangs, was told to end before.
            if not process.is_ending:
                self._log.silent(SILENT_SECONDS, time.time())
                self._save_meanwhile()
                process.stop()
        elif process.idle > SILENT_SECONDS:
            # It is not ended: what it waits for may answer after all.
            self._metrics.failed("stuck")
            self._log.stuck(process.idle, time.time())
            self._save_meanwhile()
        elif self._log.goes_on():
            self._save_meanwhile()

    def _cannot_use(self, why: str) -> None:
        """Count a look that the disk does not answer, or answers by an error.

        Until the disk has answered once, no process may hold the lock. The alert then goes by the
        time at which this process began.
        """
        self._metrics.failed(why)
        if self._holder is None:
            self._metrics.keeps(self._began)

    async def _on_the_disk(self, function: Callable[..., Result], *arguments: object) -> Result:
        """Call what blocks if the disk does.

        :raises OSError: if the disk fails.
        """
        self._asked = time.monotonic()
        try:
            return await make_deferred_yieldable(
                in_daemon_thread(self._reactor, function, *arguments)
            )
        finally:
            self._asked = None
            if self._hangs:
                self._hangs = False
                self._log.disk_answers(self._site.media_store)

    # A look, and its run

    async def _look(self) -> None:
        self._busy = True
        try:
            try:
                look = await self._on_the_disk(self._disk.look)
            except OSError as error:
                self._cannot_use("disk")
                self._log.disk_failed(self._site.media_store, error, time.time())
                if self._holder and not self._disk.holds:
                    self._lose(None)
                return
            if self._stopped:
                in_daemon_thread(self._reactor, self._disk.close)
                return
            self._log.disk_works()
            self._learn(look)
            now = time.monotonic()
            self._warn_if_nobody_prunes(now)
            tasks = self._schedule.due(now, look.holder, look.space)
            if tasks:
                self._record.begin(tasks, time.time())
            if (tasks and look.holder) or look.elected:
                # Status commands see the run. And the last process may have ended in order:
                # this one has not, so far.
                await self._write_state()
            if tasks and not self._stopped:
                await self._run(tasks, look.space)
        finally:
            self._busy = False
        if tasks and not self._stopped:
            self._set_timer(LOOK_SECONDS)
            self._look_soon()

    def _learn(self, look: Look) -> None:
        if look.repair is not None:
            self._schedule.upload_failed(_monotonic(look.repair))
        if look.pruned is not None:
            self._remember({Task.PRUNE.value: look.pruned})
        if not look.holder:
            self._metrics.lost()
        if look.elected:
            self._take_over(look.state)
        elif not look.holder and self._holder is None:
            self._log.not_elected(self._site.media_store, look.other)
        elif not look.holder and self._holder:
            self._lose(look.other or "another process")
        self._holder = look.holder

    def _lose(self, other: str | None) -> None:
        """This process no longer holds the lock.

        :param other: who does; ``None`` if the disk does not tell.
        """
        self._holder = False
        self._log.lost(self._site.media_store, other)

    def _take_over(self, state: State | None) -> None:
        if state is not None:
            self._remember(state.done)
            if not state.ended_well and not self._record.is_own(state):
                # That process was killed, and its uploads with it.
                self.upload_failed()
        self._kept_since = time.time()
        self._record.take_over(state, self._kept_since)
        # The clock may have been set back.
        succeeded = min(self._record.last_success or self._kept_since, self._kept_since)
        self._metrics.keeps(succeeded)
        self._log.elected(self._site.media_store)

    def _remember(self, done: Mapping[str, float]) -> None:
        """:param done: times of the wall clock."""
        self._schedule.remember({task: _monotonic(when) for task, when in done.items()})

    def _warn_if_nobody_prunes(self, now: float) -> None:
        site = self._site
        if not (site.limits.prune and site.does_chores is False and self._holder):
            return
        if now - self._started < PRUNE_START_SECONDS:
            return
        seconds = self._schedule.unpruned(now)
        if seconds is None:
            # That process leaves its mark on its own disk, which need not be this one.
            return
        if seconds > UNPRUNED_SECONDS:
            self._log.unpruned(site.chores_instance or "of that name", seconds, time.time())
        else:
            self._log.pruned()

    async def _run(self, tasks: frozenset[Task], before: Space | None) -> None:
        self._schedule.begin(time.monotonic(), tasks, before)
        self._metrics.begun()
        try:
            ended = await self._child(tasks)
        finally:
            if self._process is not None:
                # Synapse may cancel this coroutine: the child must not outlive it.
                self._process.stop()
                self._process = None
        if self._stopped:
            return
        space = None
        if self._holder:
            with contextlib.suppress(OSError):  # The next look says so.
                space = await self._on_the_disk(self._disk.space)
        self._note(tasks, ended, space)
        done = tasks.intersection(ended.report.done)
        if self._schedule.repair_wanted:
            done -= {Task.REPAIR}  # Its mark stays for the next process, too.
        with contextlib.suppress(OSError):  # There is no thread: it is done again.
            await self._on_the_disk(self._mark, done)
        if self._holder:
            await self._write_state()

    def _mark(self, done: frozenset[Task]) -> None:
        """Blocking."""
        if Task.REPAIR in done:
            self._disk.repaired()
        if Task.PRUNE in done:
            self._disk.note_pruned()

    async def _write_state(self) -> None:
        try:
            await self._on_the_disk(self._save)
        except OSError as error:
            # The disk may be full.
            logger.debug("local_disk: cannot write the state file: %s", error)

    async def _child(self, tasks: frozenset[Task]) -> Ended:
        order = self._site.order(tasks, self._kept_since or time.time())
        command = self._command or keeper_process.COMMAND
        self._process = KeeperProcess(
            self._reactor, command, self._metrics.reported, self._log.repeats
        )
        try:
            ended = self._process.start(order.to_line())
        except (OSError, TypeError, ValueError) as error:
            return Ended(Report(), f"it cannot be started: {error}")
        return await make_deferred_yieldable(ended)

    def _note(self, tasks: frozenset[Task], ended: Ended, space: Space | None) -> None:
        """Draw the conclusions of a run."""
        now, report = time.time(), ended.report
        self._schedule.end(time.monotonic(), report, ended.died is not None, space)
        if ended.died is None:
            over = max(report.over, self._schedule.over(space))
            self._log.ended(report, tasks, over, now)
        else:
            self._log.died(ended.died, now)
            self._metrics.failed("died")
        if report.over:
            self._metrics.failed("over")
        success = ended.died is None and not report.troubles and not report.over
        # Other tasks say nothing about the limits.
        success = success and (Task.KEEP in report.done or not self._site.limits.limits_disk)
        if success:
            self._metrics.succeeded(now)
        self._record.end(tasks, ended, success, now)

    def _save_meanwhile(self) -> None:
        """Status commands see a run that may take days as it was at its beginning."""
        self._save_again = self._is_saving
        if self._is_saving or not self._holder:
            return
        self._is_saving = True

        def save() -> None:
            with self._state_lock:
                if not self._stopped:
                    self._record.save(time.time(), self._log.problems)

        def end(_: object) -> None:
            self._is_saving = False
            if self._save_again:
                self._save_meanwhile()

        in_daemon_thread(self._reactor, save).addBoth(end)

    def _save(self, ended_well: bool = False) -> None:
        """Blocking; raises OSError."""
        with self._state_lock:
            self._record.save(time.time(), self._log.problems, ended_well)


def _monotonic(when: float) -> float:
    """A time of the wall clock that is not in the future, as one of :func:`time.monotonic`."""
    return time.monotonic() - max(0, time.time() - when)
