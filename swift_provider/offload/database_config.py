"""How to reach Synapse's database, as Synapse's own ``database`` section says it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from swift_provider.config import mapping
from swift_provider.errors import ConfigError


@dataclass(frozen=True)
class DatabaseConfig:
    """How to reach Synapse's database.

    :param engine: ``psycopg2`` or ``sqlite3``.
    :param args: that driver's own arguments; may hold a password.
    :param where: the place in the file, for messages.
    """

    engine: str
    args: Mapping[str, Any]
    where: str

    def __repr__(self) -> str:
        return f"DatabaseConfig({self.engine!r}, where={self.where!r})"


def database_config(entry: object, where: str) -> DatabaseConfig:
    """Read a ``database`` section of Synapse.

    :param entry: ``name`` and ``args``.
    :param where: the section's place, for messages.
    :raises ConfigError: if it is wrong.
    """
    options = mapping(entry, where)
    engine = options.get("name")
    if engine not in ("psycopg2", "sqlite3"):
        raise ConfigError(f"{where}: name must be psycopg2 or sqlite3")
    raw = options.get("args") or {}
    # "dsn" may stand alone, as a connection URL or string.
    args = {"dsn": raw} if isinstance(raw, str) else mapping(raw, f"{where}, args")
    # Synapse gives the options that begin with cp_ to Twisted's connection pool.
    kept = {key: value for key, value in args.items() if not str(key).startswith("cp_")}
    if engine == "sqlite3" and not isinstance(kept.get("database"), str):
        raise ConfigError(f"{where}: args.database must be the database file's path")
    return DatabaseConfig(engine, kept, where)
