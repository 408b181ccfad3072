"""The tasks of a run that speak with Swift."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any

from twisted.internet import reactor

from swift_provider.client import Patience, Place, Store, open_store
from swift_provider.config import Settings
from swift_provider.errors import DiskFailsError, LooksWrongError, SwiftProviderError
from swift_provider.keeper import Order, Task, Trouble
from swift_provider.offload.database import Database
from swift_provider.offload.disk_plan import DiskPlan, Need
from swift_provider.offload.jobs.job import Job
from swift_provider.offload.jobs.keep import Keep, Repair
from swift_provider.offload.jobs.orphans import Orphans, Search
from swift_provider.offload.jobs.prunable import Options
from swift_provider.offload.jobs.prune import (
    DELETED,
    SEGMENTS_DELETED,
    AskOthers,
    Prune,
    nobody,
)
from swift_provider.offload.jobs.prune_each import Named, in_turn
from swift_provider.offload.jobs.prune_rules import OF_MODULE
from swift_provider.offload.keeper.few_lines import FewLines
from swift_provider.offload.keeper.findings import Findings
from swift_provider.offload.keeper.reporter import Reporter
from swift_provider.offload.keeper.trouble_of import trouble_of
from swift_provider.offload.run_reactor import run_reactor

logger = logging.getLogger(__name__)

#: Synapse's own exchanges with Swift go on beside the run's. So the run has only this share of
#: ``threadpool_size``.
_SHARE_OF_EXCHANGES = 0.25


_WHAT = {
    Task.KEEP: "some media cannot be moved to Swift",
    Task.REPAIR: "some media cannot be uploaded to Swift",
    Task.ORPHANS: "some files that Synapse does not know cannot be removed",
    Task.PRUNE: "some objects cannot be deleted from Swift",
}


@dataclass(frozen=True)
class Tools:
    """What the tasks need.

    :ivar connect: makes another connection to the database.
    """

    order: Order
    reporter: Reporter
    log: FewLines
    findings: Findings
    connect: Callable[[], Database]


def offload(tools: Tools) -> None:
    """Do the tasks, one after the other.

    :raises SwiftProviderError: if a task fails for good; the later ones are not done.
    """
    run_reactor(reactor, lambda: _all(tools))


async def _all(tools: Tools) -> None:
    order, findings = tools.order, tools.findings
    store = open_store(
        reactor,
        _with_share(order.settings),
        patience=Patience.MODULE,
        shares_reactor=False,
        owner=order.server_name,
    )
    try:
        try:
            if findings.need is not None:
                await _unless_one_fails(tools, _keep(tools, store, findings.need))
            if findings.orphans is not None:
                await _unless_one_fails(tools, _remove_orphans(tools, store, findings.orphans))
        except DiskFailsError as error:
            # The other two remove nothing from the disk.
            tools.reporter.trouble(Trouble.DISK, str(error))
        if Task.REPAIR in findings.tasks:
            await _repair(tools, store)
        if Task.PRUNE in findings.tasks:
            await _prune(tools, store)
    finally:
        await store.close()


def _with_share(settings: Settings) -> Settings:
    width = max(1, int(settings.threadpool_size * _SHARE_OF_EXCHANGES))
    mirrors = tuple(map(_with_share, settings.mirrors))
    return replace(settings, threadpool_size=width, mirrors=mirrors)


async def _unless_one_fails(tools: Tools, task: Awaitable[None]) -> None:
    """Do a task that needs all places. One that fails does not end the tasks that do not."""
    try:
        await task
    except SwiftProviderError as error:
        if not error.mirror:
            raise
        tools.reporter.trouble(trouble_of(error), str(error))


async def _keep(tools: Tools, store: Store, need: Need) -> None:
    plan, database = _found(tools)
    job = Keep(
        reactor,
        store,
        database,
        tools.connect(),
        plan,
        tools.order.media_store,
        need,
        tools.log,
    )
    tools.reporter.follow(job.tally)
    await _do(tools, job, Task.KEEP)


async def _remove_orphans(tools: Tools, store: Store, search: Search) -> None:
    job = Orphans(reactor, store, search, tools.connect(), tools.log)
    tools.reporter.follow(job.tally, of_orphans=True)
    await _do(tools, job, Task.ORPHANS)


async def _repair(tools: Tools, store: Store) -> None:
    order = tools.order
    plan, database = _found(tools)
    job = Repair(
        reactor,
        store,
        database,
        plan,
        order.media_store,
        order.repair_kinds,
        time.time() - order.quiet_seconds,
        tools.log,
    )
    tools.reporter.follow(job.tally)
    await _do(tools, job, Task.REPAIR)


async def _prune(tools: Tools, store: Store) -> None:
    places = store.members
    if len(places) == 1:
        if await _prune_place(tools, places[0]):
            tools.reporter.done(Task.PRUNE)
        return
    done = []

    async def prune_one(place: Place, ask_others: AskOthers) -> None:
        try:
            done.append(await _prune_place(tools, place, place.name, ask_others))
        except SwiftProviderError as error:
            done.append(False)
            error.mirror = place.name
            tools.reporter.trouble(trouble_of(error), str(error))

    await in_turn(places, prune_one)
    if all(done):
        tools.reporter.done(Task.PRUNE)


async def _prune_place(
    tools: Tools, place: Place, name: str = "", ask_others: AskOthers = nobody
) -> bool:
    """:param name: of the place, if there are several.
    :returns: whether it was done.
    """
    options = Options(delete=True, unmarked=False, max_share=None)
    assert tools.findings.database is not None, "it was opened"
    log = Named(tools.log, name) if name else tools.log
    job = Prune(
        reactor,
        place,
        tools.findings.database,
        options,
        log,
        log.note,
        OF_MODULE,
        ask_others=ask_others,
    )
    try:
        return await _run(tools, job, Task.PRUNE, name)
    except LooksWrongError as error:
        where = f" from {name}" if name else ""
        tools.reporter.trouble(Trouble.REFUSED, f"Nothing was pruned{where}: {error}")
        return False
    finally:
        counts = job.tally.counts
        tools.reporter.report.pruned += counts[DELETED] + counts[SEGMENTS_DELETED]
        for reason, count in job.tally.failed.items():
            tools.reporter.fail(reason, count)


def _found(tools: Tools) -> tuple[DiskPlan, Database]:
    plan, database = tools.findings.plan, tools.findings.database
    assert plan is not None, "the disk was walked through"
    assert database is not None, "it was opened"
    return plan, database


async def _do(tools: Tools, job: Job[Any], task: Task) -> None:
    """:raises SwiftProviderError: what ended the job early."""
    if await _run(tools, job, task):
        tools.reporter.done(task)


async def _run(tools: Tools, job: Job[Any], task: Task, name: str = "") -> bool:
    """Run a job.

    :param name: of the only place that the job is for, if there are several.
    :returns: whether it was done.
    :raises SwiftProviderError: what ended the job early.
    """
    await job.run()
    if job.stopped_by is not None:
        raise job.stopped_by
    reporter = tools.reporter
    left_out = [member.left_out for member in job.members.all if member.left_out is not None]
    # A job checks the containers first.
    if not left_out:
        reporter.answered(Trouble.SWIFT)
    reporter.answered(Trouble.DATABASE)
    of_name = f"{name}: " if name else ""
    if job.denied:
        reasons = ", ".join(sorted(job.denied))
        text = f"{of_name}{_WHAT[task]}: {reasons}. Correct the permissions"
        reporter.trouble(Trouble.REFUSED, text)
    for error in left_out:
        reporter.trouble(trouble_of(error), str(error))
    left = _left_undone(job, task)
    if left is not None:
        reporter.trouble(Trouble.SWIFT, of_name + left)
    return left is None and not left_out


def _left_undone(job: Job[Any], task: Task) -> str | None:
    """What a job that got to its end has not done all the same; ``None`` if it is done."""
    if task is Task.REPAIR and job.temporary_failures:
        return f"{job.temporary_failures} files could not be uploaded yet"
    if task is Task.PRUNE and job.tally.failures and not job.tally.counts[DELETED]:
        # What it could not look at may speak against deleting anything.
        return f"nothing was pruned, because {job.tally.failures} objects could not be looked at"
    return None
