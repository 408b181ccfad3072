"""How a command runs the reactor."""

from __future__ import annotations

import subprocess
import sys

from twisted.internet import reactor
from twisted.internet.threads import deferToThread

from tests.offload.conftest import Objects, Script
from tests.offload.synapse_store import SynapseStore
from tests.servers.fault_proxy import FaultProxy
from tests.servers.faults import Answer
from tests.servers.keystone import Credentials
from tests.servers.swift import Swift

#: Runs the script; once there is a file "back", the wall clock is an hour behind.
_WITH_A_CLOCK = """
import os, sys, time
from twisted.internet.base import ReactorBase
ReactorBase.seconds = staticmethod(lambda: time.time() - 3600 * os.path.exists("back"))
from swift_provider.offload import main
sys.exit(main(sys.argv[1:]))
"""


async def test_a_clock_that_is_set_back(
    offload: Script, store: SynapseStore, objects: Objects, swift: Swift, account: Credentials
) -> None:
    """A run that waits for a retry goes on as if nothing had happened."""
    path = store.add_local("abcdef")
    proxy = FaultProxy(reactor, "127.0.0.1", int(swift.url.rpartition(":")[2]))
    await proxy.start()
    url = proxy.url_for(swift.account_url(account.project_id))
    offload.configure(store, cloud="matrix", container=objects.container, storage_url=url)
    proxy.add(refusal := Answer(503, times=3, match=("PUT", path)))
    options = ["--no-progress", "--log-level", "info"]
    running = subprocess.Popen(
        [sys.executable, "-c", _WITH_A_CLOCK, *options, "upload", str(store.base), "--all"],
        cwd=offload.folder,
        env=offload.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert running.stderr is not None
        while "retrying in" not in await deferToThread(running.stderr.readline):
            assert running.poll() is None
        (offload.folder / "back").touch()
        told, errors = await deferToThread(running.communicate, timeout=60)
    finally:
        running.kill()
        running.wait()
        await proxy.stop()
    assert running.returncode == 0, errors
    assert "Uploaded: 1" in told
    assert refusal.fired == 3
    assert objects.names() == {path}
