"""The media that one run has to look at, sorted by the names of their files.

A plan is a temporary SQLite database: SQLite moves what does not fit into its cache to
the disk, so millions of media can be sorted. All methods block. Any thread may use a
plan, but only one at a time.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from typing import Any

from swift_provider.errors import LooksWrongError
from swift_provider.offload.cache import as_cache_errors
from swift_provider.offload.database import Database
from swift_provider.offload.media_names import Media

#: The media of an object: kind, origin and filesystem id.
Owner = tuple[str, str, str]
#: An object's path, then its media as in :data:`Owner`.
Candidate = tuple[str, str, str, str]

#: Names a plan in an error.
TEMPORARY_FILE = "a temporary SQLite file (in SQLITE_TMPDIR, TMPDIR or /var/tmp)"


class SortedMedia:
    """Empty at first. Call :meth:`read_all` or :meth:`read` once, before the other methods."""

    def __init__(self) -> None:
        # An empty name means a temporary file; SQLite deletes it on closing.
        self._connection = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        self._connection.execute("PRAGMA journal_mode = OFF")
        self._connection.execute("CREATE TABLE given (origin, media_id, filesystem_id, type)")

    def close(self) -> None:
        """Delete the plan."""
        self._connection.close()

    def read(self, media: Iterable[Media]) -> int:
        """Take these media.

        :returns: how many there are.
        """
        self._insert("INSERT INTO given VALUES (?, ?, ?, ?)", media)
        return self._sort()

    def read_all(self, database: Database) -> int:
        """Take all media in Synapse's database, of any age, without previews of web pages.

        :returns: how many there are.
        """
        self._insert("INSERT INTO given SELECT '', ?1, ?1, 'local'", database.idle_local(None))
        self._insert(
            "INSERT INTO given SELECT ?1, ?2, ?3, 'remote' WHERE ?1 NOT NULL AND ?3 NOT NULL",
            database.idle_remote(None),
        )
        return self._sort()

    def read_all_known(self, database: Database) -> int:
        """As :meth:`read_all`, for a job that judges by it which files there should be.

        :returns: how many there are.
        :raises LooksWrongError: if there are no media at all.
        """
        count = self.read_all(database)
        if count == 0:
            raise LooksWrongError(
                "Synapse's database has no media at all, so it is probably the wrong database"
            )
        return count

    def _insert(self, sql: str, rows: Iterable[tuple[str | None, ...]]) -> None:
        with as_cache_errors(TEMPORARY_FILE):
            self._connection.execute("BEGIN")
            self._connection.executemany(sql, rows)
            self._connection.execute("COMMIT")

    def _sort(self) -> int:
        with as_cache_errors(TEMPORARY_FILE):
            # Swift lists the objects of "a.org/" before those of "a/".
            self._connection.execute(
                "CREATE TABLE work AS SELECT * FROM given "
                "ORDER BY type, origin || '/', filesystem_id"
            )
            self._connection.execute("DROP TABLE given")
            (count,) = self._connection.execute("SELECT count(*) FROM work").fetchone()
        return int(count)

    def pages(self, size: int) -> Iterator[list[Media]]:
        """The planned media, page by page."""
        for page in self._pages("work", "origin, media_id, filesystem_id, type", size):
            yield [Media(*row) for row in page]

    def unknown(self, owners: Iterable[Owner]) -> list[Owner]:
        """Those of these media that are not planned."""
        owners = list(owners)
        known = self.media_of(owners)
        return [one for one in owners if one not in known]

    def media_of(self, owners: Iterable[Owner]) -> dict[Owner, Media]:
        """Those of these media that are planned."""
        found = {}
        with as_cache_errors(TEMPORARY_FILE):
            self._connection.execute(
                "CREATE INDEX IF NOT EXISTS work_idx ON work (type, origin, filesystem_id)"
            )
            find = (
                "SELECT origin, media_id, filesystem_id, type FROM work "
                "WHERE type = ? AND origin = ? AND filesystem_id = ?"
            )
            for owner in owners:
                row = self._connection.execute(find, owner).fetchone()
                if row is not None:
                    found[owner] = Media(*row)
        return found

    def add_candidates(self, candidates: Iterable[Candidate]) -> None:
        """Remember objects until :meth:`candidates` returns them."""
        with as_cache_errors(TEMPORARY_FILE):
            self._connection.execute(
                "CREATE TABLE IF NOT EXISTS candidates (path, type, origin, filesystem_id)"
            )
        self._insert("INSERT INTO candidates VALUES (?, ?, ?, ?)", candidates)

    def doom(self, candidates: Iterable[Candidate]) -> None:
        """Remember objects until :meth:`doomed` returns them."""
        with as_cache_errors(TEMPORARY_FILE):
            self._connection.execute(
                "CREATE TABLE IF NOT EXISTS doomed (path, type, origin, filesystem_id)"
            )
        self._insert("INSERT INTO doomed VALUES (?, ?, ?, ?)", candidates)

    def doom_attempts(self, attempts: Iterable[tuple[str, str]]) -> None:
        """Remember attempts to upload an object, by its path and the attempt, until
        :meth:`doomed_attempts` returns them.
        """
        with as_cache_errors(TEMPORARY_FILE):
            self._connection.execute("CREATE TABLE IF NOT EXISTS doomed_attempts (path, attempt)")
        self._insert("INSERT INTO doomed_attempts VALUES (?, ?)", attempts)

    def candidates(self, size: int) -> Iterator[list[Candidate]]:
        """The objects of :meth:`add_candidates`, page by page."""
        yield from self._pages("candidates", "path, type, origin, filesystem_id", size)

    def doomed(self, size: int) -> Iterator[list[Candidate]]:
        """The objects of :meth:`doom`, page by page."""
        yield from self._pages("doomed", "path, type, origin, filesystem_id", size)

    def doomed_attempts(self, size: int) -> Iterator[list[tuple[str, str]]]:
        """The attempts of :meth:`doom_attempts`, page by page."""
        yield from self._pages("doomed_attempts", "path, attempt", size)

    def _pages(self, table: str, columns: str, size: int) -> Iterator[list[Any]]:
        last = 0
        while True:
            with as_cache_errors(TEMPORARY_FILE):
                page = self._connection.execute(
                    f"SELECT {columns}, rowid FROM {table} WHERE rowid > ? ORDER BY rowid LIMIT ?",
                    (last, size),
                ).fetchall()
            if not page:
                return
            last = page[-1][-1]
            yield [row[:-1] for row in page]
