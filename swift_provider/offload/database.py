"""Reads Synapse's database: PostgreSQL through psycopg2, or SQLite. Never writes to it.

All methods block. Each ends its transaction before it returns, or when its iterator ends:
a long run keeps no snapshot open. Between two transactions a run may move files for an hour.
If the server or a proxy before it has closed the idle connection meanwhile, the next
transaction makes a new one. The tables are those of Synapse's
``synapse/storage/schema``; the column ``sha256`` came with Synapse 1.128.
"""

from __future__ import annotations

import os
import sqlite3
import sys
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime, timezone
from functools import partial
from typing import Any
from urllib.parse import quote

from swift_provider.errors import ConfigError, DatabaseUnavailableError
from swift_provider.offload.database_config import DatabaseConfig
from swift_provider.offload.database_errors import explained_of_sqlite
from swift_provider.offload.media_names import LOCAL, REMOTE, Media, thumbnail_names

#: Rows that PostgreSQL sends at a time.
FETCH_ROWS = 10_000
#: How long SQLite waits for a file that another process has locked. Ctrl-C waits as long.
BUSY_TIMEOUT_SECONDS = 10.0
#: Media in one query. SQLite allows 32766 values in a statement, 999 before version 3.32;
#: a remote media takes two.
LOOKUP_ROWS = 400
DAY_MS = 86_400_000

TABLES = {LOCAL: "local_media_repository", REMOTE: "remote_media_cache"}
_COLUMNS = {
    # An empty origin means local media in the cache. A remote row with an empty origin
    # would be taken for local media: it becomes NULL here, and the cache refuses NULL.
    LOCAL: "media_id",
    REMOTE: "NULLIF(media_origin, ''), media_id, filesystem_id",
}
#: Synapse does not give previews of web pages to a storage provider.
NO_PREVIEWS = {LOCAL: "url_cache IS NULL", REMOTE: "TRUE"}
#: When a media was last accessed; if never, when it was stored.
ACCESSED = "COALESCE(last_access_ts, created_ts)"


@dataclass(frozen=True)
class Facts:
    """What the database says about one media.

    :ivar length: bytes; ``None`` while Synapse is still waiting for the upload.
    :ivar sha256: in hex; ``None`` if unknown.
    :ivar thumbnails: the file names, each with the lengths that the file may have.
    """

    filesystem_id: str
    length: int | None
    sha256: str | None
    thumbnails: dict[str, set[int]] = field(default_factory=dict)


def reason_to_skip(media: Media, facts: Facts | None) -> str | None:
    """Why a job must leave a media alone; ``None`` if it may handle it."""
    if facts is None:
        return "Synapse does not know it any more"
    if facts.filesystem_id != media.filesystem_id:
        return "Synapse fetched it again since the last update"
    if facts.length is None:
        return "Synapse still waits for its upload"
    return None


