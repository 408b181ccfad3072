"""Databases with the media rows of a large homeserver."""

from __future__ import annotations

import base64
import hashlib
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg2

from tests.offload.synapse_store import OLD, schema
from tests.servers.postgres import Postgres

#: Of ten rows, so many are local media's.
LOCAL_ROWS = 4
SERVERS = 500


def database_with_rows(
    postgres: Postgres, name: str, rows: int, length: int, accessed: int = OLD
) -> dict[str, Any]:
    """A database with Synapse's media tables and so many media.

    Local media and remote ones are numbered from 1 each; :func:`media_id` and :func:`origin`
    tell their names.

    :param length: of each media, in bytes.
    :param accessed: milliseconds since the epoch.
    :returns: psycopg2's arguments.
    """
    arguments = postgres.create_database(name)
    connection = psycopg2.connect(**arguments)
    connection.autocommit = True
    with connection.cursor() as cursor:
        for statement in schema("postgres"):
            cursor.execute(statement)
        identifier = (
            "translate(substr(encode(sha256(i::text::bytea), 'base64'), 1, 24), '+/', 'ab')"
        )
        cursor.execute(
            "INSERT INTO local_media_repository (media_id, media_length, created_ts, "
            f"last_access_ts) SELECT {identifier}, {length}, {OLD}, {accessed} "
            "FROM generate_series(1, %s) i",
            (local_rows(rows),),
        )
        cursor.execute(
            "INSERT INTO remote_media_cache (media_origin, media_id, media_length, created_ts, "
            f"filesystem_id, last_access_ts) SELECT 'server' || (i %% {SERVERS}) || '.example', "
            f"{identifier}, {length}, {OLD}, {identifier}, {accessed} "
            "FROM generate_series(1, %s) i",
            (rows - local_rows(rows),),
        )
        cursor.execute("VACUUM ANALYZE")
    connection.close()
    return arguments


def sqlite_copy(arguments: dict[str, Any], path: Path) -> None:
    """A copy of such a database, in SQLite.

    :param arguments: psycopg2's.
    """
    columns = {
        "local_media_repository": "media_id, media_length, created_ts, last_access_ts",
        "remote_media_cache": "media_origin, media_id, media_length, created_ts, filesystem_id, "
        "last_access_ts",
    }
    with closing(psycopg2.connect(**arguments)) as source, closing(sqlite3.connect(path)) as copy:
        for statement in schema("sqlite"):
            copy.execute(statement)
        for table, names in columns.items():
            with source.cursor(table) as cursor:
                cursor.itersize = 10_000
                cursor.execute(f"SELECT {names} FROM {table}")
                marks = ", ".join("?" * len(names.split(",")))
                copy.executemany(f"INSERT INTO {table} ({names}) VALUES ({marks})", cursor)
        copy.commit()


def local_rows(rows: int) -> int:
    """How many of so many rows are local media's."""
    return rows * LOCAL_ROWS // 10


def media_id(number: int) -> str:
    """Of a media; remote ones have it as their filesystem id too."""
    encoded = base64.b64encode(hashlib.sha256(str(number).encode()).digest()).decode()
    return encoded[:24].replace("+", "a").replace("/", "b")


def origin(number: int) -> str:
    """Of a remote media."""
    return f"server{number % SERVERS}.example"
