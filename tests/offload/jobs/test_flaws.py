"""Objects that look whole and cannot be relied on: no file is deleted for them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet import reactor
from twisted.internet.threads import deferToThread

from tests.offload.conftest import Objects, Script
from tests.offload.synapse_store import SynapseStore
from tests.servers.fault_proxy import FaultProxy
from tests.servers.faults import Answer
from tests.servers.keystone import Credentials
from tests.servers.swift import Swift

MIB = 1024 * 1024
_JSON = {"Content-Type": "application/json; charset=utf-8", "X-Trans-Id": "made-up"}


@pytest.fixture
def large(offload: Script, store: SynapseStore, objects: Objects) -> Script:
    """The script, with the smallest segments that it allows."""
    offload.configure(store, cloud="matrix", container=objects.container, segment_size="1M")
    return offload


def _expire(objects: Objects, path: str, content: bytes) -> None:
    objects[path] = content
    objects.let_expire(path)


def _dynamic(objects: Objects, path: str, content: bytes) -> None:
    objects.make_dynamic(path, content)


def _link(objects: Objects, path: str, content: bytes) -> None:
    objects.link(path, content)


@pytest.mark.parametrize("dry_run", [False, True])
@pytest.mark.parametrize("number", [0, 2])
def test_upload_of_a_file_whose_segment_is_gone(
    large: Script, store: SynapseStore, objects: Objects, number: int, dry_run: bool
) -> None:
    """The manifest alone is no proof: the file is uploaded again before it is deleted."""
    content = os.urandom(2 * MIB + 5)
    path = store.add_local("large-one", content)
    large("update", store.base, "2m")
    large.json("upload", store.base)
    objects.delete_segment(number)
    options = ["--dry-run"] if dry_run else []
    summary = large.json("upload", store.base, "--delete", *options)
    assert (summary["already_there"], summary["replaced"], summary["deleted"]) == (0, 1, 1)
    if dry_run:
        assert (store.base / path).read_bytes() == content
    else:
        assert store.files() == set()
        assert objects[path] == content
        assert large.json("verify", store.base)["only_in_swift"] == 1


@pytest.mark.parametrize("size", [100, 2 * MIB])
@pytest.mark.parametrize("dry_run", [False, True])
def test_upload_of_a_file_whose_object_expires(
    offload: Script, store: SynapseStore, objects: Objects, size: int, dry_run: bool
) -> None:
    """An object that Swift will delete is stored again, without expiry, before the deletion."""
    content = os.urandom(size)
    path = store.add_local("abcdef", content)
    _expire(objects, path, content)
    offload("update", store.base, "2m")
    options = ["--dry-run"] if dry_run else []
    summary = offload.json("upload", store.base, "--delete", *options)
    assert (summary["already_there"], summary["replaced"], summary["deleted"]) == (0, 1, 1)
    assert ("x-delete-at" in objects.headers(path)) == dry_run
    assert (store.files() == {path}) == dry_run
    assert objects[path] == content


def test_upload_of_a_file_whose_object_is_a_link(
    offload: Script, store: SynapseStore, objects: Objects
) -> None:
    """Its target may go at any time: the file is stored in the link's place."""
    path = store.add_remote("example.org:8448", "m", "remote-file", b"content")
    target = objects.link(path, b"content")
    summary = offload.json("upload", store.base, "--all", "--delete")
    assert (summary["already_there"], summary["replaced"], summary["deleted"]) == (0, 1, 1)
    objects.delete_elsewhere(*target)
    assert objects[path] == b"content"
    assert offload.json("verify", store.base)["only_in_swift"] == 1


def test_upload_of_a_file_whose_segment_is_a_link(
    large: Script, store: SynapseStore, objects: Objects
) -> None:
    """Whoever deletes the link's target does not know of it: the file is stored anew."""
    content = os.urandom(MIB + 5)
    path = store.add_local("large-one", content)
    large("update", store.base, "2m")
    large.json("upload", store.base)
    target = objects.make_segment_a_link(1)
    summary = large.json("upload", store.base, "--delete")
    assert (summary["already_there"], summary["replaced"], summary["deleted"]) == (0, 1, 1)
    objects.delete_elsewhere(*target)
    assert objects[path] == content


def test_an_object_of_a_versioned_container_is_a_proof(
    offload: Script, store: SynapseStore, objects: Objects
) -> None:
    """There each object is a link to its version, in Swift's own care."""
    path = store.add_remote("example.org:8448", "m", "remote-file", b"content")
    objects.keep_versions()
    offload.json("upload", store.base, "--all")
    assert "version-id" in objects.headers(path)["content-location"]
    summary = offload.json("upload", store.base, "--all", "--delete")
    assert (summary["already_there"], summary["replaced"], summary["deleted"]) == (1, 0, 1)
    assert offload.json("verify", store.base)["only_in_swift"] == 1


def test_an_expiring_object_with_other_bytes_is_kept(
    offload: Script, store: SynapseStore, objects: Objects
) -> None:
    """Neither copy is known to be the better one: both stay, and the flaw is named."""
    path = store.add_local("abcdef", b"what is on disk")
    _expire(objects, path, b"WHAT IS IN SWFT")
    offload("update", store.base, "2m")
    summary = offload.json("upload", store.base, "--delete", status=1)
    assert "X-Delete-At" in summary["told"]
    assert store.files() == {path}
    assert objects[path] == b"WHAT IS IN SWFT"


