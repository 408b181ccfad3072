"""The second reading of a file, the only copy, differs from the one with the right SHA-256."""

from __future__ import annotations

import hashlib
import os
import subprocess

import pytest

from tests.offload.conftest import Objects, Script
from tests.offload.faulty_disk import faulty_disk
from tests.offload.mirrors import Mirrors
from tests.offload.synapse_store import SynapseStore

_SCRIPT = """
import sys
from swift_provider.offload.command.cli import main
sys.exit(main(sys.argv[1:]))
"""
#: One that is read at once, one that is not, and one of three segments.
SIZES = [5_000, 600_000, 2_500_000]
REASON = "two readings of the file differ"


def _add(store: SynapseStore, size: int) -> tuple[str, bytes]:
    content = os.urandom(size)
    digest = hashlib.sha256(content).hexdigest()
    return store.add_local("abcdef", content, sha256=digest), content


def _run(script: Script, *arguments: str, right: int = 1) -> subprocess.CompletedProcess[str]:
    code = faulty_disk(right) + _SCRIPT
    return script.run([*script.command()[:1], "-c", code, *arguments])


def _damaged(content: bytes) -> bytes:
    """What the faulty disk returns."""
    return bytes([content[0] ^ 1]) + content[1:]


@pytest.mark.parametrize("size", SIZES)
def test_wrong_bytes_are_not_uploaded(
    offload: Script, store: SynapseStore, objects: Objects, size: int
) -> None:
    """The file stays on the disk, and nothing in Swift has its name. The next run moves it."""
    offload.configure(store, cloud="matrix", container=objects.container, segment_size="1M")
    objects.make(f"{objects.container}_segments")
    path, content = _add(store, size)
    ended = _run(offload, "upload", str(store.base), "--all", "--delete")
    assert ended.returncode == 1
    assert f"Failed: 1: {REASON}" in ended.stdout
    assert f"Failed: {path}: {store.base / path} was read twice" in ended.stderr
    assert store.files() == {path}
    assert objects.names() == set(objects.segments()) == set()
    summary = offload.json("upload", store.base, "--all", "--delete")
    assert (summary["uploaded"], summary["deleted"]) == (1, 1)
    assert objects[path] == content


@pytest.mark.parametrize("size", SIZES)
def test_wrong_bytes_do_not_replace_an_object(
    offload: Script, store: SynapseStore, objects: Objects, size: int
) -> None:
    """The object is wrong; what would come in its place is wrong, too."""
    offload.configure(store, cloud="matrix", container=objects.container, segment_size="1M")
    objects.make(f"{objects.container}_segments")
    path, content = _add(store, size)
    objects[path] = wrong = os.urandom(size)
    # The second reading is compared with the object.
    ended = _run(offload, "upload", str(store.base), "--all", "--delete", right=2)
    assert (ended.returncode, store.files()) == (1, {path})
    assert (objects[path], objects.segments()) == (wrong, {})
    summary = offload.json("upload", store.base, "--all", "--delete")
    assert (summary["replaced"], summary["deleted"]) == (1, 1)
    assert objects[path] == content


@pytest.mark.parametrize("size", SIZES[:2])
def test_an_object_like_the_wrong_bytes_is_no_proof(
    offload: Script, store: SynapseStore, objects: Objects, size: int
) -> None:
    """It is what an earlier upload from such a disk has left."""
    path, content = _add(store, size)
    objects[path] = _damaged(content)
    for command in ("upload", "verify"):
        options = ["--all", "--delete"] if command == "upload" else []
        ended = _run(offload, command, str(store.base), *options)
        assert ended.returncode == 1
        assert f"Failed: 1: {REASON}" in ended.stdout
        assert store.files() == {path}


def test_wrong_bytes_go_to_no_mirror(mirrors: Mirrors, store: SynapseStore) -> None:
    """The file stays. A mirror that got the right bytes has them, and they are counted."""
    path, content = _add(store, SIZES[0])
    arguments = ["upload", str(store.base), "--all", "--delete", "--delete-when", "any"]
    assert _run(mirrors.script, *arguments).returncode == 1
    assert (mirrors.a.names(), mirrors.b.names(), store.files()) == (set(), set(), {path})
    ended = _run(mirrors.script, *arguments, right=2)
    assert (ended.returncode, store.files()) == (1, {path})
    assert f"Failed: 1: {REASON}" in ended.stdout
    assert "Uploaded: 1 (" in ended.stdout
    (holder,) = [one for one in (mirrors.a, mirrors.b) if one.names()]
    assert holder[path] == content
