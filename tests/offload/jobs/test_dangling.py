"""A link whose target is gone: Swift does not find the object, and takes none of this name.

``sync`` and ``upload`` name it, with what to do about it.
"""

from __future__ import annotations

import os

import pytest

from tests.offload.conftest import Objects
from tests.offload.mirrors import Mirrors
from tests.offload.synapse_store import SynapseStore

MIB = 1024 * 1024
PATH = "local_content/aa/bb/cccc"
WHY = "b: a link (X-Symlink-Target) to an object that is gone has this name: delete the link"


def _dangle(objects: Objects, path: str) -> None:
    objects.delete_elsewhere(*objects.link(path, b"content"))


def _large(mirrors: Mirrors, large: bool) -> bytes:
    """Have large files cut, and make the content of one."""
    mirrors.configure(of_a={"segment_size": MIB}, segment_size=MIB)
    mirrors.b.make(f"{mirrors.b.container}_segments")
    return os.urandom(MIB + 5) if large else b"content"


@pytest.mark.parametrize("proof", [False, True])
@pytest.mark.parametrize("large", [False, True])
def test_sync(mirrors: Mirrors, proof: bool, large: bool) -> None:
    """The object is not counted as there. Once the link is deleted, it is copied."""
    content = _large(mirrors, large)
    mirrors.a[PATH] = content
    if large:
        mirrors.a.delete(PATH)
        mirrors.a.make(f"{mirrors.a.container}_segments")
        mirrors.a.put_segment("theirs/1", content)
        mirrors.a.put_manifest(PATH, ["theirs/1"])
    _dangle(mirrors.b, PATH)
    options = ["--proof"] if proof else []
    summary = mirrors.run("sync", *options, status=1)
    (reason,) = summary["failed"]
    assert reason.startswith(WHY)
    assert f"Failed: {PATH}: b: PUT " in summary["told"]
    assert (summary["already_there"], summary["copied"]["b"]) == (0, 0)
    assert mirrors.b.segments() == {}
    mirrors.b.delete(PATH)
    assert mirrors.run("sync", *options)["copied"]["b"] == 1
    assert mirrors.b[PATH] == content


@pytest.mark.parametrize("everything", [False, True])
@pytest.mark.parametrize("large", [False, True])
def test_upload(mirrors: Mirrors, store: SynapseStore, everything: bool, large: bool) -> None:
    """The file stays on the disk. Once the link is deleted, the place gets it."""
    content = _large(mirrors, large)
    path = store.add_local("abcdef", content)
    _dangle(mirrors.b, path)
    mirrors.plain("update", store.base, "2m")
    options = ["--delete", *(["--all"] if everything else [])]
    summary = mirrors.run("upload", store.base, *options, status=1)
    assert WHY.removeprefix("b: ") in summary["members"]["b"]["reason"]
    assert f"Not in b: {path}: PUT " in summary["told"]
    assert store.files() == {path}
    assert mirrors.b.segments() == {}
    mirrors.b.delete(path)
    assert mirrors.run("upload", store.base, *options)["deleted"] == 1
    assert mirrors.b[path] == content
