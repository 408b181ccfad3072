"""Keeps the state file of a media store up to date, for status commands and later processes."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from swift_provider.keeper import State, Task, save_state
from swift_provider.module.keeper_process import Ended
from swift_provider.module.keeper_site import Site


class KeeperRecord:
    """What was done to a media store, as this process knows it. Times are wall-clock time."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._state = State()

    @property
    def last_success(self) -> float | None:
        """When a run of any process last succeeded, as far as this one knows."""
        return self._state.last_success

    def is_own(self, state: State) -> bool:
        """Whether this process wrote a file: nobody held the lock in between."""
        return bool(self._state.written) and state.written == self._state.written

    def take_over(self, before: State | None, now: float) -> None:
        """This process holds the lock now.

        :param before: what the process before it has left. If the file was lost, what this
            process knows stays.
        """
        before = before or self._state
        self._state = State(
            holder=self._site.instance,
            pid=os.getpid(),
            container=self._site.settings.container,
            limits=asdict(self._site.limits),
            # The clock may have been set back.
            since=min(now, before.since or now),
            run=before.run,
            last_success=before.last_success,
            done=dict(before.done),
        )

    def begin(self, tasks: Iterable[Task], now: float) -> None:
        """A run begins."""
        self._state.running = {"began": now, "tasks": _names(tasks)}

    def end(self, tasks: frozenset[Task], ended: Ended, success: bool, now: float) -> None:
        """The run has ended.

        :param tasks: what it was to do.
        :param success: it came within the limits, and had no trouble.
        """
        state = self._state
        running, state.running = state.running or {}, None
        state.run = {
            **running,
            "ended": now,
            "died": ended.died,
            "report": asdict(ended.report),
        }
        # The file has a mark of its own for pruning: another process may do it.
        mine = tasks.intersection(ended.report.done) - {Task.PRUNE}
        state.done |= {task.value: now for task in mine}
        if success:
            state.last_success = now

    def save(self, now: float, problems: list[dict[str, Any]], ended_well: bool = False) -> None:
        """Write the file, as the process that holds the lock. Blocking.

        :param problems: what is wrong now.
        :param ended_well: this process ends in order, and has left no uploads.
        :raises OSError: if the file cannot be written.
        """
        state = self._state
        state.written, state.troubles, state.ended_well = now, problems, ended_well
        if ended_well:
            state.running = None
        save_state(self._site.media_store, state)


def _names(tasks: Iterable[Task]) -> list[str]:
    return sorted(task.value for task in tasks)
