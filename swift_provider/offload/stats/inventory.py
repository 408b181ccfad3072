"""The list of all media, files and objects that the figures are made from.

Like :class:`.SortedMedia`, an inventory is a temporary SQLite database, so that it may hold
millions of them in little memory. Files, objects and rows are joined by the name of the media
(its origin, empty for local media, and its filesystem id) and the name of the thumbnail, empty
for the media's content. All methods block. Any thread may use an inventory, but only one at a
time.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

from swift_provider.offload.cache import as_cache_errors
from swift_provider.offload.disk import is_thumbnail
from swift_provider.offload.media_names import media_of_object
from swift_provider.offload.media_walk import SizedFile
from swift_provider.offload.sorted_media import TEMPORARY_FILE
from swift_provider.offload.stats.amounts import Amount
from swift_provider.offload.stats.media_rows import Row

#: Memory for pages of the temporary file.
CACHE_KIB = 8192
PAGE_ROWS = 5000

_TABLES = """
    CREATE TABLE files (origin, filesystem_id, name, size, taken, written);
    CREATE TABLE media (origin, filesystem_id, media_id, step, length);
    CREATE TABLE objects (place, origin, filesystem_id, name, size);
    -- The files whose media have a row. Offloading would take them if their media were idle
    -- for the time of the step; never, if it is 0.
    CREATE TABLE known (file INTEGER PRIMARY KEY, media INTEGER, step INTEGER);
"""


class Inventory:
    """Filled by :meth:`add_files`, :meth:`add_media`, :meth:`match` and :meth:`add_objects`, in
    this order; then read.

    :raises CacheError: by all methods, if SQLite's temporary file fails.
    """

    def __init__(self) -> None:
        # An empty name means a temporary file; SQLite deletes it on closing.
        self._connection = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        self._connection.execute("PRAGMA journal_mode = OFF")
        self._connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
        self._connection.executescript(_TABLES)

    def close(self) -> None:
        """Delete it."""
        self._connection.close()

    def add_files(self, files: Iterable[SizedFile], advance: Callable[[int, int], None]) -> None:
        """Take the files that are on the disk. Call it once.

        :param advance: called after each page with the number of files and of bytes so far.
        """
        number = taken = 0
        for page in _pages(files):
            self.insert("files", 6, map(_file_row, page))
            number += len(page)
            taken += sum(one.taken for one in page)
            advance(number, taken)

    def add_media(self, rows: Iterable[Row], advance: Callable[[int], None]) -> None:
        """Take the rows of the database.

        :param advance: called after each page with the number of its rows.
        """
        for page in _pages(rows):
            self.insert("media", 5, page)
            advance(len(page))

    def match(self) -> None:
        """Find the rows of the files. Call it once.

        A content of another length than in the database stays, and so does what belongs to an
        upload that Synapse is still waiting for.
        """
        stays = "length IS NULL OR (name = '' AND size <> length)"
        self.run("CREATE INDEX files_idx ON files (origin, filesystem_id, name)")
        # If two rows have one file, the one that is idle for longer counts: with max(), SQLite
        # takes the other columns from the same row.
        self.run(
            "INSERT INTO known SELECT files.rowid, media.rowid, "
            f"max(CASE WHEN {stays} THEN 0 ELSE step END) "
            "FROM media CROSS JOIN files USING (origin, filesystem_id) GROUP BY files.rowid"
        )

    def add_objects(self, place: int, listed: Iterable[tuple[str, int]]) -> int:
        """Take the objects of a place in Swift.

        :param place: its number.
        :param listed: path and length of each.
        :returns: how many of them are not named like media: these are left out.
        """
        others = 0
        rows = []
        for path, size in listed:
            owner = media_of_object(path)
            if owner is None:
                others += 1
            else:
                rows.append((place, *owner[1:], _name(path), size))
        self.insert("objects", 5, rows)
        return others

    def insert(self, table: str, columns: int, rows: Iterable[Sequence[Any]]) -> None:
        """Add rows to a table, in one transaction."""
        with as_cache_errors(TEMPORARY_FILE):
            self._connection.execute("BEGIN")
            marks = ", ".join("?" * columns)
            self._connection.executemany(f"INSERT INTO {table} VALUES ({marks})", rows)
            self._connection.execute("COMMIT")

    def run(self, sql: str, *values: object) -> Iterator[tuple[Any, ...]]:
        """Run a statement at once.

        :returns: its rows, which are read when they are asked for.
        """
        with as_cache_errors(TEMPORARY_FILE):
            return self._rows(self._connection.execute(sql, values))

    @staticmethod
    def _rows(cursor: sqlite3.Cursor) -> Iterator[tuple[Any, ...]]:
        with as_cache_errors(TEMPORARY_FILE):
            yield from cursor

    def amount(self, sql: str, *values: object) -> Amount:
        """The one row of a query that counts and adds up."""
        ((number, size),) = self.run(sql, *values)
        return Amount(number or 0, size or 0)


def _pages(items: Iterable[Any]) -> Iterator[list[Any]]:
    iterator = iter(items)
    while page := list(islice(iterator, PAGE_ROWS)):
        yield page


def _file_row(sized: SizedFile) -> tuple[Any, ...]:
    file = sized.file
    name = _name(sized.path)
    return file.origin, file.filesystem_id, name, sized.size, sized.taken, file.written_ms


def _name(path: str) -> str:
    return path.rpartition("/")[2] if is_thumbnail(path) else ""
