"""The cache follows Synapse's database and the disk."""

from __future__ import annotations

import io
import shutil
from contextlib import closing

from swift_provider.offload.cache import Cache, Changes
from swift_provider.offload.database import Database
from swift_provider.offload.jobs.update import check_deleted, update_db, write
from swift_provider.offload.media_names import Media
from tests.offload.conftest import rows_of
from tests.offload.synapse_store import OLD, RECENT, SynapseStore

CUT_OFF = OLD + 1


def _update(store: SynapseStore, cache: Cache, before_ms: int = CUT_OFF) -> Changes:
    with closing(Database(store.config)) as database:
        return update_db(database, cache, before_ms)


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
    assert changes == Changes(new=4, gone=0, refused=0)
    assert rows_of(cache) == {
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
    cache.mark([media for media, _ in rows_of(cache).items()], deleted=True)
    any_store.execute(
        "UPDATE local_media_repository SET last_access_ts = %s WHERE media_id = 'accessed-since'",
        (RECENT,),
    )
    any_store.execute("DELETE FROM local_media_repository WHERE media_id = 'purged-since'")
    any_store.execute("UPDATE remote_media_cache SET filesystem_id = 'second-file'")
    any_store.add_local("new-one")
    assert _update(any_store, cache) == Changes(new=1, gone=2, refused=0)
    assert rows_of(cache) == {
        Media("", "stays-there", "stays-there", "local"): True,
        Media("", "new-one", "new-one", "local"): False,
        Media("example.org", "m", "second-file", "remote"): False,
    }
    # Again, as the index of the rows changes its name each time.
    assert _update(any_store, cache) == Changes(new=0, gone=0, refused=0)


def test_rows_without_a_name_are_refused(any_store: SynapseStore, cache: Cache) -> None:
    """A remote row without origin cannot pass for a local one."""
    any_store.add_local("same-id")
    any_store.add_remote("", "same-id", "elsewhere", content=None)
    any_store.execute("INSERT INTO remote_media_cache (media_origin, media_id) VALUES ('x', 'y')")
    any_store.execute("UPDATE remote_media_cache SET created_ts = 1, last_access_ts = 1")
    assert _update(any_store, cache) == Changes(new=1, gone=0, refused=2)
    assert list(rows_of(cache)) == [Media("", "same-id", "same-id", "local")]


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
    told: list[str] = []
    checked = check_deleted(cache, str(store.base), done.append, told.append)
    assert (checked.deleted, checked.returned, checked.unsafe) == (2, 0, 1)
    assert sum(done) == 5
    left = {media.media_id for media in cache.rows()}
    assert left == {"with-file", "thumbnail-only", "../.."}

    place = store.base / "local_content" / "go" / "ne"
    place.mkdir(parents=True)
    (place / "-all").write_bytes(b"pulled back")
    shutil.rmtree(store.base / "local_thumbnails")
    checked = check_deleted(cache, str(store.base), done.append, told.append)
    assert (checked.deleted, checked.returned) == (1, 1)
    assert {media.media_id for media in cache.rows()} == {"with-file", "gone-all", "../.."}
    assert told == []


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
    write(cache, out, told.append)
    assert out.getvalue().splitlines() == [
        "local_content/ab/cd/ef",
        "local_thumbnails/ab/cd/ef/",
        "remote_content/example.org/gh/ij/kl",
        "remote_thumbnail/example.org/gh/ij/kl/",
    ]
    (unsafe,) = told
    assert unsafe.startswith("../..: ")
