"""What is read from Synapse's database, in both of its kinds."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from swift_provider.errors import DatabaseUnavailableError
from swift_provider.offload.database import Database, DatabaseConfig
from swift_provider.offload.media_names import Media
from tests.offload.synapse_store import SynapseStore


def test_older_schema(tmp_path: Path) -> None:
    """A database without sha256 columns is read all the same."""
    store = SynapseStore(tmp_path, sha256=False)
    store.add_local("oldlocal", b"12345")
    with closing(Database(store.config)) as database:
        assert list(database.idle_local(None)) == [("oldlocal",)]
        facts = database.facts([Media("", "oldlocal", "oldlocal", "local")])
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


def test_the_database_is_only_read(store: SynapseStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite is opened so that nothing could be written, and a misspelt path makes no file."""
    missing = store.database_path.with_name("misspelt?.db")
    with pytest.raises(DatabaseUnavailableError):
        Database(DatabaseConfig("sqlite3", {"database": str(missing)}, "test"))
    assert not missing.exists()
    opened: list[sqlite3.Connection] = []
    connect = sqlite3.connect

    def connect_and_tell(*arguments: Any, **options: Any) -> sqlite3.Connection:
        opened.append(connect(*arguments, **options))
        return opened[-1]

    monkeypatch.setattr(sqlite3, "connect", connect_and_tell)
    with closing(Database(store.config)):
        (connection,) = opened
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            connection.execute("DELETE FROM local_media_repository")
