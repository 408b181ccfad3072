"""What one run has to look at, in the order of the files' names. Forgotten with the run.

Kept in a temporary SQLite database, on the disk where memory is short, so that
millions of media can be sorted. Blocking. Any thread may use it, one at a time.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from typing import Any

from swift_provider.offload.cache import reported
from swift_provider.offload.database import Database
from swift_provider.offload.media_names import Media

#: Kind, origin and filesystem id: what a path is made of.
Owner = tuple[str, str, str]
#: An object's name, and whose it is.
Candidate = tuple[str, str, str, str]


class Plan:
    """Empty at first; :meth:`read_all` or :meth:`read` fills it, once."""

    def __init__(self) -> None:
        # The empty name is SQLite's for a temporary file that nobody else sees.
        self._connection = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        self._connection.execute("PRAGMA journal_mode = OFF")
        self._connection.execute("CREATE TABLE given (origin, media_id, filesystem_id, type)")

    def close(self) -> None:
        """Forget it."""
        self._connection.close()

    def read(self, media: Iterable[Media]) -> int:
        """Plan these.

        :returns: how many they are.
        """
        self._insert("INSERT INTO given VALUES (?, ?, ?, ?)", media)
        return self._sort()

    def read_all(self, database: Database) -> int:
        """Plan all media that Synapse knows, whatever their age; no previews of web pages."""
        self._insert("INSERT INTO given SELECT '', ?1, ?1, 'local'", database.idle_local(None))
        self._insert(
            "INSERT INTO given SELECT ?1, ?2, ?3, 'remote' WHERE ?1 NOT NULL AND ?3 NOT NULL",
            database.idle_remote(None),
        )
        return self._sort()

    def _insert(self, sql: str, rows: Iterable[tuple[str | None, ...]]) -> None:
        with reported():
            self._connection.execute("BEGIN")
            self._connection.executemany(sql, rows)
            self._connection.execute("COMMIT")

    def _sort(self) -> int:
        with reported():
            # As Swift sorts its listings: "a.org/" comes before "a/".
            self._connection.execute(
                "CREATE TABLE work AS SELECT * FROM given "
                "ORDER BY type, origin || '/', filesystem_id"
            )
            self._connection.execute("DROP TABLE given")
            (count,) = self._connection.execute("SELECT count(*) FROM work").fetchone()
        return int(count)

    def pages(self, size: int) -> Iterator[list[Media]]:
        """The media planned, page by page."""
        for page in self._pages("work", "origin, media_id, filesystem_id, type", size):
            yield [Media(*row) for row in page]

    def unknown(self, owners: Iterable[Owner]) -> list[Owner]:
        """Which of these are not among the media planned."""
        with reported():
            self._connection.execute(
                "CREATE INDEX IF NOT EXISTS work_idx ON work (type, origin, filesystem_id)"
            )
            find = "SELECT 1 FROM work WHERE type = ? AND origin = ? AND filesystem_id = ?"
            return [one for one in owners if self._connection.execute(find, one).fetchone() is None]

    def set_aside(self, candidates: Iterable[Candidate]) -> None:
        """Note objects for later."""
        with reported():
            self._connection.execute(
                "CREATE TABLE IF NOT EXISTS candidates (name, type, origin, filesystem_id)"
            )
        self._insert("INSERT INTO candidates VALUES (?, ?, ?, ?)", candidates)

    def aside(self, size: int) -> Iterator[list[Candidate]]:
        """The objects noted, page by page."""
        yield from self._pages("candidates", "name, type, origin, filesystem_id", size)

    def _pages(self, table: str, columns: str, size: int) -> Iterator[list[Any]]:
        last = 0
        while True:
            with reported():
                page = self._connection.execute(
                    f"SELECT {columns}, rowid FROM {table} WHERE rowid > ? ORDER BY rowid LIMIT ?",
                    (last, size),
                ).fetchall()
            if not page:
                return
            last = page[-1][-1]
            yield [row[:-1] for row in page]
