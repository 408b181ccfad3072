"""verify, prune and restore, with a real Swift."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.threads import deferToThread

from tests.offload.conftest import Objects, Script
from tests.offload.synapse_store import RECENT, SynapseStore
from tests.servers.fault_proxy import FaultProxy
from tests.servers.faults import Cut, in_response
from tests.servers.keystone import Credentials
from tests.servers.stand_in import RgwStandIn
from tests.servers.stand_in_model import Container, Stored
from tests.servers.swift import Swift

TWO_DAYS_SECONDS = 2 * 86_400
CONTAINER = "media"


def _json(script: Script, *arguments: Any, status: int = 0) -> dict[str, Any]:
    ended = script(*arguments, "--json")
    assert ended.returncode == status, ended.stderr + ended.stdout
    summary: dict[str, Any] = json.loads(ended.stdout)
    summary["told"] = ended.stderr
    return summary


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
    summary = _json(offload, "verify", store.base)
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
    summary = _json(offload, "verify", store.base, status=1)
    assert summary["nowhere"] == 1
    assert summary["on_disk_and_in_swift_but_different"] == 1
    assert summary["only_in_swift"] == 1
    told = summary["told"]
    assert f"Nowhere: {only_swift}" in told
    assert f"In Swift with a wrong length: {only_swift}" in told
    assert f"but different: {different}" in told
    assert f"On disk, but its length is not the one in Synapse's database: {damaged}" in told


def test_restore(offload: Script, store: SynapseStore, objects: Objects) -> None:
    """What was offloaded comes back as it was, thumbnails too; what is on disk is not touched."""
    contents = {}
    for number, size in enumerate((0, 10, 100_000, 3_000_000)):
        contents[store.add_local(f"local-{number}", os.urandom(size))] = size
    contents[store.add_thumbnail("local-1")] = 9
    contents[store.add_remote("example.org", "m", "remote-file")] = 14
    before = {path: (store.base / path).read_bytes() for path in contents}
    offload("update", store.base, "2m")
    _json(offload, "upload", store.base, "--delete")
    assert store.files() == set()
    here = store.base / sorted(contents)[0]
    here.parent.mkdir(parents=True)
    here.write_bytes(b"newer than Swift's")
    objects["local_content/ab/cd/e f"] = b"x"
    objects["local_content/ab/cd"] = b"x"
    objects["url_cache/2024-01-31/abc"] = b"x"
    summary = _json(offload, "restore", store.base)
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
    """A download that breaks in the middle goes on; never is half a file left under its name."""
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
    summary = await deferToThread(_json, offload, "restore", store.base)
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
        summary = _json(offload, "restore", small, status=3)
        left = [path for path in small.rglob("*") if path.is_file()]
    finally:
        os.system(f"umount {small}")
    assert "full" in summary["stopped"]
    assert left == []


def test_prune_reports(offload: Script, store: SynapseStore, objects: Objects) -> None:
    """Objects younger than a day are left, known ones as well; without --delete all are."""
    known = store.add_local("known-one")
    thumbnail = store.add_thumbnail("known-one", in_database=False)
    for name in (known, thumbnail, "local_content/or/ph/an", "local_content/strange"):
        objects[name] = b"x"
    summary = _json(offload, "prune")
    assert summary["objects_listed"] == 4
    assert summary["of_media_that_synapse_does_not_know"] == 1
    assert summary["left_alone_younger_than_a_day"] == 1
    assert summary["left_alone_not_named_like_media"] == 1
    assert summary["deleted"] == 0
    assert len(objects.names()) == 4


@pytest_twisted.async_yield_fixture
async def gateway() -> AsyncIterator[RgwStandIn]:
    """A gateway whose objects can be made older than they are."""
    server = RgwStandIn(reactor)
    await server.start()
    server.containers[CONTAINER] = Container(server.now())
    yield server
    await server.stop()


def _store(gateway: RgwStandIn, *names: str, age: float = TWO_DAYS_SECONDS) -> set[str]:
    for name in names:
        etag = hashlib.md5(b"x").hexdigest()
        gateway.containers[CONTAINER].objects[name] = Stored(b"x", etag, gateway.now() - age)
    return set(names)


def _configure(script: Script, store: SynapseStore, gateway: RgwStandIn, **options: Any) -> None:
    user, key = gateway.credentials
    auth = {"auth_url": gateway.auth_url, "username": user, "password": key}
    script.configure(store, container=CONTAINER, auth_type="v1password", auth=auth, **options)


def _names(gateway: RgwStandIn) -> set[str]:
    return set(gateway.containers[CONTAINER].objects)


async def test_prune(script: Script, any_store: SynapseStore, gateway: RgwStandIn) -> None:
    """Old objects of media that Synapse forgot go; young ones, known ones and foreign ones stay."""
    kept = _store(gateway, any_store.add_local("known-one", None), "p/other-servers", "readme")
    kept |= _store(gateway, any_store.add_local("preview", None, url_cache="x"))
    kept |= _store(gateway, any_store.add_remote("example.org", "m", "known-file", None))
    kept |= _store(gateway, "local_thumbnails/kn/ow/n-one/32-32-image-png-crop")
    kept |= _store(gateway, "local_content/yo/un/g", age=3600)
    gone = _store(gateway, "local_content/or/ph/an", "remote_content/example.org/or/ph/an")
    gone |= _store(gateway, "local_thumbnails/or/ph/an/32-32-image-png-crop")
    _configure(script, any_store, gateway)

    ended = await deferToThread(script, "prune")
    assert ended.returncode == 0, ended.stderr
    assert gone <= set(ended.stdout.splitlines())
    assert _names(gateway) == kept | gone

    ended = await deferToThread(script, "prune", "--delete")
    assert ended.returncode == 2
    assert "is this the right database" in ended.stderr
    assert _names(gateway) == kept | gone

    options = ("prune", "--delete", "--max-share", "0.7")
    summary = await deferToThread(_json, script, *options)
    assert summary["deleted"] == 3
    assert _names(gateway) == kept


async def test_prune_minds_the_prefix(
    script: Script, store: SynapseStore, gateway: RgwStandIn
) -> None:
    """Only what is below the prefix is looked at."""
    store.add_local("known-one", None)
    others = _store(gateway, "local_content/or/ph/an", "q/local_content/or/ph/an")
    _store(gateway, "p/local_content/or/ph/an")
    _configure(script, store, gateway, prefix="p")
    options = ("prune", "--delete", "--max-share", "1")
    summary = await deferToThread(_json, script, *options)
    assert summary["deleted"] == 1
    assert _names(gateway) == others


async def test_prune_with_an_empty_database(
    script: Script, store: SynapseStore, gateway: RgwStandIn
) -> None:
    """A database without any media is taken for the wrong one, whatever share may go."""
    names = _store(gateway, "local_content/or/ph/an")
    _configure(script, store, gateway)
    ended = await deferToThread(script, "prune", "--delete", "--max-share", "1")
    assert ended.returncode == 2
    assert "no media at all" in ended.stderr
    assert _names(gateway) == names
