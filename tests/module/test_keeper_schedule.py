"""When a run over Synapse's disk is due, and with which tasks. The clock is the test's."""

from __future__ import annotations

from typing import Any

import pytest

from swift_provider.config import LocalDiskSettings
from swift_provider.keeper import JUST_WRITTEN, Report, Space, Task, Trouble
from swift_provider.module.keeper_schedule import Schedule

KEEP, REPAIR, ORPHANS, PRUNE = Task.KEEP, Task.REPAIR, Task.ORPHANS, Task.PRUNE
ALL = frozenset(Task)
HOUR, DAY = 3600.0, 86400.0
ROOMY = Space(total=1000, used=400, free=600)


class Clocked:
    """A schedule with a clock.

    :param options: of ``local_disk``.
    """

    def __init__(
        self, *, repairs: bool = True, does_chores: bool | None = None, **options: Any
    ) -> None:
        self.now = 1_000_000.0
        self.schedule = Schedule(
            LocalDiskSettings(**options), repairs=repairs, does_chores=does_chores
        )

    def due(
        self, space: Space | None = ROOMY, *, after: float = 0, holder: bool = True
    ) -> frozenset[Task]:
        self.now += after
        return self.schedule.due(self.now, holder, space)

    def run(
        self,
        tasks: frozenset[Task] = ALL,
        space: Space | None = ROOMY,
        *,
        before: Space | None = None,
        died: bool = False,
        trouble: Trouble | None = None,
        **report: Any,
    ) -> None:
        """A run that does all tasks, unless it is told otherwise.

        :param space: at its end.
        :param before: when it begins; ``None`` for the same.
        """
        if trouble is not None:
            report = {"done": [], **report, "troubles": {trouble: "text"}}
        values = {"final": not died, "on_disk": 100, "done": list(tasks), "seconds": 1.0, **report}
        self.schedule.begin(self.now, tasks, before or space)
        self.now += 1
        self.schedule.end(self.now, Report(**values), died, space)

    def waits(self, task: Task, space: Space | None = ROOMY) -> float:
        """After how many seconds a task is due, to the second."""
        for seconds in range(int(3 * DAY)):
            if task in self.schedule.due(self.now + seconds, True, space):
                return float(seconds)
        raise AssertionError("never")


def test_the_first_run_does_everything() -> None:
    """Nothing was measured, and nothing was done today."""
    assert Clocked(max_size=500, prune=True).due() == ALL
    assert Clocked(older_than=1).due() == ALL - {PRUNE}


def test_only_the_holder_works() -> None:
    """Without the lock there is nothing to do."""
    assert Clocked(max_size=500, prune=True).due(holder=False) == frozenset()


def test_pruning_alone() -> None:
    """Without limits the disk is neither measured nor searched for orphans."""
    clocked = Clocked(prune=True, repairs=False)
    assert clocked.due() == {PRUNE}
    clocked.run(frozenset({PRUNE}), on_disk=None)
    assert clocked.due(after=DAY - 1) == frozenset()
    assert clocked.due(after=1) == {PRUNE}


def test_nothing_is_repaired_that_is_not_stored() -> None:
    """With store_local and store_remote false, nothing is missing in Swift."""
    assert Clocked(max_size=500, repairs=False).due() == {KEEP, ORPHANS}


def test_the_process_for_chores_prunes() -> None:
    """It prunes with or without the lock, and no other process does."""
    here = Clocked(prune=True, max_size=500, does_chores=True)
    assert here.due(holder=False) == {PRUNE}
    assert here.due(holder=True) == ALL
    there = Clocked(prune=True, max_size=500, does_chores=False)
    assert there.due(holder=True) == ALL - {PRUNE}
    assert Clocked(max_size=500, does_chores=True).due(holder=False) == frozenset()


@pytest.mark.parametrize(
    ("seconds", "pause"), [(1.0, HOUR), (72.0, HOUR), (100.0, 5000.0), (36_000.0, DAY)]
)
def test_audit(seconds: float, pause: float) -> None:
    """An hour after the last run, or 50 times as long as it took, but within a day."""
    clocked = Clocked(older_than=1)
    clocked.run(seconds=seconds)
    assert clocked.waits(KEEP) == pause


@pytest.mark.parametrize("least", [300, 0.3])
def test_too_little_free_space(least: float) -> None:
    """Acts at once if less is free than should be."""
    clocked = Clocked(min_free=least)
    clocked.run()
    assert clocked.due(Space(1000, 400, 300), after=60) == frozenset()
    assert clocked.due(Space(1000, 400, 299)) == {KEEP}
    assert clocked.schedule.over(Space(1000, 400, 299)) == 1


