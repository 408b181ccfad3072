"""A media of several segments, through all of the script's commands, with a real Swift."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import time
from typing import Any

import pytest

from tests.offload.conftest import Objects, Script
from tests.offload.synapse_store import SynapseStore

MIB = 1024 * 1024


@pytest.fixture
def large(offload: Script, store: SynapseStore, objects: Objects) -> Script:
    """The script, with the smallest segments that it allows."""
    offload.configure(store, cloud="matrix", container=objects.container, segment_size="1M")
    return offload


def _json(ended: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert ended.returncode == 0, ended.stderr + ended.stdout
    summary: dict[str, Any] = json.loads(ended.stdout)
    return summary


@pytest.mark.parametrize("sha256", [True, False])
def test_there_and_back(large: Script, store: SynapseStore, objects: Objects, sha256: bool) -> None:
    """Uploaded once, verified, off the disk, and back as it was."""
    content = os.urandom(2 * MIB + 12_345)
    digest = hashlib.sha256(content).hexdigest() if sha256 else None
    path = store.add_local("large-one", content, sha256=digest)
    assert large("update", store.base, "2m").returncode == 0
    assert _json(large("upload", store.base, "--json"))["uploaded"] == 1
    segments = objects.segments()
    assert [len(one) for one in segments.values()] == [MIB, MIB, 12_345]
    assert objects[path] == b"".join(segments.values()) == content

    again = _json(large("upload", store.base, "--json"))
    assert (again["already_there"], again["uploaded"]) == (1, 0)
    assert _json(large("verify", store.base, "--json"))["on_disk_and_in_swift"] == 1

    freed = _json(large("upload", store.base, "--delete", "--json"))
    assert (freed["already_there"], freed["uploaded"], freed["deleted"]) == (1, 0, 1)
    assert store.files() == set()
    assert objects.segments() == segments
    assert _json(large("verify", store.base, "--json"))["only_in_swift"] == 1

    assert _json(large("restore", store.base, "--json"))["restored_bytes"] == len(content)
    assert (store.base / path).read_bytes() == content


def test_prune(large: Script, store: SynapseStore, objects: Objects) -> None:
    """With the object of a media that Synapse forgot its segments go, and no others."""
    forgotten, kept = os.urandom(MIB + 1), os.urandom(MIB + 2)
    store.add_local("forgotten", forgotten)
    path = store.add_local("kept-one", kept)
    assert _json(large("upload", store.base, "--all", "--json"))["uploaded"] == 2
    assert len(objects.segments()) == 4
    store.execute("DELETE FROM local_media_repository WHERE media_id = 'forgotten'")
    active = int((time.time() + 6 * 3600) * 1000)
    store.execute("UPDATE local_media_repository SET last_access_ts = %s", (active,))
    command = ("prune", "--delete", "--max-share", "0.5", "--json")
    assert _json(large(*command))["left_alone_younger_than_a_day"] == 1
    assert len(objects.segments()) == 4
    assert _json(large.later(*command))["deleted"] == 1
    assert objects.names() == {path}
    assert b"".join(objects.segments().values()) == objects[path] == kept
