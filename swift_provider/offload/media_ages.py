"""When media were last accessed, as Synapse's database says.

Synapse writes ``last_access_ts`` once a minute, for all media that were accessed since
(``UPDATE_RECENTLY_ACCESSED_TS`` in ``synapse/media/media_repository.py``). Until then it is
``NULL`` for local media.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from swift_provider.offload.database import LOOKUP_ROWS, Database
from swift_provider.offload.disk import CLOCKS_DIFFER_SECONDS
from swift_provider.offload.media_names import LOCAL, REMOTE, Media

_ACCESSED = "COALESCE(last_access_ts, created_ts, 0)"
_CREATED = "COALESCE(created_ts, 0)"


class Age(NamedTuple):
    """When one media was stored and accessed, in milliseconds since the epoch."""

    origin: str
    media_id: str
    filesystem_id: str
    accessed_ms: int
    created_ms: int


def local_ages(database: Database) -> Iterator[Age]:
    """All local media, also those that Synapse still waits for, and previews of web pages."""
    sql = f"SELECT '', media_id, media_id, {_ACCESSED}, {_CREATED} FROM local_media_repository"
    return map(_age, database.stream(sql, ()))


def remote_ages(database: Database) -> Iterator[Age]:
    """All cached remote media."""
    sql = (
        f"SELECT media_origin, media_id, filesystem_id, {_ACCESSED}, {_CREATED} "
        "FROM remote_media_cache WHERE media_origin <> '' AND filesystem_id IS NOT NULL"
    )
    return map(_age, database.stream(sql, ()))


def count(database: Database, kind: str) -> int:
    """How many media of a kind the database has."""
    table = {LOCAL: "local_media_repository", REMOTE: "remote_media_cache"}[kind]
    ((number,),) = database.rows(f"SELECT count(*) FROM {table}", ())
    return int(number)


def _age(row: tuple[str, str, str, int, int]) -> Age:
    """A time ahead of the clock is wrong: the media would count as accessed just now until then."""
    age = Age._make(row)
    if age.accessed_ms > _latest_ms():
        age = age._replace(accessed_ms=age.created_ms if age.created_ms <= _latest_ms() else 0)
    return age


def _latest_ms() -> int:
    return int((time.time() + CLOCKS_DIFFER_SECONDS) * 1000)


def quiet(database: Database, media: Sequence[Media], before_ms: int) -> set[Media]:
    """Which of these media were not accessed since a time, and still have the same file.

    :raises DatabaseUnavailableError: if the database fails.
    """
    found: set[tuple[str, str, str]] = set()
    for start in range(0, len(media), LOOKUP_ROWS):
        batch = media[start : start + LOOKUP_ROWS]
        local = [(one.media_id,) for one in batch if one.kind == LOCAL]
        remote = [(one.origin, one.media_id) for one in batch if one.kind == REMOTE]
        # The times are numbers of ours, so they need no placeholder.
        condition = f"({_ACCESSED} < {before_ms:d} OR {_ACCESSED} > {_latest_ms():d}) AND"
        if local:
            sql = f"SELECT '', media_id, media_id FROM local_media_repository WHERE {condition}"
            found.update(database.matching(sql, "media_id", local))
        if remote:
            key = "media_origin, media_id"
            sql = f"SELECT {key}, filesystem_id FROM remote_media_cache WHERE {condition}"
            found.update(database.matching(sql, key, remote))
    return {one for one in media if (one.origin, one.media_id, one.filesystem_id) in found}
