"""``cache.db``: the media that were not accessed for long and may still be on disk.

It only lists what to look at. No job deletes anything because of the cache alone, so the
cache may be stale. Removing it loses nothing: the next ``update`` fills a new one. The
columns are those of ``s3_media_upload``, the script of synapse-s3-storage-provider; a
cache of that script can be used as it is.

All methods block. Several threads may use one cache: a lock lets one in at a time.
"""

from __future__ import annotations

import itertools
import sqlite3
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from swift_provider.errors import CacheError, ConfigError
from swift_provider.offload.file_owner import remedy_of_owner
from swift_provider.offload.lock import RunLock
from swift_provider.offload.media_names import Media

_COLUMNS = """
    origin TEXT NOT NULL,          -- empty for local media
    media_id TEXT NOT NULL,
    filesystem_id TEXT NOT NULL,
    type TEXT NOT NULL,            -- "local" or "remote"
    known_deleted BOOLEAN NOT NULL -- the file and all thumbnails are gone from the disk
"""
#: SQLite's ``user_version`` of a cache that an update has filled; it is 0 in a new file.
_UPDATED = 1
_NAMES = {"origin", "media_id", "filesystem_id", "type", "known_deleted"}
#: How long to wait while another program, such as ``s3_media_upload``, writes to the cache.
BUSY_TIMEOUT_SECONDS = 5.0
#: SQLite's words for errors that a new file would not cure.
_NOT_DAMAGE = ("locked", "full", "interrupted")
#: SQLite's words for a file that this user may not write.
_DENIED = ("readonly", "unable to open")


@dataclass(frozen=True)
class Changes:
    """What an update changed; each field counts rows.

    :ivar new: added.
    :ivar gone: removed.
    :ivar refused: left out because Synapse's row lacks a part of the media's name.
    """

    new: int
    gone: int
    refused: int


