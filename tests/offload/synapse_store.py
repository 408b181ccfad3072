"""A media store and its database as Synapse leaves them, made without running Synapse.

The tables are cut out of the schema files of the installed Synapse.
"""

from __future__ import annotations

import os
import re
import sqlite3
from importlib.resources import files
from pathlib import Path
from typing import Any

import psycopg2

from swift_provider.offload.database_config import DatabaseConfig

OLD = 1_500_000_000_000
RECENT = 4_000_000_000_000

_TABLE = re.compile(r"\b(local_media_repository|remote_media_cache)(_thumbnails)?\b")
_SCHEMA = "storage/schema/main"


def schema(dialect: str, *, sha256: bool = True) -> list[str]:
    """Synapse's statements that make its media tables.

    :param dialect: ``sqlite`` or ``postgres``.
    :param sha256: ``False`` for the schema before Synapse 1.128.
    """
    root = files("synapse").joinpath(_SCHEMA)
    text = root.joinpath(f"full_schemas/72/full.sql.{dialect}").read_text()
    statements = [
        one.strip()
        for one in text.split(";")
        if _TABLE.search(one) and re.match(r"\s*(CREATE|ALTER TABLE)", one)
    ]
    for delta in ["86/01_authenticate_media.sql", *(["91/01_media_hash.sql"] * sha256)]:
        script = re.sub(r"--.*", "", root.joinpath(f"delta/{delta}").read_text())
        statements += [s.strip() for s in script.split(";") if s.strip().startswith("ALTER TABLE")]
    return statements


class SynapseStore:
    """Rows and files.

    :param folder: the media store is made in it, and SQLite's file too.
    :param postgres: psycopg2's arguments of an empty database; ``None`` for SQLite.
    """

    def __init__(
        self, folder: Path, postgres: dict[str, Any] | None = None, *, sha256: bool = True
    ) -> None:
        self.base = folder / "media_store"
        #: When files that are made were written to, in seconds since the epoch; ``None`` for now.
        self.written: float | None = None
        for root in ("local_content", "local_thumbnails", "remote_content", "remote_thumbnail"):
            (self.base / root).mkdir(parents=True)
        self._postgres = postgres
        if postgres is None:
            self.database_path = folder / "homeserver.db"
            self._connection: Any = sqlite3.connect(self.database_path, isolation_level=None)
            self._connection.execute("PRAGMA journal_mode = WAL")
        else:
            self._connection = psycopg2.connect(**postgres)
            self._connection.autocommit = True
        for statement in schema("postgres" if postgres else "sqlite", sha256=sha256):
            self.execute(statement)

    @property
    def config(self) -> DatabaseConfig:
        """For :class:`swift_provider.offload.database.Database`."""
        if self._postgres is None:
            return DatabaseConfig("sqlite3", {"database": str(self.database_path)}, "test")
        return DatabaseConfig("psycopg2", self._postgres, "test")

    @property
    def yaml_section(self) -> dict[str, Any]:
        """For ``database:`` in ``homeserver.yaml``."""
        return {"name": self.config.engine, "args": {**self.config.args, "cp_min": 5, "cp_max": 9}}

    def execute(self, sql: str, values: tuple[Any, ...] = ()) -> None:
        """One statement, with ``%s`` for values."""
        if self._postgres is None:
            self._connection.execute(sql.replace("%s", "?"), values)
        else:
            with self._connection.cursor() as cursor:
                cursor.execute(sql, values or None)

    def close(self) -> None:
        """Hang up."""
        self._connection.close()

    def add_local(
        self,
        media_id: str,
        content: bytes | None = b"local content",
        *,
        length: int | None = -1,
        accessed: int | None = OLD,
        **columns: Any,
    ) -> str:
        """A row of local media, and its file unless ``content`` is ``None``.

        :param length: of the database; -1 for the content's.
        :returns: the file's path in the media store.
        """
        columns = {
            "media_id": media_id,
            "media_length": len(content or b"") if length == -1 else length,
            "created_ts": OLD,
            "last_access_ts": accessed,
            **columns,
        }
        self._insert("local_media_repository", columns)
        path = f"local_content/{media_id[:2]}/{media_id[2:4]}/{media_id[4:]}"
        return self._file(path, content)

    def add_remote(
        self,
        origin: str,
        media_id: str,
        filesystem_id: str,
        content: bytes | None = b"remote content",
        *,
        accessed: int = OLD,
        **columns: Any,
    ) -> str:
        """Likewise for remote media."""
        columns = {
            "media_origin": origin,
            "media_id": media_id,
            "filesystem_id": filesystem_id,
            "media_length": len(content or b""),
            "created_ts": OLD,
            "last_access_ts": accessed,
            **columns,
        }
        self._insert("remote_media_cache", columns)
        tail = f"{filesystem_id[:2]}/{filesystem_id[2:4]}/{filesystem_id[4:]}"
        return self._file(f"remote_content/{origin}/{tail}", content)

    def add_thumbnail(
        self,
        media_id: str,
        content: bytes = b"thumbnail",
        *,
        origin: str = "",
        filesystem_id: str = "",
        width: int = 32,
        in_database: bool = True,
        legacy: bool = False,
    ) -> str:
        """A thumbnail of either, 32 high, its row and its file."""
        columns = {
            "media_id": media_id,
            "thumbnail_width": width,
            "thumbnail_height": 32,
            "thumbnail_type": "image/png",
            "thumbnail_method": "crop",
            "thumbnail_length": len(content),
        }
        if origin:
            columns.update(media_origin=origin, filesystem_id=filesystem_id)
        table = "remote_media_cache" if origin else "local_media_repository"
        if in_database:
            self._insert(f"{table}_thumbnails", columns)
        folder = f"remote_thumbnail/{origin}" if origin else "local_thumbnails"
        name = f"{width}-32-image-png" + ("" if legacy else "-crop")
        one = filesystem_id or media_id
        return self._file(f"{folder}/{one[:2]}/{one[2:4]}/{one[4:]}/{name}", content)

    def _insert(self, table: str, columns: dict[str, Any]) -> None:
        marks = ", ".join(["%s"] * len(columns))
        self.execute(
            f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({marks})", tuple(columns.values())
        )

    def _file(self, path: str, content: bytes | None) -> str:
        if content is not None:
            whole = self.base / path
            whole.parent.mkdir(parents=True, exist_ok=True)
            whole.write_bytes(content)
            if self.written is not None:
                os.utime(whole, (self.written, self.written))
        return path

    def files(self) -> set[str]:
        """All that is on disk, but folders."""
        found = set()
        # os.walk, unlike Path.rglob, ignores folders that vanish meanwhile.
        for folder, folders, names in os.walk(self.base):
            here = Path(folder)
            links = [name for name in folders if (here / name).is_symlink()]
            found.update(str((here / name).relative_to(self.base)) for name in names + links)
        return found
