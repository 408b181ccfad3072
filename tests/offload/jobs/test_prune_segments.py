"""What prune does with the segments of large objects, on a gateway like Ceph's."""

from __future__ import annotations

import hashlib
import os
import sqlite3
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.threads import deferToThread

from tests.offload.conftest import Script
from tests.offload.synapse_store import SynapseStore
from tests.servers.stand_in import RgwStandIn
from tests.servers.stand_in_model import Container, Stored

MIB = 1024 * 1024
THREE_DAYS_SECONDS = 3 * 86_400
CONTAINER = "media"


class _Gateway(RgwStandIn):
    """Stores everything as if it were ``age`` seconds ago."""

    age = 0.0

    def now(self) -> float:
        return super().now() - self.age

    def objects(self, container: str = CONTAINER) -> dict[str, Stored]:
        return self.containers[container].objects

    @property
    def segments(self) -> dict[str, Stored]:
        return self.objects(f"{CONTAINER}_segments")

    def join(self) -> bytes:
        """All segments, in order."""
        return b"".join(self.segments[name].data for name in sorted(self.segments))


@pytest_twisted.async_yield_fixture
async def gateway() -> AsyncIterator[_Gateway]:
    server = _Gateway(reactor)
    await server.start()
    for container in (CONTAINER, f"{CONTAINER}_segments", "copy"):
        server.containers[container] = Container(server.now())
    yield server
    await server.stop()


@pytest.fixture
def copy(tmp_path: Path) -> Iterator[SynapseStore]:
    """A second media store and its database."""
    (tmp_path / "copy").mkdir()
    made = SynapseStore(tmp_path / "copy")
    yield made
    made.close()


def _configure(script: Script, store: SynapseStore, gateway: _Gateway, **options: Any) -> None:
    user, key = gateway.credentials
    auth = {"auth_url": gateway.auth_url, "username": user, "password": key}
    options = {"container": CONTAINER, "segment_size": "1M", **options}
    script.configure(store, auth_type="v1password", auth=auth, **options)


async def _upload(script: Script, store: SynapseStore, gateway: _Gateway) -> None:
    """Three days ago; since then somebody has looked at media."""
    _configure(script, store, gateway)
    gateway.age = THREE_DAYS_SECONDS
    ended = await deferToThread(script, "upload", store.base, "--all", "--delete")
    assert ended.returncode == 0, ended.stderr
    gateway.age = 0.0
    store.execute("UPDATE local_media_repository SET last_access_ts = %s", (time.time() * 1000,))


def _forget(store: SynapseStore, media_id: str) -> None:
    store.execute("DELETE FROM local_media_repository WHERE media_id = %s", (media_id,))


async def test_a_copied_container(
    script: Script, store: SynapseStore, gateway: _Gateway, copy: SynapseStore
) -> None:
    """Prune of a copy, whose manifests name the original's segments, deletes manifests only."""
    content = os.urandom(2 * MIB)
    path = store.add_local("large-one", content)
    for number in range(9):
        store.add_local(f"small-{number}")
    await _upload(script, store, gateway)
    with closing(sqlite3.connect(store.database_path)) as database:
        database.backup(copy._connection)
    _forget(copy, "large-one")
    gateway.objects("copy").update(gateway.objects())
    _configure(script, copy, gateway, container="copy")
    summary = await deferToThread(script.json, "prune", "--delete")
    assert summary["deleted"] == 1
    assert path not in gateway.objects("copy")
    assert gateway.join() == content
    _configure(script, store, gateway)
    summary = await deferToThread(script.json, "verify", store.base, "--deep")
    assert summary["only_in_swift"] == 10


async def test_the_last_copy_of_a_file(
    script: Script, store: SynapseStore, gateway: _Gateway
) -> None:
    """A manifest was deleted alone: the segments of a known media stay, and are named."""
    content = os.urandom(2 * MIB + 17)
    path = store.add_local("large-one", content)
    for number in range(9):
        store.add_local(f"small-{number}")
    await _upload(script, store, gateway)
    del gateway.objects()[path]
    for options in (("prune",), ("prune", "--delete", "--unmarked", "--max-share", "1")):
        summary = await deferToThread(script.json, *options)
        assert summary["left_alone_segments_of_media_without_an_object"] == 3
        assert summary["segments_of_no_object"] == 0
        assert f"Left alone: {CONTAINER}_segments/{path}/" in summary["told"]
    assert gateway.join() == content

    _forget(store, "large-one")
    assert (await deferToThread(script.json, "prune", "--delete"))["segments_deleted"] == 3
    assert gateway.segments == {}


