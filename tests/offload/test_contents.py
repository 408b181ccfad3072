"""Which lengths an object may have according to Synapse's database."""

from __future__ import annotations

from contextlib import closing

from swift_provider.offload.contents import known_lengths
from swift_provider.offload.database import Database
from swift_provider.offload.sorted_media import SortedMedia
from tests.offload.synapse_store import SynapseStore


def test_known_lengths(any_store: SynapseStore) -> None:
    """Contents and thumbnails by the database; what it does not know is told from what it lacks."""
    local = any_store.add_local("local-one", None, length=5)
    waiting = any_store.add_local("waiting-one", None, length=None)
    thumbnail = any_store.add_thumbnail("local-one", b"123")
    unlisted = any_store.add_thumbnail("local-one", b"1234", width=64, in_database=False)
    remote = any_store.add_remote("example.org", "m", "remote-one", b"1234567")
    deleted = any_store.add_local("deleted-one", None, length=5)
    fetched_again = any_store.add_remote("example.org", "again", "before-one", None)
    with closing(Database(any_store.config)) as database, closing(SortedMedia()) as plan:
        plan.read_all(database)
        any_store.execute("DELETE FROM local_media_repository WHERE media_id = 'deleted-one'")
        any_store.execute(
            "UPDATE remote_media_cache SET filesystem_id = 'after-one' WHERE media_id = 'again'"
        )
        new = any_store.add_local("new-one", None, length=6)
        found = {
            path: known_lengths(database, plan, path)
            for path in (local, waiting, thumbnail, unlisted, remote, deleted, fetched_again, new)
        }
        orphan = known_lengths(database, plan, "local_content/or/ph/an")
        assert known_lengths(database, plan, "no/media") is None
    assert orphan is None
    assert found == {
        local: {5},
        waiting: set(),
        thumbnail: {3},
        unlisted: set(),
        remote: {7},
        deleted: set(),
        fetched_again: set(),
        new: set(),
    }