def test_growth_of_the_file_system() -> None:
    """What the file system has grown by counts as media."""
    clocked = Clocked(max_size=150)
    clocked.run()
    assert clocked.due(Space(1000, 450, 550), after=60) == frozenset()
    assert clocked.due(Space(1000, 451, 549)) == {KEEP}


def test_growth_of_the_file_system_during_a_run() -> None:
    """What others wrote then was not measured, so it counts; what the run freed does not."""
    clocked = Clocked(max_size=150)
    full, after = Space(1000, 500, 500), Space(1000, 451, 549)
    clocked.run(space=after, before=full, freed=100)
    assert clocked.due(after, after=60) == {KEEP}
    clocked.run(space=after, before=full, freed=99)
    assert clocked.due(after, after=60) == frozenset()
    assert clocked.due(Space(1000, 452, 548)) == {KEEP}


def test_growth_by_what_was_stored() -> None:
    """What this process has stored counts, also if others have deleted as much."""
    clocked = Clocked(max_size=150)
    clocked.schedule.stored(1000)
    clocked.run()
    clocked.schedule.stored(50)
    assert not clocked.schedule.is_full()
    assert clocked.due(after=60) == frozenset()
    clocked.schedule.stored(1)
    assert clocked.schedule.is_full()
    assert clocked.due(Space(1000, 100, 900)) == {KEEP}


def test_the_larger_growth_counts() -> None:
    """The two are not added: they are the same files."""
    clocked = Clocked(max_size=150)
    clocked.run()
    clocked.schedule.stored(40)
    assert clocked.due(Space(1000, 440, 560), after=60) == frozenset()


def test_what_was_stored_during_a_run_counts() -> None:
    """The run may have measured before the file came."""
    clocked = Clocked(max_size=150)
    clocked.schedule.begin(clocked.now, ALL, ROOMY)
    clocked.schedule.stored(60)
    clocked.schedule.end(clocked.now, Report(True, on_disk=100, done=list(ALL)), False, ROOMY)
    assert clocked.schedule.is_full()
    assert clocked.due(after=5) == {KEEP}, "that run came within the limits: it has not failed"


def test_rest_between_two_runs() -> None:
    """At most one run in five seconds."""
    clocked = Clocked(max_size=150)
    clocked.run()
    clocked.schedule.stored(1000)
    assert clocked.due(after=4) == frozenset()
    assert clocked.due(after=1) == {KEEP}


FAILED: list[dict[str, Any]] = [
    {"trouble": Trouble.SWIFT},
    {"died": True},
    {"over": 10, "quiet": 10},
    {"on_disk": 151},
    {"space": Space(1000, 901, 99)},
]


@pytest.mark.parametrize("how", FAILED)
def test_pauses_after_failures(how: dict[str, Any]) -> None:
    """1, 2, 4, 8, then every 10 minutes, although the disk is full all the time."""
    clocked = Clocked(max_size=150, min_free=100)
    full = Space(1000, 901, 99)
    pauses = []
    for _ in range(7):
        clocked.run(frozenset({KEEP}), **how)
        pauses.append(clocked.waits(KEEP, full))
        clocked.now += pauses[-1]
    assert pauses == [60, 120, 240, 480, 600, 600, 600]
    clocked.run(frozenset({KEEP}))
    clocked.run(frozenset({KEEP}), **how)
    assert clocked.waits(KEEP, full) == 60, "it worked in between"


def test_pauses_until_a_person_acts() -> None:
    """What lists all objects waits for an hour each time; the disk does not."""
    clocked = Clocked(max_size=150, prune=True)
    for _ in range(3):
        clocked.run(trouble=Trouble.REFUSED)
        assert clocked.waits(ORPHANS) == clocked.waits(PRUNE) == HOUR
        assert clocked.waits(KEEP) <= 240
        clocked.now += HOUR
    clocked.run()
    assert clocked.waits(ORPHANS) == clocked.waits(PRUNE) == DAY


def test_busy() -> None:
    """Another run uses the disk: after a minute, each time."""
    clocked = Clocked(max_size=150, prune=True)
    for _ in range(5):
        clocked.run(trouble=Trouble.BUSY)
        assert clocked.due(after=59) == frozenset()
        assert clocked.due(after=1) == ALL


def test_a_task_that_failed_does_not_hold_up_the_others() -> None:
    """What was done is not repeated with it, and a full disk does not wait for it."""
    clocked = Clocked(max_size=150, prune=True)
    clocked.run(trouble=Trouble.SWIFT, done=[KEEP, REPAIR, ORPHANS])
    clocked.schedule.stored(100)
    assert clocked.due(after=30) == {KEEP}
    clocked.run(frozenset({KEEP}))
    assert clocked.due(after=29) == {PRUNE}