async def test_an_object_of_another_length(
    script: Script, store: SynapseStore, gateway: _Gateway
) -> None:
    """It does not replace the segments of a file, whose length the database has."""
    path = store.add_local("large-one", os.urandom(MIB + 1))
    thumbnail = store.add_thumbnail("large-one", os.urandom(MIB + 2))
    remote = store.add_remote("example.org", "m", "large-too", os.urandom(MIB + 3))
    names = (path, thumbnail, remote)
    await _upload(script, store, gateway)
    gateway.age = THREE_DAYS_SECONDS
    for name in names:
        gateway.objects()[name] = Stored(b"x", hashlib.md5(b"x").hexdigest(), gateway.now())
    gateway.age = 0.0
    summary = await deferToThread(script.json, "prune", "--delete")
    assert summary["left_alone_segments_of_media_without_an_object"] == 6
    for name, size in zip(names, (1, 2, 3), strict=True):
        content = bytes(MIB + size)
        digest = hashlib.md5(content).hexdigest()
        gateway.objects()[name] = Stored(content, digest, gateway.now())
    assert (await deferToThread(script.json, "prune", "--delete"))["segments_deleted"] == 6


async def test_a_container_that_was_emptied(
    script: Script, store: SynapseStore, gateway: _Gateway
) -> None:
    """Whatever the database knows, the segments stay."""
    for number in range(10):
        store.add_local(f"large-{number}", os.urandom(MIB + 1))
    await _upload(script, store, gateway)
    gateway.objects().clear()
    summary = await deferToThread(script.json, "prune", "--delete")
    assert summary["left_alone_segments_of_media_without_an_object"] == 20

    store.execute("DELETE FROM local_media_repository WHERE media_id != 'large-0'")
    ended = await deferToThread(script, "prune", "--delete")
    assert ended.returncode == 2
    assert "9 of 9 objects of local media" in ended.stderr
    assert len(gateway.segments) == 20


async def test_segments_and_an_old_database(
    script: Script, store: SynapseStore, gateway: _Gateway
) -> None:
    """A database that is older than the segments deletes none of them."""
    path = store.add_local("large-one", os.urandom(MIB + 1))
    for number in range(9):
        store.add_local(f"small-{number}")
    await _upload(script, store, gateway)
    del gateway.objects()[path]
    _forget(store, "large-one")
    old = (time.time() - 2 * THREE_DAYS_SECONDS) * 1000
    store.execute("UPDATE local_media_repository SET last_access_ts = %s", (old,))
    ended = await deferToThread(script, "prune", "--delete", "--max-share", "1")
    assert ended.returncode == 2
    assert "the database is older than the objects" in ended.stderr
    assert len(gateway.segments) == 2


@pytest.mark.parametrize("container", [CONTAINER, "copy"])
async def test_segments_with_the_mark_of_another_homeserver(
    script: Script, store: SynapseStore, gateway: _Gateway, container: str
) -> None:
    """They show that another homeserver stores here: --unmarked deletes nothing, as with objects.

    Its upload ended in the middle, into the same container or into another one.
    """
    path = store.add_local("large-one", os.urandom(MIB + 1))
    for number in range(60):
        store.add_local(f"small-{number}")
    await _upload(script, store, gateway)
    _forget(store, "large-one")
    del gateway.objects()[path]
    for segment in gateway.segments.values():
        segment.metadata["x-object-meta-matrix-server"] = "other.example"
        segment.metadata["x-object-meta-manifest-container"] = container
    unmarked = "local_content/un/ma/rked"
    gateway.objects()[unmarked] = replace(next(iter(gateway.objects().values())), metadata={})
    ended = await deferToThread(script, "prune", "--delete", "--unmarked")
    assert ended.returncode == 2
    assert (
        "another homeserver (other.example) has objects or segments in the same place"
        in ended.stderr
    )
    assert unmarked in gateway.objects()
