"""What ``verify --deep`` finds by reading the objects, with a real Swift."""

from __future__ import annotations

import hashlib
import os
import signal
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread

from tests.offload.conftest import Objects, Script
from tests.offload.synapse_store import SynapseStore
from tests.servers.fault_proxy import FaultProxy
from tests.servers.faults import FlipBit, Stall, in_response
from tests.servers.keystone import Credentials
from tests.servers.swift import Swift

SIZE = 300_000


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def add(store: SynapseStore, media_id: str, content: bytes, *, on_disk: bool, known: bool) -> str:
    """A media whose content the database knows or not."""
    digest = sha256(content) if known else None
    path = store.add_local(media_id, content, sha256=digest)
    if not on_disk:
        (store.base / path).unlink()
    return path


@pytest.mark.parametrize("size", [10, SIZE])
def test_each_object_is_read(
    offload: Script, store: SynapseStore, objects: Objects, size: int
) -> None:
    """Right objects are counted as without ``--deep``; nothing is written to the disk."""
    for number, known in enumerate((True, False)):
        content = os.urandom(size)
        objects[add(store, f"both-{number}", content, on_disk=True, known=known)] = content
        content = os.urandom(size)
        objects[add(store, f"swift-{number}", content, on_disk=False, known=known)] = content
    before = store.files()
    summary = offload.json("verify", "--deep", store.base)
    assert (summary["on_disk_and_in_swift"], summary["only_in_swift"]) == (2, 2)
    assert summary["wrong_in_swift_not_on_disk"] == summary["nowhere"] == 0
    assert summary["downloaded_bytes"] == 4 * size
    assert store.files() == before
    shallow = offload.json("verify", store.base)
    assert (shallow["on_disk_and_in_swift"], shallow["only_in_swift"]) == (2, 2)
    assert not shallow.keys() & {"wrong_in_swift_not_on_disk", "downloaded_bytes"}


@pytest.mark.parametrize("size", [10, SIZE])
def test_a_wrong_object_of_the_right_length(
    offload: Script, store: SynapseStore, objects: Objects, size: int
) -> None:
    """Only its SHA-256 shows it: a hole, with status 1, wherever the file is."""
    content = os.urandom(size)
    paths = {
        "alone": add(store, "alone", content, on_disk=False, known=True),
        "beside": add(store, "beside-file", content, on_disk=True, known=True),
        "bad-file": add(store, "bad-file", content, on_disk=True, known=True),
    }
    (store.base / paths["bad-file"]).write_bytes(b"short")
    for path in paths.values():
        objects[path] = content[::-1]
    assert offload.json("verify", store.base, status=1)["only_in_swift"] == 1
    summary = offload.json("verify", "--deep", store.base, status=1)
    assert summary["wrong_in_swift_not_on_disk"] == 1
    assert summary["on_disk_and_in_swift_but_different"] == 1
    assert summary["nowhere"] == 1
    assert (summary["only_in_swift"], summary["failed"]) == (0, {})
    assert f"Wrong in Swift, not on disk: {paths['alone']}" in summary["told"]
    for path in paths.values():
        why = "its SHA-256 is not the one in Synapse's database"
        assert f"In Swift, but {why}: {path}" in summary["told"]
    text = offload("verify", "--deep", store.base)
    assert text.returncode == 1
    assert "Wrong in Swift, not on disk: 1" in text.stdout


@pytest.mark.parametrize("size", [1000, SIZE])
@pytest.mark.parametrize("on_disk", [True, False])
def test_an_object_that_is_damaged_on_swifts_disk(
    offload: Script,
    store: SynapseStore,
    objects: Objects,
    swift: Swift,
    size: int,
    on_disk: bool,
) -> None:
    """HEAD shows it as before. Swift itself puts it aside while it is read."""
    content = os.urandom(size)
    path = add(store, "abcdef", content, on_disk=on_disk, known=False)
    objects[path] = content
    replicas = (swift.folder / "devices").rglob("*.data")
    (replica,) = (one for one in replicas if one.read_bytes() == content)
    with replica.open("r+b") as file:
        file.seek(size - 1)
        file.write(bytes([content[-1] ^ 1]))
    shallow = offload.json("verify", store.base)
    assert shallow["on_disk_and_in_swift" if on_disk else "only_in_swift"] == 1
    summary = offload.json("verify", "--deep", store.base, status=0 if on_disk else 1)
    assert summary["only_on_disk" if on_disk else "nowhere"] == 1
    assert f"No longer in Swift after it was read: {path}" in summary["told"]


def test_right_bytes_with_a_wrong_note(
    offload: Script, store: SynapseStore, objects: Objects
) -> None:
    """A CRC-32 in the metadata that is not the object's own damages no good object."""
    content = os.urandom(SIZE)
    path = add(store, "abcdef", content, on_disk=True, known=True)
    objects[path] = content
    objects.post(path, {"X-Object-Meta-Content-Crc32": "00000000"})
    assert offload.json("verify", store.base)["on_disk_and_in_swift"] == 1
    assert offload.json("verify", "--deep", store.base)["on_disk_and_in_swift"] == 1


