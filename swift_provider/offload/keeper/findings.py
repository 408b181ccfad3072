"""What a look at the disk and the database has found to do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from swift_provider.keeper import Task
from swift_provider.offload.database import Database
from swift_provider.offload.disk_plan import DiskPlan, Need

if TYPE_CHECKING:
    from swift_provider.offload.jobs.orphans import Search


@dataclass
class Findings:
    """Filled step by step.

    :ivar tasks: those to do whatever was found.
    :ivar plan: with the media on the disk; ``None`` if no task needs it.
    :ivar database: ``None`` until it is needed.
    :ivar need: what has to go from the disk; ``None`` if nothing has to.
    :ivar orphans: ``None`` if there are none that may go.
    """

    tasks: frozenset[Task]
    plan: DiskPlan | None = None
    database: Database | None = None
    need: Need | None = None
    orphans: Search | None = None