class Cache:
    """An open cache. No other run can open it until :meth:`close`.

    :param path: the file; it is created if it does not exist.
    :raises ConfigError: if another run uses the cache, or the file is no cache.
    """

    def __init__(self, path: str) -> None:
        self._lock = RunLock(path)
        self._mutex = threading.Lock()
        self._path = path
        try:
            self._connection = self._open(path)
        except sqlite3.Error as error:
            self._lock.close()
            raise ConfigError(
                f"{path} cannot be used as the cache: {error}{self._remedy(str(error))}"
            ) from error
        except BaseException:
            self._lock.close()
            raise

    @staticmethod
    def _open(path: str) -> sqlite3.Connection:
        connection = sqlite3.connect(
            path, BUSY_TIMEOUT_SECONDS, isolation_level=None, check_same_thread=False
        )
        try:
            connection.execute("PRAGMA cache_size = -8192")
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute(f"CREATE TABLE IF NOT EXISTS media ({_COLUMNS})")
            found = {row[1] for row in connection.execute("PRAGMA table_info(media)")}
            if missing := _NAMES - found:
                raise ConfigError(
                    f"{path} is not a cache of this script: its table 'media' lacks the columns "
                    f"{', '.join(sorted(missing))}. Choose another file with --cache-db"
                )
            if _index(connection, "media") is None:
                connection.execute("CREATE UNIQUE INDEX media_id_idx ON media (origin, media_id)")
        except BaseException:
            connection.close()
            raise
        return connection

    def close(self) -> None:
        """Close the file and release its lock."""
        with self._mutex:
            self._connection.close()
        self._lock.close()

    def replace(
        self,
        local: Iterable[tuple[str]],
        remote: Iterable[tuple[str | None, str, str | None]],
    ) -> Changes:
        """Replace all rows by these, in one transaction, and set :attr:`updated`.

        A row that was there before stays marked as deleted, unless its filesystem id
        changed.

        :param local: media ids.
        :param remote: origin, media id, filesystem id; a row with a ``None`` is refused.
        """
        run = self._connection.execute
        with self._transaction():
            (before,) = run("SELECT count(*) FROM media").fetchone()
            run("DROP TABLE IF EXISTS fresh")
            run(f"CREATE TABLE fresh ({_COLUMNS})")
            refused = self._insert("fresh", local, remote)
            # Indexing a filled table sorts once; indexing first costs a search for each row.
            self._make_index("fresh")
            (total,) = run("SELECT count(*) FROM fresh").fetchone()
            kept = self._carry_over() if before else 0
            run("DROP TABLE media")
            run("ALTER TABLE fresh RENAME TO media")
            run(f"PRAGMA user_version = {_UPDATED}")
        return Changes(total - kept, before - kept, refused)

    def _carry_over(self) -> int:
        """Copy ``known_deleted`` from ``media`` to ``fresh``.

        :returns: how many rows of ``fresh`` are in ``media`` too.
        """
        # SQLite reads both tables in the order of their indexes, so no access is random.
        same = "fresh.origin = media.origin AND fresh.media_id = media.media_id"
        (kept,) = self._connection.execute(
            f"SELECT count(*) FROM media INDEXED BY {_index(self._connection, 'media')} "
            f"CROSS JOIN fresh ON {same}"
        ).fetchone()
        self._connection.execute(
            "UPDATE fresh SET known_deleted = 1 WHERE rowid IN ("
            f"SELECT fresh.rowid FROM media CROSS JOIN fresh ON {same} "
            "AND fresh.filesystem_id = media.filesystem_id WHERE media.known_deleted)"
        )
        return int(kept)

    def _make_index(self, table: str) -> None:
        """Create the unique index of a table.

        SQLite cannot rename an index, and the old table's index still exists: so two
        names alternate. ``s3_media_upload`` adds ``media_id_idx`` to a table that has an
        index of the other name, so the old table may have both: the other one goes.
        """
        taken = _index(self._connection, "media")
        name = "media_key_idx" if taken == "media_id_idx" else "media_id_idx"
        self._connection.execute(f"DROP INDEX IF EXISTS {name}")
        self._connection.execute(f"CREATE UNIQUE INDEX {name} ON {table} (origin, media_id)")

    def _insert(
        self,
        table: str,
        local: Iterable[tuple[str]],
        remote: Iterable[tuple[str | None, str, str | None]],
    ) -> int:
        """:returns: how many rows were refused."""
        insert = f"INSERT OR IGNORE INTO {table} VALUES"
        seen = itertools.count()
        cursor = self._connection.cursor()
        cursor.executemany(
            f"{insert} ('', ?1, ?1, 'local', 0)", (row for row, _ in zip(local, seen, strict=False))
        )
        stored = cursor.rowcount
        cursor.executemany(
            f"{insert} (?, ?, ?, 'remote', 0)", (row for row, _ in zip(remote, seen, strict=False))
        )
        return next(seen) - stored - cursor.rowcount

    @property
    def updated(self) -> bool:
        """Whether an update has ever filled the cache, even if it found no media."""
        with self._errors():
            (version,) = self._connection.execute("PRAGMA user_version").fetchone()
        return bool(version == _UPDATED)

    def count(self, *, with_deleted: bool = False) -> int:
        """How many media the cache lists.

        :param with_deleted: count those too whose files are known to be deleted.
        """
        which = "" if with_deleted else "WHERE NOT known_deleted"
        with self._errors():
            (number,) = self._connection.execute(f"SELECT count(*) FROM media {which}").fetchone()
        return int(number)

    def rows(self) -> Iterator[Media]:
        """The media that may still be on disk. Do not change the cache before the end."""
        with self._errors():
            for row in self._connection.execute(
                "SELECT origin, media_id, filesystem_id, type FROM media WHERE NOT known_deleted"
            ):
                yield self._media(row)

    def pages(self, size: int) -> Iterator[list[tuple[Media, bool]]]:
        """All media, and whether each is known to be deleted. The cache may change in between."""
        last = 0
        while True:
            with self._mutex, self._errors():
                page = self._connection.execute(
                    "SELECT origin, media_id, filesystem_id, type, known_deleted, rowid FROM media "
                    "WHERE rowid > ? ORDER BY rowid LIMIT ?",
                    (last, size),
                ).fetchall()
            if not page:
                return
            if page[-1][5] <= last:
                raise self._damaged("its rows are out of order")
            last = page[-1][5]
            yield [(self._media(row[:4]), bool(row[4])) for row in page]

    def mark(self, media: Iterable[Media], *, deleted: bool) -> None:
        """Record whether the files of these media are gone from the disk."""
        with self._transaction():
            self._connection.executemany(
                "UPDATE media SET known_deleted = ? "
                "WHERE origin = ? AND media_id = ? AND filesystem_id = ?",
                ((deleted, one.origin, one.media_id, one.filesystem_id) for one in media),
            )

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """Commit at the end, or roll back; a killed process rolls back too."""
        with self._mutex, self._errors():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    def _media(self, row: tuple[Any, ...]) -> Media:
        if not all(isinstance(part, str) for part in row):
            raise self._damaged("a row holds something else than text")
        return Media(*row)

    def _damaged(self, why: str) -> CacheError:
        return CacheError(f"{self._path}: {why}{self._remedy(why)}")

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise CacheError(f"{self._path}: {error}{self._remedy(str(error))}") from error

    def _remedy(self, reason: str) -> str:
        if any(words in reason for words in _DENIED):
            return remedy_of_owner(self._path, self._path)
        if any(words in reason for words in _NOT_DAMAGE):
            return ""
        return ". This file is safe to delete: the next 'update' makes a new one"


def _index(connection: sqlite3.Connection, table: str) -> str | None:
    """The name of a table's unique index; ``None`` if the table has none."""
    row = connection.execute(
        'SELECT name FROM pragma_index_list(?) WHERE "unique"', (table,)
    ).fetchone()
    return None if row is None else str(row[0])


@contextmanager
def as_cache_errors(what: str) -> Iterator[None]:
    """Turn SQLite's errors into :class:`CacheError`.

    :param what: the file, for the message.
    """
    try:
        yield
    except sqlite3.Error as error:
        raise CacheError(f"{what}: {error}") from error
