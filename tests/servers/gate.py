"""A bad network in front of one server, for programs that block: a fault proxy of its own process.

Code that runs a reactor uses :class:`tests.servers.fault_proxy.FaultProxy`
itself, which does more, and to the byte.
"""

from __future__ import annotations

import contextlib
import json
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from tests.servers import process

ANSWER_SECONDS = 30.0


class Gate:
    """The way to a server; open at first. Made by :func:`running_gate`. Thread-safe.

    Each state ends the one before.

    :param port: where it listens.
    :param control: where it takes commands.
    """

    def __init__(self, port: int, control: int) -> None:
        self._port = port
        self._lock = threading.Lock()
        address = (process.LOOPBACK, control)
        self._control = socket.create_connection(address, timeout=ANSWER_SECONDS)
        self._answers = self._control.makefile("rb")

    def url_for(self, url: str) -> str:
        """The same URL, by way of this gate."""
        return urlunsplit(urlsplit(url)._replace(netloc=f"{process.LOOPBACK}:{self._port}"))

    def open(self) -> None:
        """Everything passes, also what was held back."""
        self._ask("open")

    def busy(self) -> None:
        """Every new request gets 503, and the server does not see it."""
        self._ask("busy")

    def crawl(self) -> None:
        """New exchanges get their headers late, and both bodies at a few hundred bytes a second."""
        self._ask("crawl")

    def refuse(self) -> None:
        """Connections are reset, and new ones refused."""
        self._ask("refuse")

    @property
    def requests(self) -> int:
        """How many requests came in so far."""
        return self._ask("look")["requests"]

    @property
    def exchanges_open(self) -> int:
        """How many exchanges are in flight."""
        return self._ask("look")["exchanges_open"]

    def _ask(self, command: str) -> dict[str, int]:
        with self._lock:
            self._control.sendall(f"{command}\n".encode())
            return json.loads(self._answers.readline())

    def close(self) -> None:
        """Ends the conversation; the gate stays as it is."""
        self._answers.close()
        self._control.close()


@contextlib.contextmanager
def running_gate(folder: Path, name: str, url: str) -> Iterator[Gate]:
    """Start a gate, and stop it at the end of the block.

    :param folder: for its log.
    :param url: of the server, on loopback and without TLS.
    :raises ServiceError: if it cannot start.
    """
    port, control = process.free_port(), process.free_port()
    command = [sys.executable, "-m", "tests.servers.gate_server"]
    ports = [str(number) for number in (port, urlsplit(url).port, control)]
    environment = {"PYTHONPATH": str(process.ROOT)}
    child = process.Process(f"gate-{name}", [*command, *ports], folder, env=environment)
    with process.stopping(child):
        child.wait_for_port(control)
        with contextlib.closing(Gate(port, control)) as gate:
            yield gate
