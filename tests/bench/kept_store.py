"""A media store to keep within a budget: many files, and some large ones that Swift has too."""

from __future__ import annotations

import hashlib
import os
import random
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg2

from swift_provider._version import __version__
from swift_provider.config import LocalDiskSettings, parse_settings
from swift_provider.keeper import LOW_MARK, Order, Task
from tests.bench import rows
from tests.bench.services import CLOUD, Cluster
from tests.offload.synapse_store import OLD
from tests.servers.postgres import Postgres

SMALL_BYTES, LARGE_BYTES = 10_000, 1_000_000
#: The small files' media were accessed later than those of the large ones, so these go first.
LATER = OLD + 100_000_000_000
BETWEEN = "2019-01-01"
#: Seconds; no media are so old.
AGES = 100 * 365 * 86400
_BLOCK_BYTES = 512


@dataclass(frozen=True)
class Size:
    """How much of it there is.

    :ivar rows: media in the database, without the large ones; most have no file.
    :ivar small: files that Swift lacks.
    :ivar large: files that Swift has.
    """

    rows: int
    small: int
    large: int


class KeptStore:
    """A media store, a database in PostgreSQL, and a container.

    :param folder: for the files.
    :ivar large: MD5 of each large file, by its path in the media store.
    """

    def __init__(self, folder: Path, cluster: Cluster, postgres: Postgres, size: Size) -> None:
        self.base = folder / "media_store"
        self.size = size
        self.cluster = cluster
        self.database = rows.database_with_rows(postgres, "kept", size.rows, SMALL_BYTES, LATER)
        self._aside = folder / "aside"
        self._aside.mkdir(parents=True)
        self._small = self._write_small()
        self.large = self._write_large()
        self.put_back()
        self.container = cluster.container("kept")
        self.container.put({path: self.base / path for path in self.large})

    def _write_small(self) -> list[Path]:
        local = rows.local_rows(self.size.small)
        # Spread over all rows.
        step = self.size.rows // self.size.small
        paths = []
        for number in range(self.size.small):
            is_local = number < local
            row = 1 + step * (number if is_local else number - local)
            folder = "local_content" if is_local else f"remote_content/{rows.origin(row)}"
            path = self.base / folder / _tail(rows.media_id(row))
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(number.to_bytes(8, "big") * (SMALL_BYTES // 8))
            _make_old(path)
            paths.append(path)
        return paths

    def _write_large(self) -> dict[str, str]:
        random_ = random.Random(5)
        sums, values = {}, []
        for number in range(self.size.large):
            media_id = rows.media_id(-1 - number)
            content = random_.randbytes(LARGE_BYTES)
            (self._aside / media_id).write_bytes(content)
            _make_old(self._aside / media_id)
            sums[f"local_content/{_tail(media_id)}"] = hashlib.md5(content).hexdigest()
            sha256 = hashlib.sha256(content).hexdigest()
            values.append((media_id, LARGE_BYTES, OLD, OLD, sha256))
        connection = psycopg2.connect(**self.database)
        with connection, connection.cursor() as cursor:
            cursor.executemany(
                "INSERT INTO local_media_repository "
                "(media_id, media_length, created_ts, last_access_ts, sha256) "
                "VALUES (%s, %s, %s, %s, %s)",
                values,
            )
        connection.close()
        return sums

    def put_back(self) -> None:
        """Have the large files in the media store again, as links: nothing is copied."""
        for name in self._aside.iterdir():
            path = self.base / "local_content" / _tail(name.name)
            if not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                path.hardlink_to(name)

    def is_left(self) -> tuple[int, int]:
        """How many small files, and how many large ones, are in the media store."""
        small = sum(path.exists() for path in self._small)
        return small, sum((self.base / path).exists() for path in self.large)

    @property
    def large_taken(self) -> int:
        """Bytes that the large files take on the disk."""
        return sum(_taken(path) for path in self._aside.iterdir())

    @property
    def budget(self) -> int:
        """The ``max_size`` for which all large files go, and none of the small ones."""
        left = sum(map(_taken, self._small)) + LARGE_BYTES // 2
        return int(left / (1 - LOW_MARK))

    def order(self, **limits: Any) -> bytes:
        """What the module sends to its child process.

        :param limits: options of ``local_disk``.
        """
        order = Order(
            version=__version__,
            environment={"OS_CLIENT_CONFIG_FILE": str(self.cluster.clouds_yaml)},
            settings=parse_settings({"cloud": CLOUD, "container": self.container.name}),
            limits=LocalDiskSettings(**limits),
            server_name="bench.example",
            media_store=str(self.base),
            database={"name": "psycopg2", "args": self.database},
            tasks=frozenset({Task.KEEP}),
            repair_kinds=frozenset({"local", "remote"}),
            quiet_seconds=600.0,
            young_seconds=86400.0,
            written_since=time.time(),
        )
        return order.to_line()


def _tail(media_id: str) -> str:
    return f"{media_id[:2]}/{media_id[2:4]}/{media_id[4:]}"


def _taken(path: Path) -> int:
    return path.stat().st_blocks * _BLOCK_BYTES


def _make_old(path: Path) -> None:
    """What was written in the last minutes stays on the disk."""
    os.utime(path, (OLD / 1000, OLD / 1000))
