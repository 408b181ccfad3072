"""What is read from Synapse's database, in both of its kinds."""

from __future__ import annotations

import errno
import os
import signal
import sqlite3
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import psycopg2
import pytest

from swift_provider.errors import ConfigError, DatabaseUnavailableError
from swift_provider.offload import database as database_module
from swift_provider.offload import postgres as limits
from swift_provider.offload.database import Database
from swift_provider.offload.database_config import DatabaseConfig
from swift_provider.offload.lock import StoreLock
from swift_provider.offload.media_names import Media
from tests.offload.synapse_store import RECENT, SynapseStore
from tests.servers import process
from tests.servers.postgres import Postgres

MEDIA = [Media("", "oldlocal", "oldlocal", "local")]


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


def test_newest_activity(any_store: SynapseStore) -> None:
    """The latest time of any media, local or remote, stored or looked at, but not of tomorrow."""
    now = datetime(2020, 1, 1, tzinfo=timezone.utc)
    with closing(Database(any_store.config)) as database:
        assert database.newest_activity(now) is None
        newest = int(now.timestamp()) * 1000 - 3_600_000
        any_store.add_local("one", None, accessed=None, created_ts=newest)
        any_store.add_local("future", None, accessed=RECENT)
        assert database.newest_activity(now) == datetime(2019, 12, 31, 23, tzinfo=timezone.utc)
        any_store.add_remote("example.org", "m", "file-1", None, accessed=newest + 60_000)
        assert database.newest_activity(now) == datetime(2019, 12, 31, 23, 1, tzinfo=timezone.utc)


def test_local_media_by_day(any_store: SynapseStore) -> None:
    """Finished uploads by the day of UTC, however old, without previews and without tomorrow's."""
    noon = int(datetime(2020, 1, 2, 12, tzinfo=timezone.utc).timestamp() * 1000)
    half_a_day = 12 * 3600 * 1000
    any_store.add_local("first", None, created_ts=0)
    any_store.add_local("before", None, created_ts=noon - half_a_day - 1)
    any_store.add_local("midnight", None, created_ts=noon - half_a_day)
    any_store.add_local("noon", None, created_ts=noon)
    any_store.add_local("future", None, created_ts=noon + 1)
    any_store.add_local("waiting", None, created_ts=noon, length=None)
    any_store.add_local("preview", None, created_ts=noon, url_cache="x")
    any_store.add_local("negative", None, created_ts=-(10**17))
    any_store.add_remote("example.org", "m", "file-1", None, created_ts=noon)
    with closing(Database(any_store.config)) as database:
        days = database.local_media_by_day(datetime(2020, 1, 2, 12, tzinfo=timezone.utc))
    assert days == {"1970-01-01": 1, "2020-01-01": 1, "2020-01-02": 2}


def test_homeserver(any_store: SynapseStore) -> None:
    """The users who uploaded local media belong to it."""
    with closing(Database(any_store.config)) as database:
        any_store.add_local("unknown", None)
        any_store.add_local("odd", None, user_id="user")
        assert database.homeserver("here.example") is None
        any_store.add_local("user", None, user_id="@a:[::1]:8448")
        assert database.homeserver("here.example") == "[::1]:8448"
        assert database.homeserver(None) == "[::1]:8448"
        any_store.add_local("ours", None, user_id="@a:here.example")
        assert database.homeserver("here.example") == "here.example"


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


@contextmanager
def _locked(store: SynapseStore) -> Iterator[None]:
    """Another session holds the media table in the strongest mode."""
    connection = psycopg2.connect(**store.config.args)
    try:
        with connection.cursor() as cursor:
            cursor.execute("LOCK TABLE local_media_repository IN ACCESS EXCLUSIVE MODE")
        yield
    finally:
        connection.close()


@pytest.fixture
def postgres_store(postgres: Postgres, tmp_path: Path) -> Iterator[SynapseStore]:
    """A media store with PostgreSQL."""
    made = SynapseStore(tmp_path, postgres.create_database("offload"))
    yield made
    made.close()


