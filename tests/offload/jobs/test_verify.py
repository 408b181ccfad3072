"""Where verify finds whole copies, with a real Swift."""

from __future__ import annotations

import hashlib

import pytest

from tests.offload.conftest import Objects, Script
from tests.offload.synapse_store import RECENT, SynapseStore


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
