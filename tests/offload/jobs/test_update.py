"""The cache follows Synapse's database and the disk."""

from __future__ import annotations

import io
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from swift_provider.offload.cache import Cache, Changes
from swift_provider.offload.database import Database
from swift_provider.offload.jobs.update import check_deleted, update_db, write
from swift_provider.offload.media_names import Media
from swift_provider.offload.plan import Plan
from tests.offload.synapse_store import OLD, RECENT, SynapseStore

CUT_OFF = OLD + 1


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[Cache]:
    """A new cache."""
    with closing(Cache(str(tmp_path / "cache.db"))) as made:
        yield made


def _update(store: SynapseStore, cache: Cache, before_ms: int = CUT_OFF) -> Changes:
    with closing(Database(store.config)) as database:
        return update_db(database, cache, before_ms)


def _rows(cache: Cache) -> dict[Media, bool]:
    return dict(row for page in cache.pages(1) for row in page)


def test_old_media_are_found(any_store: SynapseStore, cache: Cache) -> None:
    """Media last accessed before the cut-off come in; others, and web previews, do not."""
    any_store.add_local("oldlocal")
    any_store.add_local("neveraccessed", accessed=None)
    any_store.add_local("recentlocal", accessed=RECENT)
    any_store.add_local("2024-01-31_preview", url_cache="https://example.org/")
    any_store.add_local("quarantined", quarantined_by="@admin:example.org")
    any_store.add_remote("example.org", "m1", "oldremote")
    any_store.add_remote("example.org", "m2", "recentremote", accessed=RECENT)
    changes = _update(any_store, cache)
    assert changes == Changes(new=4, gone=0, refused=0, total=4)
    assert _rows(cache) == {
        Media("", "oldlocal", "oldlocal", "local"): False,
        Media("", "neveraccessed", "neveraccessed", "local"): False,
        Media("", "quarantined", "quarantined", "local"): False,
        Media("example.org", "m1", "oldremote", "remote"): False,
    }


def test_changes_are_followed(any_store: SynapseStore, cache: Cache) -> None:
    """Accessed and purged media leave the cache; one fetched again is sought at its new place."""
    for name in ("stays-there", "accessed-since", "purged-since"):
        any_store.add_local(name)
    any_store.add_remote("example.org", "m", "first-file")
    _update(any_store, cache)
    cache.mark([media for media, _ in _rows(cache).items()], deleted=True)
    any_store.execute(
        "UPDATE local_media_repository SET last_access_ts = %s WHERE media_id = 'accessed-since'",
        (RECENT,),
    )
    any_store.execute("DELETE FROM local_media_repository WHERE media_id = 'purged-since'")
    any_store.execute("UPDATE remote_media_cache SET filesystem_id = 'second-file'")
    any_store.add_local("new-one")
    assert _update(any_store, cache) == Changes(new=1, gone=2, refused=0, total=3)
    assert _rows(cache) == {
        Media("", "stays-there", "stays-there", "local"): True,
        Media("", "new-one", "new-one", "local"): False,
        Media("example.org", "m", "second-file", "remote"): False,
    }
    # Again, as the index of the rows changes its name each time.
    assert _update(any_store, cache) == Changes(new=0, gone=0, refused=0, total=3)


def test_rows_without_a_name_are_refused(any_store: SynapseStore, cache: Cache) -> None:
    """A remote row without origin cannot pass for a local one."""
    any_store.add_local("same-id")
    any_store.add_remote("", "same-id", "elsewhere", content=None)
    any_store.execute("INSERT INTO remote_media_cache (media_origin, media_id) VALUES ('x', 'y')")
    any_store.execute("UPDATE remote_media_cache SET created_ts = 1, last_access_ts = 1")
    assert _update(any_store, cache) == Changes(new=1, gone=0, refused=2, total=1)
    assert list(_rows(cache)) == [Media("", "same-id", "same-id", "local")]


def test_older_schema(tmp_path: Path, cache: Cache) -> None:
    """A database without sha256 columns is read all the same."""
    store = SynapseStore(tmp_path, sha256=False)
    store.add_local("oldlocal", b"12345")
    _update(store, cache)
    with closing(Database(store.config)) as database:
        facts = database.facts(list(_rows(cache)))
    assert facts["", "oldlocal"].length == 5
    assert facts["", "oldlocal"].sha256 is None
    store.close()


def test_facts(any_store: SynapseStore) -> None:
    """Lengths, hashes and thumbnails are found for each media asked for, in any number."""
    wanted = []
    for number in range(1000):
        name = f"media-{number}"
        any_store.add_local(name, None, length=number, sha256=f"{number:064x}")
        any_store.add_remote("example.org", name, f"file-{number}", None)
        wanted += [
            Media("", name, name, "local"),
            Media("example.org", name, f"file-{number}", "remote"),
        ]
    any_store.add_thumbnail("media-7", b"123")
    any_store.add_thumbnail("media-8", b"4567", origin="example.org", filesystem_id="file-8")
    wanted.append(Media("", "a\0b", "a\0b", "local"))
    wanted.append(Media("", "x' OR '1'='1", "x", "local"))
    with closing(Database(any_store.config)) as database:
        facts = database.facts(wanted)
    assert len(facts) == 2000
    assert facts["", "media-999"].length == 999
    assert facts["", "media-999"].sha256 == f"{999:064x}"
    assert facts["example.org", "media-5"].filesystem_id == "file-5"
    assert facts["", "media-7"].thumbnails == {"32-32-image-png-crop": {3}}
    assert facts["example.org", "media-8"].thumbnails == {
        "32-32-image-png-crop": {4},
        "32-32-image-png": {4},
    }


