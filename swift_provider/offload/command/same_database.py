"""Whether two configurations name the same database.

The same database may be spelled in several ways: libpq's defaults, its environment
variables and its aliases are filled in before two spellings are compared. Where that is
not enough to tell, the databases count as the same.
"""

from __future__ import annotations

import getpass
import os
import re
from collections.abc import Mapping
from typing import Any

from swift_provider.offload.database_config import DatabaseConfig

_HERE = "this machine"
_NAME = re.compile(r"[^@/=:\s]+")
_HOST = re.compile(rf"[\w.:-]+|{_HERE}")
_PORT = re.compile(r"\d+")
_LOOPBACK = ("", "localhost", "127.0.0.1", "::1")


def place(config: DatabaseConfig) -> str:
    """A short description of the database, without a password."""
    if config.engine == "sqlite3":
        return str(config.args["database"])
    options = _options(config.args)
    if options is None:
        return "a PostgreSQL service"
    # Of a mistyped connection URL a part of the password may have become one of these.
    parts = [(_NAME, [_name(options)]), (_HOST, _hosts(options)), (_PORT, _ports(options))]
    if not all(form.fullmatch(text) for form, texts in parts for text in texts):
        return "a PostgreSQL database"
    return f"{_name(options)} on {', '.join(_hosts(options))}, port {', '.join(_ports(options))}"


def same_database(one: DatabaseConfig, other: DatabaseConfig) -> bool:
    """Whether both may name one database."""
    if one.engine != other.engine:
        return False
    if one.engine == "sqlite3":
        return _same_file(str(one.args["database"]), str(other.args["database"]))
    first, second = _options(one.args), _options(other.args)
    if first is None or second is None:
        return True
    return all(get(first) == get(second) for get in (_name, _hosts, _ports))


def _same_file(one: str, other: str) -> bool:
    if os.path.isabs(one) and os.path.isabs(other):
        return os.path.realpath(one) == os.path.realpath(other)
    # A relative path begins in the folder where Synapse runs, which is not known here.
    one, other = os.path.normpath(one), os.path.normpath(other)
    return f"/{one}".endswith(f"/{other}") or f"/{other}".endswith(f"/{one}")


def _options(args: Mapping[str, Any]) -> dict[str, str] | None:
    """libpq's options, with those of ``dsn``; ``None`` if they cannot be told."""
    options = {key: str(value) for key, value in args.items() if value is not None}
    dsn = options.pop("dsn", "")
    if dsn:
        try:
            from psycopg2 import ProgrammingError
            from psycopg2.extensions import parse_dsn

            options = {**parse_dsn(dsn), **options}
        except (ImportError, ProgrammingError):
            return None  # opening the database will say what is wrong
    # A service's options are in a file of libpq's.
    if "service" in options or "PGSERVICE" in os.environ:
        return None
    return options


def _option(options: Mapping[str, str], name: str) -> str:
    return options.get(name) or os.environ.get(f"PG{name.upper()}", "")


def _name(options: Mapping[str, str]) -> str:
    given = options.get("dbname") or options.get("database") or os.environ.get("PGDATABASE")
    return given or _option(options, "user") or getpass.getuser()


def _hosts(options: Mapping[str, str]) -> list[str]:
    given = _option(options, "hostaddr") or _option(options, "host")
    # A path is the folder of a Unix socket.
    return [
        _HERE if host in _LOOPBACK or host.startswith(("/", "@")) else host.lower()
        for host in given.split(",")
    ]


def _ports(options: Mapping[str, str]) -> list[str]:
    ports = [port or "5432" for port in _option(options, "port").split(",")]
    # One port is for all hosts.
    return ports * len(_hosts(options)) if len(ports) == 1 else ports
