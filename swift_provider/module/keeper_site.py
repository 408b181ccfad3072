"""What the keeper of a disk knows of Synapse, and the order for a run that it makes of it."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any

from swift_provider._version import __version__
from swift_provider.config import LocalDiskSettings, Settings
from swift_provider.keeper import Order, Task

#: Media that were accessed more recently stay on the disk.
QUIET_SECONDS = 600.0
#: A file without a row in the database stays if it is younger: Synapse writes the file first.
YOUNG_SECONDS = 86400.0


@dataclass(frozen=True)
class Site:
    """What does not change while Synapse runs.

    :ivar instance: the name of this process of Synapse.
    :ivar does_chores: see :class:`.keeper_schedule.Schedule`.
    :ivar database: Synapse's ``database`` section: ``name`` and ``args``.
    :ivar repair_kinds: which media this entry stores: ``local``, ``remote``.
    :ivar chores_instance: the process that Synapse names for its media chores, if it names one.
    """

    server_name: str
    instance: str
    does_chores: bool | None
    media_store: str
    database: dict[str, Any] = field(repr=False)
    settings: Settings
    limits: LocalDiskSettings
    repair_kinds: frozenset[str]
    chores_instance: str | None = None

    def order(self, tasks: frozenset[Task], since: float) -> Order:
        """The order for a run.

        :param since: when this process began to keep this media store within its budget.
        """
        return Order(
            version=__version__,
            environment=dict(os.environ),
            settings=self.settings,
            limits=self.limits,
            server_name=self.server_name,
            media_store=self.media_store,
            database=self.database,
            tasks=tasks,
            repair_kinds=self.repair_kinds,
            quiet_seconds=QUIET_SECONDS,
            young_seconds=YOUNG_SECONDS,
            written_since=since,
        )
