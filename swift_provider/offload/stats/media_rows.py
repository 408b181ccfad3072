"""What Synapse's database says about all media: their lengths, and for how long they are idle.

How long is told by a step: the number of times, among some that lie further and further back,
before which a media was last accessed. 0 means that it was accessed after all of them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

from swift_provider.offload.database import ACCESSED, NO_PREVIEWS, TABLES, Database
from swift_provider.offload.media_names import LOCAL, REMOTE
from swift_provider.offload.stats.amounts import Amount

_COLUMNS = {
    LOCAL: "'', media_id, media_id",
    REMOTE: "media_origin, filesystem_id, media_id",
}
#: ``update`` refuses other rows.
_NAMED = {LOCAL: "TRUE", REMOTE: "media_origin <> '' AND filesystem_id IS NOT NULL"}
_KEYS = {LOCAL: "media_id", REMOTE: "media_origin, media_id"}

#: Origin (empty for local media), filesystem id, media id, step, length or ``None``.
Row = tuple[str, str, str, int, int | None]


def media_rows(database: Database, kind: str, before_ms: Sequence[int]) -> Iterator[Row]:
    """All media of a kind, without previews of web pages.

    :param before_ms: the times of the steps, in milliseconds since the epoch, latest first.
    """
    return database.stream(
        f"SELECT {_COLUMNS[kind]}, {_step(before_ms)}, media_length FROM {TABLES[kind]} "
        f"WHERE {NO_PREVIEWS[kind]} AND {_NAMED[kind]}",
        (),
    )


def thumbnails(database: Database, before_ms: Sequence[int]) -> list[Amount]:
    """The thumbnails that the database knows, by the steps of their media."""
    found: defaultdict[int, Amount] = defaultdict(Amount)
    for kind, table in TABLES.items():
        for step, number, size in database.rows(
            f"SELECT {_step(before_ms)}, count(*), COALESCE(sum(thumbnail_length), 0) "
            f"FROM {table}_thumbnails JOIN {table} USING ({_KEYS[kind]}) "
            f"WHERE {NO_PREVIEWS[kind]} GROUP BY 1",
            (),
        ):
            found[step] = found[step].plus(Amount(int(number), int(size)))
    return [found[step] for step in range(len(before_ms) + 1)]


def _step(before_ms: Sequence[int]) -> str:
    # The times are numbers of ours, so they need no placeholder.
    cases = [
        f"WHEN {ACCESSED} < {moment:d} THEN {step}"
        for step, moment in reversed(list(enumerate(before_ms, 1)))
    ]
    return f"CASE {' '.join(cases)} ELSE 0 END"
