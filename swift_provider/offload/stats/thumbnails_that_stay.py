"""Finds the thumbnails on the disk that offloading would leave there.

The rules are those of :class:`.Feed` and of ``jobs/offloading.py``; what they need of the
database is asked for only for thumbnails whose media may go.
"""

from __future__ import annotations

import time
from itertools import islice

from swift_provider.offload.database import Database, Facts, reason_to_skip
from swift_provider.offload.disk import YOUNG_SECONDS
from swift_provider.offload.media_names import LOCAL, REMOTE, Media
from swift_provider.offload.stats.inventory import Inventory

PAGE_THUMBNAILS = 2000


def keep(inventory: Inventory, database: Database) -> None:
    """Mark them in an inventory that is matched.

    :raises DatabaseUnavailableError: if the database fails.
    """
    inventory.run("CREATE TABLE stays (file)")
    thumbnails = inventory.run(
        "SELECT file, name, size, written, media.origin, media_id, media.filesystem_id "
        "FROM known JOIN files ON files.rowid = file JOIN media ON media.rowid = known.media "
        "WHERE known.step > 0 AND name <> '' ORDER BY known.media"
    )
    while page := list(islice(thumbnails, PAGE_THUMBNAILS)):
        media = {row: _media(*row[4:]) for row in page}
        facts = database.facts(sorted(set(media.values())))
        stay = [
            (row[0],)
            for row, one in media.items()
            if _stays(one, facts.get((one.origin, one.media_id)), *row[1:4])
        ]
        inventory.insert("stays", 1, stay)
    inventory.run("UPDATE known SET step = 0 WHERE file IN (SELECT file FROM stays)")


def _media(origin: str, media_id: str, filesystem_id: str) -> Media:
    return Media(origin, media_id, filesystem_id, REMOTE if origin else LOCAL)


def _stays(media: Media, facts: Facts | None, name: str, size: int, written_ms: int) -> bool:
    if facts is None or reason_to_skip(media, facts) is not None:
        return True
    lengths = facts.thumbnails.get(name)
    if lengths:
        return size not in lengths
    return time.time() - written_ms / 1000 < YOUNG_SECONDS