def test_a_large_object(offload: Script, store: SynapseStore, objects: Objects) -> None:
    """A large object is read through its segments; one that was swapped is found."""
    offload.configure(store, cloud="matrix", container=objects.container, segment_size="1M")
    content = os.urandom(3 * 1024 * 1024)
    path = add(store, "large-one", content, on_disk=True, known=True)
    assert offload("upload", store.base, "--all", "--delete").returncode == 0
    assert offload.json("verify", "--deep", store.base)["only_in_swift"] == 1
    first, second, third = objects.segments()
    objects.put_manifest(path, [second, first, third])
    assert offload.json("verify", store.base)["only_in_swift"] == 1
    summary = offload.json("verify", "--deep", store.base, status=1)
    assert summary["wrong_in_swift_not_on_disk"] == 1


@pytest.mark.parametrize("known", [True, False])
def test_what_nothing_proves(
    offload: Script, store: SynapseStore, objects: Objects, known: bool
) -> None:
    """Of an object of ranges Swift has no MD5: without a SHA-256 the check fails, status 1."""
    path = add(store, "of-ranges", b"12341234", on_disk=False, known=known)
    objects.make(f"{objects.container}_segments")
    objects.put_segment("part", b"0123456789")
    objects.put_manifest(path, ["part", "part"], range="1-4")
    assert offload.json("verify", store.base)["only_in_swift"] == 1
    summary = offload.json("verify", "--deep", store.base, status=0 if known else 1)
    assert summary["only_in_swift"] == known
    assert summary["failed"] == (
        {} if known else {"neither Synapse's database nor Swift can prove its content": 1}
    )


@pytest_twisted.async_yield_fixture
async def proxy(
    offload: Script, store: SynapseStore, objects: Objects, swift: Swift, account: Credentials
) -> Any:
    """A proxy in front of Swift; the script goes through it."""
    started = FaultProxy(reactor, "127.0.0.1", int(swift.url.rpartition(":")[2]))
    await started.start()
    url = started.url_for(swift.account_url(account.project_id))
    offload.configure(
        store, cloud="matrix", container=objects.container, storage_url=url, threadpool_size=3
    )
    yield started
    await started.stop()


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("times", [1, None])
async def test_damage_counts_if_it_stays(
    offload: Script,
    store: SynapseStore,
    objects: Objects,
    proxy: FaultProxy,
    known: bool,
    times: int | None,
) -> None:
    """Bytes that are not what Swift says they are get a second chance, and no third."""
    content = os.urandom(SIZE)
    path = add(store, "abcdef", content, on_disk=False, known=known)
    objects[path] = content
    proxy.add(FlipBit(in_response(SIZE // 2), times=times, match=("GET", path)))
    status = 1 if times is None else 0
    summary = await deferToThread(offload.json, "verify", "--deep", store.base, status=status)
    assert summary["only_in_swift"] == 1 - status
    assert summary["wrong_in_swift_not_on_disk"] == status
    assert ("its bytes are not those that were stored" in summary["told"]) == bool(status)
    assert len([seen for seen in proxy.requests if seen.path.endswith(path)]) == 3


async def test_an_old_database_goes_by_swifts_md5(
    offload: Script, store: SynapseStore, objects: Objects, proxy: FaultProxy
) -> None:
    """Without a SHA-256 the metadata's CRC-32, which the uploader noted, decides nothing."""
    content = os.urandom(SIZE)
    path = add(store, "abcdef", content, on_disk=False, known=False)
    objects[path] = content
    objects.post(path, {"X-Object-Meta-Content-Crc32": "00000000"})
    summary = await deferToThread(offload.json, "verify", "--deep", store.base)
    assert summary["only_in_swift"] == 1


async def test_as_many_at_once_as_there_are_slots(
    offload: Script, store: SynapseStore, objects: Objects, proxy: FaultProxy
) -> None:
    """``threadpool_size`` objects are read at a time, and Ctrl-C ends the run after these."""
    content = os.urandom(SIZE)
    for number in range(8):
        objects[add(store, f"media-{number}", content, on_disk=False, known=True)] = content
    stall = Stall(in_response(SIZE // 2), times=None, match=("GET", "local_content"))
    proxy.add(stall)
    running = offload.start("verify", "--deep", "--json", store.base)
    while stall.fired < 3:
        await deferLater(reactor, 0.02)
    running.send_signal(signal.SIGINT)
    told = await deferToThread(running.stderr.readline)  # type: ignore[union-attr]
    assert "Finishing current files. Ctrl-C again stops now" in told
    assert stall.taken == 3
    stall.times = 0
    stall.release()
    out, _ = await deferToThread(running.communicate)
    assert running.returncode == 130
    assert '"only_in_swift": 3' in out
    assert proxy.exchanges_peak == 3
