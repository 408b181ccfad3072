"""What ``sync`` replaces: only an object that has the same content and cannot be relied on."""

from __future__ import annotations

import hashlib

import pytest

from tests.offload.mirrors import Mirrors
from tests.offload.synapse_store import SynapseStore

PATH = "local_content/aa/bb/cccc"


@pytest.mark.parametrize("flaw", ["expires", "link", "dynamic", "segment"])
def test_another_object_that_cannot_be_relied_on_stays(mirrors: Mirrors, flaw: str) -> None:
    """It may be the right one, and the only one: the places have different contents."""
    right, wrong = b"the right content", b"cut off"
    mirrors.a[PATH] = wrong
    if flaw == "dynamic":
        mirrors.b.make_dynamic(PATH, right)
    elif flaw == "link":
        mirrors.b.link(PATH, right)
    elif flaw == "segment":
        mirrors.b.make(f"{mirrors.b.container}_segments")
        for name in ("x/1", "x/2"):
            mirrors.b.put_segment(name, right)
        mirrors.b.put_manifest(PATH, ["x/1", "x/2"])
        mirrors.b.delete_segment(1)
    else:
        mirrors.b[PATH] = right
        mirrors.b.let_expire(PATH)
    summary = mirrors.run("sync", status=1)
    assert (summary["differing"], summary["replaced"]) == (1, 0)
    assert f"Different: {PATH}: a has 7 bytes" in summary["told"]
    if flaw == "segment":
        assert mirrors.b.segments().keys() == {"x/1"}
        assert mirrors.b.headers(PATH)["x-static-large-object"] == "True"
    else:
        assert mirrors.b[PATH] == right


def test_a_dynamic_large_object_stays(mirrors: Mirrors) -> None:
    """Nothing shows whether it has the same content."""
    mirrors.a[PATH] = b"content"
    mirrors.b.make_dynamic(PATH, b"content")
    assert mirrors.run("sync", status=1)["differing"] == 1
    assert "x-object-manifest" in mirrors.b.headers(PATH)


def test_the_only_good_copy_stays_for_restore(mirrors: Mirrors, store: SynapseStore) -> None:
    """By the database the object that will expire is right. It is the last one."""
    content = b"the right content"
    path = store.add_local("abcdef", content, sha256=hashlib.sha256(content).hexdigest())
    (store.base / path).unlink()
    mirrors.a[path] = content[:-1]
    mirrors.b[path] = content
    mirrors.b.let_expire(path)
    mirrors.run("sync", status=1)
    assert mirrors.run("restore", store.base)["restored"] == 1
    assert (store.base / path).read_bytes() == content