def test_the_database_is_only_read(store: SynapseStore) -> None:
    """SQLite is opened so that nothing could be written, and a misspelt path makes no file."""
    from swift_provider.offload.command.homeserver import DatabaseConfig
    from swift_provider.offload.database import DatabaseUnavailableError

    missing = store.database_path.with_name("misspelt?.db")
    with pytest.raises(DatabaseUnavailableError):
        Database(DatabaseConfig("sqlite3", {"database": str(missing)}, "test"))
    assert not missing.exists()
    with (
        closing(Database(store.config)) as database,
        pytest.raises(sqlite3.OperationalError, match="readonly"),
    ):
        database._connection.execute("DELETE FROM local_media_repository")


def test_an_update_that_fails_changes_nothing(store: SynapseStore, cache: Cache) -> None:
    """If the database goes away in the middle, the cache is as before."""
    store.add_local("oldlocal")
    _update(store, cache)
    before = _rows(cache)

    def broken() -> Iterator[tuple[str]]:
        yield ("another",)
        raise ConnectionError

    with pytest.raises(ConnectionError):
        cache.replace(broken(), iter(()))
    assert _rows(cache) == before
    _update(store, cache)
    assert _rows(cache) == before


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


def test_the_siblings_cache_is_taken_over(tmp_path: Path, store: SynapseStore) -> None:
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
    store.add_local("oldlocal")
    store.add_local("another")
    with closing(Cache(str(path))) as cache:
        assert cache.count() == 0
        assert _update(store, cache).new == 1
        assert _rows(cache) == {
            Media("", "oldlocal", "oldlocal", "local"): True,
            Media("", "another", "another", "local"): False,
        }


def test_deleted_and_returned_files_are_noted(store: SynapseStore, cache: Cache) -> None:
    """A media is on disk while its file or any thumbnail is; one that is back is armed again."""
    store.add_local("with-file")
    store.add_local("thumbnail-only", None)
    store.add_thumbnail("thumbnail-only")
    store.add_local("gone-all", None)
    store.add_remote("example.org", "m", "remote-gone", None)
    store.execute("INSERT INTO local_media_repository (media_id, created_ts) VALUES ('../..', 1)")
    _update(store, cache)
    done: list[int] = []
    checked = check_deleted(cache, str(store.base), done.append)
    assert (checked.deleted, checked.returned, checked.unsafe) == (2, 0, 1)
    assert sum(done) == 5
    left = {media.media_id for media in cache.rows()}
    assert left == {"with-file", "thumbnail-only", "../.."}

    place = store.base / "local_content" / "go" / "ne"
    place.mkdir(parents=True)
    (place / "-all").write_bytes(b"pulled back")
    shutil.rmtree(store.base / "local_thumbnails")
    checked = check_deleted(cache, str(store.base), done.append)
    assert (checked.deleted, checked.returned) == (1, 1)
    assert {media.media_id for media in cache.rows()} == {"with-file", "gone-all", "../.."}


def test_write(store: SynapseStore, cache: Cache) -> None:
    """Each media on disk gives its file and its thumbnails' folder; unsafe names are told apart."""
    store.add_local("abcdef")
    store.add_remote("example.org", "m", "ghijkl")
    store.add_local("known-gone", None)
    store.execute("INSERT INTO local_media_repository (media_id, created_ts) VALUES ('../..', 1)")
    _update(store, cache)
    cache.mark([Media("", "known-gone", "known-gone", "local")], deleted=True)
    out = io.StringIO()
    told: list[str] = []
    assert write(cache, out, told.append) == 1
    assert out.getvalue().splitlines() == [
        "local_content/ab/cd/ef",
        "local_thumbnails/ab/cd/ef/",
        "remote_content/example.org/gh/ij/kl",
        "remote_thumbnail/example.org/gh/ij/kl/",
    ]
    assert told[0].startswith("../..: ")


def test_work_comes_in_the_order_of_names(cache: Cache) -> None:
    """Media are handed out as a listing would name their objects."""
    remote = [("b.org", "1", "zzzzzz"), ("a", "2", "bbbbbb"), ("a.org", "3", "aaaaaa")]
    remote += [("a", "4", "aaaaaa"), ("a-b", "5", "cccccc")]
    cache.replace([("zlocal",), ("alocal",)], remote)
    cache.mark([Media("a", "2", "bbbbbb", "remote")], deleted=True)
    with closing(Plan()) as plan:
        assert plan.read(cache.rows()) == 6
        names = [f"{one.origin}/{one.filesystem_id}" for page in plan.pages(2) for one in page]
    assert names[:2] == ["/alocal", "/zlocal"]
    assert names[2:] == sorted(names[2:])
    assert len(names) == 6


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
