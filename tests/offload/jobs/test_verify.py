"""Where verify finds whole copies, with a real Swift."""

from __future__ import annotations

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
    assert summary["only_in_swift"] == 1
    told = summary["told"]
    assert f"Nowhere: {only_swift}" in told
    assert f"In Swift with a wrong length: {only_swift}" in told
    assert f"but different: {different}" in told
    assert f"On disk, but its length is not the one in Synapse's database: {damaged}" in told