def test_what_a_run_did_before_it_died_is_done() -> None:
    """But the disk has to be measured again."""
    clocked = Clocked(max_size=150)
    clocked.run(died=True, done=[KEEP, REPAIR], on_disk=None)
    assert clocked.due(after=60) == {KEEP, ORPHANS}


def test_once_a_day() -> None:
    """Repair, orphans and pruning come back after a day."""
    clocked = Clocked(max_size=500, prune=True)
    clocked.run()
    for task in (REPAIR, ORPHANS, PRUNE):
        assert clocked.waits(task) == DAY


def test_a_restart_does_not_repeat_the_tasks_of_a_day() -> None:
    """What was done is remembered; measuring is not."""
    first = Clocked(max_size=500, prune=True)
    first.run()
    second = Clocked(max_size=500, prune=True)
    second.now = first.now + 60
    second.schedule.remember(dict.fromkeys(("repair", "orphans", "prune"), first.now))
    second.schedule.remember({"prune": 1.0, "new": 5.0})
    assert second.due() == {KEEP}
    assert second.waits(PRUNE) == DAY - 60


def test_uploads_that_failed_are_looked_for() -> None:
    """Once a repair takes files that were written when the last one failed."""
    clocked = Clocked(max_size=500)
    clocked.run()
    clocked.now += 2 * HOUR
    clocked.schedule.upload_failed(clocked.now)
    clocked.now += 60
    clocked.schedule.upload_failed(clocked.now)
    clocked.schedule.upload_failed(clocked.now - 30)
    assert clocked.schedule.repair_wanted
    assert clocked.waits(REPAIR) == 600
    clocked.now += 600
    clocked.run(frozenset({REPAIR}))
    assert not clocked.schedule.repair_wanted
    assert clocked.waits(REPAIR) == DAY


def test_a_repair_that_began_too_early() -> None:
    """It left out the files that were written just before, so it is done again."""
    clocked = Clocked(max_size=500)
    clocked.schedule.upload_failed(clocked.now)
    clocked.now += 599
    clocked.run()
    assert clocked.schedule.repair_wanted
    assert clocked.waits(REPAIR) == 600, "after the last one"
    clocked.now += 600
    clocked.run(frozenset({REPAIR}))
    assert not clocked.schedule.repair_wanted


def test_uploads_that_fail_all_day() -> None:
    """The repair does not wait for ever for the last one."""
    clocked = Clocked(max_size=500)
    clocked.run()
    for _ in range(2):
        began = clocked.now
        while REPAIR not in clocked.due(after=60):
            clocked.schedule.upload_failed(clocked.now)
        assert HOUR - 60 <= clocked.now - began <= HOUR + 60
        clocked.run(frozenset({REPAIR}))
        assert clocked.schedule.repair_wanted


def test_an_upload_that_fails_during_the_repair() -> None:
    """That run may have missed it."""
    clocked = Clocked(max_size=500)
    clocked.schedule.begin(clocked.now, ALL, ROOMY)
    clocked.schedule.upload_failed(clocked.now)
    clocked.schedule.end(clocked.now, Report(True, on_disk=1, done=list(ALL)), False, ROOMY)
    assert clocked.waits(REPAIR) == 600


def test_what_is_too_new_for_the_first_repair() -> None:
    """Perhaps its upload failed before this process began. Later ones are this process's own."""
    clocked = Clocked(max_size=500)
    clocked.run(skipped={JUST_WRITTEN: 2})
    assert clocked.schedule.repair_wanted
    assert clocked.waits(REPAIR) == 600
    clocked.now += 600
    clocked.run(frozenset({REPAIR}), skipped={JUST_WRITTEN: 1})
    assert not clocked.schedule.repair_wanted
    assert clocked.waits(REPAIR) == DAY


def test_a_repair_that_was_not_done_is_still_wanted() -> None:
    """Also while it runs: Synapse may stop then."""
    clocked = Clocked(max_size=500)
    clocked.run()
    clocked.schedule.upload_failed(clocked.now)
    clocked.run(frozenset({REPAIR}), trouble=Trouble.SWIFT)
    assert clocked.schedule.repair_wanted
    clocked.schedule.begin(clocked.now, frozenset({REPAIR}), ROOMY)
    assert clocked.schedule.repair_wanted


def test_space_that_is_not_known() -> None:
    """What was measured and stored still counts."""
    clocked = Clocked(max_size=150, min_free=100)
    clocked.run(space=None)
    assert clocked.due(None, after=60) == frozenset()
    clocked.schedule.stored(51)
    assert clocked.due(None) == {KEEP}
    assert clocked.schedule.over(None) == 1
