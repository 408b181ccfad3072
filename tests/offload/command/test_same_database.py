"""Which spellings name one database, and what happens if two files name two."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from swift_provider.offload.command.homeserver import Homeserver, read_database_yaml
from swift_provider.offload.command.same_database import place, same_database
from swift_provider.offload.database_config import DatabaseConfig
from tests.offload.conftest import Script
from tests.offload.synapse_store import SynapseStore


def _postgres(**args: Any) -> DatabaseConfig:
    return DatabaseConfig("psycopg2", args, "test")


def _sqlite(path: str) -> DatabaseConfig:
    return DatabaseConfig("sqlite3", {"database": path}, "test")


SAME = [
    (_postgres(dbname="synapse"), _postgres(database="synapse", host="localhost", port=5432)),
    (_postgres(dbname="synapse", host=""), _postgres(dbname="synapse", host="127.0.0.1")),
    (_postgres(dbname="d", host="::1"), _postgres(dbname="d", host="/run/postgresql")),
    (_postgres(dbname="d", port="5433"), _postgres(dbname="d", port=5433, host=None)),
    (_postgres(user="synapse"), _postgres(dbname="synapse", user="reader", password="x")),
    (_postgres(dbname="d", host="DB.example"), _postgres(dsn="postgresql://u@db.example/d")),
    (_postgres(dbname="d", host="a,b"), _postgres(dbname="d", host="a,b", port="5432,5432")),
    (_postgres(dbname="d", service="x"), _postgres(dbname="e")),
    (_postgres(dsn="not = a = dsn"), _postgres(dbname="e")),
    (_sqlite("/a/b/../homeserver.db"), _sqlite("/a/homeserver.db")),
    (_sqlite("homeserver.db"), _sqlite("/a/homeserver.db")),
    (_sqlite("/a/homeserver.db"), _sqlite("./homeserver.db")),
]
OTHER = [
    (_postgres(dbname="synapse"), _sqlite("synapse")),
    (_postgres(dbname="synapse"), _postgres(dbname="synapse_old")),
    (_postgres(dbname="d"), _postgres(dbname="d", host="db.example")),
    (_postgres(dbname="d"), _postgres(dbname="d", port=5433)),
    (_postgres(dbname="d", host="a"), _postgres(dsn="host=b dbname=d")),
    (_postgres(dbname="d", host="a"), _postgres(dbname="d", host="a,b")),
    (_sqlite("/a/homeserver.db"), _sqlite("/b/homeserver.db")),
    (_sqlite("homeserver.db"), _sqlite("/a/oldhomeserver.db")),
]


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """None of libpq's own."""
    for name in ("PGHOST", "PGHOSTADDR", "PGPORT", "PGDATABASE", "PGUSER", "PGSERVICE"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    "args",
    [
        {"database": "postgresql://synapse:Secret99@db/synapse"},
        {"dbname": "host=db password=Secret99"},
        {"dsn": "postgresql://synapse:Secr@Secret99@db.example/synapse"},
        {"dsn": "postgresql://synapse:Secret99/x@db.example/synapse"},
    ],
)
def test_a_mistyped_url_shows_no_password(args: dict[str, str]) -> None:
    """A part of it may stand where the name, the host or the port should."""
    assert "Secret99" not in place(_postgres(**args))


@pytest.mark.parametrize(("one", "other"), SAME)
def test_one_database(one: DatabaseConfig, other: DatabaseConfig) -> None:
    """Defaults, aliases and ways to reach this machine make no difference."""
    assert same_database(one, other)
    assert same_database(other, one)


@pytest.mark.parametrize(("one", "other"), OTHER)
def test_two_databases(one: DatabaseConfig, other: DatabaseConfig) -> None:
    """Another engine, name, host, port or file is another database."""
    assert not same_database(one, other)
    assert not same_database(other, one)


def test_libpqs_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """They stand in for what is left out."""
    monkeypatch.setenv("PGHOST", "db.example")
    monkeypatch.setenv("PGDATABASE", "d")
    assert same_database(_postgres(), _postgres(dbname="d", host="db.example"))
    assert not same_database(_postgres(), _postgres(host="localhost"))


def test_no_password_is_told() -> None:
    """The description holds name, host and port."""
    told = place(_postgres(dsn="postgresql://u:hunter2@db.example/d"))
    assert told == "d on db.example, port 5432"


def test_synapses_section_in_both_files(tmp_path: Path) -> None:
    """The options of Synapse's connection pool make no difference."""
    section = {"name": "psycopg2", "args": {"database": "d", "cp_min": 5, "cp_max": 9}}
    (tmp_path / "database.yaml").write_text("dbname: d\nhost: localhost\n")
    ours = Homeserver({"database": section}, "homeserver.yaml").database()
    assert ours is not None
    assert same_database(ours, read_database_yaml(str(tmp_path / "database.yaml")))


@pytest.mark.parametrize("command", [("update-db", "2m"), ("verify",), ("prune", "--delete")])
def test_a_forgotten_database_yaml(
    offload: Script, store: SynapseStore, tmp_path: Path, command: tuple[str, ...]
) -> None:
    """It would go before homeserver.yaml, with media missing in it: both are named, status 2."""
    (tmp_path / "old").mkdir()
    old = SynapseStore(tmp_path / "old")
    store.add_local("known-one")
    forgotten = offload.folder / "database.yaml"
    forgotten.write_text(yaml.safe_dump({"sqlite": {"database": str(old.database_path)}}))
    old.close()
    arguments = (*command, str(store.base)) if command == ("verify",) else command
    ended = offload(*arguments)
    assert ended.returncode == 2
    assert "database.yaml and homeserver.yaml in this folder name two databases" in ended.stderr
    assert "--homeserver-config-path" in ended.stderr
    named = offload(*arguments, "--homeserver-config-path", "homeserver.yaml")
    assert "two databases" not in named.stderr
    forgotten.write_text(yaml.safe_dump({"sqlite": {"database": str(store.database_path)}}))
    assert "two databases" not in offload(*arguments).stderr