@pytest.mark.parametrize("on_disk", [True, False])
def test_verify_of_a_segment_that_is_gone(
    large: Script, store: SynapseStore, objects: Objects, on_disk: bool
) -> None:
    """The object does not count as a copy, and its flaw is told."""
    path = store.add_local("large-one", os.urandom(2 * MIB + 5))
    large.json("upload", store.base, "--all")
    objects.delete_segment(1)
    if not on_disk:
        (store.base / path).unlink()
    summary = large.json("verify", store.base, status=0 if on_disk else 1)
    assert (summary["only_on_disk"], summary["nowhere"]) == ((1, 0) if on_disk else (0, 1))
    assert "is gone" in summary["told"]
    assert path in summary["told"]


@pytest.mark.parametrize("on_disk", [True, False])
@pytest.mark.parametrize(
    ("make", "told"),
    [
        (_expire, "X-Delete-At"),
        (_dynamic, "dynamic large object"),
        (_link, "a link to another object"),
    ],
)
def test_verify_of_an_object_that_does_not_last(
    offload: Script,
    store: SynapseStore,
    objects: Objects,
    on_disk: bool,
    make: Callable[[Objects, str, bytes], None],
    told: str,
) -> None:
    """An object that expires, or whose content depends on a listing, is no whole copy."""
    path = store.add_local("abcdef", b"content")
    make(objects, path, b"content")
    if not on_disk:
        (store.base / path).unlink()
    summary = offload.json("verify", store.base, status=0 if on_disk else 1)
    assert (summary["only_on_disk"], summary["nowhere"]) == ((1, 0) if on_disk else (0, 1))
    assert told in summary["told"]


def test_a_dynamic_object_is_no_proof(
    offload: Script, store: SynapseStore, objects: Objects
) -> None:
    """It is kept, or replaced by a file with the right SHA-256; never taken as the copy."""
    unknown = store.add_local("unknown", b"content")
    known = store.add_local("known-one", b"CONTENT", sha256=hashlib.sha256(b"CONTENT").hexdigest())
    objects.make_dynamic(unknown, b"content")
    objects.make_dynamic(known, b"CONTENT")
    offload("update", store.base, "2m")
    summary = offload.json("upload", store.base, "--delete", status=1)
    assert (summary["replaced"], summary["deleted"]) == (1, 1)
    assert store.files() == {unknown}
    assert "x-object-manifest" not in objects.headers(known)


async def test_the_proof_comes_from_all_replicas(
    offload: Script, store: SynapseStore, objects: Objects, swift: Swift, account: Credentials
) -> None:
    """``upload --delete`` and ``verify`` ask with X-Newest."""
    path = store.add_local("abcdef", b"content")
    objects[path] = b"content"
    proxy = FaultProxy(reactor, "127.0.0.1", int(swift.url.rpartition(":")[2]))
    await proxy.start()
    url = proxy.url_for(swift.account_url(account.project_id))
    offload.configure(store, cloud="matrix", container=objects.container, storage_url=url)
    await deferToThread(offload, "update-db", "2m")
    for command in (("verify", store.base), ("upload", store.base, "--delete")):
        seen = len(proxy.requests)
        await deferToThread(offload.json, *command)
        heads: list[Any] = [
            one for one in proxy.requests[seen:] if one.method == "HEAD" and path in one.path
        ]
        assert [one.headers.get("x-newest") for one in heads] == ["true"]
    await proxy.stop()


@pytest.mark.parametrize("delete", [True, False])
async def test_repair_asks_for_each_object(
    offload: Script,
    store: SynapseStore,
    objects: Objects,
    swift: Swift,
    account: Credentials,
    delete: bool,
) -> None:
    """``upload --all`` does not believe a listing that still names a lost object."""
    path = store.add_local("abcdef", b"content")
    objects[path] = b"content"
    proxy = FaultProxy(reactor, "127.0.0.1", int(swift.url.rpartition(":")[2]))
    await proxy.start()
    url = proxy.url_for(swift.account_url(account.project_id))
    offload.configure(store, cloud="matrix", container=objects.container, storage_url=url)
    stale = objects.listing("local_content/")
    objects.delete(path)
    proxy.add(Answer(200, stale, _JSON, match=("GET", r"prefix=local_content(/|%2F)&marker=$")))
    options = ["--delete"] if delete else []
    summary = await deferToThread(offload.json, "upload", store.base, "--all", *options)
    await proxy.stop()
    assert (summary["uploaded"], summary["already_there"]) == (1, 0)
    assert objects[path] == b"content"


@pytest.mark.parametrize("number", [0, 2])
def test_restore_of_a_file_whose_segment_is_gone(
    large: Script, store: SynapseStore, objects: Objects, number: int
) -> None:
    """It is named with the segment, soon, and with status 1; the other files come back."""
    bad = store.add_local("large-one", os.urandom(2 * MIB + 5))
    good = store.add_local("abcdef", b"content")
    large.json("upload", store.base, "--all", "--delete")
    objects.delete_segment(number)
    summary = large.json("restore", store.base, status=1)
    assert sum(summary["failed"].values()) == 1
    assert bad in summary["told"]
    assert "is gone" in summary["told"]
    assert store.files() == {good}
