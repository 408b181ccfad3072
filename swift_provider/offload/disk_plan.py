"""Which media are on the disk, and which of them go first.

Like :class:`.SortedMedia`, a plan is a temporary SQLite database, so that it may hold
millions of media in little memory. Where the disk is full it cannot be: then it is in memory,
and holds only as many media as fit there. All methods block. Any thread may use a plan, but
only one at a time.
"""

from __future__ import annotations

import sqlite3
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Any, NamedTuple

from swift_provider.offload.cache import as_cache_errors
from swift_provider.offload.media_ages import Age
from swift_provider.offload.media_names import Media
from swift_provider.offload.media_walk import FoundFile
from swift_provider.offload.sorted_media import TEMPORARY_FILE, Owner

#: Files that a plan in memory holds; they take about 40 MB.
FILES_IN_MEMORY = 200_000
#: Memory for pages of the temporary file.
CACHE_KIB = 8192
#: A file that was written so long after its media were stored has come back from Swift.
BROUGHT_BACK_MS = 3_600_000


class Why(Enum):
    """Why a media goes, in the order in which they go."""

    #: Its content was brought back to make a thumbnail.
    BROUGHT_BACK = 0
    #: Nobody has accessed it for as long as ``older_than``.
    AGE = 1
    #: The disk is over its limits.
    SPACE = 2


class Victim(NamedTuple):
    """A media that may go.

    :ivar taken: the bytes of its files on the disk.
    """

    media: Media
    why: Why
    taken: int


class Orphan(NamedTuple):
    """Files of a media without a row in the database.

    :ivar written_ms: when the newest of them was written to.
    """

    owner: Owner
    written_ms: int


@dataclass(frozen=True)
class Need:
    """What has to go.

    :ivar space: bytes; 0 if the disk is within its limits.
    :ivar older_before_ms: media that were accessed before go in any case; ``None`` for none.
        Milliseconds since the epoch, like the next one.
    :ivar written_since_ms: contents that were brought back later go in any case, and first.
    :ivar quiet_seconds: media that were accessed more recently stay.
    :ivar young_seconds: thumbnails without a row stay if they are younger.
    """

    space: int
    older_before_ms: int | None
    written_since_ms: int
    quiet_seconds: float
    young_seconds: float

    def quiet_before_ms(self) -> int:
        """The time since which a media must not have been accessed, as of now."""
        return int((time.time() - self.quiet_seconds) * 1000)