class Database:
    """One connection. Any thread may use it, but only one at a time.

    :ivar busy: a query is in work, or its rows are being read.
    :raises ConfigError: if the driver does not understand the arguments.
    :raises DatabaseUnavailableError: if the database does not accept the connection.
    """

    def __init__(self, config: DatabaseConfig) -> None:
        self._config = config
        self.busy = False
        self._where = config.where
        self._is_sqlite = config.engine == "sqlite3"
        self._driver_error: type[Exception] = sqlite3.Error
        self._explained: Callable[[Exception], str | None] = lambda error: None
        self._set_limits: Callable[[Any], None] = lambda cursor: None
        self._connection: Any = None
        self._stopped = False
        self._streams: list[Generator[Any, None, None]] = []
        if self._is_sqlite:
            self._connection = self._open_sqlite(config)
        else:
            self._connection = self._connect_postgres(config)
        with self._translated():
            self._sha256 = {kind: self._has_sha256(table) for kind, table in TABLES.items()}

    def _open_sqlite(self, config: DatabaseConfig) -> sqlite3.Connection:
        path = config.args["database"]
        # In full, because Synapse may run in another working directory.
        self._where = f"{os.path.abspath(path)}, from {config.where}"
        self._explained = partial(explained_of_sqlite, path=path)
        with self._translated():
            # With mode=ro, a misspelt path does not create an empty database.
            connection = sqlite3.connect(
                f"file:{quote(path)}?mode=ro",
                uri=True,
                timeout=BUSY_TIMEOUT_SECONDS,
                isolation_level=None,
                check_same_thread=False,
            )
            connection.text_factory = lambda data: data.decode("utf-8", "replace")
        return connection

    def _connect_postgres(self, config: DatabaseConfig) -> Any:
        try:
            from swift_provider.offload import postgres
        except ImportError as error:
            raise ConfigError(
                f"{config.where} names a PostgreSQL database, which needs the driver psycopg2 in "
                f"this Python ({sys.executable}): {sys.executable} -m pip install psycopg2-binary"
            ) from error
        self._driver_error = postgres.DriverError
        self._explained = postgres.explained
        self._set_limits = postgres.set_limits
        with self._translated():
            return postgres.connect(config.args, config.where)

    def stop(self) -> None:
        """Make the current query fail, and each later one of PostgreSQL.

        Any thread may call this. It does not wait.
        """
        self._stopped = True
        if self._is_sqlite:
            self._connection.interrupt()
        else:
            self._connection.stop()

    def close(self) -> None:
        """Close the connection, and the iterators that were not read to their end."""
        for stream in self._streams:
            with suppress(ValueError):  # A thread is in it.
                stream.close()
        self._connection.close()

    def idle_local(self, before_ms: int | None) -> Iterator[tuple[str]]:
        """The ids of local media that were not accessed since ``before_ms``.

        :param before_ms: milliseconds since the epoch; ``None`` for all media.
        """
        return self._idle(LOCAL, before_ms)

    def idle_remote(self, before_ms: int | None) -> Iterator[tuple[str | None, str, str | None]]:
        """Origin, media id and filesystem id of remote media that were not accessed.

        An empty origin comes as ``None``.

        :param before_ms: milliseconds since the epoch; ``None`` for all media.
        """
        return self._idle(REMOTE, before_ms)

    def _idle(self, kind: str, before_ms: int | None) -> Iterator[Any]:
        sql = f"SELECT {_COLUMNS[kind]} FROM {TABLES[kind]} WHERE {NO_PREVIEWS[kind]}"
        if before_ms is None:
            return self.stream(sql, ())
        return self.stream(f"{sql} AND {ACCESSED} < %s", (before_ms,))

    def stream(self, sql: str, values: Sequence[object]) -> Iterator[Any]:
        """The rows of a query that may have millions.

        :param sql: with ``%s`` for each value.
        """
        self._streams.append(self._streamed(sql, values))
        return self._streams[-1]

    def _streamed(self, sql: str, values: Sequence[object]) -> Generator[Any, None, None]:
        with self._translated():
            if self._is_sqlite:
                yield from self._connection.execute(sql.replace("%s", "?"), values)
                return
            # The rows of a named cursor stay on the server until they are read.
            name = "swift_media_upload"
            with self._transaction(), self._connection.cursor(name) as cursor:
                cursor.itersize = FETCH_ROWS
                cursor.execute(sql, values)
                yield from cursor

    def facts(self, media: Sequence[Media]) -> dict[tuple[str, str], Facts]:
        """What the database says about these media, by origin and media id.

        The result leaves out previews of web pages, and media that are not in the
        database.
        """
        found: dict[tuple[str, str], Facts] = {}
        for start in range(0, len(media), LOOKUP_ROWS):
            batch = media[start : start + LOOKUP_ROWS]
            local = [(one.media_id,) for one in batch if one.kind == LOCAL]
            remote = [(one.origin, one.media_id) for one in batch if one.kind == REMOTE]
            if local:
                self._add_facts(found, LOCAL, "'', media_id, media_id", "media_id", local)
            if remote:
                key = "media_origin, media_id"
                self._add_facts(found, REMOTE, f"{key}, filesystem_id", key, remote)
        return found

    def _add_facts(
        self,
        found: dict[tuple[str, str], Facts],
        kind: str,
        columns: str,
        key: str,
        wanted: Sequence[tuple[str, ...]],
    ) -> None:
        table = TABLES[kind]
        sha256 = "sha256" if self._sha256[kind] else "NULL"
        selected = f"SELECT {columns}, media_length, {sha256} FROM {table}"
        for origin, media_id, filesystem_id, length, digest in self.matching(
            f"{selected} WHERE {NO_PREVIEWS[kind]} AND", key, wanted
        ):
            if filesystem_id is not None:
                found[origin, media_id] = Facts(filesystem_id, length, digest)
        thumbnail = "thumbnail_width, thumbnail_height, thumbnail_type, thumbnail_method"
        origin_and_id = columns.split(",")[0] + ", media_id"
        selected = f"SELECT {origin_and_id}, {thumbnail}, thumbnail_length FROM {table}_thumbnails"
        for origin, media_id, width, height, content_type, method, length in self.matching(
            f"{selected} WHERE", key, wanted
        ):
            facts = found.get((origin, media_id))
            if facts is None or length is None:
                continue
            for name in thumbnail_names(width, height, str(content_type), str(method), kind):
                facts.thumbnails.setdefault(name, set()).add(length)

    def known(self, kind: str, names: Sequence[tuple[str, str]]) -> set[tuple[str, str]]:
        """Which of these pairs of origin and filesystem id have a row, even a preview's.

        Slow for many remote media: Synapse has no index on ``filesystem_id``.
        """
        found: set[tuple[str, str]] = set()
        for start in range(0, len(names), LOOKUP_ROWS):
            batch = names[start : start + LOOKUP_ROWS]
            if kind == LOCAL:
                sql = "SELECT '', media_id FROM local_media_repository WHERE"
                rows = self.matching(sql, "media_id", [(name,) for _, name in batch])
            else:
                key = "media_origin, filesystem_id"
                rows = self.matching(f"SELECT {key} FROM remote_media_cache WHERE", key, batch)
            found.update((origin, filesystem_id) for origin, filesystem_id in rows)
        return found

    def newest_activity(self, now: datetime) -> datetime | None:
        """When Synapse last recorded that any media were stored or looked at.

        :param now: later times are left out: a clock may have been wrong once.
        :returns: ``None`` if there are no media.
        """
        times = [
            f"SELECT {column} AS ts FROM {table}"
            for table in TABLES.values()
            for column in ("created_ts", "last_access_ts")
        ]
        sql = f"SELECT max(ts) FROM ({' UNION ALL '.join(times)}) AS times WHERE ts <= %s"
        ((newest,),) = self.rows(sql, [int(now.timestamp() * 1000)])
        return None if newest is None else datetime.fromtimestamp(newest / 1000, timezone.utc)

    def local_media_by_day(self, now: datetime) -> Counter[str]:
        """How many of the local media Synapse stored on each day, by ISO 8601 (UTC).

        The result leaves out previews of web pages, uploads that are not finished, and times
        after ``now``: a clock may have been wrong once.
        """
        sql = (
            f"SELECT created_ts / {DAY_MS}, count(*) FROM local_media_repository "
            f"WHERE {NO_PREVIEWS[LOCAL]} AND media_length IS NOT NULL "
            "AND created_ts BETWEEN 0 AND %s GROUP BY 1"
        )
        found: Counter[str] = Counter()
        for days, count in self.rows(sql, [int(now.timestamp() * 1000)]):
            day = datetime.fromtimestamp(int(days) * DAY_MS / 1000, timezone.utc)
            found[f"{day:%Y-%m-%d}"] += count
        return found

    def homeserver(self, expected: str | None) -> str | None:
        """The homeserver whose users uploaded the local media.

        :returns: ``expected`` if any of them are that homeserver's; ``None`` if no row says it.
        """
        sql = "SELECT user_id FROM local_media_repository WHERE user_id LIKE %s LIMIT 1"
        rows = self.rows(sql, [f"@%:{expected}"]) if expected is not None else []
        rows = rows or self.rows(sql, ["@%:%"])
        return next((str(user_id).partition(":")[2] for (user_id,) in rows), None)

    def matching(
        self, sql: str, key: str, wanted: Sequence[tuple[str, ...]]
    ) -> Iterable[tuple[Any, ...]]:
        """All rows whose key is one of ``wanted``.

        :param sql: a query that ends in ``WHERE`` or ``AND``.
        :param key: the columns that ``wanted`` has the values of.
        :param wanted: at most :data:`LOOKUP_ROWS`.
        """
        # PostgreSQL refuses text with NUL, so no row has such a name.
        kept = wanted if self._is_sqlite else [row for row in wanted if "\0" not in "".join(row)]
        if not kept:
            return []
        row = "(" + ", ".join(["%s"] * len(kept[0])) + ")"
        sql = f"{sql} ({key}) IN (VALUES {', '.join([row] * len(kept))})"
        return self.rows(sql, [value for row in kept for value in row])

    def rows(self, sql: str, values: Sequence[object]) -> list[tuple[Any, ...]]:
        """All rows of a query.

        :param sql: with ``%s`` for each value.
        """
        with self._translated():
            if self._is_sqlite:
                return list(self._connection.execute(sql.replace("%s", "?"), values))
            with self._transaction() as cursor:
                cursor.execute(sql, values)
                return list(cursor)

    def _has_sha256(self, table: str) -> bool:
        sql = f"SELECT * FROM {table} LIMIT 0"
        if self._is_sqlite:
            description = self._connection.execute(sql).description
        else:
            with self._transaction() as cursor:
                cursor.execute(sql)
                description = cursor.description
        return "sha256" in [column[0] for column in description]

    @contextmanager
    def _transaction(self) -> Iterator[Any]:
        """A transaction of PostgreSQL with time limits, and a cursor in it."""
        try:
            with self._begun() as cursor:
                yield cursor
            self._connection.commit()
        except BaseException:
            with suppress(self._driver_error):
                self._connection.rollback()
            raise

    def _begun(self) -> Any:
        """A cursor in a new transaction; connects again if the idle connection was closed."""
        try:
            cursor = self._connection.cursor()
            self._set_limits(cursor)
        except self._driver_error:
            if self._stopped or not self._connection.closed:
                raise
            self._connection = self._connect_postgres(self._config)
            if self._stopped:  # while it was connecting
                self._connection.stop()
            cursor = self._connection.cursor()
            self._set_limits(cursor)
        return cursor

    @contextmanager
    def _translated(self) -> Iterator[None]:
        self.busy = True
        try:
            yield
        except self._driver_error as error:
            if getattr(self._connection, "interrupted", False):
                raise KeyboardInterrupt from None
            raise self._unavailable(error) from error
        finally:
            self.busy = False

    def _unavailable(self, error: Exception) -> DatabaseUnavailableError:
        reason = self._explained(error) or " ".join(str(error).split()) or type(error).__name__
        return DatabaseUnavailableError(f"Synapse's database ({self._where}): {reason}")
