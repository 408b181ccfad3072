"""Where verify finds whole copies, with a real Swift."""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from typing import Any

import pytest
from twisted.internet import reactor
from twisted.internet.threads import deferToThread

from swift_provider.offload.lock import StoreLock
from tests.offload.conftest import Objects, Script
from tests.offload.synapse_store import RECENT, SynapseStore
from tests.servers.fault_proxy import FaultProxy
from tests.servers.faults import Stall
from tests.servers.keystone import Credentials
from tests.servers.swift import Swift


def test_verify(offload: Script, store: SynapseStore, objects: Objects) -> None:
    """Each media is counted by where a whole copy is; a hole is named, with status 1."""
    both = store.add_local("on-both")
    store.add_local("only-disk")
    only_swift = store.add_remote("example.org", "m", "only-swift", b"0123456789")
    (store.base / only_swift).unlink()
    objects[both] = (store.base / both).read_bytes()
    objects[only_swift] = b"0123456789"
    store.add_local("preview", url_cache="https://example.org/")
    store.add_local("still-awaited", None, length=None)
    summary = offload.json("verify", store.base)
    assert summary["on_disk_and_in_swift"] == 1
    assert summary["only_on_disk"] == 1
    assert summary["only_in_swift"] == 1
    assert summary["nowhere"] == summary["on_disk_and_in_swift_but_different"] == 0
    assert sum(summary["skipped"].values()) == 1

    objects[only_swift] = b"too short"
    different = store.add_local("different", b"content A", accessed=RECENT)
    objects[different] = b"content B"
    damaged = store.add_local("damaged", b"short", length=9)
    objects[damaged] = b"right one"
    summary = offload.json("verify", store.base, status=1)
    assert summary["nowhere"] == 1
    assert summary["on_disk_and_in_swift_but_different"] == 1
    assert summary["wrong_or_unreadable_on_disk_whole_in_swift"] == 1
    assert summary["only_in_swift"] == 0
    assert {one["path"]: one["what"] for one in summary["lost"]} == {
        only_swift: "Nowhere",
        different: "On disk and in Swift but different",
        damaged: "Wrong or unreadable on disk, whole in Swift",
    }
    assert summary["on_disk_and_in_swift_but_different_bytes"] == len(b"content A")
    told = summary["told"]
    assert f"Nowhere: {only_swift}" in told
    assert f"In Swift with a wrong length: {only_swift}" in told
    assert f"but different: {different}" in told
    assert f"On disk, but its length is not the one in Synapse's database: {damaged}" in told


@pytest.mark.parametrize("sha256", [True, False])
def test_a_bad_file_is_a_hole(
    offload: Script, store: SynapseStore, objects: Objects, sha256: bool
) -> None:
    """Synapse would serve the bad file, although Swift has the right one: status 1."""
    good = b"the whole file"
    digest = hashlib.sha256(good).hexdigest() if sha256 else None
    path = store.add_local("abcdef", good, sha256=digest)
    objects[path] = good
    (store.base / path).write_bytes(good[::-1] if sha256 else good[:3])
    summary = offload.json("verify", store.base, status=1)
    assert summary["wrong_or_unreadable_on_disk_whole_in_swift"] == 1
    assert path in summary["told"]


def test_an_empty_database(offload: Script, store: SynapseStore) -> None:
    """A database without media says nothing about the container: it is likely the wrong one."""
    ended = offload("verify", store.base)
    assert ended.returncode == 2
    assert "no media at all" in ended.stderr


@pytest.fixture
def proxied(
    offload: Script, store: SynapseStore, objects: Objects, swift: Swift, account: Credentials
) -> Any:
    """Runs verify, and waits while Swift's answer to the HEAD of an object is on its way."""

    @asynccontextmanager
    async def run(path: str, summary: dict[str, Any]) -> AsyncIterator[None]:
        proxy = FaultProxy(reactor, "127.0.0.1", int(swift.url.rpartition(":")[2]))
        await proxy.start()
        url = proxy.url_for(swift.account_url(account.project_id))
        proxy.add(stall := Stall(match=("HEAD", f"{path}$")))
        offload.configure(store, cloud="matrix", container=objects.container, storage_url=url)
        running = offload.start("verify", str(store.base), "--json")
        await stall.happened()
        yield
        stall.release()
        told, _ = await deferToThread(running.communicate, timeout=60)
        await proxy.stop()
        summary.update(json.loads(told))

    return run


async def test_a_media_that_synapse_deletes_during_the_run(
    store: SynapseStore, proxied: Any
) -> None:
    """Its file and its object are gone, and that is no hole."""
    path = store.add_local("abcdef", b"content")
    store.add_local("staying", b"content")
    (store.base / path).unlink()
    summary: dict[str, Any] = {}
    async with proxied(path, summary):
        store.execute("DELETE FROM local_media_repository WHERE media_id = 'abcdef'")
    assert (summary["status"], summary["nowhere"], summary["only_on_disk"]) == (0, 0, 1)
    assert summary["skipped"] == {"Synapse has deleted it meanwhile": 1}


async def test_a_file_that_appears_during_the_run(store: SynapseStore, proxied: Any) -> None:
    """Synapse stores it meanwhile: it is looked for again before it is called lost."""
    path = store.add_local("abcdef", b"content")
    store.add_local("staying", b"content")
    (store.base / path).rename(store.base / "elsewhere")
    summary: dict[str, Any] = {}
    async with proxied(path, summary):
        (store.base / "elsewhere").rename(store.base / path)
    assert (summary["status"], summary["nowhere"], summary["only_on_disk"]) == (0, 0, 2)


async def test_a_bad_file_that_is_replaced_during_the_run(
    store: SynapseStore, objects: Objects, proxied: Any
) -> None:
    """It is no hole any more."""
    path = store.add_local("abcdef", b"short", length=7)
    objects[path] = b"content"
    summary: dict[str, Any] = {}
    async with proxied(path, summary):
        (store.base / path).write_bytes(b"content")
    assert (summary["status"], summary["on_disk_and_in_swift"]) == (0, 1)


async def test_local_disk_goes_on_during_the_run(
    store: SynapseStore, objects: Objects, proxied: Any
) -> None:
    """Neither waits for the other: verify only reads."""
    path = store.add_local("abcdef", b"content")
    summary: dict[str, Any] = {}
    with closing(StoreLock(str(store.base))):
        async with proxied(path, summary):
            pass
    assert summary["status"] == 0, summary
    async with proxied(path, summary):
        StoreLock(str(store.base)).close()
    assert summary["status"] == 0, summary


async def test_a_file_that_goes_to_swift_during_the_run(
    store: SynapseStore, objects: Objects, proxied: Any
) -> None:
    """An upload of another run moves it between the two looks: it is not nowhere."""
    path = store.add_local("abcdef", b"content")
    summary: dict[str, Any] = {}
    async with proxied(path, summary):
        objects[path] = b"content"
        (store.base / path).unlink()
    assert (summary["status"], summary["nowhere"], summary["only_on_disk"]) == (0, 0, 1)
