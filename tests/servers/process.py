"""Child processes, ports and waiting: what every launcher in this folder needs.

A launched service listens on loopback only, writes its output to a log file in
its own folder, and ends with us, however we end (where the system is Linux).
All calls block; none needs a reactor.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import pwd
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

import requests

#: The checkout; put on ``PYTHONPATH`` where a service loads our code.
ROOT = Path(__file__).resolve().parents[2]

#: What Keystone and Swift run with. Another environment has them if the tests run in one with
#: other versions of our own dependencies.
PYTHON = os.environ.get("SERVERS_PYTHON", sys.executable)

LOOPBACK = "127.0.0.1"
START_SECONDS = 90.0
STOP_SECONDS = 15.0
POLL_SECONDS = 0.05
LOG_TAIL_LINES = 25


def own_ports(ports: range) -> range:
    """Each process of pytest-xdist has its own: two must not choose the same one at once."""
    count = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    number = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    return ports[number::count]


#: Below Linux's usual range for outgoing connections (32768 and up): none of
#: those can take a port between our choice and the service's bind.
PORTS = own_ports(range(20000, 32000))

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None

_ports_given: set[int] = set()


class ServiceError(Exception):
    """A service could not be started; the message says what to do, or shows its log's end."""


def free_port() -> int:
    """A loopback port that nothing listens on; never the same one twice in this process."""
    for port in random.sample(PORTS, len(PORTS)):
        if port in _ports_given:
            continue
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind((LOOPBACK, port))
            _ports_given.add(port)
            return port
    raise ServiceError(f"no free port between {PORTS.start} and {PORTS.stop} on {LOOPBACK}")


def require_package(module: str) -> None:
    """Check that a Python package is installed, unless the services have another environment.

    :raises ServiceError: if it is not, with the command that installs it.
    """
    if sys.executable == PYTHON and find_spec(module) is None:
        raise ServiceError(
            f"the Python package with the module '{module}' is missing; install it with: "
            f"cd {ROOT} && {sys.executable} -m pip install -e '.[test]'"
        )


def script(name: str) -> list[str]:
    """The command of a script that came with a package of the services' Python environment.

    :raises ServiceError: if it is not there.
    """
    path = Path(PYTHON).parent / name
    if not path.exists():
        raise ServiceError(
            f"{path} is missing; install it with: cd {ROOT} && {PYTHON} -m pip install -e '.[test]'"
        )
    return [PYTHON, str(path)]


def local_session() -> requests.Session:
    """HTTP to our own services, past any proxy that the environment names."""
    session = requests.Session()
    session.trust_env = False
    return session


def child_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Our environment for a child, without the developer's own cloud (``OS_*``) and proxies."""
    kept = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith("OS_") and not key.lower().endswith("_proxy")
    }
    return {**kept, "PYTHONUNBUFFERED": "1", **(extra or {})}


class Process:
    """One child process in a process group of its own.

    :param name: what it is called in errors; its log is ``<folder>/<name>.log``.
    :param folder: its working directory; made if absent.
    :param env: added to our environment.
    :param user: run as this user; ``None`` means as ourselves.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str | Path],
        folder: Path,
        *,
        env: Mapping[str, str] | None = None,
        user: pwd.struct_passwd | None = None,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.name = name
        self.log = folder / f"{name}.log"
        with self.log.open("ab") as log:
            self._child = subprocess.Popen(
                [str(part) for part in command],
                cwd=folder,
                env=child_environment(env),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C in a terminal is for us alone
                preexec_fn=_die_with_parent,
                user=None if user is None else user.pw_uid,
                group=None if user is None else user.pw_gid,
                extra_groups=None if user is None else [],
            )

    @property
    def pid(self) -> int:
        return self._child.pid

    @property
    def running(self) -> bool:
        return self._child.poll() is None

    def wait_until(self, ready: Callable[[], bool], what: str) -> None:
        """Wait for the service to be of use.

        :param what: what is waited for, as ``"an answer on port 8080"``.
        :raises ServiceError: if the process ends first or START_SECONDS pass;
            shows the end of the log. The process is stopped then.
        """
        deadline = time.monotonic() + START_SECONDS
        while not ready():
            if not self.running:
                raise self._error(f"ended with status {self._child.returncode} before {what}")
            if time.monotonic() > deadline:
                self.stop()
                raise self._error(f"gave no {what} within {START_SECONDS:.0f} s")
            time.sleep(POLL_SECONDS)

    def wait_for_port(self, port: int) -> None:
        """Wait until somebody accepts connections on this loopback port."""
        self.wait_until(lambda: _accepts(port), f"an answer on port {port}")

    def wait_for_url(self, url: str) -> None:
        """Wait until this URL answers with a status below 500."""
        self.wait_until(lambda: _answers(url), f"an answer from {url}")

    def stop(self, *, first: signal.Signals = signal.SIGTERM) -> None:
        """End the process and its children; harmless if it has ended already.

        :param first: how to ask; SIGKILL follows after STOP_SECONDS.
        """
        if not self.running:
            return
        self._child.send_signal(first)
        try:
            self._child.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(self.pid, signal.SIGKILL)
            self._child.wait()

    def _error(self, what: str) -> ServiceError:
        return ServiceError(f"{self.name} {what}; the end of {self.log}:\n{log_tail(self.log)}")


def run(name: str, command: Sequence[str | Path], folder: Path, **options: object) -> None:
    """Run a command to its end, as a :class:`Process` with the same arguments.

    :raises ServiceError: if it fails; shows the end of its log.
    """
    process = Process(name, command, folder, **options)  # type: ignore[arg-type]
    with stopping(process):
        status = process._child.wait()
    if status:
        raise process._error(f"failed with status {status}")


@contextlib.contextmanager
def stopping(process: Process) -> Iterator[Process]:
    """Stop the process at the end of the block, whatever happens in it."""
    try:
        yield process
    finally:
        process.stop()


def log_tail(log: Path) -> str:
    """The last lines of a log file."""
    lines = log.read_text(errors="replace").splitlines()
    return "\n".join(lines[-LOG_TAIL_LINES:]) or "(it is empty)"


def _die_with_parent() -> None:
    """Runs in the child, after a change of user, which would undo it."""
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _accepts(port: int) -> bool:
    with contextlib.suppress(OSError):
        socket.create_connection((LOOPBACK, port), timeout=1).close()
        return True
    return False


def _answers(url: str) -> bool:
    with contextlib.suppress(requests.RequestException), local_session() as session:
        return session.get(url, timeout=5).status_code < 500
    return False
