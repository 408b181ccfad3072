"""Whose objects prune deletes, with a real Swift: never another homeserver's, and never
with a database that is older than the objects, or another homeserver's.
"""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.offload.conftest import Objects, Script
from tests.offload.synapse_store import SynapseStore

MIB = 1024 * 1024
#: A quarter of a day after the uploads of a test; the runs of prune come two days after.
ACTIVE = int((time.time() + 6 * 3600) * 1000)


def _json(ended: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert ended.returncode == 0, ended.stderr + ended.stdout
    summary: dict[str, Any] = json.loads(ended.stdout)
    return summary


def _fill(store: SynapseStore, name: str, count: int) -> list[str]:
    return [store.add_local(f"{name}{number:04}") for number in range(count)]


def _forget(store: SynapseStore, *media_ids: str) -> None:
    for media_id in media_ids:
        store.execute("DELETE FROM local_media_repository WHERE media_id = %s", (media_id,))


def _look_at_media(store: SynapseStore) -> None:
    """What Synapse writes when somebody looks at media after the uploads of the test."""
    store.execute("UPDATE local_media_repository SET last_access_ts = %s", (ACTIVE,))


@pytest.fixture
def other(
    tmp_path: Path, clouds_yaml: Callable[..., Path], objects: Objects
) -> Iterator[tuple[Script, SynapseStore]]:
    """A second homeserver that shares the container, and no prefix."""
    (tmp_path / "other").mkdir()
    store = SynapseStore(tmp_path / "other")
    (tmp_path / "other" / "work").mkdir()
    script = Script(tmp_path / "other" / "work", {"OS_CLIENT_CONFIG_FILE": str(clouds_yaml())})
    script.configure(
        store, cloud="matrix", container=objects.container, server_name="there.example"
    )
    yield script, store
    store.close()


def test_two_homeservers_in_one_container(
    offload: Script, store: SynapseStore, objects: Objects, other: tuple[Script, SynapseStore]
) -> None:
    """The large one prunes its own objects, and none of the small one's."""
    small_script, small = other
    theirs = set(_fill(small, "theirs", 2))
    ours = _fill(store, "ourown", 30)
    assert _json(offload("upload", str(store.base), "--all", "--json"))["uploaded"] == 30
    assert _json(small_script("upload", str(small.base), "--all", "--json"))["uploaded"] == 2
    _forget(store, "ourown0000")
    _look_at_media(store)
    summary = _json(offload.later("prune", "--delete", "--json"))
    assert theirs <= objects.names()
    assert objects.names() == theirs | set(ours[1:])
    assert summary["deleted"] == 1
    assert summary["left_alone_of_another_homeserver"] == 2


def test_an_old_copy_of_the_database(
    offload: Script, store: SynapseStore, objects: Objects, tmp_path: Path
) -> None:
    """Media that are newer than the copy stay, and both times are told."""
    _fill(store, "before", 30)
    store.execute("UPDATE local_media_repository SET last_access_ts = %s", (time.time() * 1000,))
    with closing(sqlite3.connect(tmp_path / "copy.db")) as copy:
        store._connection.backup(copy)
    _fill(store, "newer-", 1)
    assert _json(offload("upload", str(store.base), "--all", "--json"))["uploaded"] == 31
    _look_at_media(store)
    names = objects.names()
    shutil.copy(tmp_path / "copy.db", offload.folder / "copy.db")
    (offload.folder / "old.yaml").write_text(
        (offload.folder / "homeserver.yaml")
        .read_text()
        .replace(str(store.database_path), str(offload.folder / "copy.db"))
    )
    ended = offload.later("prune", "--delete", "--homeserver-config-path", "old.yaml")
    assert objects.names() == names
    assert ended.returncode == 2
    assert "older than" in ended.stderr


@pytest.fixture
def large(offload: Script, store: SynapseStore, objects: Objects) -> Script:
    """The script, with the smallest segments that it allows."""
    offload.configure(store, cloud="matrix", container=objects.container, segment_size="1M")
    return offload


def _upload(script: Script, store: SynapseStore) -> None:
    assert script("upload", str(store.base), "--all").returncode == 0


def test_segments_of_no_object(large: Script, store: SynapseStore, objects: Objects) -> None:
    """Those older than a day go; those of objects, and what others put there, stay."""
    kept_path = store.add_local("kept-one", os.urandom(MIB + 1))
    lost_path = store.add_local("lost-one", os.urandom(2 * MIB + 1))
    again_path = store.add_local("againone", os.urandom(MIB + 1))
    _upload(large, store)
    first = objects.segments()
    # The manifests alone, as after a PUT that never arrived.
    objects.delete(lost_path)
    objects.delete(again_path)
    (store.base / lost_path).unlink()
    _upload(large, store)
    _forget(store, "lost-one")
    kept = {name for name in objects.segments() if name.startswith(kept_path)}
    kept |= {name for name in objects.segments() if name not in first}
    assert len(kept) == 4
    others = f"{lost_path}/1700000000.000000/2097153/1048576/00000000"  # python-swiftclient's
    objects.put_segment(others, b"x")
    objects.put_segment(f"{lost_path}/{'0' * 32}/00000000", b"x")  # no mark
    kept |= {others, f"{lost_path}/{'0' * 32}/00000000"}
    _look_at_media(store)

    assert _json(large("prune", "--delete", "--json"))["segments_deleted"] == 0
    summary = _json(large.later("prune", "--json"))
    assert (summary["segments_of_no_object"], summary["segments_deleted"]) == (5, 0)
    assert summary["left_alone_unmarked"] == 1
    shown = large.later("prune").stdout.splitlines()
    attempts = {name.rpartition("/")[0] for name in first if not name.startswith(kept_path)}
    assert {f"{objects.container}_segments/{one}/" for one in attempts} <= set(shown)
    assert len(objects.segments()) == 4 + 5 + 2

    assert _json(large.later("prune", "--delete", "--json"))["segments_deleted"] == 5
    assert set(objects.segments()) == kept
    for path in (kept_path, again_path):
        assert objects[path] == (store.base / path).read_bytes()
    # Without a mark they are as much to fear as an object without one.
    options = ("prune", "--delete", "--unmarked", "--max-share", "0.5", "--json")
    assert _json(large.later(*options))["segments_deleted"] == 1
    assert set(objects.segments()) == kept - {f"{lost_path}/{'0' * 32}/00000000"}


def test_segments_of_an_object_whose_metadata_was_changed(
    large: Script, store: SynapseStore, objects: Objects
) -> None:
    """A POST removes the attempt from the object; its segments stay all the same."""
    path = store.add_local("kept-one", os.urandom(MIB + 1))
    _upload(large, store)
    objects.post(path, {"X-Object-Meta-Colour": "blue"})
    _look_at_media(store)
    summary = _json(large.later("prune", "--delete", "--unmarked", "--json"))
    assert summary["segments_of_no_object"] == 0
    assert objects[path] == (store.base / path).read_bytes()


def test_segments_of_another_container(
    large: Script, store: SynapseStore, objects: Objects
) -> None:
    """Two containers may share one segment container: each prunes its own segments only."""
    shared = f"{objects.container}_segments"
    path = store.add_local("kept-one", os.urandom(MIB + 1))
    _upload(large, store)
    second = f"{objects.container}-2"
    objects.make(second)
    large.configure(
        store, cloud="matrix", container=second, segment_size="1M", segment_container=shared
    )
    _look_at_media(store)
    summary = _json(large.later("prune", "--delete", "--unmarked", "--json"))
    assert summary["segments_of_no_object"] == 0
    assert summary["left_alone_segments_of_another_container"] == 2
    assert objects[path] == (store.base / path).read_bytes()
