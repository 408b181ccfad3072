"""What one run does, task by task.

The disk is walked through before anything is imported that speaks with Swift: most runs find
it within its limits, and end there.
"""

from __future__ import annotations

import logging
import time
from contextlib import ExitStack, closing
from dataclasses import replace
from typing import TYPE_CHECKING

from swift_provider.errors import (
    CacheError,
    ConfigError,
    SwiftProviderError,
)
from swift_provider.keeper import Order, Space, Task, Trouble, over_limits, space_to_free
from swift_provider.offload.database import Database
from swift_provider.offload.database_config import database_config
from swift_provider.offload.disk_plan import DiskPlan, Need
from swift_provider.offload.keeper.few_lines import FewLines
from swift_provider.offload.keeper.findings import Findings
from swift_provider.offload.keeper.reporter import Reporter
from swift_provider.offload.keeper.trouble_of import trouble_of
from swift_provider.offload.lock import StoreLock
from swift_provider.offload.media_ages import local_ages, remote_ages
from swift_provider.offload.media_names import LOCAL, REMOTE, shown
from swift_provider.offload.media_walk import walk

if TYPE_CHECKING:
    from swift_provider.offload.jobs.orphans import Search

logger = logging.getLogger(__name__)

_ON_DISK = frozenset((Task.KEEP, Task.REPAIR, Task.ORPHANS))


def do(order: Order, reporter: Reporter) -> None:
    """Do the tasks of an order. What goes wrong is in the report afterwards."""
    try:
        with ExitStack() as stack:
            Run(order, reporter, stack).do()
    except SwiftProviderError as error:
        reporter.trouble(trouble_of(error), str(error))
    except OSError as error:
        reporter.trouble(Trouble.DISK, f"{order.media_store}: {error}")


class Run:
    """One run.

    :param stack: closes at the end of the run what was opened.
    """

    def __init__(self, order: Order, reporter: Reporter, stack: ExitStack) -> None:
        self._order = order
        self._reporter = reporter
        self._stack = stack
        self._log = FewLines()

    def do(self) -> None:
        """Do the tasks.

        :raises SwiftProviderError: if one of them fails for good; the later ones are not done.
        :raises OSError: if the disk fails.
        """
        if not self._order.tasks & _ON_DISK:
            self._offload(Findings(self._order.tasks))
            return
        lock = StoreLock(self._order.media_store)
        self._stack.enter_context(closing(lock))
        plan = self._stack.enter_context(closing(DiskPlan()))
        try:
            space, findings = self._look(plan)
        except CacheError as error:
            # SQLite's temporary files are on a disk that is full, perhaps this one.
            logger.warning("%s: not all media are looked at in this run", error)
            plan.close()
            self._reporter.report.failed.clear()
            plan = self._stack.enter_context(closing(DiskPlan(in_memory=True)))
            space, findings = self._look(plan)
        try:
            self._offload(findings)
        finally:
            self._note_excess(plan.taken, space)

    def _note_excess(self, on_disk: int, space: Space) -> None:
        """Report by how much the disk is over its limits after what this run has freed.

        What was written meanwhile is for the next run.
        """
        freed = self._reporter.freed()
        space = replace(space, free=space.free + freed)
        left = max(0, on_disk - freed)
        self._reporter.report.over = over_limits(self._order.limits, left, space)

    def _look(self, plan: DiskPlan) -> tuple[Space, Findings]:
        """Walk through the media store, and find out what there is to do.

        :raises CacheError: if there is no room for the plan.
        """
        order, report = self._order, self._reporter.report
        plan.add(walk(order.media_store, self._fail))
        report.on_disk, report.files = plan.taken, plan.files
        space = Space.of(order.media_store)
        findings = Findings(order.tasks - _ON_DISK, plan)
        if Task.KEEP in order.tasks:
            findings.need = self._what_has_to_go(findings, plan.taken, space)
        if plan.is_partial:
            return space, findings  # The other two are for a day with more room.
        if Task.ORPHANS in order.tasks:
            findings.orphans = self._orphans(findings)
        if Task.REPAIR in order.tasks:
            self._match(findings)
            findings.tasks |= {Task.REPAIR}
        return space, findings

    def _fail(self, path: str, reason: str) -> None:
        self._log.warn(f"{shown(path)}: {reason}")
        self._reporter.fail(reason)

    def _match(self, findings: Findings) -> tuple[DiskPlan, Database]:
        """The plan with what the database says, and the database."""
        assert findings.plan is not None, "the disk was walked through"
        if findings.database is None:
            findings.database = self._open_database()
            findings.plan.match(LOCAL, local_ages(findings.database))
            findings.plan.match(REMOTE, remote_ages(findings.database))
            self._reporter.answered(Trouble.DATABASE)
        return findings.plan, findings.database

    def _open_database(self) -> Database:
        config = database_config(self._order.database, "Synapse's database")
        return self._stack.enter_context(closing(Database(config)))

    def _what_has_to_go(self, findings: Findings, on_disk: int, space: Space) -> Need | None:
        """``None`` if nothing has to; asks the database only if anything may have to."""
        order, older_than = self._order, self._order.limits.older_than
        need = Need(
            space=space_to_free(order.limits, on_disk, space),
            older_before_ms=None if older_than is None else int((time.time() - older_than) * 1000),
            written_since_ms=int(order.written_since * 1000),
            quiet_seconds=order.quiet_seconds,
            young_seconds=order.young_seconds,
        )
        assert findings.plan is not None, "the disk was walked through"
        if (
            need.space
            or need.older_before_ms is not None
            or findings.plan.has_content_written_since(need.written_since_ms)
        ):
            plan, _ = self._match(findings)
            self._reporter.report.quiet = plan.quiet_bytes(need.quiet_before_ms())
            if next(plan.victims(need, 1), None) is not None:
                return need
        self._reporter.done(Task.KEEP)
        return None

    def _orphans(self, findings: Findings) -> Search | None:
        """``None`` if there are none, or they must stay."""
        from swift_provider.offload.jobs.orphans import Search

        plan, database = self._match(findings)
        order = self._order
        search = Search(plan, database, order.media_store, order.server_name, order.young_seconds)
        try:
            if search.any_may_go():
                return search
            self._reporter.done(Task.ORPHANS)
        except ConfigError as error:
            # The other tasks compare each file with a row, and with Swift.
            self._reporter.trouble(Trouble.REFUSED, str(error))
        return None

    def _offload(self, findings: Findings) -> None:
        """Do the tasks that speak with Swift, if any has something to do."""
        if findings.need is None and findings.orphans is None and not findings.tasks:
            return
        from swift_provider.offload.keeper.offload import Tools, offload

        if findings.database is None:
            findings.database = self._open_database()
        offload(Tools(self._order, self._reporter, self._log, findings, self._open_database))
