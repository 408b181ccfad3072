"""What a driver's error means for an operator, and the remedy."""

from __future__ import annotations

import os
import sqlite3

NO_TABLES = (
    "it has none of Synapse's tables: Synapse has not run with this database yet. Start it once, "
    "or correct 'database'"
)


def explained_of_sqlite(error: Exception, path: str) -> str | None:
    """:returns: ``None`` if the driver's own words say it.

    :param path: of the database.
    """
    if not isinstance(error, sqlite3.OperationalError):
        return None
    told = str(error)
    if told.startswith("no such table"):
        return NO_TABLES
    if told.startswith("unable to open"):
        return _why_not_open(path)
    return None


def _why_not_open(path: str) -> str:
    try:
        os.stat(path)
    except FileNotFoundError:
        return "there is no such file: start Synapse once, or correct 'database'"
    except OSError as error:
        return f"{error.strerror}: run as the user that Synapse runs as"
    return "it cannot be opened: run as the user that Synapse runs as"


def explained_of_connecting(told: str) -> str:
    """What libpq says about a failed connection, in one line.

    It says it about each address of a host, each time in two lines.
    """
    lines = [line.strip() for line in told.splitlines()]
    reasons = [line for line in lines if line and not line.startswith("Is the server running")]
    remedy = ""
    if len(reasons) < len(lines):
        remedy = ": start PostgreSQL, or correct 'database'"
    elif "timeout expired" in told:
        remedy = ": is PostgreSQL busy, or something in between? Or correct 'database'"
    elif any(words in told for words in ("authentication failed", "does not exist", "translate")):
        remedy = ": correct 'database'"
    return " ".join("; ".join(reasons).split()) + remedy