def test_a_locked_table(postgres_store: SynapseStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A query waits for a lock for a limited time, then says so; later queries work."""
    monkeypatch.setattr(limits, "LOCK_TIMEOUT_SECONDS", 0.5)
    postgres_store.add_local("oldlocal")
    with _locked(postgres_store), pytest.raises(DatabaseUnavailableError, match="locked a table"):
        Database(postgres_store.config)
    with closing(Database(postgres_store.config)) as database:
        with _locked(postgres_store):
            for query in (lambda: list(database.idle_local(None)), lambda: database.facts(MEDIA)):
                with pytest.raises(DatabaseUnavailableError, match="locked a table"):
                    query()
        assert list(database.idle_local(None)) == [("oldlocal",)]
        assert len(database.facts(MEDIA)) == 1


def test_a_slow_query(postgres_store: SynapseStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A query has a time limit, on the server and, if that is silent, here."""
    monkeypatch.setattr(limits, "STATEMENT_TIMEOUT_SECONDS", 0.5)
    with closing(Database(postgres_store.config)) as database:
        with _locked(postgres_store), pytest.raises(DatabaseUnavailableError, match=r"0\.5 s"):
            list(database.idle_local(None))
        monkeypatch.setattr(limits, "GRACE_SECONDS", -0.4)
        with (
            _locked(postgres_store),
            pytest.raises(DatabaseUnavailableError, match="does not answer"),
        ):
            database.facts(MEDIA)


def test_stop(postgres_store: SynapseStore) -> None:
    """Another thread ends a query that waits; no later query runs."""
    with closing(Database(postgres_store.config)) as database, _locked(postgres_store):
        timer = threading.Timer(0.3, database.stop)
        timer.start()
        began = time.monotonic()
        with pytest.raises(DatabaseUnavailableError, match="cancelled"):
            database.facts(MEDIA)
        timer.join()
        with pytest.raises(DatabaseUnavailableError):
            database.known("local", [("", "x")] * 3)
        assert time.monotonic() - began < 5


@pytest.mark.parametrize("forks", [False, True])
def test_stop_while_the_server_is_stopped(
    postgres_store: SynapseStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, forks: bool
) -> None:
    """It takes the request to cancel, and does not answer: nobody waits for that. Nor do the
    locks of the run.
    """

    def fail() -> int:
        raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")

    if not forks:
        monkeypatch.setattr(os, "fork", fail)
    lock = StoreLock(str(tmp_path))
    with closing(psycopg2.connect(**postgres_store.config.args)) as watcher:
        with watcher.cursor() as cursor:
            cursor.execute("SELECT pg_read_file('postmaster.pid')")
            row = cursor.fetchone()
        assert row is not None
        postmaster = int(row[0].split()[0])
    with closing(Database(postgres_store.config)) as database, _locked(postgres_store):
        os.kill(postmaster, signal.SIGSTOP)
        try:
            threading.Timer(0.3, database.stop).start()
            began = time.monotonic()
            with pytest.raises(DatabaseUnavailableError):
                database.facts(MEDIA)
            assert time.monotonic() - began < 10
            lock.close()
            StoreLock(str(tmp_path)).close()
        finally:
            os.kill(postmaster, signal.SIGCONT)


def _end_sessions(store: SynapseStore) -> int:
    """As idle_session_timeout does, or the restart of a server or of a proxy before it.

    :returns: how many were ended.
    """
    args = store.config.args
    with psycopg2.connect(**args) as connection, connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE datname = %s "
            "AND application_name = 'the script' AND pid != pg_backend_pid()",
            (args["dbname"],),
        )
        ended = cursor.rowcount
    connection.close()
    return ended


def _script_config(store: SynapseStore) -> DatabaseConfig:
    return DatabaseConfig("psycopg2", {**store.config.args, "application_name": "the script"}, "x")


def test_a_connection_that_was_closed_while_idle(postgres_store: SynapseStore) -> None:
    """The next query connects again, as often as that takes."""
    postgres_store.add_local("oldlocal")
    with closing(Database(_script_config(postgres_store))) as database:
        queries = (
            lambda: len(database.facts(MEDIA)),
            lambda: len(list(database.idle_local(None))),
            lambda: len(database.known("local", [("", "oldlocal")])),
        )
        for query in queries:
            assert _end_sessions(postgres_store) == 1
            assert query() == 1


def test_a_connection_that_is_closed_in_the_middle(postgres_store: SynapseStore) -> None:
    """Rows that were read already cannot be read again: that is an error, and no short list."""
    postgres_store.execute(
        "INSERT INTO local_media_repository (media_id, media_length, created_ts) "
        "SELECT 'media-' || n, 1, 1 FROM generate_series(1, 30000) AS n"
    )
    with closing(Database(_script_config(postgres_store))) as database:
        rows = database.idle_local(None)
        next(rows)
        assert _end_sessions(postgres_store) == 1
        with pytest.raises(DatabaseUnavailableError):
            list(rows)
        assert len(database.known("local", [("", "media-1")])) == 1


def test_stop_lasts(postgres_store: SynapseStore) -> None:
    """No query runs after a stop, though the connection is closed."""
    with closing(Database(_script_config(postgres_store))) as database:
        database.stop()
        _end_sessions(postgres_store)
        for _ in range(2):
            with pytest.raises(DatabaseUnavailableError):
                database.facts(MEDIA)


def test_stop_with_sqlite(store: SynapseStore) -> None:
    """The same with SQLite, for a query that computes."""
    with closing(Database(store.config)) as database:
        database.stop()
        assert database.facts(MEDIA) == {}


