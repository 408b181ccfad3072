"""``cache.db``: which media were not accessed for long, and may still be on disk.

Only a list of what to look at. Nothing is deleted on its word, so it may be
stale, and to remove it costs one ``update``. The columns are those of the
sibling script ``s3_media_upload``, whose cache can be used as it is.

Blocking. Any thread may use it; one waits for the other.
"""

from __future__ import annotations

import itertools
import sqlite3
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from swift_provider.errors import ConfigError, SwiftProviderError
from swift_provider.offload.lock import RunLock
from swift_provider.offload.media_names import Media

_COLUMNS = """
    origin TEXT NOT NULL,          -- empty for local media
    media_id TEXT NOT NULL,
    filesystem_id TEXT NOT NULL,
    type TEXT NOT NULL,            -- "local" or "remote"
    known_deleted BOOLEAN NOT NULL -- the file and all thumbnails are gone from the disk
"""
#: SQLite's ``user_version``, 0 in a new file, of a cache that was filled.
_UPDATED = 1
_NAMES = {"origin", "media_id", "filesystem_id", "type", "known_deleted"}


class CacheError(SwiftProviderError):
    """The cache cannot be written any more, for want of disk space as a rule."""


@dataclass(frozen=True)
class Changes:
    """What an update did: rows that are new, gone, refused, and all that are there now.

    :param refused: rows of Synapse's that lack a part of their name.
    """

    new: int
    gone: int
    refused: int
    total: int


class Cache:
    """The cache, open and locked.

    :param path: is made if absent.
    :raises ConfigError: if another run uses it, or it is no such cache.
    """

    def __init__(self, path: str) -> None:
        self._lock = RunLock(path)
        self._mutex = threading.Lock()
        try:
            self._connection = self._open(path)
        except sqlite3.Error as error:
            self._lock.close()
            raise ConfigError(
                f"{path} cannot be used as the cache: {error}. "
                "It can safely be deleted: the next update makes it anew"
            ) from error
        except BaseException:
            self._lock.close()
            raise

    @staticmethod
    def _open(path: str) -> sqlite3.Connection:
        connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        try:
            connection.execute("PRAGMA cache_size = -8192")
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute(f"CREATE TABLE IF NOT EXISTS media ({_COLUMNS})")
            found = {row[1] for row in connection.execute("PRAGMA table_info(media)")}
            if missing := _NAMES - found:
                raise ConfigError(
                    f"{path} is not this script's cache: its table 'media' lacks "
                    f"{', '.join(sorted(missing))}. Give --cache-db another file"
                )
            if _index(connection, "media") is None:
                connection.execute("CREATE UNIQUE INDEX media_id_idx ON media (origin, media_id)")
        except BaseException:
            connection.close()
            raise
        return connection

    def close(self) -> None:
        """Close it, and let the next run begin."""
        with self._mutex:
            self._connection.close()
        self._lock.close()

    def replace(
        self,
        local: Iterable[tuple[str]],
        remote: Iterable[tuple[str | None, str, str | None]],
    ) -> Changes:
        """Make the cache hold exactly these rows, all or nothing; it is :attr:`updated` then.

        What is known about a row's file stays, unless its filesystem id changed.

        :param local: media ids.
        :param remote: origin, media id, filesystem id; a row with a ``None`` is refused.
        """
        run = self._connection.execute
        with self._transaction():
            (before,) = run("SELECT count(*) FROM media").fetchone()
            run("DROP TABLE IF EXISTS fresh")
            run(f"CREATE TABLE fresh ({_COLUMNS})")
            refused = self._insert("fresh", local, remote)
            # Made after the rows, it is sorted once instead of kept in order a million times.
            self._make_index("fresh")
            (total,) = run("SELECT count(*) FROM fresh").fetchone()
            kept = self._carry_over() if before else 0
            run("DROP TABLE media")
            run("ALTER TABLE fresh RENAME TO media")
            run(f"PRAGMA user_version = {_UPDATED}")
        return Changes(total - kept, before - kept, refused, total)

    def _carry_over(self) -> int:
        """Note in ``fresh`` which files are known to be gone.

        :returns: how many rows of ``fresh`` were in ``media`` before.
        """
        # Both sides are read from their indexes, side by side, not at random.
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
        """Give a table the index that keeps its rows apart.

        An index keeps its name for life: two names take turns.
        """
        taken = _index(self._connection, "media")
        name = "media_key_idx" if taken == "media_id_idx" else "media_id_idx"
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
        """Whether it was ever filled, be it with nothing."""
        with reported():
            (version,) = self._connection.execute("PRAGMA user_version").fetchone()
        return bool(version == _UPDATED)

    def count(self, *, with_deleted: bool = False) -> int:
        """How many rows :meth:`pages` goes through."""
        which = "" if with_deleted else "WHERE NOT known_deleted"
        with reported():
            (number,) = self._connection.execute(f"SELECT count(*) FROM media {which}").fetchone()
        return int(number)

    def rows(self) -> Iterator[Media]:
        """The media that may still be on disk. Not to be mixed with changes."""
        with reported():
            for row in self._connection.execute(
                "SELECT origin, media_id, filesystem_id, type FROM media WHERE NOT known_deleted"
            ):
                yield Media(*row)

    def pages(self, size: int) -> Iterator[list[tuple[Media, bool]]]:
        """All rows, and whether each is known to be deleted; changes in between are welcome."""
        last = 0
        while True:
            with self._mutex, reported():
                page = self._connection.execute(
                    "SELECT origin, media_id, filesystem_id, type, known_deleted, rowid FROM media "
                    "WHERE rowid > ? ORDER BY rowid LIMIT ?",
                    (last, size),
                ).fetchall()
            if not page:
                return
            last = page[-1][5]
            yield [(Media(*row[:4]), bool(row[4])) for row in page]

    def mark(self, media: Iterable[Media], *, deleted: bool) -> None:
        """Note whether the files of these media are gone from the disk."""
        with self._transaction():
            self._connection.executemany(
                "UPDATE media SET known_deleted = ? "
                "WHERE origin = ? AND media_id = ? AND filesystem_id = ?",
                ((deleted, one.origin, one.media_id, one.filesystem_id) for one in media),
            )

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """All or nothing, also if the process is killed in between."""
        with self._mutex, reported():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise


def _index(connection: sqlite3.Connection, table: str) -> str | None:
    """The name of a table's unique index, ``None`` if it has none."""
    row = connection.execute(
        'SELECT name FROM pragma_index_list(?) WHERE "unique"', (table,)
    ).fetchone()
    return None if row is None else str(row[0])


@contextmanager
def reported() -> Iterator[None]:
    """Turn SQLite's errors into :class:`CacheError`."""
    try:
        yield
    except sqlite3.Error as error:
        raise CacheError(f"the cache: {error}") from error
