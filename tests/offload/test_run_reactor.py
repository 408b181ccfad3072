"""How a process ends that ran the reactor for one job."""

from __future__ import annotations

import subprocess
import sys
import time

from tests.servers import process

#: Asks a name server that does not answer, and gives up after a moment.
_PROGRAM = """
import socket, time
socket.getaddrinfo = lambda *arguments: time.sleep(60)
from twisted.internet import reactor
from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.protocol import Factory
from swift_provider.offload.run_reactor import run_reactor

async def job():
    endpoint = HostnameEndpoint(reactor, "swift.example", 80)
    try:
        await endpoint.connect(Factory()).addTimeout(0.2, reactor)
    except Exception:
        return "gave up"

print(run_reactor(reactor, job))
"""


def test_a_silent_name_server_does_not_hold_up_the_end() -> None:
    """The process ends when the job does, not when the system has given up the search."""
    began = time.monotonic()
    ended = subprocess.run(
        [sys.executable, "-c", _PROGRAM],
        env=process.child_environment({"PYTHONPATH": str(process.ROOT)}),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (ended.stdout, ended.returncode) == ("gave up\n", 0), ended.stderr
    assert time.monotonic() - began < 30
