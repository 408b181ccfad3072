"""A homeserver with mirrors, one of which is down at the start, and at the end."""

from __future__ import annotations

from pathlib import Path
from uuid import uuid4

from twisted.internet import reactor
from twisted.internet.threads import deferToThread

from tests.module.conftest import MakeEntry
from tests.module.homeservers import Homeserver, there
from tests.module.storage import Storage
from tests.servers.fault_proxy import FaultProxy
from tests.servers.keystone import Credentials
from tests.servers.swift import Swift
from tests.servers.tls import make_ca


async def test_debts_at_the_end(
    tmp_path: Path, entry: MakeEntry, storage: Storage, account: Credentials, second_swift: Swift
) -> None:
    """The log says which place fails, and what it lacks when Synapse stops."""
    host, port = storage.url.split("/")[2].split(":")
    proxy = FaultProxy(reactor, host, int(port))
    await proxy.start()
    url = proxy.url_for(storage.url)
    await proxy.refuse()
    container = uuid4().hex[:8]
    mirror = {
        **second_swift.tempauth_options(),
        "name": "second",
        "container": container,
        "create_container": True,
    }
    here = Homeserver(
        tmp_path / "here",
        make_ca(tmp_path / "ca"),
        media_storage_providers=[
            entry(container, name="first", storage_url=url, mirrors=[mirror], memory_cache=0)
        ],
    )
    try:
        await deferToThread(here.start)
        await deferToThread(here.wait_for_containers, 1)
        await there(here.user.upload, b"x" * 1000)
    finally:
        await deferToThread(here.stop)
        await proxy.stop()
    lines = [line for line in here.log.read_text().splitlines() if "swift_provider" in line]
    assert any(f"first: HEAD {container}: " in line for line in lines)
    assert [
        line
        for line in lines
        if "WARNING" in line and "first: 1 objects are still to be copied" in line
    ]
