"""Which files of a media store are media."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import pytest

from swift_provider.offload.disk import taken_by
from swift_provider.offload.media_walk import FoundFile, walk, walk_with_sizes
from tests.offload.synapse_store import SynapseStore


def seen(base: Path) -> tuple[set[FoundFile], list[tuple[str, str]]]:
    """What is found, and what is reported."""
    reports: list[tuple[str, str]] = []
    found = set(walk(str(base), lambda *report: reports.append(report)))
    return found, reports


def test_all_media_are_found(store: SynapseStore) -> None:
    """Contents and thumbnails of both kinds, with the bytes that they take."""
    paths = [
        store.add_local("media000", b"x" * 5000),
        store.add_thumbnail("media000"),
        store.add_remote("a.example.org", "m1", "file000"),
        store.add_thumbnail("m1", origin="a.example.org", filesystem_id="file000"),
    ]
    found, reports = seen(store.base)
    assert {(one.kind, one.origin, one.filesystem_id, one.is_content) for one in found} == {
        ("local", "", "media000", True),
        ("local", "", "media000", False),
        ("remote", "a.example.org", "file000", True),
        ("remote", "a.example.org", "file000", False),
    }
    assert sum(one.taken for one in found) == sum(taken_by(os.lstat(store.base / p)) for p in paths)
    assert reports == []


@pytest.mark.parametrize(
    "path",
    [
        "url_cache/2026-01-01/abc",
        "notes.txt",
        "local_content/notes.txt",
        "local_content/me/di/a/000",
        "local_content/me/di/a000~restoring-1",
        "local_content/me/di/a000~pulling-back-1",
        "local_content/me/di/.nfs00000001",
        "local_thumbnails/me/di/a000/.nfs00000001",
        ".swift_provider/local_disk.lock",
        "remote_content/me/di/a000",
    ],
)
def test_other_files_do_not_count(store: SynapseStore, path: str) -> None:
    """What Synapse would not name so is never removed, so it does not count either."""
    store._file(path, b"x")
    assert seen(store.base) == (set(), [])


def test_links(store: SynapseStore, tmp_path: Path) -> None:
    """A linked folder is looked into, as Synapse does; a linked file is no media."""
    store.add_local("media000", b"x")
    (store.base / "local_content").rename(tmp_path / "elsewhere")
    (store.base / "local_content").symlink_to(tmp_path / "elsewhere")
    found, _ = seen(store.base)
    assert [one.filesystem_id for one in found] == ["media000"]
    (tmp_path / "elsewhere/me/di/a000").unlink()
    (tmp_path / "elsewhere/me/di/a000").symlink_to("/etc/hostname")
    assert seen(store.base)[0] == set()


def test_a_root_on_another_disk(store: SynapseStore) -> None:
    """Removing its files makes no room here; what they take there is known all the same."""
    store.add_local("media000", b"x" * 5000)
    with tempfile.TemporaryDirectory(dir="/dev/shm") as other:
        if os.stat(other).st_dev == store.base.stat().st_dev:
            pytest.skip("needs a second disk")
        shutil.move(store.base / "local_content", other)
        (store.base / "local_content").symlink_to(f"{other}/local_content")
        (sized,) = walk_with_sizes(str(store.base), lambda path, reason: None)
    assert (sized.file.elsewhere, sized.file.taken, sized.size) == (True, 0, 5000)
    assert sized.taken == 8192


def test_a_loop_of_links(store: SynapseStore) -> None:
    """The depth is fixed, so a loop ends."""
    (store.base / "local_content/aa").mkdir()
    (store.base / "local_content/aa/bb").symlink_to(store.base / "local_content")
    seen(store.base)
