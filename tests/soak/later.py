"""``python -m tests.soak.later SECONDS ARGUMENT…``: runs ``swift_media_upload`` a day later.

``prune`` leaves objects alone that are younger than a day, and a soak is shorter. Here its
clock is a day ahead, less ``SECONDS``: so long it leaves new objects alone. The database
of a homeserver in use would show activity of that day, so here it does.
"""

from __future__ import annotations

import sys
from datetime import datetime, timedelta, timezone

from swift_provider.offload import main
from swift_provider.offload.database import Database
from swift_provider.offload.jobs import prune
from swift_provider.offload.jobs.prunable import YOUNG


def _move_clock(grace: timedelta) -> None:
    ahead = YOUNG - grace
    prune.now = lambda: datetime.now(timezone.utc) + ahead  # type: ignore[assignment]
    Database.newest_activity = lambda _, now: now  # type: ignore[method-assign]


if __name__ == "__main__":
    _move_clock(timedelta(seconds=float(sys.argv[1])))
    sys.exit(main(sys.argv[2:]))
