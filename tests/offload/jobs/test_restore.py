"""What restore brings back, with a real Swift."""

from __future__ import annotations

import os
from typing import Any

import pytest
from twisted.internet import reactor
from twisted.internet.threads import deferToThread

from tests.offload.conftest import Objects, Script
from tests.offload.synapse_store import SynapseStore
from tests.servers.fault_proxy import FaultProxy
from tests.servers.faults import Cut, in_response
from tests.servers.keystone import Credentials
from tests.servers.swift import Swift


def test_restore(offload: Script, store: SynapseStore, objects: Objects) -> None:
    """Offloaded files and thumbnails come back unchanged; files on disk are not touched."""
    contents = {}
    for number, size in enumerate((0, 10, 100_000, 3_000_000)):
        contents[store.add_local(f"local-{number}", os.urandom(size))] = size
    contents[store.add_thumbnail("local-1")] = 9
    contents[store.add_remote("example.org", "m", "remote-file")] = 14
    before = {path: (store.base / path).read_bytes() for path in contents}
    offload("update", store.base, "2m")
    offload.json("upload", store.base, "--delete")
    assert store.files() == set()
    here = store.base / sorted(contents)[0]
    here.parent.mkdir(parents=True)
    here.write_bytes(b"newer than Swift's")
    objects["local_content/ab/cd/e f"] = b"x"
    objects["local_content/ab/cd"] = b"x"
    objects["url_cache/2024-01-31/abc"] = b"x"
    summary = offload.json("restore", store.base)
    assert summary["restored"] == len(contents) - 1
    assert summary["already_on_disk"] == 1
    assert sum(summary["skipped"].values()) == 2
    assert store.files() == set(contents)
    assert here.read_bytes() == b"newer than Swift's"
    for path in set(contents) - {sorted(contents)[0]}:
        assert (store.base / path).read_bytes() == before[path]


async def test_restore_of_a_broken_download(
    offload: Script, store: SynapseStore, objects: Objects, swift: Swift, account: Credentials
) -> None:
    """A download that breaks in the middle is resumed, and the file is complete."""
    content = os.urandom(300_000)
    path = store.add_local("abcdef", content)
    objects[path] = content
    (store.base / path).unlink()
    proxy = FaultProxy(reactor, "127.0.0.1", int(swift.url.rpartition(":")[2]))
    await proxy.start()
    url = proxy.url_for(swift.account_url(account.project_id))
    cut = Cut(place=in_response(100_000), match=("GET", path))
    proxy.add(cut)
    offload.configure(store, cloud="matrix", container=objects.container, storage_url=url)
    summary = await deferToThread(offload.json, "restore", store.base)
    await proxy.stop()
    assert cut.fired == 1
    assert summary["restored_bytes"] == len(content)
    assert (store.base / path).read_bytes() == content
    assert store.files() == {path}


def test_restore_onto_a_full_disk(
    offload: Script, store: SynapseStore, objects: Objects, tmp_path: Any
) -> None:
    """A full disk ends the run with status 3, and leaves no part of a file."""
    objects["local_content/ab/cd/ef"] = b"x" * 400_000
    small = tmp_path / "small"
    small.mkdir()
    if os.system(f"mount -t tmpfs -o size=100k none {small} 2>/dev/null"):
        pytest.skip("needs a user that can mount")
    try:
        (small / "local_content").mkdir()
        summary = offload.json("restore", small, status=3)
        left = [path for path in small.rglob("*") if path.is_file()]
    finally:
        os.system(f"umount {small}")
    assert "full" in summary["stopped"]
    assert left == []