def test_a_locked_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite waits for a limited time too."""
    monkeypatch.setattr(database_module, "BUSY_TIMEOUT_SECONDS", 0.2)
    store = SynapseStore(tmp_path)
    store.execute("PRAGMA journal_mode = DELETE")
    with closing(Database(store.config)) as database:
        store.execute("BEGIN EXCLUSIVE")
        with pytest.raises(DatabaseUnavailableError, match="locked"):
            database.facts(MEDIA)
    store.close()


PARTS = ("zzhun", "zzter", "s3cret")


@pytest.mark.parametrize(
    "args",
    [
        {"dsn": "postgresql://u:zzhun@zzter@127.0.0.1:1/d"},
        {"dsn": "postgresql://u:zzhun@zzter@s3cret@/d"},
        {"dsn": "postgresql://u:zzhun@zzter:s3cret@127.0.0.1:1/d"},
        {"dsn": "postgresql://u:zzhun/zzter@127.0.0.1:1/d"},
        {"dsn": "postgresql://u:zzhun?zzter=s3cret@127.0.0.1:1/d"},
        {"dsn": "host=127.0.0.1 port=1 password=zzhun zzter"},
        {"dsn": "host=127.0.0.1 port=1 dbname=d password='zzhun zzter"},
        {"dbname": "postgresql://u:zzhun@zzter@127.0.0.1/d", "host": "127.0.0.1"},
        {"host": "u:zzhun@zzter", "dbname": "d"},
    ],
)
def test_no_part_of_a_password_is_told(
    args: dict[str, str], postgres: Postgres, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever stands in a connection string, no part of it is in an error."""
    real = {key: str(postgres.port) if value == "1" else value for key, value in args.items()}
    if "dsn" in real:
        real["dsn"] = real["dsn"].replace(":1/", f":{postgres.port}/")
    for one in (args, real):
        with pytest.raises((ConfigError, DatabaseUnavailableError)) as caught:
            Database(DatabaseConfig("psycopg2", one, "database.yaml"))
        told = "".join(traceback.format_exception(caught.value)) + caplog.text
        told = "\n".join(line for line in told.splitlines() if not line.startswith("    "))
        assert not [part for part in PARTS if part in told], told


def test_the_reason_of_a_failed_connection(postgres: Postgres) -> None:
    """The reason is told with a connection string too; in full where it is harmless."""
    dsn = {"dsn": f"postgresql://postgres@127.0.0.1:{postgres.port}/no-such-database"}
    with pytest.raises(DatabaseUnavailableError, match=r": does not exist\..*percent-encoded"):
        Database(DatabaseConfig("psycopg2", dsn, "database.yaml"))
    with pytest.raises(DatabaseUnavailableError, match='database "no-such" does not exist'):
        Database(DatabaseConfig("psycopg2", postgres.arguments("no-such"), "database.yaml"))


def test_no_such_file(tmp_path: Path) -> None:
    """SQLite's own words have neither cause nor remedy."""
    path = tmp_path / "homeserver.db"
    config = DatabaseConfig("sqlite3", {"database": str(path)}, "test")
    with pytest.raises(DatabaseUnavailableError, match="no such file: start Synapse once, or corr"):
        Database(config)
    sqlite3.connect(path).close()
    with pytest.raises(DatabaseUnavailableError, match="Synapse has not run with this database"):
        Database(config)


def test_a_file_of_another_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The remedy is the right user."""

    def refuse(*arguments: Any, **options: Any) -> None:
        raise sqlite3.OperationalError("unable to open database file")

    path = tmp_path / "homeserver.db"
    path.touch()
    monkeypatch.setattr(sqlite3, "connect", refuse)
    with pytest.raises(DatabaseUnavailableError, match="run as the user that Synapse runs as"):
        Database(DatabaseConfig("sqlite3", {"database": str(path)}, "test"))


def test_an_empty_database(postgres: Postgres) -> None:
    """Synapse makes its tables when it first starts. The query is not shown."""
    config = DatabaseConfig("psycopg2", postgres.arguments("postgres"), "test")
    with pytest.raises(DatabaseUnavailableError) as caught:
        Database(config)
    assert str(caught.value) == (
        "Synapse's database (test): it has none of Synapse's tables: Synapse has not run with "
        "this database yet. Start it once, or correct 'database'"
    )


def test_no_server_listens() -> None:
    """One line, with the remedy."""
    port = process.free_port()
    args = {"host": process.LOOPBACK, "port": port, "user": "synapse"}
    with pytest.raises(DatabaseUnavailableError) as caught:
        Database(DatabaseConfig("psycopg2", args, "test"))
    assert str(caught.value) == (
        f'Synapse\'s database (test): connection to server at "{process.LOOPBACK}", port {port} '
        "failed: Connection refused: start PostgreSQL, or correct 'database'"
    )
