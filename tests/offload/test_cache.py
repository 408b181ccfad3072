"""The cache keeps what it knows, whatever happens to an update."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from swift_provider.errors import CacheError, ConfigError
from swift_provider.offload import cache as cache_module
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
from swift_provider.errors import CacheError, ConfigError
from swift_provider.offload import cache as cache_module
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


#: What s3_media_upload runs at the start of each command (synapse-s3-storage-provider 1.7.0).
SIBLINGS_SCHEMA = """
    CREATE TABLE IF NOT EXISTS media (
        origin TEXT NOT NULL,
        media_id TEXT NOT NULL,
        filesystem_id TEXT NOT NULL,
        type TEXT NOT NULL,
        known_deleted BOOLEAN NOT NULL
    );
    CREATE UNIQUE INDEX IF NOT EXISTS media_id_idx ON media(origin, media_id);
    CREATE INDEX IF NOT EXISTS deleted_idx ON media(known_deleted);
"""


def test_both_scripts_take_turns(tmp_path: Path) -> None:
    """Commands of s3_media_upload and updates of ours alternate on one cache."""
    path = tmp_path / "cache.db"
    for turn in range(5):
        with closing(Cache(str(path))) as cache:
            cache.replace([("first",), (f"ours-{turn}",)], [])
        with closing(Cache(str(path))) as cache:
            cache.replace([("first",), (f"ours-{turn}",)], [])
        with closing(sqlite3.connect(path)) as sibling:
            sibling.executescript(SIBLINGS_SCHEMA)
            for name in ("first", "theirs"):
                sibling.execute(
                    "INSERT OR IGNORE INTO media VALUES ('', ?, ?, 'local', 0)", (name, name)
                )
            sibling.execute("UPDATE media SET known_deleted = 1 WHERE media_id = 'first'")
            sibling.commit()
        with closing(Cache(str(path))) as cache:
            assert rows_of(cache) == {
                Media("", "first", "first", "local"): True,
                Media("", f"ours-{turn}", f"ours-{turn}", "local"): False,
                Media("", "theirs", "theirs", "local"): False,
            }


@pytest.mark.parametrize("seed", range(20))
def test_a_cache_that_is_damaged_inside(tmp_path: Path, seed: int) -> None:
    """Whatever a disk does to the file: each method works, or says that the file may go."""
    path = tmp_path / "cache.db"
    names = [(f"example{n % 9}.org", f"media-{n}", f"file-{n}") for n in range(2000)]
    with closing(Cache(str(path))) as cache:
        cache.replace([("first",)], names)
    content = bytearray(path.read_bytes())
    chance = random.Random(seed)
    begin = chance.randrange(100, len(content) - 4096)
    content[begin : begin + 2000] = chance.randbytes(2000)
    path.write_bytes(content)
    told = []
    uses: list[Callable[[Cache], object]] = [
        lambda cache: cache.count(with_deleted=True),
        lambda cache: list(cache.rows()),
        lambda cache: list(cache.pages(100)),
        lambda cache: cache.mark([Media(*name, "remote") for name in names], deleted=True),
        lambda cache: cache.replace([("first",)], names),
    ]
    for use in uses:
        try:
            with closing(Cache(str(path))) as cache:
                use(cache)
        except (CacheError, ConfigError) as error:
            told.append(str(error))
    for line in told:
        assert str(path) in line
        assert "safe to delete" in line


def test_a_cache_in_use_is_not_called_damaged(tmp_path: Path, monkeypatch: Any) -> None:
    """While the other script writes to the cache, nobody is told to delete it."""
    monkeypatch.setattr(cache_module, "BUSY_TIMEOUT_SECONDS", 0.1)
    path = tmp_path / "cache.db"
    with closing(Cache(str(path))) as cache, closing(sqlite3.connect(path)) as sibling:
        sibling.execute("BEGIN IMMEDIATE")
        with pytest.raises(CacheError, match="locked") as caught:
            cache.replace([("first",)], [])
        assert "delete" not in str(caught.value)
        assert str(path) in str(caught.value)
    with closing(sqlite3.connect(path)) as sibling:
        sibling.execute("BEGIN EXCLUSIVE")
        with pytest.raises(ConfigError, match="locked") as refused:
            Cache(str(path))
        assert "delete" not in str(refused.value)


def test_memory_stays_small(tmp_path: Path) -> None:
    """Two hundred thousand rows more need no more memory."""
    program = f"""
import resource
from swift_provider.errors import CacheError, ConfigError
from swift_provider.offload import cache as cache_module
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


def test_a_cache_of_another_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The remedy is to delete it."""
    path = tmp_path / "cache.db"
    Cache(str(path)).close()

    def refuse(*arguments: object, **options: object) -> None:
        raise sqlite3.OperationalError("attempt to write a readonly database")

    monkeypatch.setattr(sqlite3, "connect", refuse)
    monkeypatch.setattr(os, "geteuid", lambda: 4321)
    with pytest.raises(
        ConfigError, match=r"readonly database: it belongs to .* [Dd]elete .*cache.db"
    ):
        Cache(str(path))
