"""The cache keeps what it knows, whatever happens to an update."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from swift_provider.offload.cache import Cache
from swift_provider.offload.media_names import Media
from tests.offload.conftest import rows_of


def test_an_update_that_fails_changes_nothing(cache: Cache) -> None:
    """If the database goes away in the middle, the cache is as before."""
    cache.replace([("oldlocal",)], [])
    before = rows_of(cache)

    def broken() -> Iterator[tuple[str]]:
        yield ("another",)
        raise ConnectionError

    with pytest.raises(ConnectionError):
        cache.replace(broken(), iter(()))
    assert rows_of(cache) == before
    cache.replace([("another",)], [])
    assert [media.media_id for media in rows_of(cache)] == ["another"]


def test_an_update_that_is_killed_changes_nothing(tmp_path: Path) -> None:
    """kill -9 in the middle of an update leaves the old cache whole, and unlocked."""
    path = tmp_path / "cache.db"
    with closing(Cache(str(path))) as cache:
        cache.replace([("first",)], [])
    killed = f"""
import os, signal
from swift_provider.offload.cache import Cache
def rows():
    for number in range(500_000):
        yield (f"media-{{number}}",)
    os.kill(os.getpid(), signal.SIGKILL)
Cache({str(path)!r}).replace(rows(), [])
"""
    ended = subprocess.run([sys.executable, "-c", killed], check=False, cwd=Path.cwd())
    assert ended.returncode == -signal.SIGKILL
    with closing(Cache(str(path))) as cache:
        assert [media.media_id for media in cache.rows()] == ["first"]


def test_the_siblings_cache_is_taken_over(tmp_path: Path) -> None:
    """A cache of s3_media_upload is used as it is, and what it knows stays known."""
    path = tmp_path / "cache.db"
    connection = sqlite3.connect(path)
    connection.executescript(
        "CREATE TABLE media (origin TEXT NOT NULL, media_id TEXT NOT NULL,"
        " filesystem_id TEXT NOT NULL, type TEXT NOT NULL, known_deleted BOOLEAN NOT NULL);"
        "CREATE UNIQUE INDEX media_id_idx ON media(origin, media_id);"
        "CREATE INDEX deleted_idx ON media(known_deleted);"
        "INSERT INTO media VALUES ('', 'oldlocal', 'oldlocal', 'local', 1);"
    )
    connection.close()
    with closing(Cache(str(path))) as cache:
        assert cache.count() == 0
        assert cache.replace([("oldlocal",), ("another",)], []).new == 1
        assert rows_of(cache) == {
            Media("", "oldlocal", "oldlocal", "local"): True,
            Media("", "another", "another", "local"): False,
        }


def test_memory_stays_small(tmp_path: Path) -> None:
    """Two hundred thousand rows more need no more memory."""
    program = f"""
import resource
from swift_provider.offload.cache import Cache
def rows(count):
    return ((f"example{{n % 99}}.org", f"media-{{n}}", f"file-{{n}}") for n in range(count))
cache = Cache({str(tmp_path / "cache.db")!r})
cache.replace([], rows(100_000))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
cache.replace([], rows(300_000))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    grown = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, cwd=os.getcwd()
    )
    assert int(grown.stdout) < 10_000  # KiB