class DiskPlan:
    """Filled by :meth:`add`, then by :meth:`match`, then read.

    :param in_memory: for a full disk.
    :ivar taken: bytes of all files.
    :ivar files: how many there are.
    :ivar is_partial: whether it holds only some of them.
    """

    def __init__(self, *, in_memory: bool = False) -> None:
        # An empty name means a temporary file; SQLite deletes it on closing.
        name = ":memory:" if in_memory else ""
        self._limit = FILES_IN_MEMORY if in_memory else None
        self.taken = 0
        self.files = 0
        self.is_partial = False
        self._connection = sqlite3.connect(name, isolation_level=None, check_same_thread=False)
        self._connection.execute("PRAGMA journal_mode = OFF")
        self._connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
        if in_memory:
            self._connection.execute("PRAGMA temp_store = MEMORY")

    def close(self) -> None:
        """Delete the plan."""
        self._connection.close()

    def add(self, files: Iterable[FoundFile]) -> None:
        """Take the files that are on the disk. Call it once.

        :raises CacheError: if the disk is full.
        """
        run = self._connection.execute
        with as_cache_errors(TEMPORARY_FILE):
            run(
                "CREATE TABLE files "
                "(type, origin, filesystem_id, taken, written, is_content, elsewhere)"
            )
            run("BEGIN")
            self._connection.executemany(
                "INSERT INTO files VALUES (?, ?, ?, ?, ?, ?, ?)", self._counted(files)
            )
            run("COMMIT")
            # Sorted once, instead of a search for each file.
            run(
                "CREATE TABLE disk AS SELECT type, origin, filesystem_id, sum(taken) AS taken, "
                "max(written) AS written, "
                "max(CASE WHEN is_content THEN written END) AS content_written, "
                "max(elsewhere) AS elsewhere "
                "FROM files GROUP BY type, origin, filesystem_id"
            )
            run("DROP TABLE files")
            run("CREATE UNIQUE INDEX disk_idx ON disk (type, origin, filesystem_id)")

    def _counted(self, files: Iterable[FoundFile]) -> Iterator[FoundFile]:
        for file in files:
            self.taken += file.taken
            self.files += not file.elsewhere
            if self._limit is None or self.files <= self._limit:
                yield file
            else:
                self.is_partial = True

    def has_content_written_since(self, written_ms: int) -> bool:
        """Whether any content may have been brought back after that time."""
        with as_cache_errors(TEMPORARY_FILE):
            row = self._connection.execute(
                "SELECT 1 FROM disk WHERE content_written >= ? AND NOT elsewhere LIMIT 1",
                (written_ms,),
            ).fetchone()
        return row is not None

    def match(self, kind: str, ages: Iterable[Age]) -> None:
        """Find the media of the files. Call it once for each kind.

        :param ages: all media of the kind in the database.
        """
        run = self._connection.execute
        with as_cache_errors(TEMPORARY_FILE):
            run(
                "CREATE TABLE IF NOT EXISTS work "
                "(type, origin, media_id, filesystem_id, accessed, created, "
                "taken, written, content_written, elsewhere, place)"
            )
            run("BEGIN")
            self._connection.executemany(
                f"INSERT INTO work SELECT '{kind}', ?1, ?2, ?3, ?4, ?5, "
                "taken, written, content_written, elsewhere, rowid "
                f"FROM disk WHERE type = '{kind}' AND origin = ?1 AND filesystem_id = ?3",
                ages,
            )
            run("COMMIT")

    def victims(self, need: Need, size: int) -> Iterator[list[Victim]]:
        """The media that may go, the first one first, page by page."""
        brought = (
            f"(content_written >= {need.written_since_ms:d} "
            f"AND content_written >= created + {BROUGHT_BACK_MS:d})"
        )
        before = need.older_before_ms
        older = "0" if before is None else f"(accessed < {before:d})"
        why = (
            f"CASE WHEN {brought} THEN {Why.BROUGHT_BACK.value} "
            f"WHEN {older} THEN {Why.AGE.value} ELSE {Why.SPACE.value} END"
        )
        largest = Why.SPACE.value if need.space > 0 else Why.AGE.value
        sql = (
            f"SELECT origin, media_id, filesystem_id, type, {why} AS why, taken FROM work "
            f"WHERE NOT elsewhere AND {_quiet(need.quiet_before_ms())} AND why <= {largest} "
            "ORDER BY why, accessed"
        )
        for page in self._pages(sql, size):
            yield [Victim(Media(*row[:4]), Why(row[4]), row[5]) for row in page]

    def quiet_bytes(self, quiet_before_ms: int) -> int:
        """The bytes of media that were accessed or written later than that."""
        with as_cache_errors(TEMPORARY_FILE):
            ((taken,),) = self._connection.execute(
                f"SELECT COALESCE(sum(taken), 0) FROM work WHERE NOT {_quiet(quiet_before_ms)}"
            ).fetchall()
        return int(taken)

    def by_name(self, kinds: Iterable[str], size: int) -> Iterator[list[Media]]:
        """The media of these kinds, sorted by the names of their files, page by page."""
        wanted = ", ".join(f"'{kind}'" for kind in sorted(kinds))
        sql = (
            "SELECT work.origin, media_id, work.filesystem_id, work.type FROM work "
            f"JOIN disk ON disk.rowid = place WHERE work.type IN ({wanted}) "
            # Swift lists the objects of "a.org/" before those of "a/".
            "ORDER BY work.type, work.origin || '/', work.filesystem_id"
        )
        for page in self._pages(sql, size):
            yield [Media(*row) for row in page]

    def known_by_day(self, kind: str) -> Counter[str]:
        """How many media on the disk Synapse stored on each day, by ISO 8601 (UTC)."""
        sql = (
            "SELECT date(created / 1000, 'unixepoch'), count(*) FROM work WHERE type = ? GROUP BY 1"
        )
        with as_cache_errors(TEMPORARY_FILE):
            return Counter({str(day): n for day, n in self._connection.execute(sql, (kind,))})

    def orphans(self, size: int) -> Iterator[list[Orphan]]:
        """The media that have files and no row, page by page."""
        sql = (
            "SELECT type, origin, filesystem_id, written FROM disk "
            "WHERE NOT elsewhere AND rowid NOT IN (SELECT place FROM work) ORDER BY rowid"
        )
        for page in self._pages(sql, size):
            yield [Orphan((row[0], row[1], row[2]), row[3]) for row in page]

    def _pages(self, sql: str, size: int) -> Iterator[list[tuple[Any, ...]]]:
        with as_cache_errors(TEMPORARY_FILE):
            cursor = self._connection.execute(sql)
            while page := cursor.fetchmany(size):
                yield page


def _quiet(before_ms: int) -> str:
    """SQL: whether a row of ``work`` was neither accessed nor written since.

    Synapse writes an access to the database up to a minute later. It writes a file when it
    brings it back for somebody.
    """
    return f"(accessed < {before_ms:d} AND written < {before_ms:d})"
